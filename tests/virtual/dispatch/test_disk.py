import asyncio
import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gemini_batch.engine import commit
from gemini_batch.engine.recovery import possibly_billed, recover
from gemini_batch.output import OutputFolder
from gemini_batch.records import StopReason
from tests.builders import (
    picture,
    png,
    tree,
)
from tests.virtual.dispatch.world import World, play


def failing(*, on: str) -> Callable[[World], None]:
    """Return what makes one kind of deed fail from now on."""

    def refuse(*_arguments: Any, **_options: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def prepare(world: World) -> None:
        match on:
            case "row":
                world.rows.append = refuse  # type: ignore[method-assign]
            case "place":
                world.folder.publish = refuse  # type: ignore[method-assign]
            case "sync":
                world.rows.sync = refuse  # type: ignore[method-assign]
            case "sent":
                world.in_flight_log.sent = refuse  # type: ignore[method-assign]
            case "ended":
                world.in_flight_log.ended = refuse  # type: ignore[method-assign]

    return prepare


@pytest.mark.parametrize(
    ("on", "sends"), [("row", 3), ("place", 3), ("sync", 6), ("sent", 0), ("ended", 3)]
)
def test_a_disk_that_fails_stops_the_run(tmp_path: Path, on: str, sends: int) -> None:
    """When the disk fails, sending stops with one sentence, what is in flight drains, and nothing is reported that is not durable."""
    world = play(tmp_path, "abcdef", concurrency=3, prepare=failing(on=on))

    assert world.reasons == [StopReason.STORAGE]
    assert "No space left on device" in world.dispatcher.stops[0].message
    assert sends == len(world.transport.sent)
    assert ([] if on != "ended" else ["a", "b", "c"]) == world.finished


def test_a_paid_image_survives_a_rename_that_fails(tmp_path: Path) -> None:
    """An answer whose image could not be given its name is whole after the next start, and not sent again."""
    world = play(tmp_path, "abc", concurrency=3, prepare=failing(on="place"))

    assert len(recover(OutputFolder(tmp_path))) == 3
    assert {f"images/{call_id}.png": png(f"{call_id} A robot") for call_id in "abc"} == {
        name: data for name, data in tree(tmp_path).items() if name.startswith("images/")
    }
    assert dict.fromkeys("abc", "succeeded") == world.statuses
    assert possibly_billed(world.folder) == {}


def test_a_lost_answer_is_named(tmp_path: Path) -> None:
    """An answer whose row could not be written was paid for and is lost: the next start names its call."""
    world = play(tmp_path, "abc", concurrency=3, prepare=failing(on="row"))

    recover(world.folder)
    assert {"a", "b", "c"} == set(possibly_billed(world.folder))


def test_a_disk_that_fails_with_many_in_flight_hangs_nobody(tmp_path: Path) -> None:
    """With more answers in flight than rows may be pending, a sync that fails ends the run all the same."""
    ids = [str(number) for number in range(400)]
    world = play(tmp_path, ids, concurrency=150, prepare=failing(on="sync"))

    assert world.reasons == [StopReason.STORAGE]
    assert 150 <= len(world.statuses) == len(world.transport.sent) < 400
    assert world.finished == []


def test_a_slow_disk_slows_the_sending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk takes its time no more answers are paid for than may wait for it."""
    monkeypatch.setattr(commit, "MAX_PENDING", 3)

    async def take_a_minute(function: Callable[[], Any], /) -> Any:
        await asyncio.sleep(60)
        return function()

    def slow_down(world: World) -> None:
        world.committer._clock = replace(world.clock, run_blocking=take_a_minute)

    ids = [str(number) for number in range(20)]
    script = {call_id: [picture(0.1)] for call_id in ids}
    world = play(tmp_path, ids, script, concurrency=1, prepare=slow_down)

    assert len([at_s for at_s, _ in world.transport.sent if at_s < 60]) == 3
    assert len(world.finished) == 20
