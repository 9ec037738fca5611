"""The storage in PostgreSQL keeps the promises of all storages."""

from collections.abc import Iterator

import pytest

from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import LedgerStorage
from gemini_batch.quota.storage.postgres import PostgresStorage
from gemini_batch.records import Limits
from tests.postgres import Server
from tests.unit.quota.budget_contract import ThreadedBudgetContract
from tests.unit.quota.contract import NOON, T0, LedgerContract, StorageContract

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


class TestPostgresBudget(Connected, ThreadedBudgetContract):
    def ledger_storage(self) -> LedgerStorage:
        """Return another connection, on a clock that stands still."""
        self.server.set_clock(NOON.timestamp())
        return self.connected()
