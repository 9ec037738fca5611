"""Batches of workers: they belong to the worker that made them, and the next generation takes them over."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from gemini_batch.engine.summary import Summary
from gemini_batch.errors import ExitCode
from gemini_batch.output.open_batches import read_open_batches
from gemini_batch.output.rows import newest_rows, read_rows
from gemini_batch.records.shard import Shard
from tests.virtual.batch_desk import BatchDesk
from tests.virtual.batch_server import error_line

pytestmark = [pytest.mark.usefixtures("no_real_syncs"), pytest.mark.slow]
NAMES = [chr(ord("a") + number) for number in range(12)]
BILLED = {f"prompt {name}": 1 for name in NAMES}


def run_all(desk: BatchDesk, count: int, **options: Any) -> list[Summary]:
    """Run all workers, one after the other; no time passes between them."""
    shards = (Shard(index, count) for index in range(1, count + 1))
    return [desk.run(shard=shard, after_h=0.0, **options) for shard in shards]


def statuses(desk: BatchDesk) -> dict[str, str]:
    """Return the status of the newest row of each call."""
    return {row["id"]: row["status"] for row in newest_rows(desk.out)}


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("route", ["batch", "interactive"])
def test_the_next_generation_takes_over_open_batches(
    batch_desk: BatchDesk, count: int, route: str
) -> None:
    """Submitted by 3 workers and collected by any number of them: each call is paid for once, by no other way meanwhile."""
    batch_desk.write(12)
    summaries = run_all(batch_desk, 3)
    assert {summary.exit_code for summary in summaries} == {ExitCode.STOPPED}
    made = len(batch_desk.server.batches)
    summaries = run_all(batch_desk, count, route=route)
    assert {summary.exit_code for summary in summaries} == {ExitCode.STOPPED}
    assert sum(summary.left for summary in summaries) == len(NAMES)
    assert sum(each["waiting"] for each in read_open_batches(batch_desk.out)) == len(NAMES)
    batch_desk.at += timedelta(hours=2)
    for _ in range(2):  # a worker may have looked before another one collected its call
        summaries = run_all(batch_desk, count, route=route)
    assert {summary.exit_code for summary in summaries} == {ExitCode.DONE}
    assert sum(summary.left for summary in summaries) == 0
    assert statuses(batch_desk) == dict.fromkeys(NAMES, "succeeded")
    assert len(batch_desk.server.batches) == made
    assert batch_desk.server.billed() == BILLED
    assert Counter(row["id"] for row in read_rows(batch_desk.out)) == Counter(NAMES)


@pytest.mark.parametrize("count", [2, 5])
def test_a_call_that_an_adopted_batch_gave_back_is_sent_by_its_owner(
    batch_desk: BatchDesk, count: int
) -> None:
    """The row of the owner is newer than that of the worker that collected the batch, whatever their numbers."""
    batch_desk.write(12)
    run_all(batch_desk, 3)
    batch_desk.server.spoil = lambda _number, lines: [error_line(line, 13) for line in lines]
    batch_desk.at += timedelta(hours=2)
    for _ in range(2):
        run_all(batch_desk, count, route="interactive")
    assert statuses(batch_desk) == dict.fromkeys(NAMES, "succeeded")
    rows = Counter((row["id"], row["status"], row["route"]) for row in read_rows(batch_desk.out))
    assert all(rows[name, "failed", "batch"] == 1 for name in NAMES)
    assert all(rows[name, "succeeded", "interactive"] == 1 for name in NAMES)
    assert run_all(batch_desk, count, route="interactive")[0].this_run.sent == 0


def test_an_answer_that_comes_late_to_an_adopted_batch_is_none_of_its_call(
    batch_desk: BatchDesk,
) -> None:
    """Given up, sent by another way, taken over twice, and then answered: the first answer counts."""
    batch_desk.write(2)
    batch_desk.server.hides, batch_desk.server.hidden = 1, 100
    run_all(batch_desk, 1)
    for _ in range(12):
        batch_desk.at += timedelta(hours=1)
        run_all(batch_desk, 1, route="interactive")
    before = statuses(batch_desk)
    batch_desk.server.hidden = 0
    for count in (2, 3):
        batch_desk.at += timedelta(hours=1)
        run_all(batch_desk, count, route="interactive")
    assert statuses(batch_desk) == before == dict.fromkeys("ab", "succeeded")
    late = [row["id"] for row in read_rows(batch_desk.out) if row["status"] == "late"]
    assert sorted(late) == ["a", "b"]
