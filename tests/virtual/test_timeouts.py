"""Timeouts of what is paid for: a process that stood still has not waited."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from gemini_batch.client.timeouts import LATE_S, MAX_PERIODS, SLACK, StallTimeout
from gemini_batch.clock import Clock
from tests.virtual.clock import VirtualLoop, run


def ended_s(
    wait_s: float,
    meanwhile: Callable[[StallTimeout], Coroutine[Any, Any, None]] | None = None,
    *,
    enough_bytes: int | None = None,
) -> float:
    """Return when a block that waits for ever is ended, with something else going on meanwhile."""

    async def scenario(clock: Clock) -> float:
        async def wait(group: asyncio.TaskGroup) -> None:
            async with StallTimeout(wait_s, enough_bytes=enough_bytes) as patience:
                if meanwhile:
                    group.create_task(meanwhile(patience))
                await asyncio.Event().wait()

        async with asyncio.TaskGroup() as group:
            with pytest.raises(TimeoutError):
                await wait(group)
            return clock.steady_s()

    return run(scenario)


def stand_still(seconds: float) -> None:
    """Let time pass in which nothing of this process runs."""
    cast(VirtualLoop, asyncio.get_running_loop()).jump(seconds)


def test_what_does_not_come_is_waited_for_so_long() -> None:
    """Neither shorter nor longer."""
    assert ended_s(60) == pytest.approx(60, abs=1e-3)


def test_each_piece_begins_it_anew() -> None:
    """From the last piece on it is waited for as long, and by a little longer at the most."""

    async def pieces(patience: StallTimeout) -> None:
        for _ in range(100):
            await asyncio.sleep(0.5)
            patience.renew()

    assert 110 <= ended_s(60, pieces) <= 110 + 60 * SLACK


def test_time_in_which_the_process_stood_still_does_not_count() -> None:
    """What came meanwhile can be read only now: it is waited for anew, once for each time."""

    async def stopped(_patience: StallTimeout) -> None:
        await asyncio.sleep(50)
        stand_still(3600)

    assert ended_s(60, stopped) == pytest.approx(50 + 3600 + 60, abs=60 * SLACK + 1e-3)


def test_a_loop_that_is_a_little_late_has_waited() -> None:
    """A busy event loop is no excuse."""

    async def busy(_patience: StallTimeout) -> None:
        await asyncio.sleep(59.9)
        stand_still(LATE_S)

    assert ended_s(60, busy) == pytest.approx(59.9 + LATE_S, abs=1e-3)


@pytest.mark.parametrize(("bytes_a_s", "expected_s"), [(9, 100), (10, 300)])
def test_what_goes_on_to_come_is_not_cut_off(bytes_a_s: int, expected_s: float) -> None:
    """As long as enough came in each such time; when no more comes, at the end of the next one it is over."""

    async def trickle(patience: StallTimeout) -> None:
        for _ in range(300):
            patience.received(bytes_a_s)
            await asyncio.sleep(1)

    found_s = ended_s(100, trickle, enough_bytes=1000)
    assert expected_s <= found_s <= expected_s + 100 * (1 + SLACK)


def test_what_comes_without_end_is_cut_off() -> None:
    """A server that goes on for ever holds nobody for ever."""

    async def flood(patience: StallTimeout) -> None:
        for _ in range(10_000):
            patience.received(1000)
            await asyncio.sleep(1)

    assert ended_s(100, flood, enough_bytes=1000) == pytest.approx(MAX_PERIODS * 100, rel=SLACK)


def test_a_cancellation_is_none_of_its_own() -> None:
    """Whoever cancels the task is not told of a timeout."""

    async def scenario(clock: Clock) -> float:
        async def work() -> None:
            async with StallTimeout(60):
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await asyncio.sleep(10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return clock.steady_s()

    assert run(scenario) == pytest.approx(10, abs=1e-3)
