"""What follows from answers that are none, and from refusals that are all alike."""

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from gemini_batch.engine.recovery import possibly_billed
from gemini_batch.events import CallRetrying
from gemini_batch.output.rows import read_rows
from gemini_batch.records import FailureKind, Limits, StopReason
from tests.builders import MODEL, PICTURE, Step, answers, fails, make_call, picture, says
from tests.virtual.clock import NOON_UTC
from tests.virtual.dispatch.test_cancel import cancelled_at
from tests.virtual.dispatch.world import OTHER, World, play

NO_ANSWER = fails(FailureKind.NOT_AN_ANSWER)
EMPTY = answers({"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}]})
MODERATED = answers({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})
GATEWAY = answers(b"<html>504 Gateway Time-out", 504)
WRONG = 'Invalid JSON payload received. Unknown name "config": Cannot find field.'


def ids(number: int) -> list[str]:
    """Return the ids of so many calls."""
    return [f"{index:02}" for index in range(number)]


# --- refusals ---


def test_the_same_refusal_for_line_after_line_stops_the_model(tmp_path: Path) -> None:
    """What is wrong with five calls in a row is wrong with all: the rest is not sent, and the quota of the day is kept."""
    script = {call_id: [says(400, WRONG)] for call_id in ids(60)}
    world = play(tmp_path, ids(60), script, concurrency=1)

    assert world.reasons == [StopReason.ALIKE]
    assert world.statuses == dict.fromkeys(ids(5), "rejected")
    assert WRONG in world.dispatcher.stops[0].message
    assert "--keep-going" in world.dispatcher.stops[0].message


def test_another_model_goes_on_when_one_refuses_all(tmp_path: Path) -> None:
    """The lane of one model closes; the calls of the others are all sent."""
    calls = [make_call(f"{model}-{n}", model=model) for n in range(20) for model in (MODEL, OTHER)]
    script = {call.id: [says(400, WRONG)] for call in calls if call.request.model == MODEL}
    world = play(tmp_path, calls, script, concurrency=2)

    assert world.reasons == [StopReason.ALIKE]
    answered = [call_id for call_id, status in world.statuses.items() if status == "succeeded"]
    assert sorted(answered) == sorted(f"{OTHER}-{n}" for n in range(20))


@pytest.mark.parametrize(
    "between",
    [PICTURE, says(400, "another reason"), MODERATED, fails(FailureKind.TOO_LARGE)],
    ids=["answer", "other refusal", "moderated", "failure"],
)
def test_anything_else_between_the_refusals_lets_the_run_go_on(
    tmp_path: Path, between: Step
) -> None:
    """Lines that are wrong among others that are not: each is refused for itself."""
    script = {
        call_id: [between if number % 5 == 4 else says(400, WRONG)]
        for number, call_id in enumerate(ids(30))
    }
    world = play(tmp_path, ids(30), script, concurrency=1)

    assert world.reasons == []
    assert len(world.statuses) == 30


def test_keep_going_sends_them_all_the_same(tmp_path: Path) -> None:
    """With the flag each line gets its own refusal."""
    script = {call_id: [says(400, WRONG)] for call_id in ids(30)}
    world = play(tmp_path, ids(30), script, concurrency=1, keeps_going=True)

    assert (world.reasons, len(world.statuses)) == ([], 30)


# --- answers that are none ---


def test_three_answers_of_something_else_in_a_row_stop_the_run(tmp_path: Path) -> None:
    """A wrong address does not finish a manifest: three calls are `failed`, for the next run, and the rest is not sent."""
    script = {call_id: [NO_ANSWER] for call_id in ids(20)}
    world = play(tmp_path, ids(20), script, concurrency=1)

    assert world.reasons == [StopReason.ADDRESS]
    assert world.statuses == dict.fromkeys(ids(3), "failed")
    assert "--base-url" in world.dispatcher.stops[0].message


@pytest.mark.parametrize("between", [PICTURE, MODERATED, says(400)])
def test_an_answer_of_the_api_between_them_shows_that_the_address_is_right(
    tmp_path: Path, between: Step
) -> None:
    """Two of something else, then the API again: the run goes on."""
    script = {
        call_id: [between if number % 3 == 2 else NO_ANSWER]
        for number, call_id in enumerate(ids(20))
    }
    world = play(tmp_path, ids(20), script, concurrency=1)

    assert (world.reasons, len(world.statuses)) == ([], 20)


# --- empty answers ---


def test_an_empty_answer_is_asked_for_again_once(tmp_path: Path) -> None:
    """It is not charged, and nearly always gone at the next try; a moderated one is final at once."""
    script = {"a": [EMPTY, PICTURE], "b": [MODERATED, PICTURE], "c": [EMPTY, EMPTY, PICTURE]}
    world = play(tmp_path, "abc", script)

    assert world.statuses == {"a": "succeeded", "b": "blocked", "c": "blocked"}
    assert [world.transport.sends(call_id) for call_id in "abc"] == [2, 1, 2]
    assert world.unanswered == set()
    assert {row["id"]: row["block_reason"] for row in read_rows(tmp_path)} == {
        "a": None,
        "b": "PROHIBITED_CONTENT",
        "c": "EMPTY",
    }


def test_without_another_attempt_an_empty_answer_is_blocked(tmp_path: Path) -> None:
    """With one attempt a call there is no second one, and the row says what came."""
    world = play(tmp_path, "a", {"a": [EMPTY]}, max_attempts=1)

    assert world.statuses == {"a": "blocked"}


def test_a_thought_without_a_picture_is_not_empty(tmp_path: Path) -> None:
    """The model worked, and its tokens are charged: it is not asked again by itself."""
    parts = [{"text": "Let me think", "thought": True}]
    thought = answers({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]})
    world = play(tmp_path, "a", {"a": [thought]})

    assert (world.statuses, world.transport.sends("a")) == ({"a": "blocked"}, 1)


# --- what never reached the API ---


@pytest.mark.parametrize(
    ("http_status", "body"),
    [
        (400, b"<html>400 Bad Request"),
        (405, b""),
        (400, b'{"error": {"message": "no channel"}}'),
        (523, b""),
    ],
)
def test_only_the_api_can_reject_a_job(tmp_path: Path, http_status: int, body: bytes) -> None:
    """A refusal of a proxy is no row: after some minutes the run ends, to be run again, and the healed way is used."""
    script = {call_id: [answers(body, http_status)] for call_id in ids(20)}
    world = play(tmp_path, ids(20), script, max_attempts=6)

    assert (world.reasons, world.statuses) == ([StopReason.OUTAGE], {})
    assert 120 <= world.on_end < 300
    assert len(world.transport.sent) < 20
    assert world.unanswered == set()
    healed = play(tmp_path, ids(20))
    assert healed.statuses == dict.fromkeys(ids(20), "succeeded")


# --- what a gateway may have cost ---


def test_a_gateway_that_gave_up_is_in_the_budget(tmp_path: Path) -> None:
    """Each of its 504 may have been billed: it is counted, and the budget lets no third one be sent."""
    world = play(tmp_path, "a", {"a": [GATEWAY]}, max_attempts=6, max_cost_usd=0.30)

    assert world.transport.sends("a") == 2
    assert world.reasons == [StopReason.BUDGET]
    assert [event.may_be_billed for event in world.of(CallRetrying)] == [True, True]


def test_what_may_be_billed_is_not_forgotten_while_its_retry_waits(tmp_path: Path) -> None:
    """Killed in the pause before the next attempt, the call is known to the next run, also after an attempt that cost nothing."""
    steps = {"a": [GATEWAY, says(503), PICTURE], "b": [says(503), PICTURE]}
    for at_s in (1.005, 1.9, 2.005):
        world = cancelled_at(tmp_path / str(at_s), at_s, "ab", steps, max_attempts=6)
        in_flight = {
            call_id
            for call_id in "ab"
            if world.transport.sends(call_id)
            > [each for _, each in world.transport.answered].count(call_id)
        }

        assert set(possibly_billed(world.folder)) == {"a"} | in_flight


# --- a 429 that names no quota ---


def test_a_429_without_details_holds_back_only_its_call(tmp_path: Path) -> None:
    """Every tenth of 60 calls meets one, as is normal where capacity is shared: the others go on at their pace."""
    script = {
        call_id: [says(429, latency_s=0.3), picture(0.3)] if number % 10 == 3 else [picture(0.3)]
        for number, call_id in enumerate(ids(60))
    }
    world = play(tmp_path, ids(60), script, concurrency=8)

    assert world.statuses == dict.fromkeys(ids(60), "succeeded")
    assert len(world.transport.sent) == 66
    assert world.on_end <= 10


@pytest.mark.parametrize("twice", [[3], [3, 13], [3, 13, 23, 33, 43, 53]])
def test_a_call_may_meet_two_429s_without_details(tmp_path: Path, twice: list[int]) -> None:
    """Where others are answered in between, its second wait is as short as its first."""
    script = {
        call_id: [*[says(429, latency_s=0.3)] * (2 if number in twice else 0), picture(0.3)]
        for number, call_id in enumerate(ids(60))
    }
    world = play(tmp_path, ids(60), script, concurrency=8)

    assert world.statuses == dict.fromkeys(ids(60), "succeeded")
    assert world.on_end <= 12


def test_nothing_but_429_is_asked_ever_more_rarely(tmp_path: Path) -> None:
    """When all meet them the model pauses: few requests in the first minute, fewer in each after it, and none is failed."""

    async def ten_minutes(world: World) -> None:
        await asyncio.sleep(600)
        world.transport.script.clear()

    script = {call_id: [says(429, latency_s=0.3)] for call_id in ids(60)}
    world = play(tmp_path, ids(60), script, concurrency=8, max_attempts=6, during=ten_minutes)

    by_minute = Counter(int(at_s // 60) for at_s, _ in world.transport.sent if at_s < 600)
    assert by_minute[0] <= 60
    assert all(by_minute[minute] < by_minute[0] / 4 for minute in range(1, 10))
    assert world.statuses == dict.fromkeys(ids(60), "succeeded")


# --- a day that ends at another hour ---


def test_a_day_that_ends_at_another_hour_is_believed(tmp_path: Path) -> None:
    """The 429 says that its day ends in three hours: the run says so, and one that waits goes on then, long before midnight Pacific."""
    delay = [{"@type": "google.rpc.RetryInfo", "retryDelay": "10800s"}]
    script = {"a": [says(429, details=delay), PICTURE]}

    stopped = play(tmp_path / "1", "a", dict(script), limits=Limits(requests_per_day=100))
    (stop,) = stopped.dispatcher.stops
    assert (stop.reason, stop.model) == (StopReason.DAY_CLOSED, MODEL)
    assert stop.run_again_at is not None
    assert timedelta(hours=3) <= stop.run_again_at - NOON_UTC <= timedelta(hours=3, seconds=10)

    waited = play(tmp_path / "2", "a", script, waits_for_reset=True)
    assert waited.statuses == {"a": "succeeded"}
    assert 10_800 <= waited.on_end < 10_800 + 60
