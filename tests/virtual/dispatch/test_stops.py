import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gemini_batch.engine.recovery import possibly_billed
from gemini_batch.events import (
    CallFinished,
    Event,
    Stopping,
)
from gemini_batch.output.rows import read_rows
from gemini_batch.records import Call, FailureKind, Limits, Stop, StopReason
from tests.builders import (
    MODEL,
    BugError,
    Step,
    breaks,
    fails,
    make_call,
    picture,
    says,
)
from tests.virtual.dispatch.world import World, play


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (says(401), StopReason.AUTH),
        (says(403), StopReason.NO_ACCESS),
        (
            says(403, "Your API key was reported as leaked. Please use another API key."),
            StopReason.AUTH,
        ),
        (says(404), StopReason.MODEL),
        (says(402), StopReason.BILLING),
        (fails(FailureKind.STORAGE), StopReason.STORAGE),
    ],
)
def test_a_stop_drains_what_is_in_flight(tmp_path: Path, step: Step, reason: StopReason) -> None:
    """Whatever stops the run, the answers that are on their way are waited for and written; nothing new is sent."""
    world = play(tmp_path, ["a", "bad", "c", "d", "e", "f"], {"bad": [step]}, concurrency=3)

    assert world.statuses == {"a": "succeeded", "c": "succeeded"}
    assert sorted(world.finished) == ["a", "c"]
    assert [reason] == world.reasons
    (stopping,) = world.of(Stopping)
    assert stopping.in_flight == 2


def test_a_person_stops_it(tmp_path: Path) -> None:
    """The first stop of a person drains, also while others wait for the quota or for a retry; it wakes them all."""
    stop = Stop(StopReason.INTERRUPTED, "interrupted")

    async def interrupt(world: World) -> None:
        await asyncio.sleep(10)
        world.dispatcher.stop(stop)
        world.dispatcher.stop(stop)

    script = {"b": [says(503, details=[{"@type": "google.rpc.RetryInfo", "retryDelay": "900s"}])]}
    limits = Limits(requests_per_min=2)
    world = play(tmp_path, "abcdef", script, concurrency=5, limits=limits, during=interrupt)

    assert world.statuses == {"a": "succeeded"}
    assert [stop] == world.dispatcher.stops
    assert world.on_end < 21
    assert possibly_billed(world.folder) == {}


def test_a_stop_before_the_run_sends_nothing(tmp_path: Path) -> None:
    """Who interrupts before the first request is sent pays nothing."""
    world = play(
        tmp_path,
        "abc",
        prepare=lambda world: world.dispatcher.stop(Stop(StopReason.INTERRUPTED, "interrupted")),
    )

    assert world.transport.sent == []


def test_a_stop_among_the_calls(tmp_path: Path) -> None:
    """A line that was edited stops the run: what is before it is sent, what is behind it is not."""
    calls: list[Call | Stop] = [
        make_call("a"),
        Stop(StopReason.MANIFEST_CHANGED, "edited"),
        make_call("b"),
    ]
    world = play(tmp_path, calls, concurrency=1)

    assert world.statuses == {"a": "succeeded"}
    assert world.reasons == [StopReason.MANIFEST_CHANGED]


@pytest.mark.parametrize("step", [breaks(), breaks(30.0)])
def test_a_bug_is_raised_when_all_is_written(tmp_path: Path, step: Step) -> None:
    """An exception that nobody foresaw ends the run, but first the others' answers, paid for, are waited for and written."""
    with pytest.raises(ExceptionGroup) as caught:
        play(tmp_path, ["a", "bad", "c", "d"], {"bad": [step]}, concurrency=3)

    assert caught.group_contains(BugError, match="bad")
    written = {row["id"] for row in read_rows(tmp_path)}
    assert {"a", "c"} <= written
    assert not list((tmp_path / ".gemini_batch/incoming").iterdir())


def test_a_bug_among_the_calls_drains_too(tmp_path: Path) -> None:
    """Planning the next call may break: what is in flight is written all the same."""

    def calls() -> Iterator[Call]:
        yield make_call("a")
        yield make_call("b")
        raise BugError("no more")

    with pytest.raises(ExceptionGroup) as caught:
        play(tmp_path, calls(), concurrency=3, models=(MODEL,))

    assert caught.group_contains(BugError)
    assert {"a", "b"} == {row["id"] for row in read_rows(tmp_path)}


def test_a_bug_of_who_watches_drains_too(tmp_path: Path) -> None:
    """When the report of the first finished call breaks, what is in flight is written all the same."""

    def watch(event: Event) -> None:
        if isinstance(event, CallFinished) and event.row.id == "a":
            raise BugError("watching")

    with pytest.raises(ExceptionGroup) as caught:
        play(tmp_path, ["a", "b", "c", "d"], {"a": [picture(1.0)]}, concurrency=3, also=watch)

    assert caught.group_contains(BugError)
    assert {"a", "b", "c"} <= {row["id"] for row in read_rows(tmp_path)}
