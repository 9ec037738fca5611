"""The notes of batches on the disk, whole and damaged."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.errors import StorageError
from gemini_batch.output.batch_note import BatchNote, Step
from gemini_batch.output.batches import BatchNotes, find_batches
from gemini_batch.output.open_batches import open_batches
from gemini_batch.records import Estimate, Facts, InputRef, SentFile
from gemini_batch.records.exact_json import Number
from tests.builders import ENDPOINT, MODEL, sha256
from tests.virtual.clock import NOON_UTC

UUID = "0123456789abcdef" * 2
CALL = Facts(
    id="robot",
    line=1,
    request_sha256=sha256(b"robot"),
    prompt="A robot",
    image_size="1K",
    metadata={"big": Number("123456789012345678901234"), "text": "é"},
    estimate=Estimate(10, 1120, 0.067, extra_usd=0.01),
    inputs=[
        InputRef("a.png", "0" * 64, SentFile("image/png", 5, 1, 2, "1" * 64)),
        InputRef("https://example.com/b.png", None),
    ],
    model=MODEL,
    thinking="high",
)


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[BatchNotes]:
    """The notes of a folder."""
    (tmp_path / ".gemini_batch").mkdir()
    found = BatchNotes(tmp_path)
    yield found
    found.close()


def note(**changes: Any) -> BatchNote:
    """Return the note of a batch that exists."""
    made = BatchNote(UUID, ENDPOINT, "mine", MODEL, 1, 10, 0.067, 0, NOON_UTC, Step.CREATED)
    return replace(made, name="batches/1", **changes)


def path_of(notes: BatchNotes, name: str = "batch.json") -> Path:
    """Return a file of the batch."""
    return notes.out / ".gemini_batch" / "batches" / UUID / name


def test_a_note_and_its_calls_are_read_as_they_were_written(notes: BatchNotes) -> None:
    """Every field of both, numbers of any size included; nobody else can read them."""
    whole = note(created_at=NOON_UTC, missing_since=NOON_UTC, done=0, why="…")
    notes.add(whole, [CALL])
    (found,) = find_batches(notes.out)
    assert (found.note, found.problem) == (whole, "")
    assert found.lines is not None
    assert found.lines.facts(0) == CALL
    found.lines.close()
    assert path_of(notes).stat().st_mode & 0o077 == 0
    notes.remove(UUID)
    assert find_batches(notes.out) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"planned_at": "2026-11-22T20:00:00"},
        {"created_at": 5.5e300},
        {"calls": -1},
        {"calls": 10**12},
        {"step": "somewhere"},
        {"uuid": "f" * 32},
        {"name": 5},
        {"planned_at": None},
    ],
)
def test_a_note_that_can_not_be_true_is_damaged(changes: dict[str, Any], notes: BatchNotes) -> None:
    """Its batch may exist under its name; nothing is believed of the rest, and nothing crashes."""
    notes.add(note(), [CALL])
    value = orjson.loads(path_of(notes).read_bytes())
    path_of(notes).write_bytes(orjson.dumps(value | changes))
    (found,) = find_batches(notes.out)
    assert (found.note.step, found.note.calls) == (Step.CREATING, 1)
    assert found.note.display_name == f"gemini_batch {UUID}"
    assert found.problem


def test_fields_of_a_later_version_are_left(notes: BatchNotes) -> None:
    """A note of another version is read as far as it is known."""
    notes.add(note(), [CALL])
    value = orjson.loads(path_of(notes).read_bytes())
    path_of(notes).write_bytes(orjson.dumps(value | {"colour": "red"}))
    assert [found.note for found in find_batches(notes.out)] == [note()]


@pytest.mark.parametrize("line", [b"[]", b"{}", b"null", b'{"id": 5}', b"\xff", b'{"id": ["a"]}'])
def test_calls_that_are_damaged_are_named(line: bytes, notes: BatchNotes) -> None:
    """Nothing may be sent: who knows what is paid for."""
    notes.add(note(), [CALL])
    path_of(notes, "lines.jsonl").write_bytes(line + b"\n")
    with pytest.raises(StorageError, match="facts of the call can't be read"):
        open_batches(notes.out, ENDPOINT)
