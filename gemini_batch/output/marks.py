"""Marks: a user's picks, discards and ratings of pictures, in `marks.jsonl`; the newest counts.

A mark names a picture by its call and its content, so that it stays with the picture when the call
is made again.
"""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import orjson

from gemini_batch.output.files import append_line, lines_of, open_to_read
from gemini_batch.output.paths import MARKS

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
    """

    id: str
    sha256: str
    choice: Choice | None = None
    rating: int | None = None


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

    def all(self) -> list[Mark]:
        """Return the marks that say something."""
        return [mark for mark in self._newest.values() if mark.choice or mark.rating]

    def set(self, mark: Mark) -> None:
        """Write a mark durably.

        Raises:
            OSError: The disk refused; the earlier mark counts.
        """
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
            if choice in (None, *get_args(Choice)) and (rating is None or is_rating):
                return Mark(call_id, sha256, choice, rating)
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
