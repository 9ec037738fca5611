from gemini_batch.quota.storage.memory import MemoryLedger
from gemini_batch.records import Limits
from tests.unit.quota.contract import LedgerContract


class TestMemoryLedger(LedgerContract):
    def make(self, limits: Limits) -> MemoryLedger:
        """Return an empty one."""
        return MemoryLedger(limits)
