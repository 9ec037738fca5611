"""The ledger on a server with its own clock, as PostgreSQL will be."""

from datetime import timedelta

import pytest

from gemini_batch.quota.limits import Weights
from gemini_batch.quota.results import Paused
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import LedgerStorage
from gemini_batch.records import Limits
from tests.ledgers import reconcile
from tests.unit.quota.contract import (
    CYCLE_S,
    NOON,
    PICTURE,
    T0,
    LedgerContract,
    M,
    StorageContract,
    granted,
    requests_left,
)
from tests.unit.quota.server_storage import ServerStorage


class TestServerStorage(StorageContract):
    def storage(self) -> LedgerStorage:
        """Return an empty one."""
        return ServerStorage(lambda: 0.0)


class TestServerLedger(LedgerContract):
    @pytest.fixture(autouse=True)
    def _server(self) -> None:
        self.after_s = 0.0
        self.server = ServerStorage(lambda: NOON.timestamp() + self.after_s)

    def at(self, after_s: float) -> None:
        """Set all clocks."""
        self.after_s = after_s

    def make(self, limits: Limits) -> SharedLedger:
        """Return a ledger of a machine whose steady clock began at another moment."""
        return SharedLedger(self.server, limits, steady_s=lambda: T0 + self.after_s)

    def test_a_grant_is_on_the_clock_of_the_asker(self) -> None:
        """Two machines with other steady and wrong wall clocks share a minute of the server."""
        limits, wrong = Limits(requests_per_min=1), NOON + timedelta(days=400)
        ledgers = [
            SharedLedger(self.server, limits, steady_s=steady_s)
            for steady_s in (lambda: 50.0, lambda: 9e6)
        ]
        first = granted(ledgers[0].reserve(M, PICTURE, 1, 50.0, wrong)).grant
        second = granted(ledgers[1].reserve(M, PICTURE, 1, 9e6, NOON)).grant

        assert (first.at_s, first.expires_at_s) == (50.0, 50.75)
        assert (second.at_s, second.expires_at_s) == (9e6 + CYCLE_S, 9e6 + CYCLE_S + 0.75)
        ledgers[0].pause(M, 50.0 + 99.0, "why", 50.0)
        assert ledgers[1].reserve(M, PICTURE, 1, 9e6, NOON) == Paused(9e6 + 99.0, "why")

    def test_a_slow_answer_shortens_a_grant(self) -> None:
        """The server's clock was read at any moment of the round trip: not before, and not after."""
        moments = iter([T0, T0 + 0.08, T0 + 0.08, T0 + 0.08])
        ledger = SharedLedger(self.server, Limits(), steady_s=lambda: next(moments))

        grant = granted(ledger.reserve(M, PICTURE, 1, T0, NOON)).grant

        assert grant.at_s == pytest.approx(T0 + 0.08)
        assert grant.expires_at_s == pytest.approx(T0 + 0.75)

    @pytest.mark.parametrize("outcome", ["lost", "unknown"])
    def test_a_correction_counts_once(self, outcome: str) -> None:
        """If the outcome of its commit is unknown, the server is asked; it counts exactly once."""
        ledger = self.make(Limits(tokens_per_min=1000, requests_per_day=9))
        grant = granted(self.ask(ledger, weights=Weights(tokens=500), permits=2)).grant
        self.server.break_commits.extend([outcome, "known", outcome])
        reconcile(ledger, M, grant, tokens=100)
        ledger.refund(M, grant)
        reconcile(ledger, M, grant, tokens=200)
        used = {entry.bound.label: entry.used for entry in ledger.used(M, T0, NOON)}

        assert (used["1,000 tokens a minute"], used["9 requests a day"]) == (300, 1)
        assert self.server.asked == 2

    def test_what_only_reads_is_a_look(self) -> None:
        """It takes no turn: the check of a permit, and the use of a quota."""
        ledger = self.make(Limits(requests_per_min=1))
        grant = granted(self.ask(ledger)).grant
        ledger.refund(M, grant)
        ledger.pause(M, T0, "", T0)
        assert self.server.looks == 0
        assert ledger.holds(M, grant, T0)
        ledger.used(M, T0, NOON)
        assert self.server.looks == 2

    def test_a_reservation_of_unknown_outcome_is_made_again(self) -> None:
        """At worst its permits are spent unused; nothing is granted that was not counted."""
        ledger = self.make(Limits(requests_per_day=9))
        self.server.break_commits.extend(["lost", "unknown"])

        granted(self.ask(ledger))

        assert (requests_left(ledger), self.server.asked) == (7, 0)

    def test_a_server_that_replaced_another_pauses_for_a_minute(self) -> None:
        """It may lack the last reservations: once, nothing is sent until every minute is empty."""
        ledger, other = self.make(Limits(requests_per_min=1)), self.make(Limits())
        self.ask(other)
        self.server.server_id = "replica"

        why = "the ledger's server was replaced"
        assert self.ask(ledger, 30.0) == Paused(T0 + 30.0 + CYCLE_S, why)
        assert self.ask(other, 60.0) == Paused(T0 + 30.0 + CYCLE_S, why)
        assert granted(self.ask(ledger, 30.0 + CYCLE_S)).grant.at_s == T0 + 30.0 + CYCLE_S

    def test_a_grant_of_a_replaced_server_does_not_hold(self) -> None:
        """Though its moment comes after the pause: the server that took over may not know it."""
        ledger = self.make(Limits(requests_per_min=1))
        self.ask(ledger), self.ask(ledger)
        ahead = granted(self.ask(ledger)).grant
        assert ahead.at_s == T0 + 2 * CYCLE_S
        self.server.server_id = "replica"
        self.ask(ledger, 30.0)

        self.at(2 * CYCLE_S)
        assert not ledger.holds(M, ahead, ahead.at_s)
        granted(self.ask(ledger, 2 * CYCLE_S))

    def test_reservations_stay_when_the_same_server_comes_back(self) -> None:
        """A restart is no failover: grants hold, nothing pauses."""
        ledger = self.make(Limits(requests_per_min=1))
        self.ask(ledger)
        ahead = granted(self.ask(ledger)).grant

        self.at(CYCLE_S)
        assert self.make(Limits(requests_per_min=1)).holds(M, ahead, ahead.at_s)

    @pytest.mark.parametrize("outcome", ["lost", "unknown"])
    def test_a_reservation_is_cancelled_once(self, outcome: str) -> None:
        """A run that yields to a wider one does so once, though the outcome is unknown at first."""
        wide = self.make(Limits(requests_per_min=10))
        narrow = self.make(Limits(requests_per_min=2))
        granted(self.ask(narrow, permits=2))
        ahead = granted(self.ask(narrow, permits=2))
        granted(self.ask(wide, 1.0, permits=2))
        self.at(CYCLE_S)
        self.server.break_commits.append(outcome)

        assert not narrow.holds(M, ahead.grant, T0 + CYCLE_S, 2)

        assert self.server.asked == 1
        used = {entry.bound.label: entry.used for entry in wide.used(M, T0 + CYCLE_S, NOON)}
        assert used["10 requests a minute"] == 2
