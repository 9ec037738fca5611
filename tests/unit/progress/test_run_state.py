from dataclasses import replace
from typing import Any

import pytest

from gemini_batch.events import CallFinished, CallRetrying, CallSent, Event, Stopping, Waiting
from gemini_batch.progress.run_state import RunState, Sample
from gemini_batch.records import ImageFile, Limits, ReusedFrom, Status, Stop, StopReason
from tests.builders import MODEL
from tests.unit.progress.builders import NOON, ended, finished, started, used

LIMITS = Limits(requests_per_min=60, requests_per_day=1500)
PICTURE = ImageFile("images/a.jpg", "image/jpeg", 1, 1, 1, "")


def told(*events: tuple[float, Event], limits: Limits = LIMITS, **options: Any) -> RunState:
    """Return a tally of events and their moments."""
    tally = RunState(limits, **options)
    for now_s, event in events:
        tally.observe(event, now_s)
    return tally


def test_calls_are_counted_by_their_end_and_the_cost_projected() -> None:
    """What ended, what is left, what it cost, and what it will: so far, and the plan's price of the rest."""
    tally = told((0, started(10)), (1, finished("a")), (2, finished("b", Status.BLOCKED)))
    state = tally.state(3, NOON)
    assert (state.todo, state.left, state.by_status) == (
        10,
        8,
        {Status.SUCCEEDED: 1, Status.BLOCKED: 1},
    )
    assert state.cost_usd == pytest.approx(0.268)
    assert state.projected_usd == pytest.approx(1.34)
    assert state.elapsed_s == 3


def test_an_unknown_price_is_never_projected_as_nothing() -> None:
    """Without a price there is no projection."""
    assert told((0, started(10, cost_usd=None))).state(1, NOON).projected_usd is None


def test_what_is_reused_costs_nothing_and_hurries_nobody() -> None:
    """Copied answers are done, but the calls that are to be sent, and their price, stay as they were."""
    row = replace(ended("a"), reused_from=ReusedFrom("old.out", "a"), cost_usd=0.0)
    tally = told((0, started(10, reused=5)), *((1, CallFinished(row, 0)) for _ in range(5)))
    state = tally.state(2, NOON)
    assert (state.todo, state.left) == (15, 10)
    assert state.projected_usd == pytest.approx(1.34)
    assert state.forecast.is_least


def test_images_a_minute_are_those_of_late_and_never_more_than_the_quota_lets_by() -> None:
    """The burst of a minute's first seconds is no pace to be kept."""
    row = ended("a")
    row.images.append(PICTURE)
    burst = [(float(second), CallSent("a", 1, MODEL)) for second in range(10)]
    tally = told((0, started()), *burst, *((10.0, CallFinished(row, 0)) for _ in range(30)))
    assert tally.state(10, NOON).images_per_min == 60
    assert tally.state(100, NOON).images_per_min == pytest.approx(18, rel=0.01)
    assert told((0, started())).state(10, NOON).images_per_min == 0


def test_the_longest_wait_is_the_one_that_is_told() -> None:
    """A wait counts down, and is over when its moment has passed."""
    tally = told((0, Waiting("a", 5.0, "one")), (0, Waiting("b", 23.0, "two")))
    assert tally.state(1, NOON).waiting == Waiting("b", 22.0, "two")
    assert tally.state(24, NOON).waiting is None


def test_troubles_of_one_kind_are_one() -> None:
    """A hundred overloaded answers are one line with a number; the last kinds are kept."""
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
    state = told((0, started()), *again, *others).state(201, NOON)
    assert [(each.words, each.number, each.call_id) for each in state.troubles] == [
        ("503 UNAVAILABLE: overloaded", 100, "n99"),
        ("503 UNAVAILABLE: kind 0", 1, "x"),
        ("503 UNAVAILABLE: kind 1", 1, "x"),
    ]
    assert state.again == 102


def test_a_call_that_is_sent_again_waits_no_more() -> None:
    """Only second attempts take from those that are to be sent again."""
    again = CallRetrying("a", 1, 5.0, "overloaded", may_be_billed=False, reason="503 UNAVAILABLE")
    tally = told((0, CallSent("a", 1, MODEL)), (1, again), (2, CallSent("b", 1, MODEL)))
    assert tally.state(3, NOON).again == 1
    tally.observe(CallSent("a", 2, MODEL), 6)
    assert tally.state(7, NOON).again == 0


def test_no_time_is_told_before_the_first_wave_of_answers_is_in() -> None:
    """With eight in flight and one answer, its pace would be eight times too slow."""
    tally = told(
        (0, started(100)), *((0, CallSent("a", 1, MODEL)) for _ in range(9)), (20, finished("a"))
    )
    tally.take(Sample(8, {MODEL: used(LIMITS, 9, 9)}))
    assert tally.forecast(20).is_least
    for _ in range(8):
        tally.observe(finished("a"), 21)
    assert not tally.forecast(21).is_least


def test_a_stop_says_at_once_what_is_in_flight() -> None:
    """Nobody has to wait for the next sample to see what is being finished."""
    tally = told((0, started()), (1, Stopping(Stop(StopReason.INTERRUPTED, "interrupted"), 12)))
    state = tally.state(1, NOON)
    assert (state.in_flight, state.is_stopping) == (12, True)
    of_one = told(
        (0, started()), (1, Stopping(Stop(StopReason.DAY_CLOSED, "used up"), 12, MODEL))
    ).state(1, NOON)
    assert not of_one.is_stopping


def test_the_end_of_all_is_not_taken_back_by_that_of_one_model() -> None:
    """A day that ends while all is being finished changes nothing; a person who interrupts what ends anyway is answered."""
    all_of_them, of_one = (
        Stopping(Stop(StopReason.OUTAGE, "gone"), 3),
        Stopping(Stop(StopReason.DAY_CLOSED, "x"), 2, MODEL),
    )
    by_key = Stopping(Stop(StopReason.INTERRUPTED, "interrupted"), 1)
    assert (
        told((0, started()), (1, of_one), (2, all_of_them), (3, of_one)).state(4, NOON).stopping
        == all_of_them
    )
    assert told((0, started()), (1, all_of_them), (2, by_key)).state(4, NOON).stopping == by_key
