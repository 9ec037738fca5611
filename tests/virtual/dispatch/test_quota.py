import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from gemini_batch.clock import Clock
from gemini_batch.engine import call_queue
from gemini_batch.engine.breaker import (
    SERVER_GIVES_UP_AFTER_S,
)
from gemini_batch.events import (
    Stopping,
)
from gemini_batch.output.rows import read_rows
from gemini_batch.records import Call, FailureKind, Limits, StopReason
from tests.builders import (
    MODEL,
    PICTURE,
    Step,
    fails,
    make_call,
    picture,
    quota_of_the_day,
    says,
)
from tests.virtual.clock import NOON_UTC, run
from tests.virtual.dispatch.world import OTHER, RETRY_IN_AN_HOUR, World, play

# --- quota ---


def test_a_429_of_the_minute_pauses_the_model(tmp_path: Path) -> None:
    """When the server asks for a pause nothing of that model is sent before it is over, and other models are."""
    calls = [make_call(str(number)) for number in range(3)]
    calls += [make_call(f"other{number}", model=OTHER) for number in range(3)]
    calls += [make_call(f"late{number}") for number in range(3)]
    details = [{"@type": "google.rpc.RetryInfo", "retryDelay": "40s"}]
    world = play(
        tmp_path, calls, {"0": [says(429, "slow down", 0.5, details), PICTURE]}, concurrency=6
    )

    assert len(world.statuses) == 9
    paused = [(at_s, call_id) for at_s, call_id in world.transport.sent if 0.5 < at_s < 40.5]
    assert all(call_id.startswith("other") for _, call_id in paused)
    assert {"succeeded"} == set(world.statuses.values())


@pytest.mark.parametrize(
    ("limits", "step"),
    [
        (Limits(tokens_per_min=600), picture(prompt_tokens=31)),
        (Limits(usd_per_10min=5.36), picture(thoughts_tokens=24_000)),  # $0.42 and not $0.134
    ],
    ids=["tokens", "dollars"],
)
def test_what_takes_more_than_was_estimated_overruns_the_first_window_only(
    tmp_path: Path, limits: Limits, step: Step
) -> None:
    """Answers tell what calls of their model take, also of those that wait for leave already; every later window keeps its limit."""
    ids = [str(number) for number in range(200)]
    world = play(tmp_path, ids, {call_id: [step] for call_id in ids}, concurrency=40, limits=limits)

    rows = {row["id"]: row for row in read_rows(tmp_path)}
    assert len(rows) == 200
    span_s, limit = (60, 600) if limits.tokens_per_min else (600, 5.36)
    took = [
        (
            at_s,
            rows[call_id]["usage"]["prompt_tokens"]
            if limits.tokens_per_min
            else rows[call_id]["cost_usd"],
        )
        for at_s, call_id in world.transport.sent
    ]
    windows = [
        sum(weight for at_s, weight in took if end_s - span_s < at_s <= end_s) for end_s, _ in took
    ]
    assert max(windows) > limit
    later = [used for used, (end_s, _) in zip(windows, took, strict=True) if end_s > 2 * span_s]
    assert 0.8 * limit < max(later) <= limit


def test_a_server_that_keeps_saying_429_stops_the_run(tmp_path: Path) -> None:
    """After all its attempts a 429 is not this job's fault: the run ends, nothing is `failed`."""
    world = play(tmp_path, ["a", "b"], {"a": [says(429)], "b": [says(429)]}, max_attempts=2)

    assert world.reasons == [StopReason.NO_QUOTA]
    assert world.statuses == {}


@pytest.mark.parametrize("limits", [Limits(requests_per_day=3), Limits()], ids=["ledger", "server"])
def test_a_closed_day_stops_the_run(tmp_path: Path, limits: Limits) -> None:
    """When today's quota of the only model is used up the run ends at once, and says from when on it may go on."""
    an_hour = says(500, details=[{"@type": "google.rpc.RetryInfo", "retryDelay": "3600s"}])
    script = (
        {"0": [an_hour]} if limits.requests_per_day else {"0": [an_hour], "c": [quota_of_the_day()]}
    )
    world = play(tmp_path, "0abcdef", script, concurrency=1, limits=limits, models=(MODEL,))

    assert world.statuses == {"a": "succeeded", "b": "succeeded"}
    (stop,) = world.dispatcher.stops
    assert (
        stop.reason,
        stop.run_again_at and stop.run_again_at.isoformat(),
    ) == (StopReason.DAY_CLOSED, "2026-11-23T08:00:01+00:00")
    assert [event.model for event in world.of(Stopping)] == [""]
    assert len(world.transport.sent) <= 4
    assert world.on_end < 100  # nobody waits for the retry


def test_a_closed_day_is_told_once(tmp_path: Path) -> None:
    """Many calls that wait for the same quota are told of its end, and the person only once."""
    calls = [make_call("other", model=OTHER), *map(make_call, "abcdef")]
    limits = Limits(requests_per_min=1, requests_per_day=1)
    world = play(tmp_path, calls, {"other": [picture(300.0)]}, concurrency=6, limits=limits)

    assert world.reasons == [StopReason.DAY_CLOSED]
    assert len(world.of(Stopping)) == 1


def test_a_closed_day_of_one_model_lets_the_others_go_on(tmp_path: Path) -> None:
    """The calls of a model whose day is over are left; those of another one are sent; each model is told once."""
    calls = [make_call(f"{number}", model=(MODEL, OTHER)[number % 2]) for number in range(20)]
    world = play(tmp_path, calls, {"4": [quota_of_the_day()]}, concurrency=3)

    done = {int(call_id) for call_id in world.statuses}
    assert {number for number in range(20) if number % 2} <= done
    assert 4 not in done
    assert world.reasons == [StopReason.DAY_CLOSED]
    assert [event.model for event in world.of(Stopping)] == [MODEL]


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (says(403), StopReason.NO_ACCESS),
        (says(404), StopReason.MODEL),
        (says(429, "Quota exceeded for metric: x, limit: 0"), StopReason.NO_QUOTA),
    ],
)
def test_a_model_that_is_refused_lets_the_others_go_on(
    tmp_path: Path, refusal: Step, reason: StopReason
) -> None:
    """One model that is not there, or not for this key or tier, is told once, and nothing more of it is sent; all others end."""
    calls = [make_call(f"{number}", model=(MODEL, OTHER)[number % 2]) for number in range(40)]
    script = {call.id: [refusal] for call in calls if call.request.model == MODEL}
    world = play(tmp_path, calls, script, concurrency=6)

    assert world.statuses == {f"{number}": "succeeded" for number in range(1, 40, 2)}
    assert world.reasons == [reason]
    assert [event.model for event in world.of(Stopping)] == [MODEL]
    assert len(world.transport.sent) <= 20 + 6


def test_a_bad_key_costs_one_request_a_model_at_most(tmp_path: Path) -> None:
    """A 403 that does not say what it refuses is of its model; when all models are refused the run ends, and no job is blamed."""
    calls = [make_call(f"{number}", model=(MODEL, OTHER)[number % 2]) for number in range(40)]
    world = play(tmp_path, calls, {call.id: [says(403)] for call in calls}, concurrency=1)

    assert (world.statuses, world.reasons) == ({}, [StopReason.NO_ACCESS] * 2)
    assert len(world.transport.sent) == 2
    assert [
        model in stop.message
        for model, stop in zip((MODEL, OTHER), world.dispatcher.stops, strict=True)
    ] == [True] * 2


def test_both_models_closed_are_both_told(tmp_path: Path) -> None:
    """The last model to close ends the run, and is named as the first one was."""
    calls = [make_call(f"{number}", model=(MODEL, OTHER)[number % 2]) for number in range(40)]
    world = play(tmp_path, calls, limits=Limits(requests_per_day=3), concurrency=3)

    assert len(world.statuses) == 6
    assert world.reasons == [StopReason.DAY_CLOSED] * 2
    assert {MODEL, ""} == {event.model for event in world.of(Stopping)} or {OTHER, ""} == {
        event.model for event in world.of(Stopping)
    }


def test_retries_of_a_closed_model_are_not_waited_for(tmp_path: Path) -> None:
    """When a model is refused while one of its calls waits for an hour, the run ends with the calls of the other one."""
    script = {"a": [says(503, details=[RETRY_IN_AN_HOUR])], "b": [says(404, latency_s=100.0)]}
    world = play(tmp_path, [make_call("a"), make_call("b"), make_call("c", model=OTHER)], script)

    assert (world.statuses, world.reasons) == ({"c": "succeeded"}, [StopReason.MODEL])
    assert world.on_end < 3600


def test_models_one_after_the_other_use_their_minutes_at_once(tmp_path: Path) -> None:
    """Each model has a quota of its own: a manifest that is sorted by model takes no longer than its longest part."""
    calls = [
        make_call(f"{model}-{number}", model=model)
        for model in (MODEL, OTHER)
        for number in range(100)
    ]
    limits = Limits(requests_per_min=10)
    world = play(tmp_path, calls, concurrency=30, limits=limits)
    alone = play(tmp_path / "alone", calls[:100], concurrency=30, limits=limits)

    assert len(world.statuses) == 200
    assert world.on_end < alone.on_end + 1


def test_a_model_that_waits_leaves_the_workers_to_others(tmp_path: Path) -> None:
    """While the server wants nothing of one model for an hour, all that may be in flight is another one's."""
    calls = [
        make_call(f"{model}-{number}", model=model)
        for model in (MODEL, OTHER)
        for number in range(100)
    ]
    script = {call.id: [picture(10.0)] for call in calls} | {
        f"{MODEL}-0": [says(429, details=[RETRY_IN_AN_HOUR], latency_s=0.0)]
    }
    world = play(tmp_path, calls, script, concurrency=11)

    others = [at_s for at_s, call_id in world.transport.sent if call_id.startswith(OTHER)]
    assert len(others) == 100
    assert max(others) <= 120  # ten or eleven at a time, ten seconds each


def test_few_in_flight_are_shared_by_the_models(tmp_path: Path) -> None:
    """Where the quota is not in the way, no model waits for the end of another one."""
    calls = [
        make_call(f"{model}-{number}", model=model)
        for model in (MODEL, OTHER)
        for number in range(10)
    ]
    world = play(tmp_path, calls, {call.id: [picture(10.0)] for call in calls}, concurrency=2)

    half = [call_id for _, call_id in world.transport.sent[:10]]
    assert sum(call_id.startswith(OTHER) for call_id in half) == 5


# --- the next day ---


def close_day(world: World) -> None:
    """Have the day of the usual model used up."""
    world.ledger.close_day(MODEL, 0.0, NOON_UTC)


def test_who_waits_for_the_next_day_keeps_nobody_back(tmp_path: Path) -> None:
    """With `--wait-for-reset` calls of a model whose day is over take no worker, no money and no room from those of another one."""
    calls = [make_call(f"x{number}") for number in range(5)] + [make_call("y", model=OTHER)]
    world = play(
        tmp_path, calls, concurrency=2, prepare=close_day, waits_for_reset=True, max_cost_usd=2.0
    )
    (at_s, first), *others = world.transport.sent
    assert (first, at_s < 60) == ("y", True)
    assert [call_id for _, call_id in others] == [f"x{number}" for number in range(5)]
    assert all(12 * 3600 < at_s < 12 * 3600 + 60 for at_s, _ in others)


@pytest.mark.parametrize(
    ("kind", "at_once"), [(FailureKind.TIMEOUT, 8), (FailureKind.DISCONNECTED, 10)]
)
def test_answers_that_come_too_slowly_are_asked_for_fewer_at_a_time(
    tmp_path: Path, kind: FailureKind, at_once: int
) -> None:
    """A line that is too slow for all that is in flight would lose them again."""
    ids = [f"{number}" for number in range(10)]
    script = {call_id: [fails(kind, 300.0), picture(50.0)] for call_id in ids}
    world = play(tmp_path, ids, script, concurrency=10)

    assert len(world.statuses) == 10
    assert len([at_s for at_s, _ in world.transport.sent if 300 <= at_s < 350]) == at_once


def test_very_many_who_wait_for_the_next_day_keep_nobody_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model whose day is over no more calls are taken in than workers ask for it, however often it is looked at again."""
    taken_s: list[float] = []
    monkeypatch.setattr(call_queue, "MAX_WAITING", 100)

    def of_the_closed(clock: Clock) -> Iterator[Call]:
        for number in range(110):
            taken_s.append(clock.steady_s())
            yield make_call(f"x{number}")

    async def scenario(clock: Clock) -> World:
        calls = (make_call(f"y{number}", model=OTHER) for number in range(200))
        world = World(
            tmp_path,
            clock,
            {},
            limits=Limits(requests_per_min=60),
            waits_for_reset=True,
            calls={MODEL: of_the_closed(clock), OTHER: calls},
            concurrency=8,
        )
        close_day(world)
        await world.send()
        return world

    world = run(scenario)
    assert [call_id for at_s, call_id in world.transport.sent if at_s < 3600] == [
        f"y{number}" for number in range(200)
    ]
    assert len([at_s for at_s in taken_s if at_s < 12 * 3600]) <= 2 * 8
    assert len(world.statuses) == 310


def test_in_an_outage_who_waits_for_the_next_day_lets_another_one_probe(tmp_path: Path) -> None:
    """A call of a model whose day is over does not keep those of another one from finding out that the network is back."""
    script = {"y": [fails(FailureKind.UNREACHABLE), PICTURE]}
    calls = [make_call("x"), make_call("y", model=OTHER)]
    world = play(tmp_path, calls, script, prepare=close_day, waits_for_reset=True)
    assert [call_id for _, call_id in world.transport.sent] == ["y", "y", "x"]
    assert world.transport.sent[1][0] < SERVER_GIVES_UP_AFTER_S


def test_a_machine_that_slept_does_not_sleep_through_the_reset(tmp_path: Path) -> None:
    """The loop's clock stands still while the machine is suspended; the quota's day goes on, and so does the run, minutes after it."""
    suspended_s = [0.0]

    async def scenario(clock: Clock) -> None:
        moved = replace(
            clock,
            steady_s=lambda: clock.steady_s() + suspended_s[0],
            utc=lambda: clock.utc() + timedelta(seconds=suspended_s[0]),
        )
        world = World(tmp_path, moved, {}, waits_for_reset=True, calls=[make_call("x")])
        close_day(world)
        asyncio.get_running_loop().call_later(3600, suspended_s.__setitem__, 0, 10 * 3600.0)
        await world.send()
        (sent_s, _), *_ = world.transport.sent
        assert 12 * 3600 < sent_s < 12 * 3600 + 900

    run(scenario)


def test_a_model_that_was_refused_is_not_waited_for(tmp_path: Path) -> None:
    """When a model turns out not to exist, the run does not last until its reset."""
    script = {"a": [says(404, latency_s=100.0)], "b": [quota_of_the_day()]}
    world = play(tmp_path, [make_call("a"), make_call("b")], script, waits_for_reset=True)
    assert world.reasons == [StopReason.MODEL]
    assert world.on_end < 3600


@pytest.mark.parametrize(
    "refusal",
    [
        says(404, latency_s=5.0),
        says(403, "no access to the model", latency_s=5.0),
        says(429, "limit: 0", latency_s=5.0),
        quota_of_the_day(),
    ],
    ids=["no model", "no access", "no quota", "day used up"],
)
def test_calls_of_a_model_that_stops_wait_for_no_permit(tmp_path: Path, refusal: Step) -> None:
    """The run ends with its last answer, not with the minutes of the quota; the day has what was sent."""
    calls = [*(make_call(name) for name in "abcd"), make_call("other", model=OTHER)]
    limits = Limits(requests_per_min=1, requests_per_day=100)
    world = play(tmp_path, calls, {"a": [refusal]}, limits=limits, concurrency=8)

    assert world.statuses == {"other": "succeeded"}
    assert world.on_end < 21
    assert requests_of_the_day(world) == 1


def test_a_stop_of_the_run_returns_what_was_reserved_to_its_day(tmp_path: Path) -> None:
    """No call waits for its permit, and the day of tomorrow's run is as long as it was."""
    limits = Limits(requests_per_min=1, requests_per_day=100)
    world = play(tmp_path, "abcd", {"a": [says(401, latency_s=5.0)]}, limits=limits, concurrency=8)

    assert world.on_end < 6
    assert requests_of_the_day(world) == 1


def requests_of_the_day(world: World) -> int:
    """Return how many requests count in the day of the model."""
    (day,) = (
        each.used
        for each in world.ledger.used(MODEL, world.on_end, NOON_UTC)
        if (each.bound.of, each.bound.span) == ("requests", "a day")
    )
    return day
