"""The output folder is moved or removed, during a run or between runs: nobody pays again without knowing."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from gemini_batch.errors import ExitCode, RowsLostError
from gemini_batch.events import CallFinished, Event
from tests.virtual.desk import Desk
from tests.virtual.test_rows_changed import IDS, SCRIPT, many

__all__ = ["many"]
pytestmark = pytest.mark.usefixtures("no_real_syncs")


def renamed(out: Path) -> None:
    """As mv."""
    out.rename(out.with_name("away"))


def renamed_and_made_again(out: Path) -> None:
    """As mv and mkdir."""
    renamed(out)
    out.mkdir()


def copied_away(out: Path) -> None:
    """As mv to another disk."""
    shutil.copytree(out, out.with_name("away"))
    shutil.rmtree(out)


def removed(out: Path) -> None:
    """As rm -r."""
    shutil.rmtree(out)


def during(desk: Desk, deed: Callable[[Path], None], at: int = 5) -> Callable[[Event], None]:
    """Return an observer that does something to the folder when so many calls have finished."""
    finished: list[str] = []

    def watch(event: Event) -> None:
        if isinstance(event, CallFinished):
            finished.append(event.row.id)
            if len(finished) == at:
                deed(desk.out)

    return watch


@pytest.mark.parametrize("deed", [renamed, renamed_and_made_again, copied_away, removed])
def test_a_folder_that_was_moved_during_a_run_is_missed(
    many: Desk, deed: Callable[[Path], None]
) -> None:
    """The run ends with 8, and the next ones send nothing until the folder is back, or forgotten."""
    assert many.run(SCRIPT, watch=during(many, deed)).exit_code == ExitCode.STORAGE
    for _ in range(2):
        many.transport = None
        with pytest.raises(RowsLostError, match="was moved or removed during the run") as caught:
            many.run(SCRIPT)
        assert str(many.out) in str(caught.value)
        assert many.sent() == []
    assert many.run(SCRIPT, forgets_rows=True).by_status == {"succeeded": 12}
    assert many.run(SCRIPT).exit_code == ExitCode.DONE
    assert many.sent() == []


def test_a_folder_that_is_moved_back_goes_on(many: Desk) -> None:
    """No finished call is sent again, and the note is gone: a later removal is the user's own."""
    many.run(SCRIPT, watch=during(many, renamed))
    first = many.sent()
    with pytest.raises(RowsLostError):
        many.run(SCRIPT)
    assert not many.out.exists()
    many.out.with_name("away").rename(many.out)

    assert many.run(SCRIPT).by_status == {"succeeded": 12}
    assert not {call for call, count in Counter(first + many.sent()).items() if count > 1}
    shutil.rmtree(many.out)
    assert many.run(SCRIPT).by_status == {"succeeded": 12}


def test_a_folder_that_was_never_written_to_is_not_missed(many: Desk) -> None:
    """A run that sent nothing leaves no note."""
    many.run(SCRIPT, max_cost_usd=0.0001)
    assert many.sent() == []
    removed(many.out)
    assert many.run(SCRIPT).by_status == {"succeeded": 12}


def private_gone(out: Path) -> None:
    """All but the summary is gone."""
    shutil.rmtree(out / ".gemini_batch")
    shutil.rmtree(out / "images")
    (out / "results.jsonl").unlink()


def private_gone_and_rows_empty(out: Path) -> None:
    """The rows are empty, and all but the summary is gone."""
    private_gone(out)
    (out / "results.jsonl").touch()


def summary_alone(out: Path) -> None:
    """The folder was moved, and the summary copied back, as a sync tool does it."""
    summary = (out / "summary.json").read_bytes()
    renamed_and_made_again(out)
    (out / "summary.json").write_bytes(summary)


@pytest.mark.parametrize("deed", [private_gone, private_gone_and_rows_empty, summary_alone])
def test_a_summary_alone_shows_that_rows_are_gone(many: Desk, deed: Callable[[Path], None]) -> None:
    """What is left of a folder says that calls were paid for: nothing is sent until that is decided."""
    many.run(SCRIPT)
    deed(many.out)
    for _ in range(2):
        many.transport = None
        with pytest.raises(RowsLostError, match=r"summary\.json counts 12 calls with an answer"):
            many.run(SCRIPT)
        assert many.sent() == []

    assert many.run(SCRIPT, forgets_rows=True).by_status == {"succeeded": 12}
    assert sorted(many.sent()) == sorted(IDS)
    assert many.run(SCRIPT).exit_code == ExitCode.DONE


@pytest.mark.parametrize(
    "summary",
    [
        b"",
        b"{}",
        b"[1]",
        b'{"by_status": 7}',
        b'{"by_status": {"failed": 3, "succeeded": "x"}}',
        b'{"by_status": {"succeeded": -1}}',
    ],
)
def test_a_summary_without_answers_is_no_reason(many: Desk, summary: bytes) -> None:
    """A summary that is damaged, or of calls that cost nothing, stops no run."""
    many.out.mkdir()
    (many.out / "summary.json").write_bytes(summary)
    assert many.run(SCRIPT).by_status == {"succeeded": 12}
