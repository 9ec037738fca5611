import json
import time
from argparse import Namespace
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import time_machine

from gemini_batch.cli.quota import main
from gemini_batch.clock import utc_now
from gemini_batch.errors import StorageError
from gemini_batch.quota.limits import Weights
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.shared_budget import SharedBudget
from gemini_batch.quota.storage import SqliteStorage, state_path
from gemini_batch.records import Limits
from tests.unit.quota.contract import NOON, T0, M

LIMITS = Limits(requests_per_min=15, requests_per_day=1500, usd_per_10min=10.0)


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the state folder aside, and the person into Tokyo."""
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("TZ", "JST-9")
    monkeypatch.setattr("gemini_batch.quota.storage.boot_time_s", lambda: T0)
    time.tzset()
    with time_machine.travel(NOON.timestamp(), tick=False):
        yield
    monkeypatch.undo()
    time.tzset()


def ledger(project: str = "studio", endpoint: str = "https://server") -> SharedLedger:
    """Open the ledger as a run does."""
    storage = SqliteStorage(state_path(), steady_s=lambda: T0)
    storage.open()
    return SharedLedger(storage, LIMITS, endpoint=endpoint, project=project, steady_s=lambda: T0)


def quota(
    capsys: pytest.CaptureFixture[str],
    *,
    as_json: bool = False,
    reset: bool = False,
    project: str | None = None,
) -> str:
    """Return what the command prints."""
    assert main(Namespace(json=as_json, reset=reset, project=project, ledger=None)) == 0
    return capsys.readouterr().out


def test_nothing_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    """Before the first run it says so, and makes no file."""
    assert quota(capsys) == f"no quota used yet; the ledger is {state_path()}\n"
    assert json.loads(quota(capsys, as_json=True))["quotas"] == []
    assert not state_path().parent.exists()


def test_shows_what_is_used_and_left(capsys: pytest.CaptureFixture[str]) -> None:
    """For each limit it shows what is used and left, and when it frees or resets, in the time zone of the user."""
    with ledger() as used:
        used.reserve(M, Weights(usd_micros=134_000), 3, T0, utc_now())
        used.pause(M, T0 + 30.0, "the server asked for a pause", T0)
    before = state_path().read_bytes()

    lines = quota(capsys).splitlines()

    assert lines[0] == f"{M} · https://server · studio"
    assert "paused until 2026-11-23 05:00:30 JST: the server asked for a pause" in lines[1]
    assert [line.split("  all free")[0].split("   resets")[0].split() for line in lines[2:]] == [
        ["15", "requests", "a", "minute", "3", "used", "12", "left"],
        ["$10.00", "in", "ten", "minutes", "$0.402", "used", "$9.60", "left"],
        ["1,500", "requests", "a", "day", "3", "used", "1,497", "left"],
    ]
    assert "all free 2026-11-23 05:01:01 JST" in lines[2]
    assert "resets 2026-11-23 17:00:01 JST" in lines[4]
    assert state_path().read_bytes() == before


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The same for programs: dollars as dollars, moments in UTC, null for no limit."""
    with ledger() as used:
        used.reserve(M, Weights(usd_micros=134_000), 3, T0, utc_now())
        used.close_day(M, T0, utc_now())

    (found,) = json.loads(quota(capsys, as_json=True))["quotas"]

    assert (found["model"], found["endpoint"], found["project"]) == (M, "https://server", "studio")
    assert (found["is_day_closed"], found["paused_until"]) == (True, None)
    limits = {(entry["of"], entry["span"]): entry for entry in found["limits"]}
    assert limits["usd", "in ten minutes"]["left"] == pytest.approx(9.598)
    assert limits["tokens", "a minute"] == {
        "of": "tokens", "span": "a minute", "limit": None, "used": 0, "left": None, "frees_at": None
    }  # fmt: skip
    assert limits["requests", "a day"]["frees_at"] == "2026-11-23T08:00:01+00:00"


def test_what_nobody_knows_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    """After damage a quota counts as used up, and nobody makes up a number for it."""
    ledger().close()
    state_path().write_bytes(b"")
    with ledger() as rebuilt:
        rebuilt.reserve(M, Weights(), 1, T0, utc_now())

    assert "1,500 requests a day              unknown used            0 left" in quota(capsys)


@pytest.mark.parametrize("project", [None, "studio", "studio/global"])
def test_reset_leaves_budgets_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, project: str | None
) -> None:
    """Runs that are in progress share them: only the use of quotas is deleted."""
    monkeypatch.setenv("GEMINI_BATCH_BASE_URL", "https://server")
    with ledger(project or "studio") as used:
        used.reserve(M, Weights(), 1, T0, utc_now())
        budget = SharedBudget(used.storage, 1.0, run_id="night", shard="1/2").join()
        assert budget.reserve(0.5)

        assert quota(capsys, reset=True, project=project).count(" · ") == 2
        assert "no quota used yet" in quota(capsys)
        assert budget.use().reserved_usd == 0.5


def test_reset(capsys: pytest.CaptureFixture[str]) -> None:
    """It deletes the state without a question, says what was deleted, and also deletes a file that can't be read."""
    with ledger() as used:
        used.reserve(M, Weights(), 1, T0, utc_now())

    assert (
        quota(capsys, reset=True) == f"{state_path()}: deleted\n  {M} · https://server · studio\n"
    )
    assert not state_path().exists()
    assert "nothing to delete" in quota(capsys, reset=True)

    state_path().write_bytes(b"rubbish")
    with pytest.raises(StorageError, match="is damaged"):
        quota(capsys)
    assert "a file that could not be read" in quota(capsys, reset=True)


def test_a_file_of_the_end_of_the_calendar(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that was used by a clock in the year 9999 is shown as of today, and can be deleted."""
    with ledger() as used:
        used.reserve(M, Weights(), 7, T0, datetime(9999, 12, 30, 12, tzinfo=UTC))

    assert "resets 2026-11-23 17:00:01 JST" in quota(capsys)
    assert "deleted" in quota(capsys, reset=True)
    assert not state_path().exists()


def test_reset_of_one_project(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only that project is forgotten, only at the endpoint that a run would use."""
    monkeypatch.setenv("GEMINI_BATCH_BASE_URL", "https://server")
    for owner in (
        ("studio", "https://server"),
        ("other", "https://server"),
        ("studio", "https://b"),
    ):
        with ledger(*owner) as used:
            used.reserve(M, Weights(), 1, T0, utc_now())

    deleted = quota(capsys, reset=True, project="studio")

    assert deleted == f"{state_path()}: deleted\n  {M} · https://server · studio\n"
    left = json.loads(quota(capsys, as_json=True))["quotas"]
    assert [(each["endpoint"], each["project"]) for each in left] == [
        ("https://b", "studio"),
        ("https://server", "other"),
    ]
    assert "nothing to delete" in quota(capsys, reset=True, project="studio")
