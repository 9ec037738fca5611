from pathlib import Path

import pytest

from gemini_batch.errors import StorageError
from gemini_batch.quota.run_budget import RunBudget, Share, micros_up
from gemini_batch.quota.shared_budget import BudgetUse, SharedBudget
from gemini_batch.quota.storage import LedgerStorage, MemoryStorage
from tests.unit.quota.budget_contract import NOON, BudgetContract, ThreadedBudgetContract, held
from tests.unit.quota.files import file
from tests.unit.quota.server_storage import ServerStorage


class TestMemoryBudget(BudgetContract):
    @pytest.fixture(autouse=True)
    def _storage(self) -> None:
        self.storage = MemoryStorage()

    def ledger_storage(self) -> LedgerStorage:
        """Return the test's."""
        return self.storage


class TestSqliteBudget(ThreadedBudgetContract):
    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self.path = tmp_path / "quota.sqlite"

    def ledger_storage(self) -> LedgerStorage:
        """Return another connection to the file."""
        return file(self.path)


class TestServerBudget(BudgetContract):
    @pytest.fixture(autouse=True)
    def _server(self) -> None:
        self.server = ServerStorage(NOON.timestamp)

    def ledger_storage(self) -> LedgerStorage:
        """Return the test's."""
        return self.server

    @pytest.mark.parametrize("outcome", ["lost", "unknown"])
    def test_unknown_outcome_counts_once(self, outcome: str) -> None:
        """A reservation, or a settlement, of unknown outcome is made again and counted once."""
        one = self.joined("1")
        self.server.break_commits.extend([outcome, outcome, "known"])
        money = held(one.reserve(0.4))
        self.server.break_commits.append(outcome)
        one.settle(money, 0.3)

        assert one.use() == BudgetUse(0.3, 0.0)

    def test_restart_of_unknown_outcome(self) -> None:
        """A shard joins though the outcome of that is unknown, and spends nothing by it."""
        held(self.joined("1").reserve(0.4))
        self.server.break_commits.extend(["unknown", "lost"])

        assert self.joined("1").use() == BudgetUse(0.4, 0.0)

    def test_replica_that_lacks_the_last_commits(self) -> None:
        """A replica that lost a start of the shard, and its reservations, learns them from it."""
        held(self.joined("1").reserve(0.2))
        before = dict(self.server._texts)
        again = self.joined("1")
        held(again.reserve(0.3))
        self.server._texts = before

        assert again.reserve(0.6) is None
        held(again.reserve(0.5))
        assert self.joined("2").use() == BudgetUse(0.2, 0.8)


def test_failed_reservation_holds_nothing() -> None:
    """Money of a transaction that failed is there again."""
    storage = ServerStorage(NOON.timestamp)
    budget = SharedBudget(storage, 1.0, run_id="run", shard="1").join()

    def fail(*args: object) -> object:
        real(*args)  # type: ignore[arg-type]
        raise StorageError("gone")

    real, storage.transact = storage.transact, fail  # type: ignore[method-assign, assignment]
    with pytest.raises(StorageError, match="gone"):
        budget.reserve(0.7)
    storage.transact = real  # type: ignore[method-assign]
    held(budget.reserve(0.9))


@pytest.mark.parametrize(
    ("usd", "micros"),
    [(0.1, 100_000), (0.3, 300_000), (0.0000001, 1), (0.1 + 0.2, 300_000), (0, 0)],
)
def test_dollars_are_rounded_up(usd: float, micros: int) -> None:
    """A part of a millionth counts as one, and the error of a float does not."""
    assert micros_up(usd) == micros


def test_state_comes_back() -> None:
    """`loaded` restores what `dump` returned."""
    budget = RunBudget({"1": Share(2, 30, 4), "2": Share(1, 0, 7)}, 5.0)

    assert RunBudget.loaded(budget.dump()) == budget
