"""Where a run takes its time from: one clock to pace by, one to write down, and the thread that may block."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

T = TypeVar("T")


class Runner(Protocol):
    """Runs a blocking function off the event loop and returns its result."""

    async def __call__(self, function: Callable[[], T], /) -> T:
        """Run `function`. Cancellation: the caller is cancelled at once, the function itself goes on to its end."""
        ...


def loop_time_s() -> float:
    """Return the running event loop's clock: seconds, steady, of no fixed origin."""
    return asyncio.get_running_loop().time()


def utc_now() -> datetime:
    """Return the wall clock as an aware UTC datetime."""
    return datetime.now(UTC)


async def in_thread(function: Callable[[], T], /) -> T:
    """Run blocking work in a thread of the loop's pool."""
    return await asyncio.to_thread(function)


@dataclass(frozen=True, slots=True)
class Clock:
    """The times of a run; tests put a virtual clock here.

    Attributes:
        steady_s: Seconds that never jump and never go back; for pacing and for durations.
        utc: The wall clock; for what is written down, and for the day of a quota.
        run_blocking: Runs file and database work off the event loop; tests run it inline.
    """

    steady_s: Callable[[], float] = loop_time_s
    utc: Callable[[], datetime] = utc_now
    run_blocking: Runner = in_thread
