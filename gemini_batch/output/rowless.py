"""Images without a row: what is left of an answer that was paid for and whose row is gone."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gemini_batch.hashmap import HashMap64, fingerprint
from gemini_batch.output.final_rows import FinalRows, is_own_image
from gemini_batch.output.paths import IMAGES, id_of_image
from gemini_batch.output.shards import Part
from gemini_batch.records import ids


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

    def note(self, _place: int, row: Mapping[str, Any]) -> None:
        """Leave out the images that a row names.

        A row with another id, which was edited, does not know that its image's call is done.
        """
        if len(self):
            call = fingerprint(ids.normal(row["id"]))
            for image in row["images"]:
                if is_own_image(image["path"], row["id"], self._prefix):
                    self._leave_out([call])

    def note_final(self, rows: FinalRows) -> None:
        """Leave out the images that rows name."""
        if len(self):
            self._leave_out(rows.images)

    def _leave_out(self, calls: Iterable[int]) -> None:
        for call in calls:
            if self._images.get(call):
                self._images.put(call, 0)

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
            elif entry.is_file(follow_symlinks=False) and (call_id := id_of_image(name)):
                yield call_id
