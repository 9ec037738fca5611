"""Money that the workers of a run share: a call takes its part of it before it is sent."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from gemini_batch.clock import Clock
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.shared_budget import BudgetUse, SharedBudget, SharedReservation

T = TypeVar("T")

# Other processes return money: nothing here is awaited for that.
LOOK_AGAIN_S = 2.0
# Longer than an answer takes (see Timeouts): what is reserved then is of a worker that was killed.
PATIENCE_S = 360.0


@dataclass(eq=False)
class SharedMoney:
    """The budget of all workers of a run, as one of them asks for it.

    A reservation that is not settled, because the run was cancelled or killed while its call was in
    flight, counts as spent.
    """

    budget: SharedBudget
    _ledger: SharedLedger
    _clock: Clock
    _held: int = 0
    _returned: asyncio.Event = field(default_factory=asyncio.Event)

    async def reserve(
        self, usd: float, least_usd: float, closed: asyncio.Event
    ) -> SharedReservation | None:
        """Reserve money for a call, and wait while calls that are in flight may return some.

        None if there is not enough, or nothing more may be sent.

        Cancellation: what was reserved meanwhile counts as spent.

        Raises:
            StorageError: The ledger can't be used; nothing was reserved.
        """
        last, waited_s = None, 0.0
        while not closed.is_set():
            found = await self._ask(lambda: self.budget.reserve(usd, least_usd))
            if found is not None:
                self._held += 1
                return found
            if self._held:
                self._returned.clear()
                await self._returned.wait()
                continue
            use = await self.use()
            waited_s = 0.0 if use != last else waited_s + LOOK_AGAIN_S
            if use == last and (not use.reserved_usd or waited_s > PATIENCE_S):
                return None
            last = use
            if not use.reserved_usd:
                continue  # some may have been returned just now
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_S):
                    await closed.wait()
        return None

    def close(self) -> None:
        """End the wait of every call."""
        self._returned.set()

    async def settle(self, reservation: SharedReservation, spent_usd: float) -> None:
        """Replace a reservation by what the call cost; raises as `reserve`.

        Cancellation: safe; it is settled anyway.
        """
        self._held -= 1
        self._returned.set()
        await self._ask(lambda: self.budget.settle(reservation, spent_usd))

    async def use(self) -> BudgetUse:
        """Return the use by all workers; raises as `reserve`. Cancellation: safe."""
        return await self._ask(self.budget.use)

    async def _ask(self, work: Callable[[], T]) -> T:
        return await self._ledger.ask(self._clock, work)
