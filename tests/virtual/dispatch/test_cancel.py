import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from gemini_batch.clock import Clock
from gemini_batch.engine.recovery import possibly_billed, recover
from gemini_batch.events import (
    CallAbandoned,
)
from gemini_batch.output.rows import read_rows
from gemini_batch.records import FailureKind
from tests.builders import (
    PICTURE,
    fails,
    make_call,
    picture,
    says,
)
from tests.virtual.clock import run
from tests.virtual.dispatch.world import Script, World


def cancelled_at(
    out: Path, at_s: float, calls: Iterable[str], script: Script, **settings: Any
) -> World:
    """Run calls and cancel the run at a moment."""
    worlds: list[World] = []

    async def scenario(clock: Clock) -> None:
        world = World(out, clock, script, calls=map(make_call, calls), **settings)
        worlds.append(world)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(at_s):
                await world.send()

    run(scenario)
    return worlds[0]


def test_cancelling_names_what_is_abandoned(tmp_path: Path) -> None:
    """What was in flight when the run was cancelled is named, by this run and by the next; what was answered is written and reported."""
    world = cancelled_at(tmp_path, 10.0, "abcdef", {"a": [picture(9.99)]})

    assert world.finished == ["a"]
    assert sorted(event.call_id for event in world.of(CallAbandoned)) == ["b", "c", "d", "e"]
    assert sorted(possibly_billed(world.folder)) == ["b", "c", "d", "e"]
    assert recover(world.folder) == []
    assert world.statuses == {"a": "succeeded"}


def test_a_cancellation_at_any_moment_loses_no_answer(tmp_path: Path) -> None:
    """Cancelled at any of many moments: each answer that was whole has its row, and each call is finished, named, or was never sent."""
    steps = {
        "a": [says(503), picture(2.0)],
        "b": [fails(FailureKind.TIMEOUT), PICTURE],
        "c": [picture(1.01)],
    }
    for tenths in range(1, 120):
        out = tmp_path / str(tenths)
        world = cancelled_at(out, tenths / 10 + 0.005, "abcde", steps, max_attempts=2)

        rows = {row["id"] for row in read_rows(out)}
        assert {"c"} <= rows or tenths < 11
        assert rows == set(world.finished)
        sent, answered = (
            [call_id for _, call_id in log]
            for log in (world.transport.sent, world.transport.answered)
        )
        abandoned = {event.call_id for event in world.of(CallAbandoned)}
        assert abandoned == {
            call_id for call_id in "abcde" if sent.count(call_id) > answered.count(call_id)
        }
        assert abandoned | (world.unanswered - rows) == set(possibly_billed(world.folder))
