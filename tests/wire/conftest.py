"""Fixtures: time that jumps, and a signal for each piece of an answer."""

import asyncio
from collections.abc import Callable

import pytest

from gemini_batch.client import image_extractor, receiver


@pytest.fixture
async def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that moves the event loop's clock; sockets keep their own time."""
    loop, passed_s = asyncio.get_running_loop(), 0.0
    real_time = loop.time

    def jump(seconds: float) -> None:
        nonlocal passed_s
        passed_s += seconds

    monkeypatch.setattr(loop, "time", lambda: real_time() + passed_s)
    return jump


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> asyncio.Semaphore:
    """Return a semaphore that is released for each piece that the extractor was fed."""
    pieces = asyncio.Semaphore(0)

    class Watched(image_extractor.ImageExtractor):
        def feed(self, chunk: bytes) -> None:
            super().feed(chunk)
            pieces.release()

    monkeypatch.setattr(receiver, "ImageExtractor", Watched)
    return pieces
