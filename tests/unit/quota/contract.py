"""The promises of every storage, and of the ledger on it; an implementation is a subclass.

::

    class TestMyStorage(StorageContract):
        def storage(self) -> MyStorage:
            return MyStorage()

    class TestMyLedger(LedgerContract):
        def make(self, limits: Limits) -> SharedLedger:
            return SharedLedger(MyStorage(), limits)
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gemini_batch.quota.limits import Weights
from gemini_batch.quota.results import DayClosed, Granted, Paused, ReserveResult
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import LedgerStorage
from gemini_batch.quota.storage.base import NewStates, QuotaKey, StoredState
from gemini_batch.records import Limits
from tests.ledgers import reconcile

NOON = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
# Midnight in Los Angeles, and the guard of a second.
NEXT_DAY = datetime(2026, 11, 23, 8, 0, 1, tzinfo=UTC)
CYCLE_S = 61.25  # 60 s, the guard of 1 s, and a slot of 0.25 s
T0 = 1_000_000.0
PICTURE = Weights()
M = "gemini-3-pro-image-preview"


def granted(result: ReserveResult) -> Granted:
    """Return the result, which is a grant."""
    assert isinstance(result, Granted), result
    return result


def requests_left(ledger: SharedLedger, now_s: float = T0, utc: datetime = NOON) -> int:
    """Return how many requests the limit of a day leaves."""
    (left,) = (
        entry.bound.limit - entry.used
        for entry in ledger.used(M, now_s, utc)
        if (entry.bound.of, entry.bound.span) == ("requests", "a day") and entry.bound.limit
    )
    return left


@dataclass
class Count:
    """The simplest state."""

    number: int

    def dump(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"number": self.number}


def number_of(state: StoredState) -> int:
    """Return the number of a state, 0 if there is none."""
    values = state if isinstance(state, Mapping | None) else state.dump()
    return values["number"] if values else 0


A, B = QuotaKey("https://one", "studio", "a"), QuotaKey("https://one", "studio", "b")
OTHER_PROJECT, OTHER_ENDPOINT = A._replace(project="other"), A._replace(endpoint="https://two")


class StorageContract:
    """The promises of a storage."""

    def storage(self) -> LedgerStorage:
        """Return an open, empty storage."""
        raise NotImplementedError

    def add(self, storage: LedgerStorage, *keys: QuotaKey) -> int:
        """Add 1 to some states; return the sum before."""

        def decide(
            states: Sequence[StoredState], _now_s: float, _server_id: str
        ) -> tuple[int, NewStates]:
            numbers = [*map(number_of, states)]
            return sum(numbers), {
                key: Count(number + 1) for key, number in zip(keys, numbers, strict=True)
            }

        return storage.transact(keys, decide, "redo")

    def numbers(self, storage: LedgerStorage) -> dict[QuotaKey, int]:
        """Return all states."""
        return {key: number_of(state) for key, state in storage.scan().states.items()}

    def test_what_was_decided_is_there(self) -> None:
        """A decision gets what the one before it left, of several keys in their order."""
        storage = self.storage()
        assert [self.add(storage, A), self.add(storage, A), self.add(storage, B, A)] == [0, 1, 2]

        assert self.numbers(storage) == {A: 3, B: 1}

    def test_nothing_to_write_changes_nothing(self) -> None:
        """A decision that returns no states leaves them alone."""
        storage = self.storage()
        self.add(storage, A)

        assert storage.transact([A], lambda states, *_: (number_of(states[0]), {}), "ask") == 1
        assert self.numbers(storage) == {A: 1}

    def test_a_decision_that_fails_changes_nothing(self) -> None:
        """Its error is passed on, and the next decision finds the storage as it was."""
        storage = self.storage()
        self.add(storage, A)

        def fail(*_: object) -> tuple[None, NewStates]:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            storage.transact([A], fail, "redo")
        assert self.add(storage, A) == 1

    def test_a_state_is_deleted(self) -> None:
        """A state of None deletes its key, also one that does not exist."""
        storage = self.storage()
        self.add(storage, A, B)

        storage.transact([A], lambda *_: (None, {A: None, OTHER_PROJECT: None}), "redo")

        assert self.numbers(storage) == {B: 1}

    def test_scan_is_in_order(self) -> None:
        """States come in the order of endpoint, project and model, with the clock of a decision."""
        storage = self.storage()
        for key in (OTHER_ENDPOINT, B, OTHER_PROJECT, A):
            self.add(storage, key)
        clock = storage.transact([A], lambda _, now_s, server_id: ((now_s, server_id), {}), "redo")

        found = storage.scan()

        assert list(found.states) == [OTHER_PROJECT, A, B, OTHER_ENDPOINT]
        assert (found.now_s, found.server_id) == clock

    def test_clear(self) -> None:
        """A project at an endpoint is deleted alone; without both, all is, and it can be used on."""
        storage = self.storage()
        for key in (A, B, OTHER_PROJECT, OTHER_ENDPOINT):
            self.add(storage, key)

        assert storage.clear("https://one", "studio")
        assert list(self.numbers(storage)) == [OTHER_PROJECT, OTHER_ENDPOINT]
        assert not storage.clear("https://one", "studio")
        assert storage.clear()
        assert self.numbers(storage) == {}
        assert self.add(storage, A) == 0

    def test_close_twice(self) -> None:
        """Closing a closed storage does nothing."""
        storage = self.storage()
        storage.close()
        storage.close()


class LedgerContract:
    """The promises of a ledger on any storage."""

    def make(self, limits: Limits) -> SharedLedger:
        """Return a ledger of the storage, which is empty at first."""
        raise NotImplementedError

    def at(self, after_s: float) -> None:
        """Set the clock of the storage, where it has its own."""

    def ask(
        self,
        ledger: SharedLedger,
        after_s: float = 0.0,
        weights: Weights = PICTURE,
        permits: int = 1,
        model: str = M,
    ) -> ReserveResult:
        """Reserve at a moment after the start."""
        self.at(after_s)
        return ledger.reserve(
            model, weights, permits, T0 + after_s, NOON + timedelta(seconds=after_s)
        )

    def test_first_request_goes_at_once(self) -> None:
        """Nothing waits for a quota that is not used, and the grant holds in its slot and half the guard after it."""
        answer = granted(self.ask(self.make(Limits(requests_per_min=1)), 0.125))

        assert (answer.grant.at_s, answer.grant.expires_at_s) == (T0 + 0.125, T0 + 0.25 + 0.5)
        assert (answer.permits, answer.why) == (1, "")

    def test_full_minute_waits(self) -> None:
        """The request after a full minute goes one span, guard and slot later, and says which limit it waits for."""
        ledger = self.make(Limits(requests_per_min=2))
        self.ask(ledger), self.ask(ledger, 0.3)

        answer = granted(self.ask(ledger, 0.4))

        assert answer.grant.at_s == T0 + CYCLE_S
        assert answer.why == "2 requests a minute"

    def test_reservations_never_go_back(self) -> None:
        """A light call does not overtake the heavy one that came first."""
        ledger = self.make(Limits(tokens_per_min=100))
        self.ask(ledger, weights=Weights(tokens=80))
        heavy = granted(self.ask(ledger, weights=Weights(tokens=90)))

        light = granted(self.ask(ledger, 1.0, weights=Weights(tokens=1)))

        assert T0 + CYCLE_S == heavy.grant.at_s == light.grant.at_s

    def test_all_windows_decide_together(self) -> None:
        """A call waits for the slowest of its limits, and one that waits takes nothing of the others at the wrong time."""
        ledger = self.make(Limits(requests_per_min=60, usd_per_10min=0.2))
        self.ask(ledger, weights=Weights(usd_micros=134_000))

        answer = granted(self.ask(ledger, weights=Weights(usd_micros=134_000)))

        assert answer.why == "$0.200 in ten minutes"
        assert answer.grant.at_s == T0 + 605.0  # slots of 2.5 s: 240, one of guard, and its own

    def test_several_permits_in_one_slot(self) -> None:
        """Permits are asked for together, and shrunk to what fits the slot of the first."""
        ledger = self.make(Limits(requests_per_min=7, tokens_per_min=100))

        first = granted(self.ask(ledger, weights=Weights(tokens=10), permits=5))
        second = granted(self.ask(ledger, weights=Weights(tokens=20), permits=5))

        assert (first.permits, first.grant.at_s) == (5, T0)
        assert (second.permits, second.grant.at_s) == (2, T0)

    def test_permits_shrink_to_the_day(self) -> None:
        """No more permits are granted than the day has left."""
        ledger = self.make(Limits(requests_per_day=3))

        assert granted(self.ask(ledger, permits=5)).permits == 3

    def test_full_day_is_closed(self) -> None:
        """A full day answers when the next one opens, never with a reservation hours ahead."""
        ledger = self.make(Limits(requests_per_day=1))
        self.ask(ledger)

        assert DayClosed(NEXT_DAY, "1 request a day") == self.ask(ledger, 1.0)

    def test_dollars_of_a_day(self) -> None:
        """Dollars a day close the day, exact to the millionth."""
        ledger = self.make(Limits(usd_per_day=0.3))
        for _ in range(3):
            granted(self.ask(ledger, weights=Weights(usd_micros=100_000)))

        assert DayClosed(NEXT_DAY, "$0.300 a day") == self.ask(
            ledger, weights=Weights(usd_micros=1)
        )

    def test_day_opens_at_midnight(self) -> None:
        """At the moment that it named, a closed day is over."""
        ledger = self.make(Limits(requests_per_day=1))
        self.ask(ledger)
        hours_s = (NEXT_DAY - NOON).total_seconds()

        assert isinstance(self.ask(ledger, hours_s - 0.1), DayClosed)
        granted(self.ask(ledger, hours_s))

    def test_pause(self) -> None:
        """A pause holds all calls of its model, and no call of another."""
        ledger = self.make(Limits(requests_per_min=60))
        ledger.pause(M, T0 + 34.0, "the server asked for a pause", T0)

        assert Paused(T0 + 34.0, "the server asked for a pause") == self.ask(ledger, 33.9)
        granted(self.ask(ledger, 33.9, model="another"))
        granted(self.ask(ledger, 34.0))

    def test_longer_pause_stands(self) -> None:
        """A shorter pause does not cut a longer one."""
        ledger = self.make(Limits())
        ledger.pause(M, T0 + 60.0, "long", T0)
        ledger.pause(M, T0 + 5.0, "short", T0)

        assert Paused(T0 + 60.0, "long") == self.ask(ledger, 10.0)

    def test_server_closes_the_day(self) -> None:
        """A 429 of the day closes the day, whatever this ledger counted."""
        ledger = self.make(Limits())
        ledger.close_day(M, T0, NOON)

        assert DayClosed(NEXT_DAY, "the server closed the day") == self.ask(ledger)

    def test_server_closes_its_own_day(self) -> None:
        """A day that ends at another hour is closed until then, before and after midnight, for all runs, and no later."""
        ledger, hours_s = self.make(Limits()), (NEXT_DAY - NOON).total_seconds() + 7_200
        grant = granted(self.ask(ledger)).grant
        ledger.close_day(M, T0, NOON, grant, hours_s)

        until = NOON + timedelta(seconds=hours_s + 1)
        for passed_s in (0.0, hours_s - 7_000, hours_s - 1):
            self.at(passed_s)
            assert DayClosed(until, "the server closed the day") == self.ask(ledger, passed_s)
        assert not ledger.holds(M, grant, T0, utc=NOON)
        granted(self.ask(ledger, hours_s + 1.1))

    def test_answer_after_midnight_closes_the_day_before(self) -> None:
        """A 429 of the day that arrives after midnight does not close the new day when its grant is known."""
        ledger = self.make(Limits())
        grant = granted(self.ask(ledger)).grant
        hours_s = (NEXT_DAY - NOON).total_seconds() + 20
        self.at(hours_s)
        ledger.close_day(M, T0 + hours_s, NOON + timedelta(seconds=hours_s), grant)

        granted(self.ask(ledger, hours_s))

    def test_late_grant_does_not_hold(self) -> None:
        """A grant holds up to half the guard after its slot."""
        ledger = self.make(Limits(requests_per_min=60))
        grant = granted(self.ask(ledger)).grant

        assert ledger.holds(M, grant, T0 + 0.75)
        assert not ledger.holds(M, grant, T0 + 0.76)

    def test_pause_and_closed_day_revoke_a_grant(self) -> None:
        """A grant that nobody used yet does not survive a pause or the end of its day."""
        ledger = self.make(Limits())
        grant = granted(self.ask(ledger)).grant
        ledger.pause("paused", T0 + 1.0, "why", T0)
        ledger.close_day("closed", T0, NOON)

        assert ledger.holds(M, grant, T0)
        assert not ledger.holds("paused", grant, T0)
        assert not ledger.holds("closed", grant, T0)

    def test_a_correction_down_makes_room(self) -> None:
        """Unused tokens are free again in the slot of their grant, and dollars on its day too."""
        ledger = self.make(Limits(tokens_per_min=100, usd_per_day=1.0))
        weights = Weights(tokens=100, usd_micros=1_000_000)
        grant = granted(self.ask(ledger, weights=weights)).grant
        reconcile(ledger, M, grant, tokens=40, usd_micros=400_000)

        assert (
            granted(
                self.ask(ledger, 1.0, weights=Weights(tokens=60, usd_micros=600_000))
            ).grant.at_s
            == T0 + 1.0
        )

    def test_a_correction_up_may_pass_the_limit(self) -> None:
        """What was used beyond the estimate counts, and the next call waits for it."""
        ledger = self.make(Limits(tokens_per_min=100))
        grant = granted(self.ask(ledger, weights=Weights(tokens=10))).grant
        reconcile(ledger, M, grant, tokens=500)

        assert granted(self.ask(ledger, 1.0, weights=Weights(tokens=1))).grant.at_s == T0 + CYCLE_S

    def test_expired_slot_is_left_alone(self) -> None:
        """A call that is corrected when its minute has passed changes nothing of the minute."""
        ledger = self.make(Limits(tokens_per_min=100))
        old = granted(self.ask(ledger, weights=Weights(tokens=100))).grant
        granted(self.ask(ledger, 100.0, weights=Weights(tokens=50)))
        reconcile(ledger, M, old, tokens=0)

        assert granted(self.ask(ledger, 101.0, weights=Weights(tokens=50))).grant.at_s == T0 + 101.0
        assert (
            granted(self.ask(ledger, 101.0, weights=Weights(tokens=1))).grant.at_s
            == T0 + 100.0 + CYCLE_S
        )

    def test_unsent_grant_goes_back_to_the_day(self) -> None:
        """A request whose bytes never left is no request of the day, but its slot stays spent."""
        ledger = self.make(Limits(requests_per_min=1, requests_per_day=1))
        ledger.refund(M, granted(self.ask(ledger)).grant)

        assert granted(self.ask(ledger)).grant.at_s == T0 + CYCLE_S

    def test_too_heavy_a_call_is_an_error(self) -> None:
        """A call that can never be sent is an error, no endless wait."""
        ledger = self.make(Limits(tokens_per_min=1000))

        with pytest.raises(
            ValueError, match="one call takes 1,001 tokens, and the limit is 1,000 tokens a minute"
        ):
            self.ask(ledger, weights=Weights(tokens=1001))

    def test_used(self) -> None:
        """The use of each limit can be read, also where there is no limit."""
        ledger = self.make(Limits(requests_per_min=60, requests_per_day=1500))
        self.ask(ledger, weights=Weights(tokens=7, usd_micros=5), permits=2)
        used = {entry.bound.label: entry.used for entry in ledger.used(M, T0, NOON)}

        assert used == {
            "60 requests a minute": 2,
            "any images a minute": 2,
            "any tokens a minute": 14,
            "any dollars in ten minutes": 10,
            "1,500 requests a day": 2,
            "any dollars a day": 10,
        }
        assert requests_left(ledger) == 1498

    def test_another_run_counts_what_this_one_used(self) -> None:
        """Runs with other limits share minute, pause and day, also what no limit counted before."""
        first = self.make(Limits(requests_per_day=9))
        granted(self.ask(first, weights=Weights(tokens=90), permits=2))

        second = self.make(Limits(tokens_per_min=200, requests_per_day=3))
        used = {entry.bound.label: entry.used for entry in second.used(M, T0, NOON)}
        assert (used["200 tokens a minute"], used["3 requests a day"]) == (180, 2)
        second.pause(M, T0 + 5.0, "why", T0)
        assert Paused(T0 + 5.0, "why") == self.ask(first)
        granted(self.ask(second, 5.0))
        assert isinstance(self.ask(second, 6.0), DayClosed)
        granted(self.ask(first, 6.0))

    def test_a_narrow_run_waits_and_is_not_in_the_way(self) -> None:
        """A reservation ahead yields to a run with wider limits, is cancelled, and says why."""
        wide = self.make(Limits(requests_per_min=10, requests_per_day=100))
        narrow = self.make(Limits(requests_per_min=2, requests_per_day=100))
        granted(self.ask(narrow, permits=2))
        ahead = granted(self.ask(narrow, 0.5, permits=2))
        assert (ahead.grant.at_s, ahead.why) == (T0 + CYCLE_S, "2 requests a minute")
        assert granted(self.ask(wide, 1.0, permits=10)).grant.at_s == T0 + 1.0

        self.at(CYCLE_S)
        assert not narrow.holds(M, ahead.grant, T0 + CYCLE_S, ahead.permits)

        assert requests_left(narrow, T0 + CYCLE_S, NOON + timedelta(seconds=61)) == 90
        again = granted(self.ask(narrow, CYCLE_S))
        assert again.grant.at_s == T0 + 1.0 + CYCLE_S
        assert again.why == f"2 requests a minute, used by process {os.getpid()}"
        assert granted(self.ask(wide, CYCLE_S + 0.25, permits=9)).permits == 2
        self.at(CYCLE_S + 1.0)
        assert not narrow.holds(M, again.grant, again.grant.at_s)

    def test_old_quotas_are_forgotten(self) -> None:
        """A quota that was not used for a week is deleted when another one begins."""
        ledger, week_s = self.make(Limits(requests_per_day=9)), 9 * 86_400.0
        granted(self.ask(ledger, model="old"))
        granted(self.ask(ledger, week_s))
        assert set(self.models(ledger)) == {M}

    def models(self, ledger: SharedLedger) -> list[str]:
        """Return the models that the storage of a ledger knows."""
        return [key.model for key in ledger.storage.scan().states]
