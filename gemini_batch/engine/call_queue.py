"""What is left to send: of each model the manifest's next line, and a heap of retries that wait for their time."""

import asyncio
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from gemini_batch.clock import Clock
from gemini_batch.engine.concurrency import AdaptiveConcurrency
from gemini_batch.records import Call, Stop

# While so many retries wait, no new call is taken in: a server that is down for an hour must not fill the memory.
MAX_WAITING = 1_000


@dataclass(frozen=True, slots=True)
class Turn:
    """One sending of a call that is due; `attempt` counts from 1, `unusable` its answers so far that could not be used."""

    call: Call
    attempt: int
    unusable: int = 0


@dataclass(slots=True)
class _Lane:
    """The calls of one model: its quota is its own, and so is what it waits for."""

    calls: Iterator[Call | Stop]
    held_until_s: float = 0.0


class Backlog:
    """Hands out turns, retries first, and no more at once than the flow allows. A waiting retry holds no worker and no quota.

    Of several models the next is the one that has the fewest calls waiting for leave: one whose quota is slow, or whose day is over, is in
    nobody's way.

    The end is known by counting what was handed out and has not ended, never by an empty heap: a call that is in flight may come back as a
    retry.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._flow = AdaptiveConcurrency(1)
        self._lanes: dict[str, _Lane] = {}  # those with calls left
        self._retries: list[tuple[float, int, Turn]] = []
        self._sequence = 0
        self._outstanding: Counter[str] = Counter()  # by model
        self._waiting: defaultdict[str, set[str]] = defaultdict(
            set
        )  # ids of those of these that were not sent yet
        self._is_closed = False
        self._changed = asyncio.Event()

    def fill(self, calls: Mapping[str, Iterator[Call | Stop]], flow: AdaptiveConcurrency) -> None:
        """Take the calls of each model that are to be sent once, one by one as they are asked for, and what says how many at once."""
        self._lanes = {model: _Lane(of_model) for model, of_model in calls.items()}
        self._flow = flow

    async def next(self) -> Turn | Stop | None:
        """Return what is to be done next, as soon as there is something; None when all has ended or the backlog is closed.

        Cancellation: safe; nothing was handed out.
        """
        while not self._is_closed:
            if self._outstanding.total() >= self._flow.allowed:
                await self._change(None)  # somebody's end
                continue
            turn = self._due() or self._fresh()
            if isinstance(turn, Stop):
                return turn
            if turn is not None:
                model = turn.call.request.model
                self._outstanding[model] += 1
                self._waiting[model].add(turn.call.id)
                return turn
            due_s = self._due_s()
            if due_s is None and not self._outstanding.total():
                break
            await self._change(due_s)
        return None

    def sent(self, turn: Turn) -> None:
        """Note that a turn waits for leave no longer."""
        self._waiting[turn.call.request.model].discard(turn.call.id)

    def ended(self, turn: Turn) -> None:
        """Note that a turn that was handed out has ended; if it comes back, it is in the heap already."""
        self.sent(turn)
        self._outstanding[turn.call.request.model] -= 1
        self._wake()

    def later(self, turn: Turn, due_s: float) -> None:
        """Hand the turn out once the clock says `due_s`."""
        self._sequence += 1
        heapq.heappush(self._retries, (due_s, self._sequence, turn))
        self._wake()

    def hold(self, model: str, until_s: float) -> None:
        """Hand out no new call of a model before the clock says `until_s`."""
        if model in self._lanes:
            self._lanes[model].held_until_s = until_s
            self._wake()

    def drop(self, model: str) -> None:
        """Hand out nothing more of a model."""
        self._lanes.pop(model, None)
        self._retries = sorted(
            retry for retry in self._retries if retry[2].call.request.model != model
        )
        self._wake()

    def close(self) -> None:
        """Hand out nothing more."""
        self._is_closed = True
        self._wake()

    def _due(self) -> Turn | None:
        if self._retries and self._retries[0][0] <= self._clock.steady_s():
            return heapq.heappop(self._retries)[2]
        return None

    def _fresh(self) -> Turn | Stop | None:
        if len(self._retries) >= MAX_WAITING:
            return None
        now_s = self._clock.steady_s()
        while models := [
            model for model, lane in self._lanes.items() if lane.held_until_s <= now_s
        ]:
            model = min(
                models, key=lambda model: (len(self._waiting[model]), self._outstanding[model])
            )
            call = next(self._lanes[model].calls, None)
            if call is not None:
                return Turn(call, attempt=1) if isinstance(call, Call) else call
            del self._lanes[model]
        return None

    def _due_s(self) -> float | None:
        """Return when the next turn comes by itself, now that none does; None when none will."""
        times_s = [self._retries[0][0]] if self._retries else []
        if len(self._retries) < MAX_WAITING:
            times_s += [lane.held_until_s for lane in self._lanes.values()]
        return min(times_s, default=None)

    async def _change(self, due_s: float | None) -> None:
        """Wait for any news, or until the clock says `due_s`."""
        changed = self._changed
        with suppress(TimeoutError):
            async with asyncio.timeout(None if due_s is None else due_s - self._clock.steady_s()):
                await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
