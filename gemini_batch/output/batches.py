"""Batches that are open, on the disk: noted before they can be paid for, removed when collected.

Each has a folder below `batches/`, named by a random uuid: `lines.jsonl` has the facts of its
calls, one a line, and `batch.json` its state. What is there survives a kill and a power cut. A
state that is damaged counts as the worst that it can mean: the batch may exist.
"""

import os
import shutil
from array import array
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.errors import StorageError
from gemini_batch.output import paths
from gemini_batch.output.batch_note import BatchNote, Step
from gemini_batch.output.files import (
    MAX_LINE_BYTES,
    fsync_all,
    lines_of,
    new_file,
    open_to_read,
    read_at_most,
    sync,
)
from gemini_batch.output.shards import Part
from gemini_batch.output.tree import Tree
from gemini_batch.records import Estimate, Facts, InputRef, SentFile, exact_json

_FOLDER = f"{paths.PRIVATE}/{paths.BATCHES}"
_MAX_NOTE_BYTES = 1 << 16
_IS_GONE = "is gone"
_UUID_CHARS = 32
_MAX_CALLS = 1_000_000  # more than any batch has
_NAMES = ("id", "request_sha256", "model")  # of the facts of a call
_OTHERS = {"inputs", "estimate"}
# A batch is expired after 48 hours (https://ai.google.dev/gemini-api/docs/batch-api, 2026-11-30).
_LIFE = timedelta(hours=50)


class BatchLines:
    """The calls of a batch, read from the disk when they are needed: 8 bytes each in memory.

    The file at `path` is open from the first call that is asked for until `close`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BufferedReader | None = None
        self._places = array("Q")
        place = 0
        with open_to_read(path) as file:
            for line in lines_of(file):
                if not line.endswith(b"\n"):
                    break  # torn
                self._places.append(place)
                place += len(line)

    def __len__(self) -> int:
        return len(self._places)

    def facts(self, position: int) -> Facts:
        """Return the facts of a call; raise ValueError if they are damaged, OSError of the disk."""
        return _facts(self._line(position))

    def names(self, position: int) -> tuple[str, str]:
        """Return the id and the request of a call, in a third of the time; raise as `facts`."""
        value = _value(self._line(position))
        return value["id"], value["request_sha256"]

    def _line(self, position: int) -> bytes:
        if self._file is None:
            self._file = open_to_read(self.path)
        self._file.seek(self._places[position])
        return self._file.readline(MAX_LINE_BYTES)

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None


class BatchNotes:
    """The notes of an output folder that a run holds. Methods raise OSError if the disk refuses."""

    def __init__(self, out: Path) -> None:
        self._tree = Tree(out)
        self.out = out

    def close(self) -> None:
        """Close the folder."""
        self._tree.close()

    def add(self, note: BatchNote, calls: Iterable[Facts]) -> None:
        """Note a new batch and its calls, durably."""
        self.write(note)
        option = orjson.OPT_APPEND_NEWLINE
        lines = (orjson.dumps(each, exact_json.written, option) for each in calls)
        self._write(note.uuid, paths.BATCH_LINES, lines)

    def lines(self, uuid: str) -> BatchLines:
        """Open the calls of a batch."""
        return BatchLines(self.out / _FOLDER / uuid / paths.BATCH_LINES)

    def write(self, note: BatchNote) -> None:
        """Replace the note of a batch, durably."""
        option = orjson.OPT_UTC_Z | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        self._write(note.uuid, paths.BATCH_NOTE, [orjson.dumps(note, option=option)])

    def remove(self, uuid: str) -> None:
        """Remove the note of a batch: all of it, or after a kill nothing."""
        folder = self._tree.open(_FOLDER)
        try:
            with suppress(FileNotFoundError):
                os.rename(uuid, uuid + paths.REMOVED_SUFFIX, src_dir_fd=folder, dst_dir_fd=folder)
                sync(folder)
        finally:
            os.close(folder)
        for path in (self.out / _FOLDER).glob(f"*{paths.REMOVED_SUFFIX}"):
            shutil.rmtree(path)

    def _write(self, uuid: str, name: str, data: Iterable[bytes]) -> None:
        folder = self._tree.open(f"{_FOLDER}/{uuid}", make=True, durable=True)
        try:
            with new_file(Path(name), durable=True, mode=0o600, dir_fd=folder) as file:
                file.writelines(data)
            sync(folder)
        finally:
            os.close(folder)


def hand_over(part: Part, new_home: Callable[[str], Path]) -> None:
    """Move the batches of a worker's folder, each whole, to the folder that `new_home` returns.

    Raises:
        StorageError: The calls of a batch that may exist can't be known.
        OSError: The disk refused.
    """
    notes = BatchNotes(part.path)
    with closing(notes):
        for found in find_batches(part.path):
            if found.lines is not None:
                found.lines.close()
            if found.note.made_in is None and not found.problem:
                notes.write(replace(found.note, made_in=part.prefix))
            home = new_home(found.note.uuid) / _FOLDER
            home.mkdir(parents=True, exist_ok=True)
            (part.path / _FOLDER / found.note.uuid).rename(home / found.note.uuid)
            fsync_all([home, home.parent, part.path / _FOLDER])


@dataclass(frozen=True, slots=True)
class FoundBatch:
    """A batch as its folder has it; `problem` says what is damaged, "" for nothing.

    A note that is gone or damaged is replaced by one of a batch that may exist.
    """

    note: BatchNote
    lines: BatchLines | None
    problem: str = ""


def find_batches(out: Path) -> list[FoundBatch]:
    """Return the batches of an output folder, the oldest first; the caller closes their lines.

    Raises:
        StorageError: The calls of a batch that may exist can't be known: nothing may be sent.
        OSError: The disk refused.
    """
    found: list[FoundBatch] = []
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in (out / _FOLDER).iterdir():
            is_ours = len(entry.name) == _UUID_CHARS and not entry.is_symlink() and entry.is_dir()
            with suppress(FileNotFoundError):  # collected by a run meanwhile
                found += [_found(entry)] if is_ours else []
    return sorted(found, key=lambda each: (each.note.since, each.note.uuid))


def _found(folder: Path) -> FoundBatch:
    note, problem = _read_note(folder)
    path = folder / paths.BATCH_LINES
    lines = None
    with suppress(FileNotFoundError):
        lines = BatchLines(path)
    if note is None and lines is None and problem == _IS_GONE:
        return FoundBatch(_unknown(folder, 0, Step.PLANNED), None)  # killed before its first file
    if note is None:
        note = _unknown(folder, len(lines) if lines else 0, Step.CREATING)
        problem = f"{folder / paths.BATCH_NOTE}: {problem}: the batch is looked for by its name"
    if note.step in {Step.PLANNED, Step.UPLOADED}:
        return FoundBatch(note, lines)
    if lines is None or len(lines) < note.calls:
        there = "is gone" if lines is None else f"has {len(lines):,} of {note.calls:,} lines"
        raise StorageError(
            f"{path}: {there}, so the calls of the batch {note.name or note.uuid} are unknown, and "
            "would be paid for again; put the file back from a backup, or remove the folder "
            f"{folder} to send its calls, and pay for them, again"
        )
    return FoundBatch(note, lines, problem)


def _unknown(folder: Path, calls: int, step: Step) -> BatchNote:
    """Return the note of a batch of which its folder alone is known."""
    path = folder / paths.BATCH_LINES
    at = datetime.fromtimestamp((path if path.exists() else folder).stat().st_mtime, UTC)
    first = at - _LIFE  # its note may have been copied since
    note = BatchNote(folder.name, "", "", "", calls, 0, None, 0, first, step)
    return replace(note, sent_at=at)


def _read_note(folder: Path) -> tuple[BatchNote | None, str]:
    """Return the note of a folder; else None, and what is wrong with it."""
    try:
        data = read_at_most(folder / paths.BATCH_NOTE, _MAX_NOTE_BYTES)
    except FileNotFoundError:
        return None, _IS_GONE
    try:
        note = _note(data)
    except ValueError:
        return None, "is damaged"
    return (note, "") if note.uuid == folder.name else (None, "is of another batch")


@cache
def _names() -> frozenset[str]:
    return frozenset(each.name for each in fields(BatchNote))


def _note(data: bytes) -> BatchNote:
    """Return a note; raise ValueError if it is none."""
    from pydantic import TypeAdapter

    value = orjson.loads(data)
    if not isinstance(value, dict):
        raise ValueError("no object")  # noqa: TRY004  # as of other damage
    known = {name: each for name, each in value.items() if name in _names()}
    note = TypeAdapter(BatchNote).validate_python(known)
    times = (getattr(note, name) for name in _names() if name.endswith(("_at", "_since")))
    if any(each is not None and each.tzinfo is None for each in times):
        raise ValueError("a time without a zone")
    if not 0 <= note.calls <= _MAX_CALLS:
        raise ValueError("no number of calls")
    return note


def _value(line: bytes) -> dict[str, Any]:
    try:
        value: dict[str, Any] = orjson.loads(line)
        if all(isinstance(value[each], str) for each in _NAMES) and value.keys() >= _OTHERS:
            return value
    except (KeyError, TypeError, AttributeError):
        pass
    raise ValueError("not the facts of a call")


def _facts(line: bytes) -> Facts:
    value = _value(line)
    try:
        if value.get("metadata") and exact_json.may_change(line):
            value["metadata"] = exact_json.loads(line)["metadata"]
        inputs = [
            InputRef(each["path"], each["sha256"], each["sent"] and SentFile(**each["sent"]))
            for each in value.pop("inputs")
        ]
        estimate = Estimate(**value.pop("estimate"))
        return Facts(**value, inputs=inputs, estimate=estimate)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not the facts of a call") from error
