"""What a call waits for before it is sent: money for it, room for its answer, a server that is there, and the quota's "now"."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gemini_batch.clock import Clock
from gemini_batch.engine.budget import Budget, Held
from gemini_batch.engine.disk_space import DiskReservations
from gemini_batch.engine.outage import Outage
from gemini_batch.engine.storm import Storm
from gemini_batch.events import LittleRoom, Observer, Waiting
from gemini_batch.output import OutputFolder
from gemini_batch.plan import image_size
from gemini_batch.quota.limiter import RateLimiter
from gemini_batch.quota.limits import Weights
from gemini_batch.quota.model_quota import DayClosed, Grant
from gemini_batch.records import Call, Stop, StopReason

# A day that ends so soon is waited for: around midnight a call has to fit two dates.
MIDNIGHT_S = 60.0
LEAST_WAIT_S = 1.0
# A day that is waited for is looked at again so often: the event loop's clock stands still while the machine is suspended.
LOOK_AGAIN_S = 600.0


@dataclass(slots=True)
class Leave:
    """Leave to send one call at once; whoever sends it notes what it cost, or may have cost."""

    grant: Grant
    spent_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Later:
    """The call is to ask again at `due_s` of the steady clock, and new ones of its model from `fresh_s` on; until then it holds nothing."""

    due_s: float
    fresh_s: float


class Clearance:
    """Gives calls leave to be sent; the order is that of what costs least to hold while waiting for the next.

    Attributes:
        outage: Whether the server can't be reached; whoever sends says what it met.
        storms: Of each model, whether the server answers nothing but errors of its own; likewise.
    """

    def __init__(
        self,
        gate: RateLimiter,
        store: OutputFolder,
        clock: Clock,
        observe: Observer,
        *,
        stop: Callable[[Stop], None],
        model_closed: Callable[[Stop, str], None],
        max_cost_usd: float | None = None,
        waits_for_reset: bool = False,
    ) -> None:
        """Make it for one run.

        Args:
            gate: Of the quota.
            store: The answers' disk.
            clock: For waiting.
            observe: Told what is waited for.
            stop: Told what ends the run.
            model_closed: Told why no more of a model is sent: with its id, or with "" when nothing is left that could be sent.
            max_cost_usd: Most that the run may cost; None is no limit.
            waits_for_reset: Whether a day that is used up is waited through.
        """
        self.outage = Outage()
        self.storms: defaultdict[str, Storm] = defaultdict(Storm)
        self._gate = gate
        self._out = str(store.out)
        self._clock = clock
        self._observe = observe
        self._stop = stop
        self._model_closed = model_closed
        self._waits_for_reset = waits_for_reset
        self._budget = Budget(max_cost_usd)
        self._money_back = asyncio.Event()
        self._free_space = DiskReservations(store.out, clock.steady_s)
        self._has_little_room = False
        self._closed = asyncio.Event()
        self._open_models: set[str] = set()

    def open(self, models: Iterable[str]) -> None:
        """Let calls of these models be sent."""
        self._open_models = set(models)

    def close(self) -> None:
        """Give no more leave; who waits for it goes without."""
        self._closed.set()
        self._money_back.set()
        self.outage.over()  # who waits for it to end has nothing to wait for

    def is_open(self, model: str) -> bool:
        """Return whether calls of a model may still be sent in this run."""
        return model in self._open_models

    def close_model(self, model: str, stop: Stop) -> None:
        """Send nothing more of a model; other models of the manifest go on."""
        if model not in self._open_models:
            return  # another call was told before
        self._open_models.discard(model)
        self._model_closed(stop, model if self._open_models else "")

    @asynccontextmanager
    async def leave(self, call: Call) -> AsyncIterator[Leave | Later | None]:
        """Wait for leave to send a call; None when it is left for another run.

        `Later` when its model's day is over and waited for, or when the server answers nothing but errors for the model.

        What was held for it is given back at the end of the block.

        Cancellation: safe; nothing stays held.

        Raises:
            OSError: The output folder is gone.
            StorageError: The ledger can't be used.
        """
        held = await self._afford(call) if self.is_open(call.request.model) else None
        if held is None:
            yield None
            return
        spent_usd = 0.0
        try:
            size = image_size(call.request)
            grant = await self._granted(call, size)
            if not isinstance(grant, Grant):
                yield grant
                return
            leave = Leave(grant)
            try:
                yield leave
            finally:
                spent_usd = leave.spent_usd
                self._free_space.release(size)
        finally:
            self._budget.settle(held, spent_usd)
            self._money_back.set()

    # --- money --------------------------------------------------------------------------------------------------------

    async def _afford(self, call: Call) -> Held | None:
        """Return the money that is set aside for a call; while others are in flight some of theirs may come back."""
        while not self._closed.is_set():
            if (held := self._budget.hold(call.request.model, call.estimate)) is not None:
                return held
            if not self._budget.is_held:
                self._stop(_used_up(self._budget, call))
                return None
            self._money_back.clear()
            await self._money_back.wait()
        return None

    # --- room ---------------------------------------------------------------------------------------------------------

    async def _granted(self, call: Call, size: str) -> Grant | Later | None:
        """Return a grant that holds now, with room set aside for the answer; anything else without."""
        while await self._room(size):
            is_set_aside = False
            try:
                grant = await self._acquire(call)
                is_set_aside = isinstance(grant, Grant) and not self._free_space.has_shrunk()
            finally:
                if not is_set_aside:
                    self._free_space.release(size)
            if not isinstance(grant, Grant) or is_set_aside:
                return grant
            self.outage.left(call.id)  # those whose room it waits for may be waiting to probe
            await self._gate.refund(call.request.model, grant)
        return None

    async def _room(self, size: str) -> bool:
        """Set room aside for an answer; where there is little, fewer are in flight. False when the call is left for another run."""
        while no_room := self._free_space.reserve(size):
            if not self._free_space.is_promised:
                self._stop(Stop(StopReason.STORAGE, no_room))
                return False
            if not self._has_little_room:
                self._has_little_room = True
                self._observe(LittleRoom(self._out))
            await self._free_space.freed()
            if self._closed.is_set():
                return False
        return True

    # --- quota --------------------------------------------------------------------------------------------------------

    async def _acquire(self, call: Call) -> Grant | Later | None:
        """Return leave of the quota to send at once, or when to ask again; None when the call is left for another run."""
        model, storm = call.request.model, self.storms[call.request.model]
        while True:
            now_s = self._clock.steady_s()
            if now_s < (until_s := storm.until_s):
                self._observe(
                    Waiting(
                        model,
                        until_s - now_s,
                        f"the server answers nothing but {storm.http_status}",
                    )
                )
                # New calls probe first, then all in turn: so their attempts last.
                return Later(until_s + LEAST_WAIT_S, until_s)
            probes = storm.probes(now_s)
            await self.outage.turn(call.id, self._closed)
            grant = await self._gate.acquire(model, Weights.of(call.estimate), self._closed)
            if isinstance(grant, DayClosed):
                return self._another_day(model, grant)
            if grant is None:
                return None
            is_held = not probes and self._clock.steady_s() < storm.until_s
            if self.is_open(model) and not is_held and self.outage.lets(call.id):
                return grant
            await self._gate.refund(model, grant)
            if not self.is_open(model):  # the server said no to another one meanwhile
                return None

    def _another_day(self, model: str, closed: DayClosed) -> Later | None:
        """Return when to ask again; None when the run does not wait, and sends nothing more of the model."""
        if not self.is_open(model):
            return None
        wait_s = closed.wait_s
        if not self._waits_for_reset and wait_s > MIDNIGHT_S:
            stop = Stop(
                StopReason.DAY_CLOSED,
                f"today's quota of {model} is used up ({closed.why})",
                closed.until,
            )
            self.close_model(model, stop)
            return None
        self._observe(Waiting(model, wait_s, closed.why))
        due_s = self._clock.steady_s() + min(max(wait_s, LEAST_WAIT_S), LOOK_AGAIN_S)
        return Later(due_s, due_s)


def _used_up(budget: Budget, call: Call) -> Stop:
    most, left = budget.max_usd or 0.0, round((budget.max_usd or 0.0) - budget.spent_usd, 6)
    next_usd = budget.most_usd(call.request.model, call.estimate)
    if left < 0:
        words = f"the budget of ${most:,.2f} is passed by ${-left:,.3f}, for answers cost more than ever was foreseen"
    else:
        words = f"the budget of ${most:,.2f} has ${left:,.3f} left, and the next call may cost up to ${next_usd:,.3f}"
    return Stop(StopReason.BUDGET, f"{words}: --max-cost sets what a run may cost")
