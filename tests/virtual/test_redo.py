"""`--redo`: finished calls are made again as the user names them, each once."""

from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.errors import ConfigError
from gemini_batch.events import ManifestWarning
from gemini_batch.output.marks import Choice, Mark, Marks
from gemini_batch.output.rows import newest_rows, read_rows
from gemini_batch.records import FailureKind
from tests.builders import fails, picture
from tests.virtual.desk import GONE, Desk

pytestmark = pytest.mark.usefixtures("no_real_syncs")


def mark(desk: Desk, choice: Choice | None, *call_ids: str) -> None:
    """Mark the newest pictures of calls."""
    marks = Marks(desk.out)
    for row in newest_rows(desk.out):
        if row["id"] in call_ids:
            marks.set(Mark(row["id"], row["images"][0]["sha256"], choice))


DRAWINGS = count(1)


def redo(desk: Desk, *what: str, **changes: Any) -> list[str]:
    """Run with `--redo`; return what was sent. Each answer is another picture."""
    drawing = f" {next(DRAWINGS)}"
    script = {name: [picture(drawing=drawing)] for name in "abc"}
    desk.run(script, redo=what, **changes)
    return sorted(desk.sent())


def test_discarded_pictures_are_made_again_once(desk: Desk) -> None:
    """The newest picture counts: twice in a row sends each call once, and the old picture stays."""
    desk.run()
    mark(desk, "discard", "a", "b")
    mark(desk, "pick", "b")
    assert redo(desk, "discarded") == ["a"]
    assert redo(desk, "discarded") == []
    assert [path.name for path in (desk.out / "superseded").iterdir()] == ["a.png"]
    mark(desk, "discard", "a")
    assert redo(desk, "discarded") == ["a"]


def test_a_run_says_that_no_picture_is_discarded(desk: Desk) -> None:
    """`--redo discarded` without a discarded picture is warned about, and sends nothing."""
    desk.run()
    mark(desk, "discard", "a")
    assert redo(desk, "discarded") == ["a"]
    assert not [event for event in desk.events if isinstance(event, ManifestWarning)]
    assert redo(desk, "discarded") == []
    (warning,) = [event.message for event in desk.events if isinstance(event, ManifestWarning)]
    assert "no newest picture is discarded" in warning


def test_a_redo_that_was_stopped_goes_on_with_the_rest(desk: Desk) -> None:
    """What was made again before a stop is not made a third time."""
    desk.run()
    mark(desk, "discard", "a", "b", "c")
    desk.run(
        {"a": [picture(1.0, drawing="new")], "b": GONE, "c": GONE},
        redo=("discarded",),
        concurrency=1,
    )
    assert redo(desk, "discarded") == ["b", "c"]


def test_the_same_bytes_again_are_not_discarded(desk: Desk) -> None:
    """A mark is of the answer that the user saw: a redo that brings its bytes again is sent once."""
    desk.run()
    mark(desk, "discard", "a", "b")
    desk.run(redo=("discarded",))
    assert sorted(desk.sent()) == ["a", "b"]
    first, newest = [row for row in read_rows(desk.out) if row["id"] == "a"]
    assert first["images"] == newest["images"]
    desk.run(redo=("discarded",))
    assert desk.sent() == []
    mark(desk, "discard", "b")
    desk.run(redo=("discarded",))
    assert desk.sent() == ["b"]


def test_a_mark_from_before_marks_knew_of_rows_counts(desk: Desk) -> None:
    """A line without the size of the rows is of any row with these bytes."""
    desk.run()
    sha256 = next(row["images"][0]["sha256"] for row in newest_rows(desk.out) if row["id"] == "a")
    line = {"id": "a", "sha256": sha256, "choice": "discard"}
    (desk.out / "marks.jsonl").write_bytes(orjson.dumps(line) + b"\n")
    assert redo(desk, "discarded") == ["a"]


@pytest.mark.parametrize(
    ("what", "sent"),
    [(["a"], ["a"]), (["[ab]"], ["a", "b"]), (["a", "c"], ["a", "c"]), (["*"], ["a", "b", "c"])],
)
def test_ids_and_globs_name_calls(desk: Desk, what: list[str], sent: list[str]) -> None:
    """Only what is named is made again; without the flag nothing is."""
    desk.run()
    assert redo(desk, *what) == sent
    assert redo(desk) == []


def test_a_name_of_no_call_is_refused(desk: Desk) -> None:
    """A misspelt id makes nothing, and says so before anything is sent."""
    desk.run()
    with pytest.raises(ConfigError, match=r'--redo: .* has no call "d"'):
        desk.run(redo=("a", "d"))


@pytest.mark.parametrize("what", ["a", "a.2", "b", "[a]", "b*"])
def test_a_call_that_is_not_done_may_be_named(desk: Desk, what: str) -> None:
    """An id of the manifest is no misspelt one before its first answer: it is sent once."""
    desk.write_jobs({"id": "a", "prompt": "x", "variants": 2}, {"id": "b", "prompt": "y"})
    desk.run(redo=(what,))
    assert sorted(desk.sent()) == ["a", "a.2", "b"]


def test_a_redo_copies_no_other_folder(desk: Desk, tmp_path: Path) -> None:
    """The picture that is not wanted is not fetched from where it was reused."""
    desk.run()
    desk.out.rename(tmp_path / "other")
    desk.run(reuse_from=(tmp_path / "other",))
    assert desk.sent() == []
    assert redo(desk, "a", reuse_from=(tmp_path / "other",)) == ["a"]


def test_a_fixed_seed_is_warned_of(desk: Desk) -> None:
    """The same seed may bring the same picture again: it is said before the call is paid for."""
    desk.write_jobs({"id": "a", "prompt": "x", "seed": 7}, {"id": "b", "prompt": "y"})
    desk.run()
    redo(desk, "a", "b")
    (warning,) = [event.message for event in desk.events if isinstance(event, ManifestWarning)]
    assert warning.endswith(
        '1 call that is made again has a fixed "seed", and may bring the same picture'
    )


def test_a_call_that_failed_is_sent_as_always(desk: Desk) -> None:
    """A redo of others leaves out nothing that is still to be done."""
    desk.run({"b": [fails(FailureKind.TIMEOUT)] * 2})
    assert redo(desk, "a") == ["a", "b"]
