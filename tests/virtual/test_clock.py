import asyncio
import time
from datetime import timedelta

import pytest

from gemini_batch.clock import Clock
from tests.virtual.clock import NOON_UTC, Deadlock, run


def test_hours_pass_in_no_time() -> None:
    """A sleep of six hours takes no real time, and both clocks move along."""

    async def scenario(clock: Clock) -> tuple[float, timedelta]:
        await asyncio.sleep(6 * 3600)
        return clock.steady_s(), clock.utc() - NOON_UTC

    started_s = time.perf_counter()
    steady_s, passed = run(scenario)

    assert steady_s == pytest.approx(6 * 3600, abs=1e-3)
    assert timedelta(hours=6) / passed == pytest.approx(1.0)
    assert time.perf_counter() - started_s < 1


def test_a_deadlock_is_an_error() -> None:
    """When everything waits and no timer is set, the run ends at once."""

    async def scenario(_clock: Clock) -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="no timer is set"):
        run(scenario)


def test_time_goes_on_in_every_turn() -> None:
    """A timer for "now", set again and again, does not hold the clock."""

    async def scenario(clock: Clock) -> int:
        loop, turns = asyncio.get_running_loop(), 0
        until_s = clock.steady_s() + 100e-6
        while clock.steady_s() < until_s and turns < 1000:
            turns += 1
            due = loop.create_future()
            loop.call_at(loop.time(), due.set_result, None)
            await due
        return turns

    assert run(scenario) < 1000


def test_blocking_work_runs_inline() -> None:
    """Blocking work is done at once, without a thread."""

    async def scenario(clock: Clock) -> int:
        return await clock.run_blocking(lambda: 42)

    assert run(scenario) == 42
