"""Runs of different limits on one project: narrow ones wait for wide ones, and never delay them."""

import heapq
import random
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemini_batch.quota.limits import GUARD_S, LimitSet, Weights
from gemini_batch.quota.results import Granted
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import MemoryStorage
from gemini_batch.records import Limits
from tests.unit.quota.contract import CYCLE_S, NOON, PICTURE, T0, M, granted, requests_left

pytestmark = pytest.mark.slow


@dataclass
class Run:
    """A run that sends whenever it may and has something to send.

    Attributes:
        limits: Its limits.
        usd_micros: The price of each of its calls.
        demand: The moments from which on each of its calls is ready, ascending.
        sent: Moment and number of each use, in the order of all runs.
        whys: The reasons of its waits.
    """

    limits: Limits
    usd_micros: int = 0
    demand: list[float] = field(default_factory=list)
    sent: list[tuple[float, int]] = field(default_factory=list)
    whys: list[str] = field(default_factory=list)


class Project:
    """Runs on one ledger and a virtual clock."""

    def __init__(self, *runs: Run, seed: int = 0) -> None:
        self.runs, storage = runs, MemoryStorage()
        self.ledgers = [
            SharedLedger(storage, run.limits, run_name=f"run {number}")
            for number, run in enumerate(runs)
        ]
        self._dice = random.Random(seed)
        self._used: list[tuple[float, Weights]] = []
        self._numbers = count()

    def play(self, length_s: float) -> None:
        """Let all runs send for so long, each with one call at a time."""
        todo: list[tuple[float, float, int, Granted | None]] = [
            (T0, self._dice.random(), number, None) for number in range(len(self.runs))
        ]
        heapq.heapify(todo)
        while todo and todo[0][0] < T0 + length_s:
            now_s, _, number, reserved = heapq.heappop(todo)
            again = self._step(number, now_s, reserved)
            if again is not None:
                heapq.heappush(todo, (again[0], self._dice.random(), number, again[1]))

    def _step(
        self, number: int, now_s: float, reserved: Granted | None
    ) -> tuple[float, Granted | None] | None:
        """Let a run do one thing; return when it does the next one."""
        run, ledger = self.runs[number], self.ledgers[number]
        if len(run.sent) == len(run.demand):
            return None
        if (ready_s := T0 + run.demand[len(run.sent)]) > now_s:
            return ready_s, None
        if reserved is None:
            utc = NOON + timedelta(seconds=now_s - T0)
            reserved = granted(ledger.reserve(M, Weights(usd_micros=run.usd_micros), 1, now_s, utc))
            if reserved.grant.at_s > now_s:
                run.whys.append(reserved.why)
                return reserved.grant.at_s, reserved
        elif not ledger.holds(M, reserved.grant, now_s):
            return now_s, None
        self._use(run, now_s, reserved.grant.weights)
        return now_s, None

    def _use(self, run: Run, now_s: float, weights: Weights) -> None:
        run.sent.append((now_s, next(self._numbers)))
        self._used.append((now_s, weights))
        bounds = LimitSet.of(run.limits)
        for bound, span_s in [
            *((bound, 60.0) for bound in bounds.minute),
            *((bound, 600.0) for bound in bounds.ten_minutes),
        ]:
            if bound.limit is not None and bound.weight(weights):
                # Of the intervals that hold this moment, so far the one that ends now is fullest.
                inside = (each for at_s, each in self._used if at_s > now_s - span_s - GUARD_S)
                assert sum(map(bound.weight, inside)) <= bound.limit, bound.label


def endless(seconds: float, every_s: float = 0.05) -> list[float]:
    """Return the demand of a run that always has something to send."""
    return [number * every_s for number in range(int(seconds / every_s))]


LIMITS = st.builds(
    Limits,
    requests_per_min=st.none() | st.sampled_from([1, 2, 4, 10, 40]),
    usd_per_10min=st.none() | st.sampled_from([0.5, 1.0, 3.0]),
)
RUNS = st.lists(
    st.builds(
        Run,
        LIMITS,
        st.sampled_from([0, 39_000, 134_000, 240_000]),
        st.lists(st.sampled_from([0.0, 0.0, 0.1, 1.0, 30.0, 100.0]), max_size=60).map(
            lambda gaps: [sum(gaps[: number + 1]) for number in range(len(gaps))]
        ),
    ),
    min_size=2,
    max_size=4,
)


@given(runs=RUNS, seed=st.integers(0, 99))
def test_no_use_passes_the_limits_of_its_run(runs: list[Run], seed: int) -> None:
    """When a permit is used, all use in each interval that holds it is within that run's limits.

    All calls are sent in the end: runs that yield to each other do not stop each other for ever.
    """
    Project(*runs, seed=seed).play(200_000.0)

    assert all(len(run.sent) == len(run.demand) for run in runs)


@settings(max_examples=10, deadline=None)
@given(
    wide=st.sampled_from([30, 120]),
    narrow=st.lists(st.sampled_from([1, 4, 20]), min_size=1, max_size=3),
    usd_micros=st.sampled_from([0, 134_000]),
    begins_s=st.sampled_from([0.0, 7.0, 100.0]),
    seed=st.integers(0, 99),
)
def test_a_narrow_run_never_delays_a_wide_one(
    wide: int, narrow: list[int], usd_micros: int, begins_s: float, seed: int
) -> None:
    """At each moment the wide run and the others have sent as much as it alone would have.

    It loses nothing but what the others really sent, and they stop soon after it begins: no
    reservation of a run that waits is in its way.
    """
    length_s = 250.0
    demand = [begins_s + at_s for at_s in endless(length_s - begins_s, 60 / wide / 6)]
    alone, beside = (
        Run(Limits(requests_per_min=wide), 0, demand),
        Run(Limits(requests_per_min=wide), 0, demand),
    )
    others = [
        Run(
            Limits(requests_per_min=limit, usd_per_10min=0.3 if usd_micros else None),
            usd_micros,
            endless(length_s, 1.0),
        )
        for limit in narrow
    ]
    Project(alone).play(length_s)
    Project(beside, *others, seed=seed).play(length_s)

    by_others = [at_s for run in others for at_s, _ in run.sent]
    counted = [at_s for at_s in by_others if at_s > T0 + begins_s - CYCLE_S]
    slot_s = 0.25
    for after_s in range(int(length_s - begins_s)):
        at_s = T0 + begins_s + after_s
        expected = sum(moment <= at_s for moment, _ in alone.sent)
        found = sum(moment <= at_s + slot_s for moment, _ in beside.sent)
        assert found + sum(moment <= at_s for moment in counted) >= expected
    # Others send while there is room in their limit, which ends soon after the wide run begins.
    late = [moment for moment in by_others if moment > T0 + begins_s + 1.0 + 60 / wide * 20]
    assert len(late) <= max(narrow)


def test_a_reservation_ahead_does_not_delay_a_wide_run() -> None:
    """A run at 4 a minute that waits a minute ahead is not in the way of one at 300 a minute."""
    slow = Run(Limits(requests_per_min=4), 0, endless(300.0, 1.0))
    fast = Run(Limits(requests_per_min=300), 0, [20.0 + number / 30 for number in range(120)])
    Project(slow, fast).play(120.0)

    assert len(fast.sent) == 120
    assert fast.sent[-1][0] < T0 + 25.0
    assert slow.whys[:2] == ["4 requests a minute", "4 requests a minute, used by run 1"]


@pytest.mark.parametrize("with_wide", [False, True])
def test_equal_runs_share(with_wide: bool) -> None:  # noqa: FBT001 # a table
    """Of runs with equal limits the least gets at least half of the most, also next to a wide one."""
    equal = [Run(Limits(requests_per_min=10), 0, endless(3000.0, 1.0)) for _ in range(3)]
    wide = Run(Limits(requests_per_min=60), 0, [50.0 * number for number in range(60)])
    Project(*equal, *([wide] if with_wide else [])).play(3000.0)

    shares = [len(run.sent) for run in equal]
    assert 2 * min(shares) >= max(shares), shares
    assert sum(shares) >= (0.8 if with_wide else 0.975) * 10 * 3000 / CYCLE_S


def test_a_killed_run_that_waited_is_not_in_the_way() -> None:
    """A tentative reservation that no one uses never counts against a wide run."""
    storage = MemoryStorage()
    wide = SharedLedger(storage, Limits(requests_per_min=10))
    narrow = SharedLedger(storage, Limits(requests_per_min=5))
    granted(wide.reserve(M, PICTURE, 5, T0, NOON))
    ahead = granted(narrow.reserve(M, PICTURE, 5, T0, NOON))
    assert ahead.grant.at_s == T0 + CYCLE_S

    later = granted(wide.reserve(M, PICTURE, 10, T0 + CYCLE_S + 5.0, NOON))

    assert (later.grant.at_s, later.permits) == (T0 + CYCLE_S + 5.0, 10)


def test_a_cancelled_reservation_is_not_counted() -> None:
    """A slept-for permit without room is refused, and leaves minute and day as they were."""
    storage = MemoryStorage()
    wide = SharedLedger(storage, Limits(requests_per_min=10, requests_per_day=100))
    narrow = SharedLedger(storage, Limits(requests_per_min=2, requests_per_day=100))
    granted(narrow.reserve(M, PICTURE, 2, T0, NOON))
    ahead = granted(narrow.reserve(M, PICTURE, 2, T0, NOON))
    at_s = ahead.grant.at_s
    granted(wide.reserve(M, PICTURE, 8, T0 + 1.0, NOON))

    assert not narrow.holds(M, ahead.grant, at_s, ahead.permits)

    assert requests_left(narrow, at_s, NOON) == 90
    assert granted(wide.reserve(M, PICTURE, 9, at_s, NOON)).permits == 2
    again = granted(narrow.reserve(M, PICTURE, 1, at_s + 1.0, NOON))
    assert again.grant.at_s == at_s + CYCLE_S


def test_a_confirmed_reservation_counts_when_the_wide_run_is_gone() -> None:
    """A reservation that was tentative counts from its use on, also for a wide run that comes."""
    storage = MemoryStorage()
    gone, narrow, later = (
        SharedLedger(storage, Limits(requests_per_min=limit)) for limit in (None, 1, 2)
    )
    granted(gone.reserve(M, PICTURE, 1, T0, NOON))
    ahead = granted(narrow.reserve(M, PICTURE, 1, T0, NOON)).grant
    assert narrow.holds(M, ahead, ahead.at_s)

    assert granted(later.reserve(M, PICTURE, 2, ahead.at_s + 40.0, NOON)).permits == 1
