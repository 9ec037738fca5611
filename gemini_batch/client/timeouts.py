"""Timeouts that do not count the time in which this process stood still."""

import asyncio
from types import TracebackType
from typing import Self

# Setting a timer for every chunk costs as much as writing the chunk. So a renewed timer may fire
# late, by up to this share of its time, but never early.
SLACK = 1 / 64
# A timer that fires so late was not served: the process was stopped (^Z), or its event loop
# blocked. Data that arrived meanwhile has not been read yet.
LATE_S = 1.0
# Limit for an answer that arrives without end: half an hour, with the 300 s of an answer.
MAX_PERIODS = 6


class StallTimeout:
    """A timeout for a block: TimeoutError if nothing renewed it for `wait_s` seconds.

    If the process itself stood still, the timeout starts again: the answer may have arrived. With
    `enough_bytes` it also starts again, up to `MAX_PERIODS` in all, if that much was
    received since the start.
    """

    def __init__(self, wait_s: float, *, enough_bytes: int | None = None) -> None:
        self._wait_s = wait_s
        self._enough_bytes = enough_bytes
        self._received_bytes = 0
        self._periods = 1
        self._timeout = asyncio.timeout(None)
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._set(asyncio.get_running_loop().time() + self._wait_s)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._timeout.__aexit__(kind, error, traceback)

    @property
    def is_over(self) -> bool:
        """True if it has cancelled the block, within which it is a CancelledError; no one else."""
        task = asyncio.current_task()
        return self._timeout.expired() and task is not None and task.cancelling() == 1

    def renew(self) -> None:
        """Start again from now."""
        now_s = asyncio.get_running_loop().time()
        if self._due_s < now_s + self._wait_s:
            self._set(now_s + self._wait_s * (1 + SLACK))

    def received(self, size_bytes: int) -> None:
        """Note that `size_bytes` of the awaited data have arrived."""
        self._received_bytes += size_bytes

    def _set(self, due_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due_s = due_s
        self._timer = asyncio.get_running_loop().call_at(due_s, self._on_timer)

    def _on_timer(self) -> None:
        now_s = asyncio.get_running_loop().time()
        has_enough = self._enough_bytes is not None and self._received_bytes >= self._enough_bytes
        if now_s - self._due_s > LATE_S:
            self.renew()
        elif has_enough and self._periods < MAX_PERIODS:
            self._periods, self._received_bytes = self._periods + 1, 0
            self.renew()
        else:
            self._timeout.reschedule(now_s)
