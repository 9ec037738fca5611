"""A simulator in a thread of its own, so that a test can run commands against it."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from gemini_batch.simulator import Simulator, SimulatorConfig

QUICK_START = ("SSL_CERT_FILE", "PYDANTIC_DISABLE_PLUGINS")
"""Variables of `tests/conftest.py` that also processes with a bare environment should get."""


@contextmanager
def simulator(config: SimulatorConfig | None = None) -> Iterator[Simulator]:
    """Serve on a free port of 127.0.0.1 until the block ends; pictures are tiny and come at once unless `config` says else."""
    config = config or SimulatorConfig(tier="unlimited", pixels=16, latency_s=0.0)
    ready, served = threading.Event(), []
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()

    async def serve() -> None:
        async with Simulator(config) as running:
            served.append(running)
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(60)
        yield served[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def wait_for_requests(server: Simulator, number: int, within_s: float = 60.0) -> None:
    """Wait until so many requests have arrived: another process sends them, so there is nothing to await."""
    pause, ends_s = threading.Event(), time.monotonic() + within_s
    while len(server.audit.entries) < number:
        assert time.monotonic() < ends_s, (
            f"{len(server.audit.entries)} of {number} requests arrived"
        )
        pause.wait(0.005)
