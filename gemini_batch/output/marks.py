"""Marks: a user's picks, discards and ratings of pictures, in `marks.jsonl`; the newest counts.

A mark names a picture by its call and its content, so that it stays with the picture when the call
is made again. A call that is made again may bring the very same bytes: they have no mark yet.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import orjson

from gemini_batch.output.files import append_line, lines_of, open_to_read
from gemini_batch.output.paths import MARKS, RESULTS
from gemini_batch.output.shards import generations

Choice: TypeAlias = Literal["pick", "discard"]
MAX_RATING = 5


@dataclass(frozen=True, slots=True)
class Mark:
    """A user's opinion of one picture.

    Attributes:
        id: The call's.
        sha256: Of the picture.
        choice: `pick`, `discard`, or None for neither.
        rating: 1 to 5 stars; None without a rating.
        rows_bytes: The size of `results.jsonl` as the user saw it. A row that begins later is of
            another answer. None if it is unknown.
    """

    id: str
    sha256: str
    choice: Choice | None = None
    rating: int | None = None
    rows_bytes: int | None = field(default=None, compare=False)


class Marks:
    """The newest mark of each picture of a folder."""

    def __init__(self, out: Path) -> None:
        """Read them.

        Raises:
            OSError: The file can't be read, or is a named pipe or the like.
        """
        self._out = out
        self._newest = {(mark.id, mark.sha256): mark for mark in _read(out)}

    def of(self, call_id: str, sha256: str) -> Mark:
        """Return the mark of a picture; one that says nothing if there is none."""
        return self._newest.get((call_id, sha256)) or Mark(call_id, sha256)

    def of_row(self, place: int, row: Mapping[str, Any]) -> Mark:
        """Return the mark of the image of a row that begins at this place of `results.jsonl`."""
        sha256 = row["images"][0]["sha256"] if row["images"] else ""
        mark = self.of(row["id"], sha256)
        # A row without an attempt is of a picture that was there before.
        is_of_row = mark.rows_bytes is None or place < mark.rows_bytes or not row["attempts"]
        return mark if is_of_row else Mark(row["id"], sha256)

    def all(self) -> list[Mark]:
        """Return the marks that say something."""
        return [mark for mark in self._newest.values() if mark.choice or mark.rating]

    def set(self, mark: Mark) -> None:
        """Write a mark durably; one that says nothing of it is of the rows until now.

        Raises:
            OSError: The disk refused; the earlier mark counts.
        """
        if generations(self._out):  # the files of several workers have no one size
            mark = replace(mark, rows_bytes=None)
        elif mark.rows_bytes is None:
            with suppress(FileNotFoundError):
                mark = replace(mark, rows_bytes=(self._out / RESULTS).stat().st_size)
        root = os.open(self._out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            append_line(root, MARKS, orjson.dumps(asdict(mark)))
        finally:
            os.close(root)
        self._newest[mark.id, mark.sha256] = mark


def mark_of(found: Any) -> Mark | None:
    """Return the mark that JSON holds; None if it is none."""
    match found:
        case {"id": str(call_id), "sha256": str(sha256)}:
            choice, rating = found.get("choice"), found.get("rating")
            is_rating = type(rating) is int and 1 <= rating <= MAX_RATING
            rows_bytes = found.get("rows_bytes")
            if type(rows_bytes) is not int or rows_bytes < 0:
                rows_bytes = None
            if choice in (None, *get_args(Choice)) and (rating is None or is_rating):
                return Mark(call_id, sha256, choice, rating, rows_bytes)
    return None


def _read(out: Path) -> Iterator[Mark]:
    try:
        file = open_to_read(out / MARKS)
    except FileNotFoundError:
        return
    with file:
        for line in lines_of(file):
            try:
                mark = mark_of(orjson.loads(line))
            except orjson.JSONDecodeError:  # torn by a power cut
                continue
            if mark is not None:
                yield mark
