"""The storage in PostgreSQL keeps the promises of all storages."""

from collections.abc import Iterator

import psycopg
import pytest

from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import LedgerStorage
from gemini_batch.quota.storage.base import QuotaKey
from gemini_batch.quota.storage.postgres import PostgresStorage, _number
from gemini_batch.records import Limits
from tests.postgres import Server
from tests.unit.quota.budget_contract import ThreadedBudgetContract
from tests.unit.quota.contract import (
    CYCLE_S,
    NOON,
    T0,
    LedgerContract,
    M,
    StorageContract,
    granted,
    requests_left,
)

pytestmark = pytest.mark.slow


class Connected:
    """Storages of a test, each with a connection of its own."""

    @pytest.fixture(autouse=True)
    def _connected(self, postgres: Server) -> Iterator[None]:
        self.server = postgres
        self.opened: list[PostgresStorage] = []
        yield
        for storage in self.opened:
            storage.close()

    def connected(self) -> PostgresStorage:
        """Return another open storage."""
        storage = PostgresStorage(self.server.url, reach_s=5.0)
        self.opened.append(storage)
        storage.open()
        return storage


class TestPostgresStorage(Connected, StorageContract):
    def storage(self) -> LedgerStorage:
        """Return an empty one, whose clock stands still."""
        self.server.set_clock(NOON.timestamp())
        return self.connected()


class TestPostgresLedger(Connected, LedgerContract):
    after_s = 0.0

    def at(self, after_s: float) -> None:
        """Set the clocks of the server and of the machines."""
        self.after_s = after_s
        self.server.set_clock(NOON.timestamp() + after_s)

    def make(self, limits: Limits) -> SharedLedger:
        """Return a ledger of a machine whose steady clock began at another moment."""
        self.at(self.after_s)
        return SharedLedger(self.connected(), limits, steady_s=lambda: T0 + self.after_s)

    def test_a_look_waits_for_no_turn(self) -> None:
        """The check of a permit and the use of a quota are answered while another machine decides."""
        ledger = self.make(Limits(requests_per_min=1))
        granted(self.ask(ledger))
        ahead = granted(self.ask(ledger)).grant
        self.at(CYCLE_S)
        with psycopg.connect(self.server.url) as other:
            other.execute("SELECT pg_advisory_xact_lock(%s)", (_number(QuotaKey("", "", M)),))
            assert ledger.holds(M, ahead, ahead.at_s)
            assert ledger.used(M, ahead.at_s, NOON)

    def test_a_look_at_a_new_database(self) -> None:
        """An empty database has no use to report."""
        ledger = self.make(Limits(requests_per_day=1))
        self.server.execute("DROP TABLE gemini_batch_ledger")

        assert requests_left(ledger) == 1


class TestPostgresBudget(Connected, ThreadedBudgetContract):
    def ledger_storage(self) -> LedgerStorage:
        """Return another connection, on a clock that stands still."""
        self.server.set_clock(NOON.timestamp())
        return self.connected()
