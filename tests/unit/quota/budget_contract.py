"""The promises of a run's budget on any storage; an implementation is a subclass.

::

    class TestMyBudget(BudgetContract):
        def ledger_storage(self) -> MyStorage:
            return MyStorage()  # open, always of the same states
"""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from gemini_batch.errors import LedgerError
from gemini_batch.quota.limits import Weights
from gemini_batch.quota.results import Granted
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.shared_budget import BudgetUse, SharedBudget, SharedReservation
from gemini_batch.quota.status import statuses
from gemini_batch.quota.storage import LedgerStorage
from gemini_batch.records import Limits

NOON = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)


def held(reservation: SharedReservation | None) -> SharedReservation:
    """Return the reservation, which was made."""
    assert reservation is not None
    return reservation


class BudgetContract:
    """The promises of a budget."""

    def ledger_storage(self) -> LedgerStorage:
        """Return an open storage; all of a test share their states, empty at first."""
        raise NotImplementedError

    def joined(self, shard: str = "1", max_usd: float = 1.0, run_id: str = "run") -> SharedBudget:
        """Start a shard."""
        storage = self.ledger_storage()
        return SharedBudget(storage, max_usd, run_id=run_id, shard=shard, utc=lambda: NOON).join()

    def test_shards_share_one_budget(self) -> None:
        """All shards together reserve no more than the budget, exact to the millionth."""
        one, two = self.joined("1", 0.3), self.joined("2", 0.3)

        assert held(one.reserve(0.1)).usd == 0.1
        held(two.reserve(0.1))
        held(one.reserve(0.1))
        assert two.reserve(0.000001) is None
        assert two.use() == BudgetUse(0.0, 0.3)

    def test_money_comes_back(self) -> None:
        """What a call did not cost is there for another shard; what it cost beyond counts too."""
        one, two = self.joined("1"), self.joined("2")
        cheap, dear = held(one.reserve(0.5)), held(one.reserve(0.5))
        assert two.reserve(0.1) is None

        one.settle(cheap, 0.1)
        assert two.use() == BudgetUse(0.1, 0.5)
        one.settle(dear, 0.8)
        assert two.reserve(0.2) is None
        assert two.use() == BudgetUse(0.9, 0.0)

    def test_last_call_takes_what_is_left(self) -> None:
        """While nothing is reserved, the last call gets less than its worst case."""
        one, two = self.joined("1"), self.joined("2")
        first = held(one.reserve(0.7))
        assert two.reserve(0.5, 0.2) is None

        one.settle(first, 0.7)
        assert two.reserve(0.5, 0.31) is None
        assert held(two.reserve(0.5, 0.2)).usd == pytest.approx(0.3)
        assert one.reserve(0.0001) is None

    def test_restarted_shard_goes_on(self) -> None:
        """What a killed shard had spent or reserved counts as spent after its restart."""
        one, two = self.joined("1"), self.joined("2")
        one.settle(held(one.reserve(0.4)), 0.3)
        held(one.reserve(0.2))  # in flight when it is killed
        held(two.reserve(0.1))

        again = self.joined("1")

        assert again.use() == BudgetUse(0.5, 0.1)
        assert again.reserve(0.41) is None
        held(again.reserve(0.4))

    def test_ten_restarts_stay_within_the_budget(self) -> None:
        """A shard that is killed with a call in flight ten times never gets the money twice."""
        other, billed = self.joined("other"), 0.0
        for _ in range(10):
            shard = self.joined("1")
            ended, in_flight = shard.reserve(0.07), shard.reserve(0.07)
            billed += 0.07 * sum(money is not None for money in (ended, in_flight))
            if ended:
                shard.settle(ended, 0.07)
        while other.reserve(0.07):
            billed += 0.07

        assert billed <= 1.0
        assert other.reserve(0.07) is None

    def test_process_of_a_restarted_shard_is_refused(self) -> None:
        """A predecessor that still lives gets nothing, and changes nothing of its successor."""
        old = self.joined("1")
        money = held(old.reserve(0.4))
        new = self.joined("1")

        with pytest.raises(LedgerError, match="shard 1 of the run run was started again"):
            old.reserve(0.1)
        with pytest.raises(LedgerError, match="started again"):
            old.settle(money, 0.0)
        assert new.use() == BudgetUse(0.4, 0.0)

    def test_runs_and_limits_are_apart(self) -> None:
        """Another run id is another budget, and a later start may raise the budget."""
        held(self.joined("1").reserve(1.0))

        held(self.joined("1", run_id="another").reserve(1.0))
        assert self.joined("2").reserve(0.5) is None
        held(self.joined("2", max_usd=1.5).reserve(0.5))

    def test_quotas_do_not_know_it(self) -> None:
        """A budget is no quota: it is not shown as one, and clearing those leaves it alone."""
        storage = self.ledger_storage()
        one = self.joined("1")
        held(one.reserve(0.6))
        ledger = SharedLedger(storage, Limits(), endpoint="https://one", project="studio")
        ledger.reserve("model", Weights(), 1, 0.0, NOON)

        assert [status.key.model for status in statuses(storage, NOON)] == ["model"]
        storage.clear("https://one", "studio")
        assert statuses(storage, NOON) == []
        assert self.joined("1").use() == BudgetUse(0.6, 0.0)

    def test_budget_outlives_quotas(self) -> None:
        """A run that is continued after a month finds its budget."""
        held(self.joined("1").reserve(0.6))
        storage = self.ledger_storage()
        ledger = SharedLedger(storage, Limits(), steady_s=lambda: 0.0)

        answer = ledger.reserve("model", Weights(), 1, 0.0, NOON + timedelta(days=30))

        assert isinstance(answer, Granted)
        assert self.joined("2").use() == BudgetUse(0.0, 0.6)

    def test_deleted_row_ends_the_run(self) -> None:
        """Without its row the amount that other workers spent is unknown, so neither running nor restarted shards reserve more. Another run id has its own budget."""
        one, two = self.joined("1"), self.joined("2")
        one.settle(held(one.reserve(0.5)), 0.5)
        money = held(two.reserve(0.2))
        one._storage.clear()

        for refused in (
            lambda: one.reserve(0.1),
            lambda: two.settle(money, 0.1),
            one.use,
            lambda: one.join({"1"}),
        ):
            with pytest.raises(LedgerError, match="the budget of the run run was deleted"):
                refused()
        self.joined("3")
        with pytest.raises(LedgerError, match="was deleted"):
            two.join({"1", "2", "3"})
        held(self.joined("1", run_id="another").reserve(0.1))


class ThreadedBudgetContract(BudgetContract):
    """The promises on storages that threads may share."""

    def test_threads_settle_together(self) -> None:
        """Threads reserve and settle at once; each is counted once."""
        one, failures = self.joined("1", 100.0), list[BaseException]()

        def work() -> None:
            try:
                for _ in range(10):
                    one.settle(held(one.reserve(0.3)), 0.1)
            except BaseException as error:  # noqa: BLE001
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert not failures
        assert self.joined("2").use() == BudgetUse(4.0, 0.0)
