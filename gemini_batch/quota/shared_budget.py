"""The budget of a run of several shards: a row of the ledger that they share."""

import itertools
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self, TypeVar

from gemini_batch.clock import utc_now
from gemini_batch.errors import LedgerError
from gemini_batch.quota.run_budget import RunBudget, Share, budget_key, micros_up
from gemini_batch.quota.state import values_of
from gemini_batch.quota.storage.base import LedgerStorage, NewStates, StoredState

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SharedReservation:
    """Money of the run that is reserved for one call."""

    number: int
    usd: float


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """The use of a run's budget by all shards, in dollars.

    Attributes:
        spent_usd: By calls that ended, or that a killed shard had in flight.
        reserved_usd: For calls of any shard that have not ended.
    """

    spent_usd: float
    reserved_usd: float


class SharedBudget:
    """Keeps what all shards of a run spend within its budget.

    Each shard owns its share of the row and sets it as a whole, so that a transaction of unknown
    outcome is made again. A shard that is started again, with the same run id and name, counts as
    spent what it had reserved.

    Blocks where the storage blocks; threads may share it. Every method may raise `StorageError`:
    then nothing was reserved. `LedgerError` is also raised once another process was started as the
    same shard, and once the row was deleted: what the others have spent is unknown.
    """

    def __init__(
        self,
        storage: LedgerStorage,
        max_usd: float,
        *,
        run_id: str,
        shard: str,
        endpoint: str = "",
        project: str = "",
        utc: Callable[[], datetime] = utc_now,
    ) -> None:
        """Name the budget; `join` comes before all else.

        Args:
            storage: Open; the ledger that has it closes it.
            max_usd: The budget of all shards together. Another run may raise or lower it.
            run_id: Names the run, the same for all shards and restarts.
            shard: Names this shard in the run.
            endpoint: The API, as rows carry it.
            project: As `project_of` names it.
            utc: The wall clock, used where the storage has none.
        """
        self.max_usd = max_usd
        self._storage = storage
        self.run_id = run_id
        self._key = budget_key(endpoint, project, run_id)
        self._shard = shard
        self._utc = utc
        self._state = threading.Lock()
        self._writer = threading.Lock()
        self._epoch = self._spent = 0
        self._held: dict[int, int] = {}
        self._numbers = itertools.count()
        self._version = self._written = 0

    def join(self, known: Collection[str] = ()) -> Self:
        """Start the shard, take over what it left, and return the budget.

        `known` are the shards that have joined before.
        """

        def decide(budget: RunBudget) -> tuple[Share, bool]:
            self._check_whole(budget, known)
            return budget.join(self._shard), True

        share = self._transact(decide)
        self._epoch, self._spent = share.epoch, share.spent
        return self

    def reserve(self, usd: float, least_usd: float | None = None) -> SharedReservation | None:
        """Reserve the most that a call may cost; None when there is not enough, or not yet.

        While no shard has anything reserved, what is left is enough if it is `least_usd` or more.
        """
        wanted = micros_up(usd)
        least = wanted if least_usd is None else micros_up(least_usd)
        number = next(self._numbers)

        def decide(budget: RunBudget) -> tuple[int | None, bool]:
            self._held.pop(number, None)  # it is made again
            self._put(budget)
            granted = budget.room(wanted, least, micros_up(self.max_usd))
            if granted is not None:
                self._held[number] = granted
                self._put(budget)
            return granted, granted is not None

        try:
            granted = self._transact(decide)
        except BaseException:
            with self._state:
                self._held.pop(number, None)
            raise
        return None if granted is None else SharedReservation(number, granted / 1e6)

    def settle(self, reservation: SharedReservation, spent_usd: float) -> None:
        """Replace a reservation by what the call cost, or may have cost; 0 returns all of it.

        Settlements that come meanwhile are written together. If it raises, it is written with the
        next one.
        """
        with self._state:
            self._held.pop(reservation.number)
            self._spent += micros_up(spent_usd)
            self._version += 1
            version = self._version
        with self._writer:
            if self._written < version:
                self._written = self._transact(self._settled)

    def use(self) -> BudgetUse:
        """Return the use by all shards now."""

        def decide(budget: RunBudget) -> tuple[BudgetUse, bool]:
            self._put(budget)
            shares = budget.shares.values()
            spent = sum(share.spent for share in shares)
            reserved = sum(share.reserved for share in shares)
            return BudgetUse(spent / 1e6, reserved / 1e6), False

        return self._transact(decide)

    def _settled(self, budget: RunBudget) -> tuple[int, bool]:
        self._put(budget)
        return self._version, True

    def _check_whole(self, budget: RunBudget, known: Collection[str]) -> None:
        if not budget.shares.keys() >= set(known):
            raise LedgerError(
                f"the budget of the run {self.run_id} was deleted from the ledger: what its "
                "workers have spent is unknown, so nothing more is sent; give the run another "
                "--run-id, and as --max-cost what is left (gemini-batch costs)"
            )

    def _put(self, budget: RunBudget) -> None:
        self._check_whole(budget, (self._shard,))
        share = Share(self._epoch, self._spent, sum(self._held.values()))
        if not budget.put(self._shard, share):
            raise LedgerError(
                f"shard {self._shard} of the run {self.run_id} was started again by another "
                "process; this one sends nothing more"
            )

    def _transact(self, decide: Callable[[RunBudget], tuple[T, bool]]) -> T:
        """Decide about the budget; the decision says whether to write it."""

        def decide_states(
            states: Sequence[StoredState], clock_s: float, _server_id: str
        ) -> tuple[T, NewStates]:
            values = None if states[0] is None else values_of(states[0])
            budget = RunBudget.loaded(values)
            with self._state:
                result, is_kept = decide(budget)
            has_clock = self._storage.has_own_clock
            budget.used_at_s = clock_s if has_clock else self._utc().timestamp()
            return result, {self._key: budget} if is_kept else {}

        return self._storage.transact((self._key,), decide_states, "redo")
