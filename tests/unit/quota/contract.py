"""What every ledger promises; a ledger's tests are a subclass of three lines.

::

    class TestMyLedger(LedgerContract):
        def make(self, limits: Limits) -> MyLedger:
            return MyLedger(limits)
"""

from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from gemini_batch.quota import limiter
from gemini_batch.quota.limits import Weights
from gemini_batch.quota.model_quota import DayClosed, Granted, Paused, ReserveResult
from gemini_batch.records import Limits

NOON = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
NEXT_DAY = datetime(
    2026, 11, 23, 8, 0, 1, tzinfo=UTC
)  # midnight in Los Angeles, and the guard of a second
CYCLE_S = 61.25  # 60 s, the guard of 1 s, and a slot of 0.25 s
T0 = 1_000_000.0
PICTURE = Weights()
M = "gemini-3-pro-image-preview"


class Ledger(limiter.Ledger, Protocol):
    """What the gate asks of a ledger, and what people do."""

    def day_left(self, model: str, weights: Weights, now_s: float, utc: datetime) -> int | None:
        """Return how many calls of these weights today still takes, None if any number."""
        ...


def granted(verdict: ReserveResult) -> Granted:
    """Return the verdict, which is a grant."""
    assert isinstance(verdict, Granted), verdict
    return verdict


class LedgerContract:
    """The promises of a ledger."""

    def make(self, limits: Limits) -> Ledger:
        """Return an empty ledger."""
        raise NotImplementedError

    def ask(
        self,
        ledger: Ledger,
        after_s: float = 0.0,
        weights: Weights = PICTURE,
        permits: int = 1,
        model: str = M,
    ) -> ReserveResult:
        """Reserve at a moment after the start."""
        return ledger.reserve(
            model, weights, permits, T0 + after_s, NOON + timedelta(seconds=after_s)
        )

    def test_first_request_goes_at_once(self) -> None:
        """Nothing waits for a quota that is not used, and the grant holds in its slot and half the guard after it."""
        answer = granted(self.ask(self.make(Limits(requests_per_min=1)), 0.1))

        assert (answer.grant.at_s, answer.grant.expires_at_s) == (T0 + 0.1, T0 + 0.25 + 0.5)
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

        assert answer.why == "$0.2 in ten minutes"
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

        assert DayClosed(NEXT_DAY, "$0.3 a day") == self.ask(ledger, weights=Weights(usd_micros=1))

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

    def test_answer_after_midnight_closes_the_day_before(self) -> None:
        """A 429 of the day that arrives after midnight does not close the new day when its grant is known."""
        ledger = self.make(Limits())
        grant = granted(self.ask(ledger)).grant
        hours_s = (NEXT_DAY - NOON).total_seconds() + 20
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

    def test_settling_down_makes_room(self) -> None:
        """Tokens that were not used are free again in the slot of their grant, and dollars on its day too."""
        ledger = self.make(Limits(tokens_per_min=100, usd_per_day=1.0))
        weights = Weights(tokens=100, usd_micros=1_000_000)
        grant = granted(self.ask(ledger, weights=weights)).grant
        ledger.settle(M, grant, tokens=40, usd_micros=400_000)

        assert (
            granted(
                self.ask(ledger, 1.0, weights=Weights(tokens=60, usd_micros=600_000))
            ).grant.at_s
            == T0 + 1.0
        )

    def test_settling_up_may_pass_the_limit(self) -> None:
        """What was used beyond the estimate counts, and the next call waits for it."""
        ledger = self.make(Limits(tokens_per_min=100))
        grant = granted(self.ask(ledger, weights=Weights(tokens=10))).grant
        ledger.settle(M, grant, tokens=500)

        assert granted(self.ask(ledger, 1.0, weights=Weights(tokens=1))).grant.at_s == T0 + CYCLE_S

    def test_expired_slot_is_left_alone(self) -> None:
        """A call that is settled when its minute has passed changes nothing of the minute."""
        ledger = self.make(Limits(tokens_per_min=100))
        old = granted(self.ask(ledger, weights=Weights(tokens=100))).grant
        granted(self.ask(ledger, 100.0, weights=Weights(tokens=50)))
        ledger.settle(M, old, tokens=0)

        assert granted(self.ask(ledger, 101.0, weights=Weights(tokens=50))).grant.at_s == T0 + 101.0
        assert (
            granted(self.ask(ledger, 101.0, weights=Weights(tokens=1))).grant.at_s
            == T0 + 100.0 + CYCLE_S
        )

    def test_unsent_grant_goes_back_to_the_day(self) -> None:
        """A request whose bytes never left is no request of the day, but its slot stays spent."""
        ledger = self.make(Limits(requests_per_min=1, requests_per_day=1))
        ledger.give_back(M, granted(self.ask(ledger)).grant)

        assert granted(self.ask(ledger)).grant.at_s == T0 + CYCLE_S

    def test_too_heavy_a_call_is_an_error(self) -> None:
        """A call that can never be sent is no wait without end."""
        ledger = self.make(Limits(tokens_per_min=1000))

        with pytest.raises(
            ValueError, match="one call takes 1,001 tokens, and the limit is 1,000 tokens a minute"
        ):
            self.ask(ledger, weights=Weights(tokens=1001))

    def test_used(self) -> None:
        """What was used of each limit can be read, those that are no limit included."""
        ledger = self.make(Limits(requests_per_min=60, requests_per_day=1500))
        self.ask(ledger, weights=Weights(tokens=7, usd_micros=5), permits=2)
        used = {entry.bound.words: entry.used for entry in ledger.used(M, T0, NOON)}

        assert used == {
            "60 requests a minute": 2,
            "any images a minute": 2,
            "any tokens a minute": 14,
            "any dollars in ten minutes": 10,
            "1,500 requests a day": 2,
            "any dollars a day": 10,
        }
        assert ledger.day_left(M, PICTURE, T0, NOON) == 1498
