import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gemini_batch.clock import Clock
from gemini_batch.engine.preprocess import MAX_DOWNSCALES, Preprocessor
from gemini_batch.engine.recovery import Interrupted
from gemini_batch.inputs import Downscaler
from gemini_batch.records import InputImage, Request, Text
from tests.builders import make_call


async def test_images_are_downscaled_in_a_few_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies are made in threads, a limited number at a time, and other calls do not wait."""
    at_work: list[threading.Thread] = []
    started, release = threading.Semaphore(0), threading.Event()

    def slow(_downscaler: Downscaler, request: Request) -> Request:
        at_work.append(threading.current_thread())
        started.release()
        assert release.wait(60)
        return request

    monkeypatch.setattr(Downscaler, "request", slow)
    unused: Any = None
    preprocess = Preprocessor(
        unused,
        unused,
        Clock(),
        unused,
        interrupted=Interrupted({}),
        remote=unused,
        downscaler=Downscaler(tmp_path / "inputs"),
    )
    image = InputImage("a.png", "/a.png", "image/png", 9, 0, "", 80, 40, max_pixels=800)
    large = replace(make_call(), request=Request("m", (image, Text("x"))))
    plain = make_call("plain")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(preprocess(large, 1)) for _ in range(4 * MAX_DOWNSCALES)]
        for _ in range(MAX_DOWNSCALES):
            assert await asyncio.to_thread(started.acquire, timeout=60)
        for _ in range(100):
            assert await preprocess(plain, 1) is plain
            await asyncio.sleep(0)
        assert len(at_work) == MAX_DOWNSCALES
        assert not any(task.done() for task in tasks)
        release.set()
    assert len(at_work) == 4 * MAX_DOWNSCALES
    assert threading.main_thread() not in at_work
