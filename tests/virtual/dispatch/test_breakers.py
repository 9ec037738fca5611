import asyncio
import itertools
from pathlib import Path

import pytest

from gemini_batch.engine.breaker import (
    MODEL_GIVES_UP_AFTER_S,
    SERVER_GIVES_UP_AFTER_S,
)
from gemini_batch.events import (
    CallUnanswered,
    Stopping,
    Waiting,
)
from gemini_batch.output.rows import read_rows
from gemini_batch.records import FailureKind, Limits, StopReason
from tests.builders import (
    MODEL,
    PICTURE,
    fails,
    make_call,
    picture,
    says,
)
from tests.virtual.dispatch.world import OTHER, UNLIMITED, World, play

# --- a server that is there, and answers nothing but 503 ---


@pytest.mark.parametrize(("number", "concurrency"), [(40, 20), (40, 2), (10, 1)])
def test_the_calls_outlive_a_storm(tmp_path: Path, number: int, concurrency: int) -> None:
    """Through a quarter of an hour of 503 few requests are burnt and no call is failed; soon after it all are answered."""

    async def calm(world: World) -> None:
        await asyncio.sleep(900)
        world.transport.script.clear()

    ids = [str(index) for index in range(number)]
    script = {call_id: [says(503)] for call_id in ids}
    world = play(tmp_path, ids, script, concurrency=concurrency, during=calm, max_attempts=6)

    assert dict.fromkeys(ids, "succeeded") == world.statuses
    assert len([at_s for at_s, _ in world.transport.sent if at_s < 900]) <= 20 + concurrency
    assert world.on_end < 900 + 300 + 20 * number / concurrency


@pytest.mark.parametrize(
    ("limits", "most_s"), [(UNLIMITED, 200), (Limits(requests_per_min=15), 500)]
)
def test_a_storm_of_one_model_keeps_nobody_back(
    tmp_path: Path, limits: Limits, most_s: float
) -> None:
    """While one model answers nothing but 503, another one's calls are sent as ever, and whoever waits knows why."""
    calls = [
        make_call(f"{model}-{number}", model=model)
        for model in (MODEL, OTHER)
        for number in range(100)
    ]
    script = {
        call.id: [says(503)] if call.request.model == MODEL else [picture(10.0)] for call in calls
    }
    world = play(tmp_path, calls, script, concurrency=11, max_attempts=6, limits=limits)

    others = [at_s for at_s, call_id in world.transport.sent if call_id.startswith(OTHER)]
    assert len(others) == 100
    assert max(others) <= most_s
    assert {(event.model, event.why) for event in world.of(Waiting)} == {
        (MODEL, "the server answers nothing but 503")
    }
    assert (
        len([at_s for at_s, call_id in world.transport.sent if call_id.startswith(MODEL)])
        <= 11 + 11 + 22
    )


def test_a_storm_without_end_is_left_for_the_next_run(tmp_path: Path) -> None:
    """After half an hour nothing more of the model is sent, and none of its calls is failed; what another model needs goes on."""
    calls = [make_call(f"{number}", model=(MODEL, OTHER)[number % 2]) for number in range(40)]
    script = {call.id: [says(503)] for call in calls if call.request.model == MODEL}
    world = play(tmp_path, calls, script, concurrency=10, max_attempts=6)

    assert world.statuses == {f"{number}": "succeeded" for number in range(1, 40, 2)}
    (stop,) = world.dispatcher.stops
    assert (stop.reason, MODEL in stop.message) == (StopReason.OUTAGE, True)
    assert MODEL_GIVES_UP_AFTER_S < world.on_end < MODEL_GIVES_UP_AFTER_S + 300
    assert len(world.transport.sent) < 20 + 10 + 10 + 20


# --- no network ---


def test_a_short_outage_costs_no_attempts(tmp_path: Path) -> None:
    """Where no byte left there was no attempt: the call goes on when the server is there again, and the day's quota has it back."""
    gone = fails(FailureKind.UNREACHABLE)
    limits = Limits(requests_per_day=3)
    world = play(tmp_path, ["a"], {"a": [gone] * 4 + [PICTURE]}, max_attempts=1, limits=limits)

    (row,) = read_rows(tmp_path)
    assert (row["status"], row["attempts"]) == ("succeeded", 1)
    assert world.transport.sends("a") == 5
    assert world.of(CallUnanswered) == []


def test_a_long_outage_stops_the_run(tmp_path: Path) -> None:
    """After two minutes without any connection the run ends; nothing is `failed`, and it did not knock at the door all the time."""
    ids = [str(number) for number in range(20)]
    world = play(
        tmp_path, ids, {call_id: [fails(FailureKind.UNREACHABLE)] for call_id in ids}, concurrency=5
    )

    assert world.reasons == [StopReason.OUTAGE]
    assert world.statuses == {}
    assert SERVER_GIVES_UP_AFTER_S <= world.on_end < 2 * SERVER_GIVES_UP_AFTER_S
    assert len(world.transport.sent) < 150


def test_one_call_at_a_time_finds_out_whether_the_server_is_there_again(tmp_path: Path) -> None:
    """What was on its way fails together; then one call probes after each pause, and the moment that one connects all others go."""

    async def there_again(world: World) -> None:
        await asyncio.sleep(20.1)  # a pause ends at a quarter of a second
        world.transport.script.clear()

    script = {call_id: [fails(FailureKind.UNREACHABLE)] for call_id in "abcdefgh"}
    world = play(tmp_path, "abcdefgh", script, concurrency=5, during=there_again)

    assert dict.fromkeys("abcdefgh", "succeeded") == world.statuses
    moments = [at_s for at_s, _ in world.transport.sent]
    probes, others = (
        [at_s for at_s in moments[5:] if at_s < 20.1],
        [at_s for at_s in moments if at_s > 20.1],
    )
    assert moments[:5] == [0.0] * 5
    assert len(probes) >= 2
    assert all(
        later_s - earlier_s >= 1.0
        for earlier_s, later_s in itertools.pairwise([0.0, *probes, others[0]])
    )
    assert others.count(others[0]) >= 4  # not when its answer comes, 20 s later


def test_an_outage_that_begins_while_others_wait_for_their_grants(tmp_path: Path) -> None:
    """A grant that comes while another call probes goes back to its day, and its call waits."""
    script = {
        "a": [fails(FailureKind.UNREACHABLE, 0.5), PICTURE],
        "b": [fails(FailureKind.UNREACHABLE, 30.0), PICTURE],
    }
    world = play(
        tmp_path,
        "abcdef",
        script,
        concurrency=6,
        limits=Limits(requests_per_min=12, requests_per_day=99),
    )

    assert dict.fromkeys("abcdef", "succeeded") == world.statuses
    (a_s, _), (b_s, b), (after_s, _), *_ = world.transport.sent
    assert (a_s, b) == (0.0, "b")
    assert after_s - b_s >= 30.0
    assert world.ledger.used(MODEL, 0.0, world.clock.utc())[4].used == 6  # of the day


def test_any_answer_ends_an_outage(tmp_path: Path) -> None:
    """The two minutes count from the first failure since the server was last heard of."""
    steps = [fails(FailureKind.UNREACHABLE), says(503, latency_s=100.0)] * 3 + [PICTURE]
    world = play(tmp_path, ["a"], {"a": steps}, max_attempts=9)

    assert world.statuses == {"a": "succeeded"}
    assert world.reasons == []


def test_an_answer_to_another_call_ends_an_outage(tmp_path: Path) -> None:
    """Any call that is answered shows that the server is there."""
    script = {call_id: [fails(FailureKind.UNREACHABLE), picture(90.0)] for call_id in "abc"}
    world = play(tmp_path, "abc", script, concurrency=1)

    assert dict.fromkeys("abc", "succeeded") == world.statuses
    assert world.reasons == []


def test_an_outage_after_that_of_one_model_is_a_stop_of_its_own(tmp_path: Path) -> None:
    """A model that was given up does not hide that later the server could not be reached at all."""
    calls = [make_call(f"{number}") for number in range(20)]
    calls += [make_call("slow", model=OTHER), make_call("late", model=OTHER)]
    script = {call.id: [says(503)] for call in calls}
    script |= {"slow": [picture(2500.0)], "late": [fails(FailureKind.UNREACHABLE, 2400.0)]}
    world = play(tmp_path, calls, script, concurrency=12, max_attempts=6)

    assert world.statuses == {"slow": "succeeded"}
    assert world.reasons == [StopReason.OUTAGE] * 2
    assert [event.model for event in world.of(Stopping)] == [MODEL, ""]
