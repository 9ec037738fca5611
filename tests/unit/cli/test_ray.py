"""The summary that `ray` writes for all workers."""

from dataclasses import asdict
from pathlib import Path

import orjson
import pytest

from gemini_batch.cli.ray import _summary
from gemini_batch.cli.ray_output import RayOutput
from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.engine.stats import RunStats
from gemini_batch.engine.summary import RunTotals, Summary
from gemini_batch.errors import ExitCode
from gemini_batch.events import CallSent
from gemini_batch.records import Limits, Status
from tests.unit.progress.builders import NOON, finished, started


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
        RayOutput(
            Settings(
                tier="free", limits=Limits(), endpoint="https://server", base_url=None, model="m"
            ),
            tmp_path,
        ),
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
