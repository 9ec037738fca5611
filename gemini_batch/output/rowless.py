"""Images without a row: what is left of an answer that was paid for and whose row is gone."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gemini_batch.hashmap import HashMap64, fingerprint
from gemini_batch.output.paths import IMAGES
from gemini_batch.output.shards import Part
from gemini_batch.records import ids, media_types


class RowlessImages:
    """The images that no row names, by the id of their call, in 24 to 32 bytes an image.

    A row that was lost leaves its image behind, which was paid for.

    Raises:
        OSError: The folder of images can't be read.
    """

    def __init__(
        self, out: Path, part: Part | None = None, images: Iterable[str] | None = None
    ) -> None:
        """Find those of `out`, or of the part of it that a worker writes into.

        `images` are the ids of their calls, where they are known.
        """
        part = part or Part(0, out)
        self._prefix = f"{part.prefix}{IMAGES}/"
        self._images = HashMap64()  # id → 1, or 0 once a row names its image
        for call_id in _ids_of_images(part.path / IMAGES, "") if images is None else images:
            self._images.put(fingerprint(call_id), 1)

    def __len__(self) -> int:
        return len(self._images)

    def passing(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield rows unchanged, and leave out the images that they name.

        A row with another id, which was edited, does not know that its image's call is done.
        """
        if not len(self):
            yield from rows
            return
        for row in rows:
            for image in row["images"]:
                call_id = _id_of(image["path"].removeprefix(self._prefix))
                is_own = call_id == row["id"] or call_id == ids.normal(row["id"])
                if is_own and self._images.get(call := fingerprint(call_id)):
                    self._images.put(call, 0)
            yield row

    def has(self, call_id: str) -> bool:
        """Return whether a call has an image that no row names."""
        return bool(self._images.get(fingerprint(call_id)))


def _ids_of_images(folder: Path, prefix: str) -> Iterator[str]:
    """Yield the id that each image below a folder is named by; links are not followed."""
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _ids_of_images(folder / entry.name, f"{name}/")
            elif entry.is_file(follow_symlinks=False) and (call_id := _id_of(name)):
                yield call_id


def _id_of(path: str) -> str:
    """Return the id of the call that an image is named by; "" if it is named by none."""
    stem, dot, extension = path.rpartition(".")
    is_image = dot + extension in media_types.ALL_EXTENSIONS
    return ids.normal(stem) if is_image else ""
