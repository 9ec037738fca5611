"""One of the machines that race on a ledger in PostgreSQL, its clocks wrong. Not a test."""

import asyncio
import os
import sys
from datetime import timedelta

from gemini_batch.clock import Clock, boot_time_s, utc_now
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage.postgres import PostgresStorage
from gemini_batch.records import Limits
from tests.torture.racer import GUARD_S, race


def main(url: str, log: str, per_min: str, minute_s: str, wrong_s: str) -> None:
    """Race, on clocks that are off by so many seconds, until the process is ended; log true times."""
    off_s = float(wrong_s)
    clock = Clock(
        steady_s=lambda: boot_time_s() + off_s,
        utc=lambda: utc_now() + timedelta(seconds=100 * off_s),
    )
    limits = Limits(requests_per_min=int(per_min), minute_s=float(minute_s))
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    storage = PostgresStorage(url)
    storage.open()
    with SharedLedger(storage, limits, guard_s=GUARD_S, steady_s=clock.steady_s) as ledger:
        os.write(descriptor, f"ready {boot_time_s()}\n".encode())
        asyncio.run(race(ledger, limits, descriptor, float("inf"), clock))


if __name__ == "__main__":
    main(*sys.argv[1:])
