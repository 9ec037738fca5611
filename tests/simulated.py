"""A simulator in a thread of its own, so that a test can run commands against it."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from aiohttp import web

from gemini_batch.simulator import Simulator, SimulatorConfig, delivery

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


@contextmanager
def late_answers_held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Hold the answers with the fault `late` until what is yielded is called, or the block ends."""
    released, whole = threading.Event(), delivery.whole

    async def held(answer: delivery.OutgoingAnswer) -> web.StreamResponse:
        await asyncio.to_thread(released.wait)
        return await whole(answer)

    with monkeypatch.context() as patch:
        patch.setattr(delivery, "whole", held)
        try:
            yield released.set
        finally:
            released.set()


def wait_for_requests(server: Simulator, number: int, within_s: float = 300.0) -> None:
    """Wait until so many requests have arrived: another process sends them, so there is nothing to await."""
    pause, ends_s = threading.Event(), time.monotonic() + within_s
    while len(server.audit.entries) < number:
        assert time.monotonic() < ends_s, (
            f"{len(server.audit.entries)} of {number} requests arrived"
        )
        pause.wait(0.005)
