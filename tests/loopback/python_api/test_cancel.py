"""Runs from Python that are cancelled, while they are checked, sent or drained."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch import (
    FolderBusyError,
    run,
    stream,
)
from gemini_batch.engine import session, setup
from gemini_batch.errors import StorageError
from tests.loopback.python_api.network import (
    PATIENCE_S,
    Network,
    first,
    robots,
    simulated,
)

pytestmark = pytest.mark.loopback


async def test_the_first_cancellation_drains(tmp_path: Path, network: Network) -> None:
    """A cancelled run waits for the answers that are paid for, writes them, and only then is cancelled."""
    running = asyncio.create_task(run(robots(5), simulated(tmp_path / "out", concurrency=2)))
    await network.is_reached()
    running.cancel()
    await asyncio.sleep(0)
    assert not running.done()
    network.answers.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    summary = orjson.loads((tmp_path / "out/summary.json").read_bytes())
    assert summary["by_status"] == {"succeeded": len(network.sent)}
    assert summary["stops"][0]["reason"] == "interrupted"
    assert len(network.sent) < 5


async def test_the_second_cancellation_abandons(tmp_path: Path, network: Network) -> None:
    """Who cancels again does not wait; the folder is free afterwards, and the next run names what may have been billed."""
    config = simulated(tmp_path / "out", concurrency=1)
    running = asyncio.create_task(run(robots(2), config))
    await network.is_reached()
    running.cancel()
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    network.answers.set()
    summary = await run(robots(2), config)
    assert (summary.by_status, summary.this_run.possibly_billed) == ({"succeeded": 2}, 1)


@pytest.mark.parametrize("times", [1, 3])
async def test_cancelled_while_it_is_checked_lets_go_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A run that is cancelled before it sends, however often, has closed all it opened."""
    loop, begun, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    real = setup.open_run

    @contextmanager
    def slow(*arguments: Any, **named: Any) -> Iterator[session.Run]:
        with real(*arguments, **named) as going:
            loop.call_soon_threadsafe(begun.set)
            go_on.wait(30)
            yield going

    monkeypatch.setattr(setup, "open_run", slow)
    running = asyncio.create_task(run(robots(1), simulated(tmp_path / "out")))
    await asyncio.wait_for(begun.wait(), PATIENCE_S)
    for _ in range(times):
        running.cancel()
        await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not (tmp_path / "out").exists()


async def test_the_folder_is_held_until_the_run_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a run is cancelled, nothing that it holds is closed under it."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def stubborn(*_: object) -> None:
        begun.set()
        while not go_on.is_set():
            with suppress(asyncio.CancelledError):
                await go_on.wait()
        raise asyncio.CancelledError

    monkeypatch.setattr(session.Run, "send", stubborn)
    running = asyncio.create_task(run(robots(1), simulated(tmp_path / "out")))
    await asyncio.wait_for(begun.wait(), PATIENCE_S)
    for _ in range(5):
        running.cancel()
        await asyncio.sleep(0)
    with pytest.raises(FolderBusyError):
        await run(robots(1), simulated(tmp_path / "out"))
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("by", ["run", "stream"])
async def test_what_goes_wrong_while_it_drains_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """An error that comes after the cancellation is not lost in it."""
    begun = asyncio.Event()

    async def breaks(going: session.Run, *_: object) -> None:
        stopped = asyncio.Event()
        monkeypatch.setattr(going, "stop", lambda _stop: stopped.set())
        begun.set()
        await stopped.wait()
        raise StorageError("the disk failed")

    monkeypatch.setattr(session.Run, "send", breaks)
    config = simulated(tmp_path / "out")
    running = asyncio.create_task(
        run(robots(1), config) if by == "run" else first(stream(robots(1), config))
    )
    await asyncio.wait_for(begun.wait(), PATIENCE_S)
    running.cancel()
    with pytest.raises(StorageError):
        await running


async def test_a_folder_is_for_one_run_at_a_time(tmp_path: Path, network: Network) -> None:
    """A second run on the folder is refused at once, and the first one continues."""
    running = asyncio.create_task(run(robots(1), simulated(tmp_path / "out")))
    await network.is_reached()
    with pytest.raises(FolderBusyError):
        await run(robots(1), simulated(tmp_path / "out"))
    network.answers.set()
    assert (await running).by_status == {"succeeded": 1}
