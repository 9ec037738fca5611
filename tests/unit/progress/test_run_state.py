import random
from dataclasses import replace
from typing import Any

import pytest

from gemini_batch.events import (
    BatchSeen,
    CallFinished,
    CallRetrying,
    CallSent,
    Event,
    ModelReplaced,
    Stopping,
    Waiting,
)
from gemini_batch.progress.run_state import RunState, Sample
from gemini_batch.quota.limits import Weights, duration, limits_of
from gemini_batch.records import (
    BatchRef,
    ImageFile,
    Limits,
    Load,
    ReusedFrom,
    Status,
    Stop,
    StopReason,
)
from tests.builders import MODEL
from tests.unit.progress.builders import NOON, ended, finished, started, used

LIMITS = Limits(requests_per_min=60, requests_per_day=1500)
PICTURE = ImageFile("images/a.jpg", "image/jpeg", 1, 1, 1, "")


def observed(*events: tuple[float, Event], limits: Limits = LIMITS, **options: Any) -> RunState:
    """Return the state after these events at their times."""
    run_state = RunState(limits, **options)
    for now_s, event in events:
        run_state.observe(event, now_s)
    return run_state


def test_calls_are_counted_by_their_end_and_the_cost_projected() -> None:
    """The cost so far, plus the planned cost of the calls that are left."""
    run_state = observed((0, started(10)), (1, finished("a")), (2, finished("b", Status.BLOCKED)))
    state = run_state.snapshot(3, NOON)
    assert (state.todo, state.left, state.by_status) == (
        10,
        8,
        {Status.SUCCEEDED: 1, Status.BLOCKED: 1},
    )
    assert state.cost_usd == pytest.approx(0.268)
    assert state.projected_usd == pytest.approx(1.34)
    assert state.elapsed_s == 3


def test_calls_that_wait_in_batches_are_in_the_projected_cost() -> None:
    """Those of earlier runs as they were expected, until they end; those of this run as all others."""
    name = "batches/1"
    start = started(2, waiting=4, waiting_usd=0.4, route="batch")
    run_state = observed((0, start))
    assert run_state.snapshot(1, NOON).projected_usd == pytest.approx(2 * 0.134 + 0.4)
    run_state.observe(BatchSeen(name, MODEL, 2, 0, "", NOON, is_new=True), 1)
    for batch in ("batches/0", name):
        row = replace(ended(batch), batch=BatchRef(batch, "key"), cost_usd=0.2)
        run_state.observe(CallFinished(row, 0, 0.134), 2)
    assert run_state.snapshot(3, NOON).projected_usd == pytest.approx(0.4 + 0.134 + 0.3)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.2, 1.5, 3.0])
def test_the_projected_cost_follows_the_answers(factor: float) -> None:
    """After twenty answers that cost another share of their estimate, so do the calls that are left."""
    row = ended("a")
    row.images.append(PICTURE)
    chance = random.Random(7)
    shares = [factor * chance.uniform(0.95, 1.05) for _ in range(20)]
    answers = [CallFinished(replace(row, cost_usd=0.134 * share), 0, 0.134) for share in shares]
    run_state = observed((0, started(200)), *((1.0, answer) for answer in answers))
    projected = run_state.snapshot(2, NOON).projected_usd
    assert projected == pytest.approx(200 * 0.134 * factor, rel=0.05)


def test_service_tiers_are_forecast_by_their_own_limits() -> None:
    """Answers count in the lane of their call; the windows of flex are those of its model, priority has a share."""
    flex, priority = f"{MODEL} (flex)", f"{MODEL} (priority)"
    loads = {flex: Load(10, 100, 0.7), priority: Load(100, 1000, 24.0)}
    row = ended("a")
    run_state = observed(
        (0, started(110, loads=loads)),
        (1, CallSent("a", 1, flex)),
        (2, CallFinished(row, 0, 0.067, flex)),
    )
    left = run_state.snapshot(3, NOON).forecast.ends_in_s
    assert left == pytest.approx(
        duration(100, Weights.average(loads[priority]), limits_of(LIMITS, priority)).sending_s
    )
    projected = run_state.snapshot(3, NOON).projected_usd
    assert projected == pytest.approx(0.134 + 9 * 0.07 + 24.0)
    run_state.update(Sample(0, {MODEL: used(LIMITS, 5, 1495), priority: used(LIMITS, 0, 0)}))
    assert run_state.snapshot(3, NOON).forecast.left_over == 4


def test_a_model_that_is_replaced_takes_its_calls_along() -> None:
    """The calls of a model that is gone are expected of its successor."""
    gone = ModelReplaced(MODEL, "gemini-3-pro-image", "gone")
    run_state = observed((0, started(10)), (1, gone))
    row = replace(ended("a"), model="gemini-3-pro-image")
    run_state.observe(CallFinished(row, 0, 0.134), 2)
    state = run_state.snapshot(3, NOON)
    assert (state.models, state.left) == (1, 9)
    assert state.projected_usd == pytest.approx(1.34)


def test_an_unknown_price_is_never_projected_as_nothing() -> None:
    """Without a price there is no projection."""
    assert observed((0, started(10, cost_usd=None))).snapshot(1, NOON).projected_usd is None


def test_reused_answers_change_no_price_and_no_pace() -> None:
    """Copied answers are done, but the calls to send, and their price, are the same."""
    row = replace(ended("a"), reused_from=ReusedFrom("old.out", "a"), cost_usd=0.0)
    run_state = observed((0, started(10, reused=5)), *((1, CallFinished(row, 0)) for _ in range(5)))
    state = run_state.snapshot(2, NOON)
    assert (state.todo, state.left) == (15, 10)
    assert state.projected_usd == pytest.approx(1.34)
    assert state.forecast.is_least


def test_images_a_minute_are_recent_and_never_exceed_the_quota() -> None:
    """The pace of the first seconds of a minute cannot be sustained."""
    row = ended("a")
    row.images.append(PICTURE)
    burst = [(float(second), CallSent("a", 1, MODEL)) for second in range(10)]
    run_state = observed((0, started()), *burst, *((10.0, CallFinished(row, 0)) for _ in range(30)))
    assert run_state.snapshot(10, NOON).images_per_min == 60
    assert run_state.snapshot(100, NOON).images_per_min == pytest.approx(18, rel=0.01)
    assert observed((0, started())).snapshot(10, NOON).images_per_min == 0


def test_the_longest_wait_is_reported() -> None:
    """A wait counts down, and is over when its time has passed."""
    run_state = observed((0, Waiting("a", 5.0, "one")), (0, Waiting("b", 23.0, "two")))
    assert run_state.snapshot(1, NOON).waiting == Waiting("b", 22.0, "two")
    assert run_state.snapshot(24, NOON).waiting is None


def test_errors_of_one_kind_are_one() -> None:
    """A hundred overloaded answers are one line with a count; the last kinds are kept."""
    again = [
        (
            float(n),
            CallRetrying(
                f"n{n}", 1, 5.0, "overloaded", may_be_billed=False, reason="503 UNAVAILABLE"
            ),
        )
        for n in range(100)
    ]
    others = [
        (
            200.0,
            CallRetrying("x", 1, 5.0, f"kind {n}", may_be_billed=False, reason="503 UNAVAILABLE"),
        )
        for n in range(2)
    ]
    state = observed((0, started()), *again, *others).snapshot(201, NOON)
    assert [(each.message, each.number, each.call_id) for each in state.errors] == [
        ("503 UNAVAILABLE: overloaded", 100, "n99"),
        ("503 UNAVAILABLE: kind 0", 1, "x"),
        ("503 UNAVAILABLE: kind 1", 1, "x"),
    ]
    assert state.to_retry == 101


def test_a_call_that_was_retried_is_no_longer_to_retry() -> None:
    """Only its own next request ends that, of which there may be several a number of attempt."""
    again = CallRetrying("a", 1, 5.0, "unreachable", may_be_billed=False, reason="CONNECTION")
    first, other = CallSent("a", 1, MODEL), CallSent("b", 1, MODEL)
    run_state = observed((0, first), (1, again), (2, other), (2, first), (2, again))
    assert run_state.snapshot(3, NOON).to_retry == 1
    run_state.observe(first, 6)
    assert run_state.snapshot(7, NOON).to_retry == 0


def test_the_pace_is_unknown_until_the_calls_in_flight_are_answered() -> None:
    """With eight in flight and one answer, the pace would be eight times too slow."""
    run_state = observed(
        (0, started(100)), *((0, CallSent("a", 1, MODEL)) for _ in range(9)), (20, finished("a"))
    )
    run_state.update(Sample(8, {MODEL: used(LIMITS, 9, 9)}))
    assert run_state.snapshot(20, NOON).forecast.is_least
    for _ in range(8):
        run_state.observe(finished("a"), 21)
    assert not run_state.snapshot(21, NOON).forecast.is_least


def test_a_stop_shows_the_calls_in_flight_at_once() -> None:
    """The number of calls being finished does not wait for the next sample."""
    run_state = observed(
        (0, started()), (1, Stopping(Stop(StopReason.INTERRUPTED, "interrupted"), 12))
    )
    state = run_state.snapshot(1, NOON)
    assert (state.in_flight, state.is_stopping) == (12, True)
    of_one = observed(
        (0, started()), (1, Stopping(Stop(StopReason.DAY_CLOSED, "used up"), 12, MODEL))
    ).snapshot(1, NOON)
    assert not of_one.is_stopping


def test_the_stop_of_a_run_is_not_replaced_by_that_of_a_model() -> None:
    """A model's closed day changes nothing while the run stops; Ctrl-C is still answered."""
    all_of_them, of_one = (
        Stopping(Stop(StopReason.OUTAGE, "gone"), 3),
        Stopping(Stop(StopReason.DAY_CLOSED, "x"), 2, MODEL),
    )
    by_key = Stopping(Stop(StopReason.INTERRUPTED, "interrupted"), 1)
    assert (
        observed((0, started()), (1, of_one), (2, all_of_them), (3, of_one))
        .snapshot(4, NOON)
        .stopping
        == all_of_them
    )
    assert (
        observed((0, started()), (1, all_of_them), (2, by_key)).snapshot(4, NOON).stopping == by_key
    )
