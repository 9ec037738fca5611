"""Answers that could not be understood: where they are kept, and how many."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gemini_batch.output import unreadable
from gemini_batch.output.unreadable import keep


def kept(folder: Path) -> dict[str, bytes]:
    """Return what is kept."""
    return {
        path.name: path.read_bytes() for path in (folder / ".gemini_batch/unreadable").iterdir()
    }


def test_an_answer_is_kept_as_it_came(tmp_path: Path) -> None:
    """Each answer has a file of its own, whose place is said; an earlier one is not overwritten."""
    said = [keep(tmp_path, "a-1", iter([piece, b"!"])) for piece in (b"one", b"two", b"three")]

    names = ("a-1", "a-1.2", "a-1.3")
    assert said == [f"the answer is kept in .gemini_batch/unreadable/{name}" for name in names]
    assert kept(tmp_path) == dict(zip(names, (b"one!", b"two!", b"three!"), strict=True))


def test_nothing_is_not_kept(tmp_path: Path) -> None:
    """An empty body leaves no file and no words."""
    assert keep(tmp_path, "a-1", iter([b"", b""])) == ""
    assert kept(tmp_path) == {}


def test_an_answer_is_kept_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an endless answer the start is kept, and it is said how much."""
    monkeypatch.setattr(unreadable, "MAX_ANSWER_BYTES", 5)

    assert "the first 5 bytes" in keep(tmp_path, "a-1", iter([b"abc", b"defg", b"never read"]))
    assert keep(tmp_path, "b-1", iter([b"abc", b"de"])).startswith("the answer is kept")
    assert kept(tmp_path) == {"a-1": b"abcde", "b-1": b"abcde"}


@pytest.mark.parametrize(("name", "limit"), [("MAX_FILES", 2), ("MAX_BYTES", 6)])
def test_what_is_kept_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, limit: int
) -> None:
    """A full folder takes no more, and keeps what rows already name."""
    monkeypatch.setattr(unreadable, name, limit)
    for call in "abc":
        said = keep(tmp_path, call, iter([b"abc"]))

    assert said == "the answer is not kept: .gemini_batch/unreadable is full; empty it"
    assert kept(tmp_path) == {"a": b"abc", "b": b"abc"}


def broken_by_a_file(folder: Path, _patch: pytest.MonkeyPatch) -> None:
    """Put a file where the folder should be."""
    (folder / ".gemini_batch").mkdir()
    (folder / ".gemini_batch/unreadable").write_text("")


def broken_by_a_link(folder: Path, _patch: pytest.MonkeyPatch) -> None:
    """Let the folder lead elsewhere."""
    (folder / ".gemini_batch").mkdir()
    (folder / ".gemini_batch/unreadable").symlink_to("/")


def broken_by_a_full_disk(_folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let no file be opened."""

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    patch.setattr(os, "open", full)


@pytest.mark.parametrize("broken", [broken_by_a_file, broken_by_a_link, broken_by_a_full_disk])
def test_a_disk_that_refuses_is_no_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: Callable[[Path, pytest.MonkeyPatch], None],
) -> None:
    """The call has failed already; the sentence says that its answer can't be kept."""
    broken(tmp_path, monkeypatch)

    assert keep(tmp_path, "a-1", iter([b"abc"])).startswith("the answer can't be kept: ")
