"""Timeouts in which the time of a stopped process does not count."""

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
    """Return when a block that waits forever ends, while something else runs."""

    async def scenario(clock: Clock) -> float:
        async def wait(group: asyncio.TaskGroup) -> None:
            async with StallTimeout(wait_s, enough_bytes=enough_bytes) as stall:
                if meanwhile:
                    group.create_task(meanwhile(stall))
                await asyncio.Event().wait()

        async with asyncio.TaskGroup() as group:
            with pytest.raises(TimeoutError):
                await wait(group)
            return clock.steady_s()

    return run(scenario)


def stand_still(seconds: float) -> None:
    """Let time pass in which this process does not run."""
    cast(VirtualLoop, asyncio.get_running_loop()).jump(seconds)


def test_silence_ends_after_the_timeout() -> None:
    """The timeout is exact without renewal."""
    assert ended_s(60) == pytest.approx(60, abs=1e-3)


def test_each_piece_renews_the_timeout() -> None:
    """After the last piece the timeout lasts its time, and at most `SLACK` longer."""

    async def pieces(stall: StallTimeout) -> None:
        for _ in range(100):
            await asyncio.sleep(0.5)
            stall.renew()

    assert 110 <= ended_s(60, pieces) <= 110 + 60 * SLACK


def test_time_in_which_the_process_stood_still_does_not_count() -> None:
    """The timeout starts again: data that arrived meanwhile has not been read yet."""

    async def stopped(_stall: StallTimeout) -> None:
        await asyncio.sleep(50)
        stand_still(3600)

    assert ended_s(60, stopped) == pytest.approx(50 + 3600 + 60, abs=60 * SLACK + 1e-3)


def test_a_short_delay_of_the_loop_counts() -> None:
    """A busy event loop does not extend the timeout."""

    async def busy(_stall: StallTimeout) -> None:
        await asyncio.sleep(59.9)
        stand_still(LATE_S)

    assert ended_s(60, busy) == pytest.approx(59.9 + LATE_S, abs=1e-3)


@pytest.mark.parametrize(("bytes_a_s", "expected_s"), [(9, 100), (10, 300)])
def test_progress_extends_the_timeout(bytes_a_s: int, expected_s: float) -> None:
    """The timeout starts again after each period that received enough."""

    async def trickle(stall: StallTimeout) -> None:
        for _ in range(300):
            stall.received(bytes_a_s)
            await asyncio.sleep(1)

    found_s = ended_s(100, trickle, enough_bytes=1000)
    assert expected_s <= found_s <= expected_s + 100 * (1 + SLACK)


def test_endless_progress_is_cut_off() -> None:
    """Progress extends the timeout to `MAX_PERIODS` periods at most."""

    async def flood(stall: StallTimeout) -> None:
        for _ in range(10_000):
            stall.received(1000)
            await asyncio.sleep(1)

    assert ended_s(100, flood, enough_bytes=1000) == pytest.approx(MAX_PERIODS * 100, rel=SLACK)


def test_a_cancellation_is_not_a_timeout() -> None:
    """Cancelling the task raises CancelledError."""

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
