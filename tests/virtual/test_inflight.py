import errno
import os
from pathlib import Path

import pytest

from gemini_batch.output import inflight
from gemini_batch.output.inflight import InFlightLog, unacknowledged
from tests.virtual.test_recovery_kills import Killed, Killer

CALLS = 40
AT_ONCE = 3
LOG = "inflight.jsonl"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflight, "_GROWTH_BYTES", 300)


def attempt(log: InFlightLog, is_open: dict[str, str], maybe: dict[str, str]) -> None:
    """Send calls, of which `AT_ONCE` are in flight at a time; every tenth one is never answered."""
    for number in range(CALLS):
        call_id, asked = f"robot-{number}", f"{number:064}"
        maybe[call_id] = asked
        log.sent(call_id, asked, 1000 * number)
        is_open[call_id] = asked
        earlier = f"robot-{number - AT_ONCE}"
        if earlier in is_open and (number - AT_ONCE) % 10:
            del is_open[earlier]
            log.ended(earlier)
            del maybe[earlier]


def open_log(folder: Path) -> InFlightLog:
    """Return a new log with one attempt of the run before."""
    return InFlightLog(folder, 7, {"old": "o" * 64})


def test_a_long_log_stays_small(tmp_path: Path) -> None:
    """It is as large as its open attempts and what is written between two compactions."""
    log, is_open, maybe = open_log(tmp_path), {"old": "o" * 64}, {"old": "o" * 64}
    for _ in range(20):
        attempt(log, is_open, maybe)
    log.close()

    assert (tmp_path / LOG).stat().st_size < 2_000
    found = unacknowledged(tmp_path)
    assert (found.calls, found.rows_bytes) == (is_open, 0)


@pytest.mark.parametrize("tears", [False, True], ids=["kill", "torn write"])
@pytest.mark.promise("kept")
def test_a_kill_at_any_step_of_a_compaction_forgets_no_open_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, tears: bool
) -> None:
    """Killed before any write, rename or unlink, the next run knows each call that was sent and not ended."""
    at, is_whole = 0, False
    while not is_whole:
        at += 1
        folder = tmp_path / str(at)
        folder.mkdir()
        log = open_log(folder)
        is_open, maybe = {"old": "o" * 64}, {"old": "o" * 64}
        with monkeypatch.context() as patch:
            Killer(at, tears=tears, patch=patch)
            try:
                attempt(log, is_open, maybe)
                is_whole = True
            except Killed:
                pass
        log.close()

        found = unacknowledged(folder)
        assert is_open.items() <= found.calls.items() <= maybe.items(), at
        assert found.rows_bytes <= 7, at
        assert unacknowledged(folder).calls == taken_over(folder), at
    assert at > 2 * CALLS


def taken_over(folder: Path) -> dict[str, str]:
    """Return the open calls after the next run has taken them over."""
    found = unacknowledged(folder)
    InFlightLog(folder, found.rows_bytes, found.calls).close()
    return unacknowledged(folder).calls


@pytest.mark.parametrize("name", ["open", "unlink", "rename"])
def test_a_disk_that_refuses_a_compaction_leaves_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The run goes on with the long log, and each note is in it."""
    log, is_open, maybe = open_log(tmp_path), {"old": "o" * 64}, {"old": "o" * 64}

    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, refuse)
        attempt(log, is_open, maybe)
    assert unacknowledged(tmp_path).calls == is_open
    attempt(log, is_open, maybe)
    log.close()
    assert unacknowledged(tmp_path).calls == is_open


def test_the_log_of_another_run_is_left(tmp_path: Path) -> None:
    """A folder that was moved away takes its log with it: the one that has its name now is of another run."""
    first = tmp_path / "out"
    first.mkdir()
    log, is_open, maybe = open_log(first), {"old": "o" * 64}, {"old": "o" * 64}
    first.rename(tmp_path / "moved")
    first.mkdir()
    other = InFlightLog(first, 0)
    other.sent("other", "b" * 64, 0)
    attempt(log, is_open, maybe)
    log.close()
    other.close()

    assert unacknowledged(first).calls == {"other": "b" * 64}
    assert unacknowledged(tmp_path / "moved").calls == is_open
