"""How long something is waited for; time in which this very process stood still does not count."""

import asyncio
from types import TracebackType
from typing import Self

# A timer that is set anew for every chunk costs as much as writing one; it may ring so much later, as a share of its time, and never earlier.
SLACK = 1 / 64
# A timer that rings so late was not listened for: the process was stopped (^Z), or its event loop blocked. What came meanwhile is still to be read.
LATE_S = 1.0
# What comes without end has one: half an hour, with the 300 s of an answer.
MOST_TIMES = 6


class StallTimeout:
    """An `asyncio.timeout` for a block: TimeoutError when nothing renewed it for `wait_s` seconds.

    A process that stood still for longer has not waited: the answer may lie there whole, paid for. Then it begins anew.
    """

    def __init__(self, wait_s: float, *, enough_bytes: int | None = None) -> None:
        """Make one that begins with its block.

        Args:
            wait_s: How long, in seconds.
            enough_bytes: It begins anew as well, up to `MOST_TIMES`, when so much was taken since it began; None never.
        """
        self._wait_s = wait_s
        self._enough_bytes = enough_bytes
        self._taken_bytes = 0
        self._times = 1
        self._timeout = asyncio.timeout(None)
        self._due_s = 0.0
        self._bell: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        """Begin to wait."""
        await self._timeout.__aenter__()
        self._set(asyncio.get_running_loop().time() + self._wait_s)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End, as `asyncio.timeout` does."""
        if self._bell is not None:
            self._bell.cancel()
        await self._timeout.__aexit__(kind, error, traceback)

    def renew(self) -> None:
        """Begin anew, from now on."""
        now_s = asyncio.get_running_loop().time()
        if self._due_s < now_s + self._wait_s:
            self._set(now_s + self._wait_s * (1 + SLACK))

    def took(self, size_bytes: int) -> None:
        """Note that so much of what is waited for has come."""
        self._taken_bytes += size_bytes

    def _set(self, due_s: float) -> None:
        if self._bell is not None:
            self._bell.cancel()
        self._due_s = due_s
        self._bell = asyncio.get_running_loop().call_at(due_s, self._ring)

    def _ring(self) -> None:
        now_s = asyncio.get_running_loop().time()
        has_come = self._enough_bytes is not None and self._taken_bytes >= self._enough_bytes
        if now_s - self._due_s > LATE_S:
            self.renew()
        elif has_come and self._times < MOST_TIMES:
            self._times, self._taken_bytes = self._times + 1, 0
            self.renew()
        else:
            self._timeout.reschedule(now_s)
