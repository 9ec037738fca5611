"""One of the processes that race: it sends as fast as the gate lets it, and writes down when. Not a test."""

import asyncio
import os
import sys
from pathlib import Path

from gemini_batch.clock import Clock, boot_time_s
from gemini_batch.quota.limiter import RateLimiter
from gemini_batch.quota.limits import Weights
from gemini_batch.quota.results import Grant
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.records import Limits
from tests.ledgers import open_storage

MODEL = "model"
GUARD_S = 0.3


async def race(
    ledger: SharedLedger, limits: Limits, log: int, calls: float, clock: Clock | None = None
) -> None:
    """Send with a few callers: so many calls, or until the process is ended."""
    clock, stop, left = clock or Clock(), asyncio.Event(), calls
    gate = RateLimiter(ledger, limits, clock)

    async def caller() -> None:
        nonlocal left
        while left > 0 and isinstance(await gate.acquire(MODEL, Weights(), stop), Grant):
            left -= 1
            os.write(log, f"{boot_time_s()}\n".encode())
            if left <= 0:
                stop.set()

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(caller())


def main(path: str, log: str, per_min: str, minute_s: str, calls: str = "inf") -> None:
    """Race on a ledger's file."""
    limits = Limits(requests_per_min=int(float(per_min)), minute_s=float(minute_s))
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with SharedLedger(open_storage(Path(path)), limits, guard_s=GUARD_S) as ledger:
        os.write(descriptor, f"ready {boot_time_s()}\n".encode())
        asyncio.run(race(ledger, limits, descriptor, float(calls)))


if __name__ == "__main__":
    main(*sys.argv[1:])
