"""An asyncio event loop whose clock jumps to the next timer: hours of a scenario in milliseconds.

After trio's `MockClock` (https://github.com/python-trio/trio, autojump) and nolar/looptime. No real sockets, no threads: what
runs on it must take its time from the loop and its blocking work through the `Clock`.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from gemini_batch.clock import Clock

T = TypeVar("T")

NOON_UTC = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
"""Noon in Los Angeles: a scenario of some hours stays within one date."""

# A timer may ask for a moment that rounding makes "now": without progress in every turn the loop would spin for ever.
_LEAST_STEP_S = 1e-6


class Deadlock(RuntimeError):  # noqa: N818  # the name says what happened, as DeadlockError would
    """Everything waits, and no timer is set."""


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting for sockets, it moves the clock to where the loop's next timer is."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("all tasks wait, and no timer is set")
        self.now_s += max(timeout, _LEAST_STEP_S)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """The event loop; its time starts at 0."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._jumping.now_s

    def jump(self, seconds: float) -> None:
        """Let time pass in which nothing runs: a suspended machine, a blocked loop."""
        self._jumping.now_s += seconds


async def _inline(function: Callable[[], T], /) -> T:
    return function()


def run(scenario: Callable[[Clock], Coroutine[Any, Any, T]], *, start: datetime = NOON_UTC) -> T:
    """Run a scenario on a virtual clock, and return what it returns.

    Its wall clock reads `start` at the beginning and moves along with the loop; blocking work runs inline.

    Raises:
        Deadlock: Everything waits, and no timer is set.
    """
    loop = VirtualLoop()
    clock = Clock(
        steady_s=loop.time,
        utc=lambda: start + timedelta(seconds=loop.time()),
        run_blocking=_inline,
        run_waiting=_inline,
    )
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(scenario(clock))
