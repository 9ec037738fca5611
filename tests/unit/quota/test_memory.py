import pytest

from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import LedgerStorage, MemoryStorage
from gemini_batch.records import Limits
from tests.unit.quota.contract import LedgerContract, StorageContract


class TestMemoryStorage(StorageContract):
    def storage(self) -> LedgerStorage:
        """Return an empty one."""
        return MemoryStorage()


class TestMemoryLedger(LedgerContract):
    @pytest.fixture(autouse=True)
    def _storage(self) -> None:
        self.storage = MemoryStorage()

    def make(self, limits: Limits) -> SharedLedger:
        """Return a ledger of the test's storage."""
        return SharedLedger(self.storage, limits)
