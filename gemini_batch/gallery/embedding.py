"""Pictures in the page itself, as data URIs."""

import base64
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from gemini_batch.errors import ConfigError
from gemini_batch.gallery.threads import in_order
from gemini_batch.gallery.thumbnails import SIDE_PX, Thumbnails

# A message of Gmail has at most 25 MB (https://support.google.com/mail/answer/6584, 2026-11-30),
# attachments in base64; so do most other servers.
MAX_MAILED_BYTES = 18_000_000
_ABOUT_BYTES = 20_000  # what follows the pictures
_KEY_BYTES = 100


def write_data_uris(page: BinaryIO, pictures: Iterable[tuple[str, bytes]]) -> None:
    """Write pictures by their keys, as the fields of a JSON object."""
    for number, (key, data) in enumerate(pictures):
        comma = b"," if number else b""
        uri = base64.b64encode(data)
        page.write(b'%b\n"%b":"data:image/webp;base64,%b"' % (comma, key.encode(), uri))


def embed(
    page: BinaryIO, files: Mapping[str, Path | None], thumbnails: Thumbnails, max_bytes: int
) -> None:
    """Write the pictures of results as large as a page of this size allows, and thumbnails.

    Args:
        page: The page until now.
        files: The file of each result by the key of its thumbnail; None for other pictures.
        thumbnails: Of the folder.
        max_bytes: Size of the page.

    Raises:
        ConfigError: Not even thumbnails fit.
        OSError: The page can't be written.
    """
    room_bytes = max_bytes - _ABOUT_BYTES - page.tell()
    small = [key for key, file in files.items() if file is None]
    small_bytes = sum(_written(thumbnails.size_bytes(key)) for key in small)
    results = [(key, file) for key, file in files.items() if file is not None]
    least_bytes = small_bytes + sum(_written(thumbnails.size_bytes(key)) for key, _ in results)
    if least_bytes > room_bytes:
        raise ConfigError(
            f"--embed: as thumbnails of {SIDE_PX} pixels, {len(files):,} pictures take "
            f"{least_bytes / 1e6:.1f} MB; a page that can be mailed has at most "
            f"{max_bytes / 1e6:.0f} MB: pick some in the review, and send an export of these"
        )
    share_bytes = (room_bytes - small_bytes) // max(1, len(results))
    preview = partial(_preview, thumbnails, (share_bytes - _KEY_BYTES) * 3 // 4)
    thumbs = ((key, thumbnails.data(key)) for key in small)
    write_data_uris(page, chain(thumbs, in_order(preview, results)))


def _preview(thumbnails: Thumbnails, max_bytes: int, result: tuple[str, Path]) -> tuple[str, bytes]:
    """Return the key of a result with its picture; with its thumbnail if that is gone."""
    key, file = result
    thumbnail = thumbnails.data(key)
    if len(thumbnail) > max_bytes:
        return key, thumbnail
    return key, thumbnails.preview(file, max_bytes) or thumbnail


def _written(data_bytes: int) -> int:
    """Return the size of a data URI with its key."""
    return (data_bytes + 2) // 3 * 4 + _KEY_BYTES
