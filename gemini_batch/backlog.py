"""What is left to send: the manifest's next line, and a heap of retries that wait for their time."""

import asyncio
import heapq
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from gemini_batch.clock import Clock
from gemini_batch.policy.flow import Flow
from gemini_batch.records import Call, Stop

# While so many retries wait, no new call is taken in: a server that is down for an hour must not fill the memory.
MAX_WAITING = 1_000


@dataclass(frozen=True, slots=True)
class Turn:
    """One sending of a call that is due; `attempt` counts from 1."""

    call: Call
    attempt: int


class Backlog:
    """Hands out turns, retries first, and no more at once than the flow allows. A waiting retry holds no worker and no quota.

    The end is known by counting what was handed out and has not ended, never by an empty heap: a call that is in flight may come back as a
    retry.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._flow = Flow(1)
        self._calls: Iterator[Call | Stop] = iter(())
        self._retries: list[tuple[float, int, Turn]] = []
        self._sequence = 0
        self._outstanding = 0
        self._is_closed = False
        self._changed = asyncio.Event()

    def fill(self, calls: Iterator[Call | Stop], flow: Flow) -> None:
        """Take the calls that are to be sent once, one by one as they are asked for, and what says how many at once."""
        self._calls = calls
        self._flow = flow

    async def next(self) -> Turn | Stop | None:
        """Return what is to be done next, as soon as there is something; None when all has ended or the backlog is closed.

        Cancellation: safe; nothing was handed out.
        """
        while not self._is_closed:
            if self._outstanding >= self._flow.allowed:
                await self._change(within_s=None)  # somebody's end
                continue
            turn = self._due() or self._fresh()
            if turn is not None:
                self._outstanding += 1
                return turn
            if not self._outstanding and not self._retries:
                break
            await self._change(within_s=self._retries[0][0] - self._clock.steady_s() if self._retries else None)
        return None

    def later(self, turn: Turn, due_s: float) -> None:
        """Hand the turn out once the clock says `due_s`."""
        self._sequence += 1
        heapq.heappush(self._retries, (due_s, self._sequence, turn))
        self._wake()

    def ended(self) -> None:
        """Note that one turn that was handed out has ended; if it comes back, it is in the heap already."""
        self._outstanding -= 1
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
        call = next(self._calls, None)
        return Turn(call, attempt=1) if isinstance(call, Call) else call

    async def _change(self, within_s: float | None) -> None:
        """Wait for any news, or for so many seconds."""
        changed = self._changed
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
