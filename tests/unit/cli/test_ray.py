"""The summary that `ray` writes for all workers."""

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import orjson
import pytest

from gemini_batch.cli.ray import _look_at_ledger, _summary
from gemini_batch.cli.ray_output import RayOutput
from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.engine.stats import RunStats
from gemini_batch.engine.summary import RunTotals, Summary
from gemini_batch.errors import ConfigError, ExitCode, LedgerError
from gemini_batch.events import CallSent
from gemini_batch.progress.view import View
from gemini_batch.records import Limits, Status
from tests.unit.progress.builders import NOON, finished, started

SETTINGS = Settings(
    tier="free", limits=Limits(), endpoint="https://server", base_url=None, model="m"
)


@pytest.mark.parametrize("summaries", [1, 2])
def test_calls_of_a_worker_that_had_not_begun_are_left(tmp_path: Path, summaries: int) -> None:
    """A run that is interrupted at once, when one of its workers has no summary, counts all calls of the manifest."""
    theirs = Summary(
        manifest="jobs.jsonl",
        out="jobs.out/shards/0001.2/00001",
        tier="free",
        endpoint="https://server",
        exit_code=ExitCode.INTERRUPTED,
        needs_person=False,
        stops=[],
        calls=10,
        by_status={"succeeded": 1, "failed": 1},
        left=9,
        run_again_at=None,
        waiting=0,
        committed_usd=0.0,
        batches=[],
        held={},
        stale=0,
        this_run=RunTotals(finished=1, sent=1),
        windows=[],
        started_at=NOON,
        ended_at=NOON,
        duration_s=1.0,
    )
    for number in range(1, 3):
        folder = tmp_path / f"shards/0001.2/{number:05}"
        folder.mkdir(parents=True)
        if number <= summaries:
            (folder / "summary.json").write_bytes(
                orjson.dumps(asdict(theirs), option=orjson.OPT_UTC_Z)
            )
    stats = RunStats(Limits(), Clock())
    for event in (CallSent("a", 1, "m"), finished("a"), finished("b", Status.FAILED)):
        stats.observe(event)

    found = _summary(
        RayOutput(SETTINGS, tmp_path),
        130,
        started(18, done=2),
        stats,
        NOON,
    )

    assert found is not None
    assert (found.calls, found.left) == (20, 17 if summaries == 1 else 18)
    assert (found.this_run.finished, found.this_run.sent) == (2, summaries)
    assert found.exit_code == 130
    assert orjson.loads((tmp_path / "summary.json").read_bytes())["left"] == found.left


@pytest.mark.parametrize("error", [None, LedgerError("it is away"), ConfigError("wrong password")])
def test_a_ledger_that_can_not_be_used_is_reported(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """It is said before the workers start, since they write nothing while they wait for it. The run goes on: the nodes may reach it."""
    said, closed = list[str](), list[bool]()

    def open_storage() -> None:
        if error:
            raise error

    storage = SimpleNamespace(open=open_storage, close=lambda: closed.append(True))
    monkeypatch.setattr("gemini_batch.quota.storage.shared_storage", lambda *_, **__: storage)
    config = replace(SETTINGS, ledger="postgresql://db/quota")

    _look_at_ledger(config, cast("View", SimpleNamespace(warn=said.append)))
    _look_at_ledger(SETTINGS, cast("View", None))

    assert closed == [True]
    assert [text.startswith(str(error)) for text in said] == ([True] if error else [])
