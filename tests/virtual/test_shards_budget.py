"""`--max-cost` of a run with several workers: it is of all of them together, also when they are killed and started again."""

import platform
from contextlib import suppress
from typing import Any

import pytest

from gemini_batch.config.run_config import RunConfig
from gemini_batch.engine import shared_money
from gemini_batch.engine.summary import Summary
from gemini_batch.errors import ExitCode, FlagsError
from gemini_batch.events import CallSent, Event
from gemini_batch.output import OutputFolder
from gemini_batch.output.rows import read_rows
from gemini_batch.quota.shared_budget import SharedBudget
from gemini_batch.quota.storage import MemoryStorage
from gemini_batch.records import FailureKind
from gemini_batch.records.shard import Shard
from tests.builders import ENDPOINT, fails
from tests.virtual.desk import Desk
from tests.virtual.test_recovery_kills import Killed

pytestmark = pytest.mark.usefixtures("no_real_syncs")
NAMES = [chr(ord("a") + number) for number in range(12)]
A_CALL_USD = 0.134


@pytest.fixture
def desk(desk: Desk) -> Desk:
    """Return a desk with twelve jobs, whose workers share a ledger."""
    desk.write(**{name: f"prompt {name}" for name in NAMES})
    desk.storage = MemoryStorage()
    return desk


def work(desk: Desk, index: int, count: int = 2, **changes: Any) -> Summary:
    """Run one worker."""
    options: dict[str, Any] = {"run_id": "night", "max_cost_usd": 1.0, **changes}
    return desk.run(shard=Shard(index, count), **options)


def spent_usd(desk: Desk) -> float:
    """Return the cost of all rows."""
    return sum(row["cost_usd"] or 0.0 for row in read_rows(desk.out))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_all_workers_together_keep_the_budget(desk: Desk, count: int) -> None:
    """What one worker has spent is not there for another one; running again with the same name spends nothing more."""
    for _ in range(2):
        summaries = [work(desk, index, count) for index in range(1, count + 1)]
    assert 1.0 - 2 * A_CALL_USD < spent_usd(desk) <= 1.0
    assert ExitCode.STOPPED in {summary.exit_code for summary in summaries}
    (stop,) = next(summary.stops for summary in summaries if summary.stops)
    assert stop["message"].startswith("the budget of $1.00 of all workers has $0.")
    for index in range(1, count + 1):
        work(desk, index, count, run_id="the next night", max_cost_usd=9.0)
    assert len([*read_rows(desk.out)]) == len(NAMES)


def test_a_worker_that_is_killed_keeps_what_it_may_have_spent(desk: Desk) -> None:
    """Ten kills with calls in flight, which may all have been billed: all requests together stay below the budget."""
    sent = 0

    def killed(event: Event) -> None:
        nonlocal sent
        if isinstance(event, CallSent):
            sent += 1
            if sent % 2 == 0:
                raise Killed

    kills = 0
    for _ in range(10):
        with suppress(Killed, BaseExceptionGroup):
            work(desk, 1, 1, watch=killed, max_cost_usd=4.0, concurrency=2)
            break  # there is not enough for another call
        kills += 1
    in_all = sent + len(desk.sent())
    assert kills > 3
    assert 1.0 < in_all * A_CALL_USD <= 4.0


def test_a_call_that_may_have_been_billed_is_spent(desk: Desk) -> None:
    """An attempt without an answer counts, and one that never left does not."""
    lost = {name: [fails(FailureKind.DISCONNECTED)] * 2 for name in NAMES}
    work(desk, 1, 1, script=lost)
    assert 5 <= len(desk.sent()) <= 7
    work(
        desk, 1, 1, run_id="other", max_cost_usd=0.5, script={"a": [fails(FailureKind.UNREACHABLE)]}
    )
    assert spent_usd(desk) > 2 * A_CALL_USD


def test_a_worker_waits_for_money_that_another_one_may_return(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While others have calls in flight nothing is given up; after the time of an answer they count as killed."""
    summary = work(desk, 1, 1, max_cost_usd=0.2, only=("a",))
    assert summary.this_run.finished == 1
    assert desk.storage is not None
    (key,) = (key for key in desk.storage.scan().states if key.model == "night")
    budget = SharedBudget(
        desk.storage,
        1.0,
        run_id="night",
        shard="2/2",
        endpoint=ENDPOINT,
        project=key.project,
    ).join()
    held = budget.reserve(0.8)
    assert held is not None
    looks = 0
    use = SharedBudget.use

    def returns(self: SharedBudget) -> Any:
        nonlocal looks
        looks += 1
        if looks == 3:
            budget.settle(held, 0.0)
        return use(self)

    monkeypatch.setattr(SharedBudget, "use", returns)
    assert work(desk, 1, 1, only=("b",)).this_run.finished == 1
    assert looks == 3
    monkeypatch.setattr(SharedBudget, "use", use)
    assert budget.reserve(0.7) is not None
    summary = work(desk, 1, 1, only=("c",))
    assert (summary.exit_code, summary.this_run.sent) == (ExitCode.STOPPED, 0)
    assert summary.duration_s == pytest.approx(shared_money.PATIENCE_S, abs=5)


@pytest.mark.parametrize("flags", [{}, {"run_id": "night", "route": "batch"}])
def test_a_budget_that_can_not_be_shared_is_wrong_usage(flags: dict[str, Any]) -> None:
    """Without a name of the run, or for batches, `--max-cost` would be of each worker alone."""
    with pytest.raises(FlagsError, match=r"^--max-cost: "):
        RunConfig(simulate=True, shard="1/2", max_cost_usd=1.0, **flags).settings()
    RunConfig(simulate=True, shard="1/2", max_cost_usd=1.0, run_id="x").settings()


def test_workers_on_several_machines_need_a_shared_ledger(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each machine's own ledger would give the whole quota, and the whole budget, once more; one after the other is allowed."""
    monkeypatch.setattr(platform, "node", lambda: "one")
    desk.run(shard=Shard(1, 2), only=("a",))
    monkeypatch.setattr(platform, "node", lambda: "two")
    refused = pytest.raises(FlagsError, match=r"in another ledger \(that of one, .* --ledger")
    with OutputFolder(desk.out / "shards/0001.2/00001").locked(), refused:
        work(desk, 2)
    work(desk, 2, only=("b",))
    monkeypatch.setattr(platform, "node", lambda: "three")
    with pytest.raises(FlagsError, match=r"in another ledger \(that of two, "):
        work(desk, 1)
    work(desk, 1, run_id="the next night")
