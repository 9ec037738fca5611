"""Rows that are durable in `results.jsonl`, and not yet in the bucket."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemini_batch.output.bucket.kept import Kept
from gemini_batch.output.files import MAX_LINE_BYTES, open_to_read
from gemini_batch.output.paths import RESULTS
from gemini_batch.output.row_lines import parse_row

_AT_ONCE = 64


@dataclass(slots=True)
class RowAhead:
    """A row to upload.

    Attributes:
        line: As it is in the file.
        files: Its drafts and its image.
        is_of_earlier: It was here before this run.
        is_uploaded: The bucket has all of these.
    """

    line: bytes
    row: Mapping[str, Any]
    files: tuple[Kept, ...]
    is_of_earlier: bool = False
    is_uploaded: bool = False

    @property
    def size_bytes(self) -> int:
        """The bytes of its files."""
        return sum(file.size_bytes for file in self.files)


class RowsAhead:
    """Reads `results.jsonl` from where the bucket ends to where it is durable."""

    def __init__(self, out: Path, start_bytes: int) -> None:
        self._path = out / RESULTS
        self._place = start_bytes
        self._last = -1  # where the last durable row begins
        # What recovery and restoring left is durable.
        self._end = self._path.stat().st_size if self._path.exists() else 0

    @property
    def is_behind(self) -> bool:
        """True if there are rows to take."""
        return self._place < self._end or self._place <= self._last

    def reaches(self, place: int) -> None:
        """Note that the row that begins at a place is durable, as all before it."""
        self._last = max(self._last, place)

    def take(self) -> list[RowAhead]:
        """Return the next rows; raise OSError if the disk refuses."""
        found: list[RowAhead] = []
        if self._place >= self._end and self._place > self._last:
            return found
        with open_to_read(self._path) as file:
            file.seek(self._place)
            while len(found) < _AT_ONCE and self.is_behind:
                line = file.readline(MAX_LINE_BYTES)
                if not line:
                    break
                found.append(_ahead(line, is_of_earlier=self._place < self._end))
                self._place += len(line)
        return found


def _ahead(line: bytes, *, is_of_earlier: bool) -> RowAhead:
    row = parse_row(line)
    if row is None:  # an empty line, which a user left
        return RowAhead(line, {}, (), is_of_earlier)
    files = (*row["drafts"], *row["images"])
    kept = tuple(Kept(each["path"], each["size_bytes"], each["sha256"]) for each in files)
    return RowAhead(line, row, kept, is_of_earlier)
