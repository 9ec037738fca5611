"""Small pictures for the gallery, made once and stored under the SHA-256 of the original.

::

    OUT/.gemini_batch/thumbnails/SHA256-384.webp    may be deleted; the next gallery makes it again
"""

import errno
import hashlib
import os
import re
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gemini_batch.errors import StorageError
from gemini_batch.output.files import open_regular, write_atomically
from gemini_batch.output.paths import PRIVATE, THUMBNAILS
from gemini_batch.records import media_types

if TYPE_CHECKING:  # Pillow is imported when the first thumbnail is made
    from PIL import Image

FOLDER = f"{PRIVATE}/{THUMBNAILS}"
SIDE_PX = 384
SUFFIX = f"-{SIDE_PX}.webp"
PREVIEWS_PX = (1600, 1200, 800, 600, SIDE_PX)
# The largest answer, 4K at 21:9, has 17 million pixels, a photo up to 100 million.
MAX_PIXELS = 100_000_000
# A 4K PNG in chunks of 8 KiB takes about 9,000, and a JPEG two for each of its few segments.
MAX_READS = 50_000
# Larger images are decoded one at a time: 100 million pixels take 400 MB.
LARGE_PIXELS = 20_000_000
# The formats of answers and inputs; Pillow's other readers never get untrusted bytes.
_READABLE = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")
_QUALITY = 74

_is_sha256 = re.compile(r"[0-9a-f]{64}").fullmatch


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """The thumbnail of a file.

    Attributes:
        key: Its name; None if the file is of an unknown format, broken, or too large.
        is_changed: True if the file is not the recorded one; unchecked if that has a thumbnail.
    """

    key: str | None
    is_changed: bool


class Thumbnails:
    """The thumbnails of one output folder; safe for several threads and processes.

    Raises:
        StorageError: Their folder can't be made, or a symbolic link leads out of `out`.
    """

    def __init__(self, out: Path) -> None:
        self._folder = out / FOLDER
        self._one_large = threading.Lock()
        try:
            if not self._folder.resolve().is_relative_to(out.resolve()):
                raise StorageError(f"{self._folder}: a symbolic link leads out of {out}; remove it")
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self._folder}: can't be made: {error.strerror}") from error

    def of(self, file: Path, sha256: object) -> Thumbnail:
        """Return the thumbnail of a regular file whose recorded content is `sha256`.

        Raises:
            StorageError: The thumbnail can't be written.
        """
        recorded = sha256 if isinstance(sha256, str) and _is_sha256(sha256) else None
        if recorded is not None and self._path(recorded).exists():
            return Thumbnail(recorded, is_changed=False)
        try:
            with _Bounded(FileIO(open_regular(file))) as source:
                found = hashlib.file_digest(source, "sha256").hexdigest()
                source.seek(0)
                small = None if self._path(found).exists() else self._drawn(source)
        except OSError:
            return Thumbnail(None, is_changed=False)
        path = self._path(found)
        if small is not None:
            via = path.with_name(f"{found}.{os.getpid()}.{threading.get_ident()}.part")
            try:
                write_atomically(path, small, durable=False, via=via)
            except OSError as error:
                raise StorageError(f"{path}: can't be written: {error.strerror}") from error
        is_changed = recorded is not None and found != recorded
        return Thumbnail(found if path.exists() else None, is_changed)

    def data(self, key: str) -> bytes:
        """Return a thumbnail's bytes.

        Raises:
            OSError: It no longer exists.
        """
        return self._path(key).read_bytes()

    def size_bytes(self, key: str) -> int:
        """Return the size of a thumbnail; raises as `data`."""
        return self._path(key).stat().st_size

    def _path(self, key: str) -> Path:
        return self._folder / (key + SUFFIX)

    def preview(self, file: Path, max_bytes: int) -> bytes | None:
        """Return a picture as WebP, the largest of `PREVIEWS_PX` within `max_bytes`.

        The smallest one is returned in any case; None if the file can't be read.
        """
        try:
            with _Bounded(FileIO(open_regular(file))) as source:
                return self._drawn(source, PREVIEWS_PX, max_bytes)
        except OSError:
            return None

    def _drawn(
        self, source: BinaryIO, sides_px: Sequence[int] = (SIDE_PX,), max_bytes: int = 0
    ) -> bytes | None:
        """Return the file as a small upright WebP without metadata; None if it can't be read."""
        if media_types.sniff(source.read(media_types.HEAD_BYTES)) is None:
            return None
        source.seek(0)
        from PIL import Image

        try:
            with Image.open(source, formats=_READABLE) as image:
                pixels = image.width * image.height
                if pixels > MAX_PIXELS:
                    return None
                with self._one_large if pixels > LARGE_PIXELS else nullcontext():
                    return _small(image, sides_px, max_bytes)
        except Exception:  # noqa: BLE001 # on untrusted bytes Pillow raises anything
            return None


class ThumbnailsOnDemand(Thumbnails):
    """Thumbnails that are made when a page asks for them: 2,000 take half a minute."""

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self._out = out
        self._sources: dict[str, Path] = {}

    def of(self, file: Path, sha256: object) -> Thumbnail:
        """Return the name of a thumbnail, also of one that is not made yet.

        It is made at once for an input, which may have been edited; raises as its base.
        """
        recorded = sha256 if isinstance(sha256, str) and _is_sha256(sha256) else None
        if recorded is None or not file.is_relative_to(self._out):
            return super().of(file, sha256)
        self._sources[recorded] = file
        return Thumbnail(recorded, is_changed=False)

    def make(self, name: str) -> None:
        """Make the thumbnail of this file name, if the page has it and it can be made.

        Raises:
            StorageError: The thumbnail can't be written.
        """
        key = name.removesuffix(SUFFIX)
        if (file := self._sources.get(key)) is not None:
            super().of(file, key)


class _Bounded(BufferedReader):
    """A file that is read in a bounded number of steps.

    Pillow reads a header to its end, however long it is: for minutes, and with all of it in
    memory.
    """

    _reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as usual; raise OSError after too many reads."""
        self._reads += 1
        if self._reads > MAX_READS:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return super().read(size)


def _small(image: "Image.Image", sides_px: Sequence[int], max_bytes: int) -> bytes:
    """Return the first of these sizes that is small enough, else the last one."""
    from PIL import Image, ImageOps

    # Decodes a JPEG at a half, a quarter or an eighth of its size.
    image.draft("RGB", (2 * sides_px[0], 2 * sides_px[0]))
    is_transparent = "transparency" in image.info or image.mode.lower() in {"rgba", "la", "pa"}
    mode = "RGBA" if is_transparent else "RGB"
    whole = image if image.mode == mode else image.convert(mode)
    smaller_px = [side_px for side_px in sides_px[1:] if side_px < max(whole.size)]
    for side_px in (sides_px[0], *smaller_px):
        whole.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
        small = ImageOps.exif_transpose(whole)
        small.info.clear()  # drops colour profiles and comments
        target = BytesIO()
        small.save(target, "WEBP", quality=_QUALITY, method=3)
        if target.tell() <= max_bytes:
            break
    return target.getvalue()
