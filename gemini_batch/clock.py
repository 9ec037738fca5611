"""The clocks of a run, for pacing and for dates, and its thread for blocking work."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")
_MAX_WAITING = 16


class Runner(Protocol):
    """Runs a blocking function off the event loop and returns its result."""

    async def __call__(self, function: Callable[[], T], /) -> T:
        """Run `function`. Cancellation: the caller is cancelled at once, the function runs on."""


# The time since boot, sleep included. Nothing sets this clock, and all processes of the machine
# read the same time. On macOS CLOCK_MONOTONIC is the wall clock less the time of boot, and Python's
# `monotonic` stands still while the machine sleeps; the raw clock has neither fault. Another Unix
# gets `monotonic`: there, sleep does not count, which waits longer and never shorter.
if sys.platform == "darwin":
    _BOOT_CLOCK = time.CLOCK_MONOTONIC_RAW
else:
    _BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_time_s() -> float:
    """Return seconds since boot, the same for all processes; independent of the wall clock."""
    return time.clock_gettime(_BOOT_CLOCK)


def boot_id() -> str:
    """Return the identifier of this boot of the machine, `""` where the system has none."""
    if sys.platform == "darwin":
        import subprocess

        command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        return ended.stdout.strip()
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def utc_now() -> datetime:
    """Return the wall clock as an aware UTC datetime."""
    return datetime.now(UTC)


async def in_thread(function: Callable[[], T], /) -> T:
    """Run blocking work in a thread of the loop's pool."""
    import asyncio  # `quota` needs the clock alone

    return await asyncio.to_thread(function)


@cache
def _waiting_threads() -> "ThreadPoolExecutor":
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(_MAX_WAITING, thread_name_prefix="waiting")


async def in_waiting_thread(function: Callable[[], T], /) -> T:
    """Run work that waits for another machine: it takes no thread from the loop's own pool."""
    import asyncio

    return await asyncio.get_running_loop().run_in_executor(_waiting_threads(), function)


@dataclass(frozen=True, slots=True)
class Clock:
    """The clocks of a run; tests pass a virtual one.

    Attributes:
        steady_s: Seconds that never jump and never go back, of no fixed origin; for pacing and
            durations. To sleep until a moment of it, sleep for the difference to now.
        utc: The wall clock; for what is written, and for the day of a quota.
        run_blocking: Runs file and database work off the event loop; tests run it inline.
        run_waiting: As `run_blocking`, for requests to other machines by libraries that block.
    """

    steady_s: Callable[[], float] = boot_time_s
    utc: Callable[[], datetime] = utc_now
    run_blocking: Runner = in_thread
    run_waiting: Runner = in_waiting_thread
