"""Batches cost half, and their budget is held until answers show what they cost."""

from datetime import timedelta

import orjson
import pytest

from gemini_batch.records import Limits
from tests.virtual.batch_desk import BatchDesk
from tests.virtual.batch_server import error_line


def test_the_price_is_half(batch_desk: BatchDesk) -> None:
    """A row, the plan and what is committed have the price of a batch."""
    batch_desk.write(2)
    first = batch_desk.run()
    assert first.committed_usd == pytest.approx(first.this_run.estimated_cost_usd or 0)
    second = batch_desk.run(route="interactive")
    batch_desk.out.rename(batch_desk.out.with_name("others"))
    third = batch_desk.run(route="interactive")
    assert second.this_run.cost_usd * 2 == pytest.approx(third.this_run.cost_usd)


def test_the_budget_is_held_for_whole_batches(batch_desk: BatchDesk) -> None:
    """Only as many calls are submitted as the budget pays for at worst, at the price of a batch."""
    batch_desk.write(6)
    summary = batch_desk.run(max_cost_usd=0.60)
    assert [stop["reason"] for stop in summary.stops] == ["budget", "waiting"]
    assert summary.waiting == 2
    assert summary.this_run.submitted == 2
    assert "holds $0.531 of it for 2 calls in batches" in summary.stops[0]["message"]
    assert "later runs, or --wait, submit what is left" in summary.stops[0]["message"]
    assert summary.committed_usd < 0.30
    assert not summary.needs_person


def test_answers_that_were_collected_show_what_the_next_ones_cost(batch_desk: BatchDesk) -> None:
    """For as many calls as answers came in this run, their cost is held, not the worst case."""
    batch_desk.write(3)
    batch_desk.run()
    batch_desk.write(9)
    summary = batch_desk.run(max_cost_usd=0.60)
    assert summary.waiting == 3 + 1


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("batch_lines", [1, 3, 500])
def test_no_answer_of_a_batch_passes_the_budget(
    batch_lines: int,
    waits: bool,  # noqa: FBT001
    batch_desk: BatchDesk,
) -> None:
    """Answers that think ten times as long as was expected cost no more than the budget, in any run."""
    batch_desk.server.spoil = lambda _number, lines: thinks_long(lines)
    batch_desk.write(9)
    submitted, summary = list[int](), batch_desk.run(max_cost_usd=0.80, waits_for_batches=waits)
    while summary.exit_code == 5:
        submitted.append(batch_desk.server.submitted - sum(submitted))
        summary = batch_desk.run(
            max_cost_usd=0.80, waits_for_batches=waits, batch_lines=batch_lines
        )
    costs = {row["cost_usd"] for row in batch_desk.rows()}
    assert min(costs) > 0.18
    assert submitted[0] == (4 if waits else 3)
    assert max(submitted) * max(costs) <= 0.80
    assert batch_desk.final() == dict.fromkeys("abcdefghi", "succeeded")


def test_a_single_call_does_not_wait_for_money_that_batches_hold(batch_desk: BatchDesk) -> None:
    """What a batch gives back is left until another one has ended, and then sent."""
    batch_desk.server.spoil = lambda number, lines: [*map(error_line, lines)][number:] or lines
    batch_desk.server.takes = timedelta(hours=3)
    jobs = [{"id": "a", "prompt": "prompt a", "model": "gemini-2.5-flash-image"}]
    batch_desk.path.write_bytes(orjson.dumps(jobs[0]) + b"\n")
    batch_desk.run(after_h=0)
    jobs += [{"id": each, "prompt": f"prompt {each}"} for each in "bcd"]
    batch_desk.path.write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in jobs))
    batch_desk.server.takes = timedelta(hours=8)
    summary = batch_desk.run(
        route="auto",
        limits=Limits(requests_per_day=1),
        waits_for_batches=True,
        max_cost_usd=0.5,
    )
    assert (summary.exit_code, summary.waiting) == (0, 0), summary.stops
    assert batch_desk.transport is not None
    assert [call for _, call in batch_desk.transport.sent] == ["b", "a"]
    assert batch_desk.final() == dict.fromkeys("abcd", "succeeded")


def test_a_run_whose_budget_is_used_up_waits_for_what_it_sent(batch_desk: BatchDesk) -> None:
    """`--wait` collects what the budget paid for, and then ends with 5."""
    batch_desk.write(6)
    summary = batch_desk.run(max_cost_usd=0.30, waits_for_batches=True)
    assert [stop["reason"] for stop in summary.stops] == ["budget"]
    assert (summary.waiting, summary.by_status) == (0, {"succeeded": 4})
    assert summary.this_run.cost_usd < 0.30


def thinks_long(lines: list[bytes]) -> list[bytes]:
    """Return lines whose answers thought for 20,000 tokens, $0.12 at the price of a batch."""
    found = [orjson.loads(line) for line in lines]
    for line in found:
        usage = line["response"]["usageMetadata"]
        usage["thoughtsTokenCount"] = 20_000
        usage["totalTokenCount"] = usage.get("totalTokenCount", 0) + 20_000
    return [orjson.dumps(line) + b"\n" for line in found]
