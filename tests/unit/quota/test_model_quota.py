import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.quota.days import Days
from gemini_batch.quota.limits import GUARD_S, Duration, LimitSet, Weights, duration
from gemini_batch.quota.model_quota import ModelQuota
from gemini_batch.quota.results import DayClosed, Grant, Granted, Paused, ReserveResult
from gemini_batch.quota.windows import Window
from gemini_batch.records import Limits
from tests.unit.quota.contract import CYCLE_S, NOON, PICTURE, T0, granted

PACIFIC = ZoneInfo("America/Los_Angeles")


def ask(
    quota: ModelQuota, after_s: float = 0.0, weights: Weights = PICTURE, permits: int = 1
) -> ReserveResult:
    """Reserve at a moment after noon."""
    return quota.reserve(weights, permits, T0 + after_s, NOON + timedelta(seconds=after_s))


# --- properties -------------------------------------------------------------------------------------------------------

LIMITS = st.builds(
    Limits,
    requests_per_min=st.none() | st.integers(1, 20),
    tokens_per_min=st.none() | st.integers(100, 500),
    images_per_min=st.none() | st.integers(1, 20),
    requests_per_day=st.none() | st.integers(1, 40),
    usd_per_10min=st.none() | st.sampled_from([0.2, 0.4, 1.1]),
    usd_per_day=st.none() | st.sampled_from([0.2, 2.0]),
    minute_s=st.sampled_from([60.0, 7.0]),
)
STEPS = st.lists(
    st.fixed_dictionaries(
        {
            "pass_s": st.just(0.0) | st.floats(0, 3) | st.floats(0, 130),
            "tokens": st.integers(0, 100),
            "usd_micros": st.sampled_from([0, 39_000, 134_000]),
            "permits": st.integers(1, 4),
            "late": st.floats(0, 1),
            "on_its_way": st.floats(0, 1),
            "used": st.floats(0, 1),
            "settles": st.booleans(),
            "event": st.sampled_from(["", "", "", "pause", "overrun", "store", "give back"]),
        }
    ),
    min_size=1,
    max_size=60,
)
NEAR_MIDNIGHT = datetime(2026, 11, 23, 7, 58, 30, tzinfo=UTC)


def play(
    quota: ModelQuota, limits: Limits, steps: list[dict[str, Any]]
) -> list[tuple[float, Weights]]:
    """Do what the steps say, and return when which weights arrived at the server."""
    now_s, arrivals, unsettled = T0, list[tuple[float, Weights]](), list[tuple[Grant, Weights]]()
    for step in steps:
        now_s += step["pass_s"]
        weights = Weights(tokens=step["tokens"], usd_micros=step["usd_micros"])
        verdict = quota.reserve(
            weights, step["permits"], now_s, NEAR_MIDNIGHT + timedelta(seconds=now_s - T0)
        )
        if isinstance(verdict, Paused):
            now_s = verdict.until_s
        elif isinstance(verdict, Granted) and step["event"] == "give back":
            quota.refund(verdict.grant)
            arrivals += arrive(verdict, weights, step)[1:]
        elif isinstance(verdict, Granted):
            used = replace(
                weights,
                tokens=int(weights.tokens * step["used"]),
                usd_micros=weights.usd_micros // 2,
            )
            arrivals += arrive(verdict, used, step)
            unsettled += [(verdict.grant, used)] * verdict.permits
        if step["settles"]:
            for grant, used in unsettled:
                tokens = used.tokens - grant.weights.tokens
                usd_micros = used.usd_micros - grant.weights.usd_micros
                quota.correct(grant, Weights(0, 0, tokens, usd_micros))
            unsettled.clear()
        quota = disturb(quota, limits, step["event"], now_s)
    return arrivals


def arrive(granted: Granted, used: Weights, step: dict[str, Any]) -> list[tuple[float, Weights]]:
    """Send all permits as late as the step says, and return when they arrive."""
    grant = granted.grant
    sent_s = grant.at_s + step["late"] * (grant.expires_at_s - grant.at_s)
    return [(sent_s + step["on_its_way"] * GUARD_S / 2, used)] * granted.permits


def disturb(quota: ModelQuota, limits: Limits, event: str, now_s: float) -> ModelQuota:
    """Pause the quota, or store and load it."""
    if event in {"pause", "overrun"}:
        quota.pause(now_s + 5.0, "why", now_s, overrun=event == "overrun")
    if event == "store":
        state = json.loads(json.dumps(quota.dump()))
        quota = ModelQuota(limits)
        quota.load(state)
    return quota


@given(limits=LIMITS, steps=STEPS)
@pytest.mark.promise("quota")
def test_no_interval_of_any_window_exceeds_its_limit(
    limits: Limits, steps: list[dict[str, Any]]
) -> None:
    """No window is overrun by uses that are reserved, late within their validity, delayed on their way and settled."""
    arrivals = play(ModelQuota(limits), limits, steps)

    bounds = LimitSet.of(limits)
    for bound, span_s in (
        *((bound, limits.minute_s) for bound in bounds.minute),
        *((bound, 10 * limits.minute_s) for bound in bounds.ten_minutes),
    ):
        most = fullest([(at_s, bound.weight(weights)) for at_s, weights in arrivals], span_s)
        assert bound.limit is None or most <= bound.limit
    for bound in bounds.day:
        on_date = Counter[date]()
        for at_s, weights in arrivals:
            on_date[(NEAR_MIDNIGHT + timedelta(seconds=at_s - T0)).astimezone(PACIFIC).date()] += (
                bound.weight(weights)
            )
        assert bound.limit is None or max(on_date.values(), default=0) <= bound.limit


def fullest(arrivals: list[tuple[float, int]], span_s: float) -> int:
    """Return the most weight in any interval of a length, its end left out."""
    arrivals = sorted(arrivals)
    most = total = first = 0
    for at_s, weight in arrivals:
        total += weight
        while arrivals[first][0] <= at_s - span_s:
            total -= arrivals[first][1]
            first += 1
        most = max(most, total)
    return most


@given(limits=LIMITS, steps=STEPS)
def test_stored_state_decides_the_same(limits: Limits, steps: list[dict[str, Any]]) -> None:
    """A quota that is stored and loaded before each question gives the same answers as one that lives on."""
    alive, stored, now_s = ModelQuota(limits), json.dumps(ModelQuota(limits).dump()), T0
    for step in steps:
        now_s += step["pass_s"]
        utc = NEAR_MIDNIGHT + timedelta(seconds=now_s - T0)
        weights = Weights(tokens=step["tokens"], usd_micros=step["usd_micros"])
        loaded = ModelQuota(limits)
        loaded.load(json.loads(stored))
        for quota in (alive, loaded):
            if step["event"] in {"pause", "overrun"}:
                quota.pause(now_s + 5.0, "why", now_s, overrun=step["event"] == "overrun")

        expected = alive.reserve(weights, step["permits"], now_s, utc)

        assert expected == loaded.reserve(weights, step["permits"], now_s, utc)
        stored = json.dumps(loaded.dump())


# --- windows ----------------------------------------------------------------------------------------------------------


def test_window_is_used_up_to_its_limit() -> None:
    """Slots apart by span + guard + 1 do not count together; one slot less and they do."""
    window = Window(10, span=240)
    window.add(10, 0)

    assert window.earliest(1, 244, guard=4) == 245
    assert (window.used(244, guard=4), window.used(245, guard=4)) == (10, 0)
    assert (window.earliest(1, 1, guard=4), window.earliest(1, 250, guard=4)) == (245, 250)


def test_window_of_longer_slots() -> None:
    """A window with a stride answers in the model's slots, at the start of its own."""
    window = Window(1, span=240, stride=10)
    window.add(1, 17)

    assert window.earliest(1, 18, guard=4) == (1 + 240 + 1 + 1) * 10


def test_shifted_window_stays_in_order() -> None:
    """A shift that rounds to a later slot of the window leaves it in order, and nothing twice."""
    window = Window(10, span=240, stride=10)
    window.add(1, 5)
    window.shift(4, 1 << 40)
    window.add(2, 9)
    window.add(3, 10)

    assert window.dump() == [1, 6]


def test_window_forgets_what_is_out_of_reach() -> None:
    """What has passed takes no memory: a day of requests leaves what one window holds."""
    window = Window(60, span=240)
    slot = 0
    for _ in range(20_000):
        slot = window.earliest(1, slot + 1, guard=4)
        window.forget(slot, guard=4)
        window.add(1, slot)

    assert len(window.dump()) <= 2 * 60


def test_a_clock_that_reads_earlier_is_not_believed() -> None:
    """Two processes may ask in another order than they read their clock: nothing is forgotten for the one that is behind."""
    quota = ModelQuota(Limits(requests_per_min=1, usd_per_day=1.0))
    granted(ask(quota, weights=Weights(usd_micros=500_000)))
    assert isinstance(ask(quota, CYCLE_S, Weights(usd_micros=500_001)), DayClosed)

    assert granted(ask(quota, CYCLE_S - 1.0)).grant.at_s == T0 + CYCLE_S


def test_nothing_waits_for_a_limit_it_does_not_touch() -> None:
    """A call without tokens does not wait for the tokens of the one before it."""
    quota = ModelQuota(Limits(tokens_per_min=10))
    grant = granted(ask(quota, weights=Weights(tokens=10))).grant
    quota.correct(grant, Weights(0, 0, tokens=89))

    assert granted(ask(quota)).grant.at_s == T0


# --- days -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "hours"),
    [(date(2026, 3, 8), 23), (date(2026, 7, 1), 24), (date(2026, 11, 1), 25)],
    ids=["spring forward", "summer", "fall back"],
)
def test_days_are_as_long_as_the_calendar_has_them(day: date, hours: int) -> None:
    """A quota of the day lasts from midnight to midnight in Los Angeles: 23, 24 or 25 hours."""
    quota = ModelQuota(Limits(requests_per_day=1))
    midnight = datetime.combine(day, datetime.min.time(), PACIFIC).astimezone(UTC)
    guard = timedelta(seconds=GUARD_S)
    granted(quota.reserve(PICTURE, 1, T0, midnight + guard))

    last_moment = quota.reserve(PICTURE, 1, T0 + 1, midnight + timedelta(hours=hours) - guard)

    assert DayClosed(midnight + timedelta(hours=hours) + guard, "1 request a day") == last_moment


def test_near_midnight_a_grant_counts_on_both_days() -> None:
    """Nobody can say on which side of midnight it arrives, so both days pay for it."""
    days = Days((10,), guard_s=1.0)
    midnight = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
    today = date(2026, 11, 22).toordinal()

    def dates(seconds: float) -> tuple[int, ...]:
        return days.dates(midnight + timedelta(seconds=seconds), 0.5)

    assert [(today,), (today, today + 1)] == [dates(-2.0), dates(-1.4)]
    assert [(today, today + 1), (today + 1,)] == [dates(0.9), dates(1.0)]


def test_both_days_of_midnight_are_filled_and_closed() -> None:
    """What is granted at midnight fills both days, and when both are full the one after them is the next to open."""
    quota = ModelQuota(Limits(requests_per_day=3))
    midnight = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
    assert granted(quota.reserve(PICTURE, 4, T0, midnight)).permits == 3

    assert quota.reserve(PICTURE, 1, T0, midnight) == DayClosed(
        datetime(2026, 11, 24, 8, 0, 1, tzinfo=UTC), "3 requests a day"
    )


def test_closed_day_has_nothing_left() -> None:
    """A day that the server closed takes no more calls, limited or not."""
    quota = ModelQuota(Limits())
    assert not quota.is_day_closed(NOON)
    granted(ask(quota))
    quota.close_day(NOON)

    assert quota.is_day_closed(NOON)
    assert ask(quota) == DayClosed(
        datetime(2026, 11, 23, 8, 0, 1, tzinfo=UTC), "the server closed the day"
    )


def test_date_never_goes_back() -> None:
    """A wall clock that is set back does not open the day before again."""
    quota = ModelQuota(Limits(requests_per_day=2))
    granted(quota.reserve(PICTURE, 2, T0, NOON))
    granted(quota.reserve(PICTURE, 2, T0 + 90_000, NOON + timedelta(days=1)))

    answer = quota.reserve(PICTURE, 1, T0 + 90_001, NOON)

    assert DayClosed(datetime(2026, 11, 24, 8, 0, 1, tzinfo=UTC), "2 requests a day") == answer


def test_a_slot_after_midnight_counts_on_the_new_day() -> None:
    """A full day is not in the way of a request that the minute puts behind midnight."""
    quota = ModelQuota(Limits(requests_per_min=1, requests_per_day=1))
    before = datetime(2026, 11, 23, 7, 59, 30, tzinfo=UTC)
    granted(quota.reserve(PICTURE, 1, T0, before))

    assert (
        granted(quota.reserve(PICTURE, 1, T0 + 1, before + timedelta(seconds=1))).grant.at_s
        == T0 + CYCLE_S
    )


def test_a_slot_that_was_not_taken_begins_no_day() -> None:
    """A call that would wait until after midnight, and is paused, does not begin the new day for the calls before it."""
    quota = ModelQuota(Limits(requests_per_day=1, tokens_per_min=10))
    before = datetime(2026, 11, 23, 7, 59, 30, tzinfo=UTC)
    granted(quota.reserve(Weights(tokens=10), 1, T0, before))
    quota.pause(T0 + 5.0, "why", T0)
    assert isinstance(quota.reserve(Weights(tokens=10), 1, T0, before), Paused)

    assert isinstance(quota.reserve(PICTURE, 1, T0 + 5.0, before + timedelta(seconds=5)), DayClosed)


# --- the guard --------------------------------------------------------------------------------------------------------


def cycle_s(quota: ModelQuota, after_s: float) -> float:
    """Return how far two grants are apart when one fills the minute."""
    first = granted(ask(quota, after_s)).grant.at_s
    return granted(ask(quota, after_s)).grant.at_s - first


def test_guard_widens_after_an_unforeseen_429_and_narrows_again() -> None:
    """It doubles, at most once a minute and three times in all, and halves after ten minutes without another."""
    quota = ModelQuota(Limits(requests_per_min=1))

    def overrun(after_s: float) -> None:
        quota.pause(0.0, "why", T0 + after_s, overrun=True)

    overrun(0)
    overrun(1)
    once = cycle_s(quota, 10)
    for after_s in (1000, 1060, 1120, 1180):
        overrun(after_s)
    thrice = cycle_s(quota, 1200)
    narrowed = [cycle_s(quota, after_s) for after_s in (1180 + 600, 1180 + 1200, 1180 + 1800)]

    assert [once, thrice] == [62.25, 68.25]
    assert narrowed == [64.25, 62.25, 61.25]


def test_plain_pause_leaves_the_guard() -> None:
    """A pause for an outage is no lesson about the minute."""
    quota = ModelQuota(Limits(requests_per_min=1))
    quota.pause(0.0, "no connection", T0)

    assert cycle_s(quota, 10) == CYCLE_S


def test_guard_does_not_shrink_with_the_minute() -> None:
    """The network does not hurry with a simulator's minute: the guard stays a second."""
    quota = ModelQuota(Limits(requests_per_min=1, minute_s=6.0))

    assert cycle_s(quota, 0) == pytest.approx(6.0 + 1.0 + 0.025)


# --- state ------------------------------------------------------------------------------------------------------------


def test_other_limits_count_what_was_used_before() -> None:
    """What was used without a limit counts when another run sets one."""
    quota, other = ModelQuota(Limits()), ModelQuota(Limits(tokens_per_min=100, requests_per_day=5))
    ask(quota, weights=Weights(tokens=90), permits=5)
    other.load(quota.dump())

    used = {entry.bound.label: entry.used for entry in other.used(T0, NOON)}
    assert (used["100 tokens a minute"], used["5 requests a day"]) == (450, 5)
    assert isinstance(ask(other, 100.0), DayClosed)


def test_wide_guard_is_stored() -> None:
    """What one process learned of the minute, the next one knows."""
    taught, heir = ModelQuota(Limits(requests_per_min=1)), ModelQuota(Limits(requests_per_min=1))
    taught.pause(0.0, "why", T0, overrun=True)
    heir.load(taught.dump())

    assert cycle_s(heir, 10) == 62.25


def test_minutes_of_another_length_start_anew() -> None:
    """A simulator's hurried minute says nothing about the real one, but a day is a day."""
    hurried, real = (
        ModelQuota(Limits(minute_s=1.0)),
        ModelQuota(Limits(requests_per_min=1, requests_per_day=9)),
    )
    ask(hurried, permits=7)
    real.load(hurried.dump())

    assert granted(ask(real)).grant.at_s == T0
    used = {entry.bound.label: entry.used for entry in real.used(T0, NOON)}
    assert used["9 requests a day"] == 8


def test_restart_takes_all_as_used_just_now() -> None:
    """After a reboot the clock begins anew: what was used counts as used at this moment, no hours ahead, none forgotten."""
    quota = ModelQuota(Limits(requests_per_min=2, usd_per_10min=1.0))
    ask(quota, 0.0, Weights(usd_micros=500_000))
    ask(quota, 5.0, Weights(usd_micros=500_000))
    quota.pause(T0 + 35.0, "why", T0 + 5.0)

    quota.restart(13.0, T0 + 5.0)

    def after(now_s: float, usd_micros: int = 0) -> ReserveResult:
        return quota.reserve(Weights(usd_micros=usd_micros), 1, now_s, NOON)

    assert Paused(43.0, "why") == after(13.0)
    assert granted(after(43.0)).grant.at_s == 8.0 + CYCLE_S
    assert 603.0 <= granted(after(44.0, usd_micros=500_000)).grant.at_s <= 13.0 + 610.0


def test_restart_counts_a_reservation_for_later_as_used_now() -> None:
    """A run that died with the clock may have sent what it had reserved, but not after the reboot: no wait grows by it."""
    quota = ModelQuota(Limits(requests_per_min=2))
    for _ in range(3):
        ask(quota, 0.0)  # the third one is for a minute later

    quota.restart(13.0, T0)

    assert (
        13.0 + 60.0 <= granted(quota.reserve(PICTURE, 1, 13.0, NOON)).grant.at_s <= 13.0 + CYCLE_S
    )


# --- words and estimates ----------------------------------------------------------------------------------------------


def test_check_names_limit_and_size() -> None:
    """A call that never fits is found when it is planned, and the text says why."""
    LimitSet.of(Limits(usd_per_day=0.134)).check(Weights(usd_micros=134_000))

    with pytest.raises(ValueError, match=r"takes \$0\.134, and the limit is \$0\.100 a day"):
        LimitSet.of(Limits(usd_per_day=0.1)).check(Weights(usd_micros=134_000))


@pytest.mark.parametrize("calls", [140, 500])
@pytest.mark.parametrize(
    ("limits", "bound_by"),
    [
        (Limits(requests_per_min=15), "15 requests a minute"),
        (Limits(requests_per_min=60, usd_per_10min=10), "$10.00 in ten minutes"),
        (Limits(tokens_per_min=10_000), "10,000 tokens a minute"),
        (Limits(images_per_min=40, requests_per_min=60), "40 images a minute"),
    ],
    ids=["rpm", "usd", "tpm", "ipm"],
)
def test_duration_is_what_the_ledger_takes(limits: Limits, bound_by: str, calls: int) -> None:
    """The time that is announced is the time that the ledger takes, within two percent, and names the limit in the way."""
    weights = Weights(tokens=700, usd_micros=134_000)
    quota, gap_s, now_s = ModelQuota(limits), LimitSet.of(limits).gap_s, T0
    for _ in range(calls):
        now_s = granted(quota.reserve(weights, 1, now_s + gap_s, NOON)).grant.at_s

    estimate = duration(calls, weights, limits)

    assert now_s - T0 == pytest.approx(estimate.sending_s, rel=0.02)
    assert (1, bound_by) == (estimate.days, estimate.bound_by)


def test_duration_counts_days() -> None:
    """More than a day's quota takes days, and the limit of the day is the one in the way."""
    limits = Limits(requests_per_min=15, requests_per_day=1500, usd_per_day=1000.0)

    estimates = [duration(calls, PICTURE, limits) for calls in (0, 15, 1500, 1501, 4500)]

    assert [estimate.days for estimate in estimates] == [0, 1, 1, 2, 3]
    assert [estimate.bound_by for estimate in estimates] == [
        "",
        "",
        "15 requests a minute",
        "1,500 requests a day",
        "1,500 requests a day",
    ]
    assert all(a.sending_s < b.sending_s for a, b in pairwise(estimates))


def test_duration_without_limits_is_none() -> None:
    """Where there is no limit, nothing waits."""
    assert duration(1_000_000, PICTURE, Limits()) == Duration(0.0, 1, "")
