"""What a call waits for before it is sent, where two of these waits meet."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gemini_batch.clearance import Clearance
from gemini_batch.clock import Clock
from gemini_batch.events import Event, Waiting
from gemini_batch.free_space import SPARE_BYTES, answer_bytes
from gemini_batch.quota.gate import Gate
from gemini_batch.quota.memory import MemoryLedger
from gemini_batch.records import Call, Limits, Stop, StopReason
from gemini_batch.store import Store
from tests.builders import MODEL, make_call
from tests.virtual_clock import NOON_UTC, run

OTHER = "gemini-2.5-flash-image"


@dataclass
class World:
    """A clearance of two models, and what it told."""

    out: Path
    clock: Clock
    events: list[Event] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    went: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate = Gate(MemoryLedger(Limits()), Limits(), self.clock)
        self.clearance = Clearance(
            self.gate,
            Store(self.out),
            self.clock,
            self.events.append,
            stop=self.stops.append,
            model_closed=lambda stop, _model: self.stops.append(stop),
            waits_for_reset=True,
        )
        self.clearance.open({MODEL, OTHER})

    async def send(self, call: Call) -> None:
        """Note when the call goes, if it does, and have an answer for it at once."""
        async with self.clearance.leave(call) as leave:
            if leave is not None:
                self.went.append(call.id)
        self.clearance.outage.left(call.id)


def play(out: Path, scenario: Callable[[World], Coroutine[Any, Any, None]]) -> World:
    """Run a scenario on a virtual clock; return the world after it."""
    worlds: list[World] = []

    async def on_clock(clock: Clock) -> None:
        worlds.append(World(out, clock))
        await scenario(worlds[0])

    run(on_clock)
    return worlds[0]


def of(model: str, call_id: str) -> Call:
    """Return a call of a model."""
    call = make_call(call_id)
    return replace(call, request=replace(call.request, model=model))


def test_who_probes_and_finds_no_room_lets_another_one_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk shrinks while a call waits to probe in an outage: the calls whose room it waits for do not wait for it."""
    room = [10]
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=room[0], f_frsize=answer_bytes("1K")))

    async def scenario(world: World) -> None:
        world.clearance.outage.failed(0.0)
        await world.gate.pause(MODEL, 5, "the server can't be reached")
        async with asyncio.TaskGroup() as group:
            group.create_task(world.send(make_call("a")))
            group.create_task(world.send(make_call("b")))
            await asyncio.sleep(3)
            room[0] = 1 + SPARE_BYTES // answer_bytes("1K")

    assert play(tmp_path, scenario).went == ["b", "a"]


def test_who_waits_for_the_next_day_lets_another_one_probe(tmp_path: Path) -> None:
    """In an outage a call of a model whose day is over does not keep those of other models from finding out that it has passed."""

    async def scenario(world: World) -> None:
        world.clearance.outage.failed(0.0)
        await world.gate.close_day(MODEL)
        async with asyncio.TaskGroup() as group:
            group.create_task(world.send(of(MODEL, "tomorrow")))
            group.create_task(world.send(of(OTHER, "today")))
            await asyncio.sleep(60)
            assert world.went == ["today"]

    assert play(tmp_path, scenario).went == ["today", "tomorrow"]


def test_a_machine_that_slept_does_not_sleep_through_the_reset(tmp_path: Path) -> None:
    """The loop's clock stands still while the machine is suspended; the quota's day goes on, and so does the run, minutes after it."""
    suspended_s = [0.0]

    async def scenario(clock: Clock) -> None:
        moved = replace(
            clock,
            steady_s=lambda: clock.steady_s() + suspended_s[0],
            utc=lambda: clock.utc() + timedelta(seconds=suspended_s[0]),
        )
        world = World(tmp_path, moved)
        await world.gate.close_day(MODEL)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(world.send(make_call("a")))
            await asyncio.sleep(3600)
            suspended_s[0] = 10 * 3600.0
            await sending
        assert moved.utc() - NOON_UTC < timedelta(hours=12, minutes=15)
        assert [event.model for event in world.events if isinstance(event, Waiting)] == [MODEL]

    run(scenario)


def test_a_model_that_was_refused_is_not_waited_for(tmp_path: Path) -> None:
    """The server says that a model does not exist while its calls sleep until the reset: the run does not last so long."""

    async def scenario(world: World) -> None:
        await world.gate.close_day(MODEL)
        async with asyncio.TaskGroup() as group:
            group.create_task(world.send(make_call("a")))
            await asyncio.sleep(60)
            world.clearance.close_model(MODEL, Stop(StopReason.MODEL, "no such model"))
        assert world.clock.steady_s() < 3600

    assert play(tmp_path, scenario).went == []
