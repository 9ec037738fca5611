"""Admission control: acquires what a call needs before it is sent, the cheapest to hold first."""

import asyncio
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TypeAlias

from gemini_batch.catalog import prices
from gemini_batch.clock import Clock
from gemini_batch.engine.budget import Budget, Reservation, used_up
from gemini_batch.engine.disk_space import DiskReservations
from gemini_batch.engine.lanes import Lane
from gemini_batch.engine.retry import may_be_billed
from gemini_batch.engine.shared_money import SharedMoney
from gemini_batch.events import LittleRoom, Observer, Waiting
from gemini_batch.quota.limiter import RateLimiter
from gemini_batch.quota.limits import Weights, micros
from gemini_batch.quota.results import DayClosed, Grant
from gemini_batch.quota.shared_budget import SharedReservation
from gemini_batch.records import NOT_SENT, ApiError, Call, Failure, ResultRow, Stop, StopReason
from gemini_batch.wording import usd

# A day that ends so soon is waited for: around midnight a call has to fit two dates.
MIDNIGHT_S = 60.0
MIN_WAIT_S = 1.0
# The interval of looks while it waits for the next day: the event loop's clock stands still while
# the machine is suspended.
LOOK_AGAIN_S = 600.0


@dataclass(eq=False, slots=True)
class Admitted:
    """Permit to send one call at once.

    Attributes:
        held: Settles the money and gives back the disk space when it is closed.
    """

    _limiter: RateLimiter
    _call: Call
    _grant: Grant
    held: ExitStack
    _money: Reservation
    _shared: SharedMoney | None = None
    _share: SharedReservation | None = None

    async def settle(self, outcome: ResultRow | ApiError | Failure) -> None:
        """Replace what was reserved by what the attempt used, of the quota and of the budget.

        A request that never left returns its permit to its day; its slot stays spent. What is
        unknown keeps its estimate.

        Cancellation: safe; the ledger is updated anyway.
        """
        estimate, lane = self._call.estimate, self._call.request.lane
        if isinstance(outcome, ResultRow):
            usd = outcome.cost_usd
            usage = prices.credible(
                outcome.model,
                outcome.usage,
                len(outcome.images) + len(outcome.drafts),
                self._call.image_size,
            )
            self._money.spent_usd = estimate.reserved_usd if usd is None else usd
            await self._limiter.reconcile(
                lane,
                self._grant,
                tokens=usage.prompt_tokens if usage else None,
                usd_micros=None if usd is None else micros(usd),
                estimated=Weights.of(estimate),
            )
        elif isinstance(outcome, Failure) and outcome.kind in NOT_SENT:
            await self._limiter.refund(lane, self._grant)
        elif may_be_billed(outcome):
            self._money.spent_usd = estimate.reserved_usd
        if self._shared is not None and self._share is not None:
            await self._shared.settle(self._share, self._money.spent_usd)

    async def pause(self, wait_s: float, *, overrun: bool) -> None:
        """Send nothing of the model for `wait_s` seconds; `overrun` after a 429 of the minute.

        Cancellation: safe; the ledger is updated anyway.
        """
        lane, why = self._call.request.lane, "the server asked for a pause"
        await self._limiter.pause(lane, wait_s, why, overrun=overrun)

    async def close_day(self, ends_in_s: float | None) -> None:
        """Send nothing more of the model on the day of this permit, or for `ends_in_s` seconds.

        Cancellation: safe; the ledger is updated anyway.
        """
        await self._limiter.close_day(self._call.request.lane, self._grant, ends_in_s)


@dataclass(frozen=True, slots=True)
class Deferred:
    """Ask again at `until_s` of the steady clock, for this call and any other of its lane."""

    until_s: float


@dataclass(frozen=True, slots=True)
class Closed:
    """The call is left to the next run; without `stop`, for a reason that is known already."""

    stop: Stop | None = None


Admission: TypeAlias = Admitted | Deferred | Closed


@dataclass(eq=False)
class AdmissionControl:
    """Budget, disk space, circuit breakers and quota of one run. Every decision is a value.

    Attributes:
        budget: Of the run, which other ways to send share.
        waits_for_reset: It waits for the next day when today's quota is used up.
        shared: The budget that the workers of the run share; None for none.
    """

    _limiter: RateLimiter
    _disk: DiskReservations
    _clock: Clock
    _observe: Observer
    _: KW_ONLY
    budget: Budget = field(default_factory=lambda: Budget(None))
    waits_for_reset: bool = False
    shared: SharedMoney | None = None
    _money_returned: asyncio.Event = field(default_factory=asyncio.Event)
    _closed: asyncio.Event = field(default_factory=asyncio.Event)
    _is_short_of_space: bool = False

    def close(self) -> None:
        """Admit nothing more; every waiting call gets `Closed`."""
        self._closed.set()
        self._money_returned.set()
        self._disk.wake()
        if self.shared is not None:
            self.shared.close()

    async def pause(self, model: str, wait_s: float) -> None:
        """Grant no permit of a model for `wait_s` seconds: the server can't be reached.

        Cancellation: safe; the ledger is updated anyway.
        """
        why = "the server can't be reached"
        self._observe(Waiting(model, wait_s, why))
        await self._limiter.pause(model, wait_s, why)

    async def admit(self, lane: Lane, call: Call) -> Admission:
        """Wait until a call may be sent; the caller sends it without any wait in between.

        Cancellation: safe; nothing stays held.

        Raises:
            OSError: The output folder is gone.
            StorageError: The ledger can't be used.
        """
        with ExitStack() as held:
            money = await self._reserve_money(call, held)
            if isinstance(money, Closed):
                return money
            if self.shared is None:
                return await self._admit(lane, call, money, held)
            share = await self._reserve_share(self.shared, call, money)
            if isinstance(share, Closed):
                return share
            admission: Admission | None = None
            try:
                admission = await self._admit(lane, call, money, held)
            finally:
                if not isinstance(admission, Admitted):
                    await self.shared.settle(share, 0.0)
            if isinstance(admission, Admitted):
                return replace(admission, _shared=self.shared, _share=share)
            return admission

    async def _admit(
        self, lane: Lane, call: Call, money: Reservation, held: ExitStack
    ) -> Admission:
        while True:
            with ExitStack() as space:
                if (no_space := await self._reserve_space(call, space)) is not None:
                    return no_space
                grant = await self._acquire(lane, call)
                if not isinstance(grant, Grant):
                    return grant
                if not self._disk.has_shrunk():
                    held.push(space.pop_all())
                    return Admitted(self._limiter, call, grant, held.pop_all(), money)
            # Its space is given back. While it waits for more, another call may probe: one
            # whose space it waits for.
            lane.release(call.id)
            await self._limiter.refund(lane.model, grant)

    async def _reserve_money(self, call: Call, held: ExitStack) -> Reservation | Closed:
        """Reserve what a call may cost; while others are in flight, wait for what they return."""
        while not self._closed.is_set():
            money = self.budget.reserve(call.request.model, call.estimate)
            if money is not None:
                held.callback(self._return_money, money)
                return money
            if not self.budget.is_reserved:
                return Closed(used_up(self.budget, call.request.model, call.estimate))
            self._money_returned.clear()
            await self._money_returned.wait()
        return Closed()

    async def _reserve_share(
        self, shared: SharedMoney, call: Call, money: Reservation
    ) -> SharedReservation | Closed:
        """Reserve the money of a call among all workers of the run."""
        least_usd = self.budget.expected_usd(call.request.model, call.estimate)
        share = await shared.reserve(money.usd, min(least_usd, money.usd), self._closed)
        if share is not None:
            return share
        if self._closed.is_set():
            return Closed()
        use, max_usd = await shared.use(), shared.budget.max_usd
        left_usd = round(max_usd - use.spent_usd - use.reserved_usd, 6)
        message = (
            f"the budget of {usd(max_usd)} of all workers has {usd(max(0.0, left_usd))} left, "
            f"and the next call may cost up to {usd(least_usd)}: --max-cost sets what a run may "
            "cost"
        )
        return Closed(Stop(StopReason.BUDGET, message))

    def _return_money(self, money: Reservation) -> None:
        self.budget.settle(money)
        self._money_returned.set()

    async def _reserve_space(self, call: Call, space: ExitStack) -> Closed | None:
        """Reserve disk space for an answer; where there is little, fewer calls are in flight."""
        size = call.image_size
        while too_little := self._disk.reserve(size):
            if not self._disk.is_reserved:
                return Closed(Stop(StopReason.STORAGE, too_little))
            if not self._is_short_of_space:
                self._is_short_of_space = True
                self._observe(LittleRoom(str(self._disk.folder)))
            await self._disk.released()
            if self._closed.is_set():
                return Closed()
        space.callback(self._disk.release, size)
        return None

    async def _acquire(self, lane: Lane, call: Call) -> Grant | Deferred | Closed:
        """Return a grant of the quota that holds now, if the lane's breakers allow the call."""
        grant = await self._limiter.acquire(lane.model, Weights.of(call.estimate), lane.stopped)
        if isinstance(grant, DayClosed):
            return self._another_day(lane, grant)
        if grant is None:
            return Closed()
        if lane.allows(call.id, self._clock.steady_s()):
            return grant
        await self._limiter.refund(lane.model, grant)
        if lane.is_closed:
            return Closed()
        return Deferred(self._clock.steady_s())  # the lane says when its breakers allow one

    def _another_day(self, lane: Lane, day: DayClosed) -> Deferred | Closed:
        """Return when to ask again; `Closed` if the run does not wait for the next day."""
        if lane.is_closed:
            return Closed()
        if not self.waits_for_reset and day.wait_s > MIDNIGHT_S:
            message = f"today's quota of {lane.model} is used up ({day.why})"
            return Closed(Stop(StopReason.DAY_CLOSED, message, day.until, lane.model))
        self._observe(Waiting(lane.model, day.wait_s, day.why))
        wait_s = min(max(day.wait_s, MIN_WAIT_S), LOOK_AGAIN_S)
        return Deferred(self._clock.steady_s() + wait_s)
