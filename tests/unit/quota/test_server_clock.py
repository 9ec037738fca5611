"""A ledger's server whose clock is set: the time that it counts goes on as if it was not."""

from datetime import UTC, datetime

import pytest

from gemini_batch.errors import StorageError
from gemini_batch.quota.limits import Weights
from gemini_batch.quota.results import DayClosed
from gemini_batch.quota.server_clock import Sight
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.status import statuses
from gemini_batch.records import Limits
from tests.ledgers import reconcile
from tests.unit.quota.contract import CYCLE_S, NOON, PICTURE, M, granted, requests_left
from tests.unit.quota.server_storage import ServerStorage

STEPS = [-86_400.0, -30.0, -2.0, 2.0, 30.0, 600.0]


class Machines:
    """Machines on one server; time passes for all alike, and only the server's clock is set."""

    def __init__(self) -> None:
        self.now_s, self.step_s = 0.0, 0.0
        self.server = ServerStorage(lambda: NOON.timestamp() + self.now_s + self.step_s)

    def ledger(self, booted_s: float = 0.0, limits: Limits | None = None) -> SharedLedger:
        """Return the ledger of a machine that was booted earlier."""
        limits = limits or Limits(requests_per_min=1)
        return SharedLedger(self.server, limits, steady_s=lambda: booted_s + self.now_s)


@pytest.fixture
def machines() -> Machines:
    """Return machines whose clocks agree."""
    return Machines()


def reserved_at(ledger: SharedLedger, booted_s: float = 0.0) -> float:
    """Return the moment of the next grant, in the time that passes."""
    return granted(ledger.reserve(M, PICTURE, 1, 0.0, NOON)).grant.at_s - booted_s


@pytest.mark.parametrize("step_s", STEPS)
def test_windows_stay(machines: Machines, step_s: float) -> None:
    """After a step of the clock the next request comes neither early nor late, on any machine."""
    one, two = machines.ledger(), machines.ledger(5_000.0)
    reserved_at(one), two.used(M, 0.0, NOON)
    machines.now_s, machines.step_s = 10.0, step_s

    assert reserved_at(two, 5_000.0) == pytest.approx(CYCLE_S)
    assert reserved_at(one) == pytest.approx(2 * CYCLE_S)


@pytest.mark.parametrize("step_s", STEPS)
def test_a_step_is_made_up_for_once(machines: Machines, step_s: float) -> None:
    """Machines that notice the same step, or two of them, one after the other, do so together."""
    ledgers = [machines.ledger(booted_s) for booted_s in (0.0, 77.0, 9e6)]
    for ledger in ledgers:
        ledger.used(M, 0.0, NOON)
    reserved_at(ledgers[0])
    machines.now_s, machines.step_s = 5.0, step_s
    ledgers[0].used(M, 0.0, NOON)
    machines.now_s, machines.step_s = 6.0, 2 * step_s
    for ledger in (*ledgers, *ledgers):
        ledger.used(M, 0.0, NOON)

    assert reserved_at(ledgers[2], 9e6) == pytest.approx(CYCLE_S)


@pytest.mark.parametrize("step_s", STEPS)
def test_a_grant_ahead_holds(machines: Machines, step_s: float) -> None:
    """A reservation that was made before the step is used at its moment, and corrected after."""
    limits = Limits(tokens_per_min=100)
    one, two = machines.ledger(limits=limits), machines.ledger(limits=limits)
    weights = Weights(tokens=100)
    one.reserve(M, weights, 1, 0.0, NOON)
    ahead = granted(one.reserve(M, weights, 1, 0.0, NOON)).grant
    machines.now_s, machines.step_s = 10.0, step_s
    two.used(M, 0.0, NOON)

    machines.now_s = ahead.at_s
    assert one.holds(M, ahead, ahead.at_s)
    reconcile(one, M, ahead, tokens=40)
    used = {entry.bound.label: entry.used for entry in two.used(M, 0.0, NOON)}
    assert used["100 tokens a minute"] == 40


def test_a_new_process_finds_a_clock_that_went_back(machines: Machines) -> None:
    """It has not seen the step itself: the last use counts as of just now."""
    reserved_at(machines.ledger())
    machines.now_s, machines.step_s = 10.0, -3_600.0

    assert reserved_at(machines.ledger()) == pytest.approx(10.0 + CYCLE_S)


def test_the_day_is_that_of_the_server(machines: Machines) -> None:
    """Dates follow the server's clock also after a step."""
    ledger = machines.ledger(limits=Limits(requests_per_day=1))
    reserved_at(ledger)
    machines.step_s = 20 * 3_600.0

    reserved_at(ledger)
    closed = ledger.reserve(M, PICTURE, 1, 0.0, datetime(1970, 1, 1, tzinfo=UTC))
    assert isinstance(closed, DayClosed)
    assert closed.until == datetime(2026, 11, 24, 8, 0, 1, tzinfo=UTC)


def test_a_step_that_was_not_written_is_made_up_for_again(machines: Machines) -> None:
    """A transaction that fails leaves the step to the next one."""
    ledger = machines.ledger()
    reserved_at(ledger)
    machines.now_s, machines.step_s = 10.0, 30.0
    machines.server.fails_next = True
    with pytest.raises(StorageError, match="gone"):
        ledger.used(M, 0.0, NOON)
    machines.server.break_commits.append("lost")

    assert reserved_at(ledger) == pytest.approx(CYCLE_S)


def test_status_counts_in_the_time_of_the_ledger(machines: Machines) -> None:
    """After a step the command shows what a run sees."""
    limits = Limits(requests_per_min=5, requests_per_day=9)
    ledger = machines.ledger(limits=limits)
    reserved_at(ledger)
    machines.now_s, machines.step_s = 10.0, 30.0
    ledger.used(M, 0.0, NOON)

    (status,) = statuses(machines.server, NOON)
    assert status.used[0].used == 1
    assert status.used[0].frees_in_s == pytest.approx(CYCLE_S - 10.0)
    assert requests_left(ledger) == 8


def test_a_slow_answer_is_no_step() -> None:
    """An answer that came late says nothing of the clock; one that waited for the lock as well."""
    known = Sight.of(0.0, 100.0, 0.002, 0)

    for asked_s, clock_s, got_s in [(10.0, 110.0, 13.0), (10.0, 140.0, 40.1), (5.0, 125.0, 25.1)]:
        assert Sight.of(asked_s, clock_s, got_s, 0).jump_s(known) == 0.0
    assert Sight.of(10.0, 113.0, 10.1, 0).jump_s(Sight.of(0.0, 105.0, 6.0, 0)) == 0.0
    assert Sight.of(10.0, 113.0, 10.1, 0).jump_s(known) == pytest.approx(2.902)
    assert Sight.of(10.0, 107.0, 10.1, 0).jump_s(known) == pytest.approx(-3.0)


def test_answers_together_are_precise() -> None:
    """The bounds are those of the quickest answer, widened by what clocks drift since."""
    quick, slow = Sight.of(0.0, 100.0, 0.002, 0), Sight.of(10.0, 110.5, 13.0, 0)

    sight = slow.after(quick)

    assert (sight.low_s, sight.high_s) == pytest.approx((-100.0 - 0.013, -99.998 + 0.013))
    assert slow.after(Sight.of(0.0, 100.0, 0.002, 1)) == slow
