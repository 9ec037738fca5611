"""What a call waits for before it is sent, where two of these waits meet."""

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from gemini_batch.clock import Clock
from gemini_batch.engine.admission import Clearance, Leave
from gemini_batch.engine.disk_space import SPARE_BYTES, answer_bytes
from gemini_batch.output import OutputFolder
from gemini_batch.quota.limiter import RateLimiter
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import MemoryStorage
from gemini_batch.records import Limits
from tests.builders import MODEL, make_call
from tests.virtual.clock import run


def _nothing(*_: object) -> None:
    """Tell nobody."""


def test_who_probes_and_finds_no_room_lets_another_one_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk shrinks while a call waits to probe in an outage: the calls whose room it waits for do not wait for it."""
    room = [10]
    monkeypatch.setattr(
        os, "statvfs", lambda _path: SimpleNamespace(f_bavail=room[0], f_frsize=answer_bytes("1K"))
    )

    async def scenario(clock: Clock) -> None:
        gate, went = (
            RateLimiter(SharedLedger(MemoryStorage(), Limits()), Limits(), clock),
            list[str](),
        )
        clearance = Clearance(
            gate,
            OutputFolder(tmp_path),
            clock,
            _nothing,
            stop=_nothing,
            model_closed=_nothing,
        )
        clearance.open({MODEL})

        async def send(call_id: str) -> None:
            async with clearance.leave(make_call(call_id)) as leave:
                assert isinstance(leave, Leave)
                went.append(call_id)
            clearance.outage.left(call_id)

        clearance.outage.failed(0.0, "refused")
        await gate.pause(MODEL, 5, "the server can't be reached")
        async with asyncio.TaskGroup() as group:
            group.create_task(send("a"))
            group.create_task(send("b"))
            await asyncio.sleep(3)
            room[0] = 1 + SPARE_BYTES // answer_bytes("1K")
        assert went == ["b", "a"]

    run(scenario)
