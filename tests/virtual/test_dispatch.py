import asyncio
import errno
import itertools
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemini_batch.catalog import prices
from gemini_batch.client.interactive import Transport
from gemini_batch.clock import Clock
from gemini_batch.engine import commit
from gemini_batch.engine.call_queue import MAX_WAITING
from gemini_batch.engine.commit import Committer
from gemini_batch.engine.disk_space import ANSWER_BYTES, SPARE_BYTES
from gemini_batch.engine.dispatcher import OUTAGE_S, Dispatcher
from gemini_batch.engine.recovery import possibly_billed, recover
from gemini_batch.engine.storm import MAX_STORM_S
from gemini_batch.events import (
    CallAbandoned,
    CallFinished,
    CallRetrying,
    CallUnanswered,
    Event,
    Stopping,
    Waiting,
)
from gemini_batch.output import OutputFolder
from gemini_batch.output.inflight import InFlightLog
from gemini_batch.output.rows import ResultsFile, newest_rows, read_rows
from gemini_batch.quota.limiter import RateLimiter
from gemini_batch.quota.limits import Weights
from gemini_batch.quota.model_quota import DayClosed
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import MemoryStorage
from gemini_batch.records import Call, FailureKind, Limits, Status, Stop, StopReason
from tests.builders import (
    ENDPOINT,
    MODEL,
    PICTURE,
    BugError,
    ScriptedTransport,
    Step,
    breaks,
    by_model,
    fails,
    make_call,
    picture,
    png,
    quota_of_the_day,
    says,
    tree,
)
from tests.virtual.clock import NOON_UTC, run

T = TypeVar("T")
OTHER = "gemini-2.5-flash-image"
RETRY_IN_AN_HOUR = {"@type": "google.rpc.RetryInfo", "retryDelay": "3600s"}
UNLIMITED = Limits()
Script = dict[str, list[Step]]


@pytest.fixture(autouse=True)
def _no_real_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability is another module's matter here, and real syncs are slow."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda _descriptor: None)


@dataclass
class World:
    """All stations around a dispatcher, and what came of a run."""

    out: Path
    clock: Clock
    script: Script
    limits: Limits = UNLIMITED
    max_attempts: int = 3
    max_cost_usd: float | None = None
    waits_for_reset: bool = False
    events: list[Event] = field(default_factory=list)
    also: Callable[[Event], None] = lambda _event: None
    models: tuple[str, ...] = (MODEL, OTHER)
    on_end: float = 0.0

    def __post_init__(self) -> None:
        self.store = OutputFolder(self.out)
        (self.store.private / "incoming").mkdir(parents=True, exist_ok=True)
        recover(self.store)
        self.log = ResultsFile(self.out)
        self.in_flight_log = InFlightLog(self.store.private, self.log.end_bytes)
        self.ledger = SharedLedger(MemoryStorage(), self.limits)
        self.transport = ScriptedTransport(self.clock, self.script)
        table = prices.built_in()
        self.committer = Committer(
            self.store, self.log, table, ENDPOINT, clock=self.clock, observe=self.observe
        )
        self.dispatcher = Dispatcher(
            gate=RateLimiter(self.ledger, self.limits, self.clock),
            transport=cast(Transport, self.transport),
            store=self.store,
            committer=self.committer,
            in_flight_log=self.in_flight_log,
            max_attempts=self.max_attempts,
            max_cost_usd=self.max_cost_usd,
            waits_for_reset=self.waits_for_reset,
            clock=self.clock,
            observe=self.observe,
        )

    def observe(self, event: Event) -> None:
        """Keep what is told."""
        self.events.append(event)
        self.also(event)

    async def send(
        self,
        calls: Iterable[Call | Stop] | Mapping[str, Iterator[Call | Stop]],
        concurrency: int = 4,
    ) -> None:
        """Send all calls."""
        try:
            with self.store.locked():
                lanes = calls if isinstance(calls, Mapping) else by_model(calls, *self.models)
                await self.dispatcher.run(lanes, concurrency)
        finally:
            self.on_end = self.clock.steady_s()
            self.log.close()
            self.in_flight_log.close()

    @property
    def statuses(self) -> dict[str, str]:
        """The newest row of each call."""
        return {row["id"]: row["status"] for row in newest_rows(self.out)}

    @property
    def reasons(self) -> list[StopReason]:
        """Why it stopped."""
        return [stop.reason for stop in self.dispatcher.stops]

    def of(self, kind: type[T]) -> list[T]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def finished(self) -> list[str]:
        """The calls that were reported as finished."""
        return [event.row.id for event in self.of(CallFinished)]


During = Callable[[World], Awaitable[None]]


def play(
    out: Path,
    calls: Iterable[Call | Stop | str],
    script: Script | None = None,
    *,
    concurrency: int = 4,
    during: During | None = None,
    prepare: Callable[[World], None] | None = None,
    **settings: Any,
) -> World:
    """Run calls on a virtual clock, with something else going on meanwhile; return what came of it."""
    worlds: list[World] = []

    async def scenario(clock: Clock) -> None:
        world = World(out, clock, script or {}, **settings)
        worlds.append(world)
        if prepare:
            prepare(world)
        made = (make_call(call) if isinstance(call, str) else call for call in calls)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(world.send(made, concurrency))
            if during:
                meanwhile = group.create_task(cast(Any, during(world)))
                await asyncio.wait([sending])
                meanwhile.cancel()

    run(scenario)
    return worlds[0]


# --- the good road ----------------------------------------------------------------------------------------------------


def test_every_call_gets_its_row_and_its_image(tmp_path: Path) -> None:
    """All calls are sent once, as many at a time as is allowed, and each is reported when its row and its image stand."""
    ids = [f"icons/{number}" for number in range(10)]
    world = play(tmp_path, ids, concurrency=3)

    assert dict.fromkeys(ids, "succeeded") == world.statuses
    assert sorted(ids) == sorted(world.finished)
    assert (len(world.transport.sent), world.transport.most) == (10, 3)
    images = {name: data for name, data in tree(tmp_path).items() if name.startswith("images/")}
    assert {f"images/{call_id}.png": png(f"{call_id} A robot") for call_id in ids} == images
    assert world.dispatcher.stops == []
    assert possibly_billed(world.store) == {}


def test_the_row_is_written_before_anything_else_can_happen(tmp_path: Path) -> None:
    """Between the last byte of an answer and its row the event loop is not given way to."""
    rows_seen: list[int] = []

    def answer_and_look(call: Call, incoming: Any) -> Any:
        # What is due at the very next turn of the loop sees the row.
        asyncio.get_running_loop().call_soon(
            lambda: rows_seen.append(len(list(read_rows(tmp_path))))
        )
        return PICTURE.answer(call, incoming)

    play(tmp_path, ["robot"], {"robot": [Step(answer_and_look)]})

    assert rows_seen == [1]


def test_what_a_call_used_is_settled(tmp_path: Path) -> None:
    """The server's count of tokens and the price of the answer stand in place of the estimates."""
    limits = Limits(tokens_per_min=1_000_000, usd_per_10min=100.0)
    used: list[tuple[int | None, int | None]] = []

    def spy(world: World) -> None:
        reconcile = world.ledger.reconcile

        def note(*arguments: Any, tokens: int | None = None, usd_micros: int | None = None) -> None:
            used.append((tokens, usd_micros))
            reconcile(*arguments, tokens=tokens, usd_micros=usd_micros)

        world.ledger.reconcile = note  # type: ignore[method-assign,assignment]

    world = play(
        tmp_path, ["robot"], {"robot": [picture(prompt_tokens=500)]}, prepare=spy, limits=limits
    )

    (row,) = read_rows(world.out)
    assert [(500, round(row["cost_usd"] * 1e6))] == used


# --- retries ----------------------------------------------------------------------------------------------------------


def test_a_retry_waits_and_takes_a_grant_of_its_own(tmp_path: Path) -> None:
    """A 503 is sent again after a while, within the quota like any other request, and the row counts the attempts."""
    limits = Limits(requests_per_min=1)
    world = play(tmp_path, ["robot"], {"robot": [says(503), PICTURE]}, limits=limits)

    (row,) = read_rows(tmp_path)
    assert (row["status"], row["attempts"]) == ("succeeded", 2)
    (first_s, _), (second_s, _) = world.transport.sent
    assert second_s - first_s >= 60
    assert world.ledger.used(MODEL, 0.0, world.clock.utc())[4].used == 2  # of the day
    assert [event.attempt for event in world.of(CallRetrying)] == [1]


def test_a_waiting_retry_holds_no_worker(tmp_path: Path) -> None:
    """While one call waits for its next attempt, the only worker sends the others."""
    script = {
        "slow": [
            says(500, details=[{"@type": "google.rpc.RetryInfo", "retryDelay": "300s"}]),
            PICTURE,
        ]
    }
    world = play(tmp_path, ["slow", "a", "b", "c"], script, concurrency=1)

    assert [call_id for _, call_id in world.transport.sent] == ["slow", "a", "b", "c", "slow"]
    assert world.transport.sent[-1][0] >= 301


def test_attempts_are_limited(tmp_path: Path) -> None:
    """A call that gets no answer in all its attempts is `failed`, with the last error in its row; the others go on."""
    world = play(
        tmp_path, ["bad", "good"], {"bad": [says(503), says(500, "again")]}, max_attempts=3
    )

    assert world.statuses == {"bad": "failed", "good": "succeeded"}
    assert world.transport.sends("bad") == 3
    row = next(row for row in read_rows(tmp_path) if row["id"] == "bad")
    assert (row["attempts"], row["error"]["http_status"], row["error"]["message"]) == (
        3,
        500,
        "again",
    )


def test_a_wrong_job_is_rejected_at_once(tmp_path: Path) -> None:
    """What the server says is wrong is not sent again, and stops nobody."""
    world = play(tmp_path, ["bad", "good"], {"bad": [says(400, "no such size")]})

    assert world.statuses == {"bad": "rejected", "good": "succeeded"}
    assert world.transport.sends("bad") == 1


@pytest.mark.parametrize(
    ("kind", "expected", "sends"),
    [
        (FailureKind.TIMEOUT, "failed", 3),
        (FailureKind.DISCONNECTED, "failed", 3),
        (FailureKind.MALFORMED, "failed", 2),
        (FailureKind.TOO_LARGE, "failed", 1),
    ],
)
def test_what_was_sent_and_gave_nothing_is_counted(
    tmp_path: Path, kind: FailureKind, expected: str, sends: int
) -> None:
    """Each attempt that left and gave no answer may have been billed, the last one too: each is told."""
    world = play(tmp_path, ["bad"], {"bad": [fails(kind)]})

    assert {"bad": expected} == world.statuses
    assert list(range(1, sends + 1)) == [event.attempt for event in world.of(CallUnanswered)]
    assert sends == world.transport.sends("bad")


def test_an_answer_that_cant_be_used_is_paid_for_once_more(tmp_path: Path) -> None:
    """Only answers that can't be used count, whatever else went wrong between: the second one is the last."""
    wrong = fails(FailureKind.MALFORMED)
    script = {
        "a": [
            says(503),
            fails(FailureKind.TIMEOUT),
            wrong,
            fails(FailureKind.UNREACHABLE),
            says(503),
            wrong,
            PICTURE,
        ],
        "b": [says(503), says(503), wrong, PICTURE],
    }
    world = play(tmp_path, "ab", script, max_attempts=9)

    assert world.statuses == {"a": "failed", "b": "succeeded"}
    assert world.transport.sends("a") == 6


# --- a server that is there, and answers nothing but 503 --------------------------------------------------------------


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
    assert MAX_STORM_S < world.on_end < MAX_STORM_S + 300
    assert len(world.transport.sent) < 20 + 10 + 10 + 20


# --- quota ------------------------------------------------------------------------------------------------------------


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


def test_a_reset_in_the_past_ends_the_run(tmp_path: Path) -> None:
    """A ledger that does not believe a wall clock ahead of it names a reset that has passed by it: the run ends, and does not spin."""

    def ahead(world: World) -> None:
        closed = DayClosed(
            world.clock.utc() - timedelta(hours=5), "1 request a day", wait_s=7 * 3600
        )
        world.ledger.reserve = lambda *_: closed  # type: ignore[method-assign]

    world = play(tmp_path, "ab", prepare=ahead)

    assert world.statuses == {}
    assert world.reasons == [StopReason.DAY_CLOSED]


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


# --- what stops a run -------------------------------------------------------------------------------------------------


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
    assert possibly_billed(world.store) == {}


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


# --- no network -------------------------------------------------------------------------------------------------------


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
    assert OUTAGE_S <= world.on_end < 2 * OUTAGE_S
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


# --- the disk fails ---------------------------------------------------------------------------------------------------


def failing(*, on: str) -> Callable[[World], None]:
    """Return what makes one kind of deed fail from now on."""

    def refuse(*_arguments: Any, **_options: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def prepare(world: World) -> None:
        match on:
            case "row":
                world.log.append = refuse  # type: ignore[method-assign]
            case "place":
                world.store.place = refuse  # type: ignore[method-assign]
            case "sync":
                world.log.sync = refuse  # type: ignore[method-assign]
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
    assert possibly_billed(world.store) == {}


def test_a_lost_answer_is_named(tmp_path: Path) -> None:
    """An answer whose row could not be written was paid for and is lost: the next start names its call."""
    world = play(tmp_path, "abc", concurrency=3, prepare=failing(on="row"))

    recover(world.store)
    assert {"a", "b", "c"} == set(possibly_billed(world.store))


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


# --- the second stop --------------------------------------------------------------------------------------------------


def cancelled_at(
    out: Path, at_s: float, calls: Iterable[str], script: Script, **settings: Any
) -> World:
    """Run calls and cancel the run at a moment."""
    worlds: list[World] = []

    async def scenario(clock: Clock) -> None:
        world = World(out, clock, script, **settings)
        worlds.append(world)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(at_s):
                await world.send(map(make_call, calls))

    run(scenario)
    return worlds[0]


def test_cancelling_names_what_is_abandoned(tmp_path: Path) -> None:
    """What was in flight when the run was cancelled is named, by this run and by the next; what was answered is written and reported."""
    world = cancelled_at(tmp_path, 10.0, "abcdef", {"a": [picture(9.99)]})

    assert world.finished == ["a"]
    assert sorted(event.call_id for event in world.of(CallAbandoned)) == ["b", "c", "d", "e"]
    assert sorted(possibly_billed(world.store)) == ["b", "c", "d", "e"]
    assert recover(world.store) == []
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
        assert abandoned == set(possibly_billed(world.store))


# --- the next day -----------------------------------------------------------------------------------------------------


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


def test_very_many_who_wait_for_the_next_day_keep_nobody_back(tmp_path: Path) -> None:
    """Of a model whose day is over no more calls are taken in than workers ask for it, however often it is looked at again."""
    taken_s: list[float] = []

    def of_the_closed(clock: Clock) -> Iterator[Call]:
        for number in range(MAX_WAITING + 10):
            taken_s.append(clock.steady_s())
            yield make_call(f"x{number}")

    async def scenario(clock: Clock) -> World:
        world = World(tmp_path, clock, {}, limits=Limits(requests_per_min=60), waits_for_reset=True)
        close_day(world)
        calls = (make_call(f"y{number}", model=OTHER) for number in range(200))
        await world.send({MODEL: of_the_closed(clock), OTHER: calls}, concurrency=8)
        return world

    world = run(scenario)
    assert [call_id for at_s, call_id in world.transport.sent if at_s < 3600] == [
        f"y{number}" for number in range(200)
    ]
    assert len([at_s for at_s in taken_s if at_s < 12 * 3600]) <= 2 * 8
    assert len(world.statuses) == MAX_WAITING + 210


def test_in_an_outage_who_waits_for_the_next_day_lets_another_one_probe(tmp_path: Path) -> None:
    """A call of a model whose day is over does not keep those of another one from finding out that the network is back."""
    script = {"y": [fails(FailureKind.UNREACHABLE), PICTURE]}
    calls = [make_call("x"), make_call("y", model=OTHER)]
    world = play(tmp_path, calls, script, prepare=close_day, waits_for_reset=True)
    assert [call_id for _, call_id in world.transport.sent] == ["y", "y", "x"]
    assert world.transport.sent[1][0] < OUTAGE_S


def test_a_machine_that_slept_does_not_sleep_through_the_reset(tmp_path: Path) -> None:
    """The loop's clock stands still while the machine is suspended; the quota's day goes on, and so does the run, minutes after it."""
    suspended_s = [0.0]

    async def scenario(clock: Clock) -> None:
        moved = replace(
            clock,
            steady_s=lambda: clock.steady_s() + suspended_s[0],
            utc=lambda: clock.utc() + timedelta(seconds=suspended_s[0]),
        )
        world = World(tmp_path, moved, {}, waits_for_reset=True)
        close_day(world)
        asyncio.get_running_loop().call_later(3600, suspended_s.__setitem__, 0, 10 * 3600.0)
        await world.send([make_call("x")])
        (sent_s, _), *_ = world.transport.sent
        assert 12 * 3600 < sent_s < 12 * 3600 + 900

    run(scenario)


def test_a_model_that_was_refused_is_not_waited_for(tmp_path: Path) -> None:
    """When a model turns out not to exist, the run does not last until its reset."""
    script = {"a": [says(404, latency_s=100.0)], "b": [quota_of_the_day()]}
    world = play(tmp_path, [make_call("a"), make_call("b")], script, waits_for_reset=True)
    assert world.reasons == [StopReason.MODEL]
    assert world.on_end < 3600


# --- whatever happens -------------------------------------------------------------------------------------------------

STEPS = st.sampled_from(
    [
        *[picture(latency_s) for latency_s in (0.01, 5.0, 100.0)],
        *[says(status) for status in (400, 408, 429, 500, 503)],
        says(429, details=[{"@type": "google.rpc.RetryInfo", "retryDelay": "20s"}]),
        *[fails(kind) for kind in FailureKind],
        quota_of_the_day(),
        says(401),
    ]
)
GOOD_STEPS = st.one_of(st.just(PICTURE), STEPS)


@given(
    script=st.dictionaries(
        st.sampled_from("abcdefgh"), st.lists(GOOD_STEPS, min_size=1, max_size=4)
    ),
    concurrency=st.integers(1, 5),
    max_attempts=st.integers(1, 3),
    limits=st.builds(
        Limits,
        requests_per_min=st.sampled_from([None, 2, 60]),
        requests_per_day=st.sampled_from([None, 3]),
    ),
    max_cost_usd=st.sampled_from([None, 0.2, 0.6]),
    waits_for_reset=st.booleans(),
    room_at=st.lists(st.tuples(st.floats(0, 60), st.integers(1, 6)), max_size=4),
    stop_at_s=st.one_of(st.none(), st.floats(0, 50)),
)
@settings(max_examples=200, deadline=None)
def test_whatever_is_answered_and_waited_for_each_call_ends_once(  # noqa: PLR0917 # drawn
    script: Script,
    concurrency: int,
    max_attempts: int,
    limits: Limits,
    max_cost_usd: float | None,
    waits_for_reset: bool,  # noqa: FBT001
    room_at: list[tuple[float, int]],
    stop_at_s: float | None,
) -> None:
    """Whatever server, quota, budget and disk do: each call has one row or is left, no call is sent too often, and the run ends."""
    answers, ends_well = 100, {call_id: [*steps, PICTURE] for call_id, steps in script.items()}
    script = (
        ends_well if waits_for_reset else script
    )  # a server that closes each day is waited for without end

    def change(to: int) -> None:
        nonlocal answers
        answers = to

    def statvfs(_path: object) -> SimpleNamespace:
        return SimpleNamespace(f_bavail=answers * ANSWER_BYTES["1K"] + SPARE_BYTES, f_frsize=1)

    async def interrupt(world: World) -> None:
        for at_s, room in room_at:
            asyncio.get_running_loop().call_later(at_s, change, room)
        if stop_at_s is not None:
            await asyncio.sleep(stop_at_s)
            world.dispatcher.stop(Stop(StopReason.INTERRUPTED, "interrupted"))

    calls = [
        make_call(call_id, model=(MODEL, OTHER)[number % 2])
        for number, call_id in enumerate("abcdefgh")
    ]
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(os, "statvfs", statvfs):
        out = Path(folder)
        world = play(
            out,
            calls,
            script,
            concurrency=concurrency,
            max_attempts=max_attempts,
            limits=limits,
            max_cost_usd=max_cost_usd,
            waits_for_reset=waits_for_reset,
            during=interrupt,
        )
        ids = [row["id"] for row in read_rows(out)]
        assert len(set(ids)) == len(ids)
        assert sorted(ids) == sorted(world.finished)
        assert world.dispatcher.stops or sorted(ids) == [call.id for call in calls]
        assert possibly_billed(world.store) == {}
        for row in read_rows(out):
            assert all((out / image["path"]).exists() for image in row["images"])
            assert row["attempts"] <= max_attempts
        for call_id, steps in script.items():
            played = [
                steps[min(number, len(steps) - 1)]
                for number in range(world.transport.sends(call_id))
            ]
            counted = [step for step in played if not _is_free(step)]
            assert len(counted) <= max_attempts
        assert world.transport.most <= concurrency
        assert not list((out / ".gemini_batch/incoming").iterdir())


def _is_free(step: Step) -> bool:
    """Return whether a step uses up no attempt: no connection, or a day that is closed."""
    answer = step.answer(make_call(), cast(Any, _Nowhere()))
    return getattr(answer, "kind", None) is FailureKind.UNREACHABLE or b"PerDay" in getattr(
        answer, "body", b""
    )


class _Nowhere:
    """Takes images and keeps nothing."""

    def open_image(self, index: int) -> "_Nowhere":
        return self

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass

    def keep(self, skeleton: bytes) -> None:
        pass

    def arrived(self) -> tuple[()]:
        return ()


def test_a_call_larger_than_the_backlog_of_retries_is_no_deadlock(tmp_path: Path) -> None:
    """With a server that has no time for an hour, no more calls wait for it than fit, and all are sent in the end."""
    ids = [str(number) for number in range(MAX_WAITING + 200)]
    down = says(408, latency_s=0.1, details=[RETRY_IN_AN_HOUR])
    world = play(tmp_path, ids, {call_id: [down, picture(0.1)] for call_id in ids}, concurrency=50)

    assert len(ids) == len(world.statuses)
    first_hour = [call_id for at_s, call_id in world.transport.sent if at_s < 3600]
    assert MAX_WAITING <= len(first_hour) <= MAX_WAITING + 50


def test_weights_are_those_of_the_estimate(tmp_path: Path) -> None:
    """A call reserves its tokens and dollars as planned, one request and one image."""
    asked: list[Weights] = []

    def spy(world: World) -> None:
        reserve = world.ledger.reserve

        def note(model: str, weights: Weights, *arguments: Any) -> Any:
            asked.append(weights)
            return reserve(model, weights, *arguments)

        world.ledger.reserve = note  # type: ignore[method-assign,assignment]

    play(tmp_path, ["a"], prepare=spy)

    assert [Weights(requests=1, images=1, tokens=10, usd_micros=134_000)] == asked
    assert next(iter(read_rows(tmp_path)))["status"] == Status.SUCCEEDED


# --- money ------------------------------------------------------------------------------------------------------------


def spent_usd(world: World) -> float:
    """What all rows cost."""
    return sum(float(row["cost_usd"]) for row in read_rows(world.out))


def test_a_budget_is_used_and_never_passed(tmp_path: Path) -> None:
    """As many calls as the budget takes are made, at whatever concurrency; the run then ends by itself and says why."""

    async def scenario(clock: Clock) -> None:
        calls = [make_call(f"c{n}") for n in range(20)]
        script: Script = {call.id: [picture(thoughts_tokens=200)] for call in calls}
        world = World(tmp_path, clock, script, max_cost_usd=1.0)
        await world.send(calls, concurrency=20)
        assert len(world.transport.sent) == 7  # at 0.1368 each
        assert 0.95 < spent_usd(world) < 1.0
        assert world.reasons == [StopReason.BUDGET]
        assert "--max-cost" in world.dispatcher.stops[0].message

    run(scenario)


def test_money_that_comes_back_is_used(tmp_path: Path) -> None:
    """Answers that cost nothing make room for calls that waited for them."""

    async def scenario(clock: Clock) -> None:
        world = World(tmp_path, clock, {"a": [says(400)], "b": [says(400)]}, max_cost_usd=0.30)
        await world.send([make_call(name) for name in "abcd"], concurrency=4)
        assert world.statuses == {
            "a": "rejected",
            "b": "rejected",
            "c": "succeeded",
            "d": "succeeded",
        }
        assert world.reasons == []

    run(scenario)


def test_what_may_have_been_billed_is_spent(tmp_path: Path) -> None:
    """An attempt that gave nothing and may have been billed counts with what it was expected to cost."""

    async def scenario(clock: Clock) -> None:
        world = World(
            tmp_path, clock, {"a": [fails(FailureKind.TIMEOUT), PICTURE]}, max_cost_usd=0.30
        )
        await world.send([make_call("a"), make_call("b")], concurrency=1)
        assert len(world.transport.sent) == 2
        assert world.reasons == [StopReason.BUDGET]

    run(scenario)


def test_a_budget_that_takes_no_call_sends_none(tmp_path: Path) -> None:
    """With less money than one call may cost nothing is sent."""

    async def scenario(clock: Clock) -> None:
        world = World(tmp_path, clock, {}, max_cost_usd=0.10)
        await world.send([make_call("a")], concurrency=4)
        assert world.transport.sent == []
        assert world.reasons == [StopReason.BUDGET]

    run(scenario)


def test_who_waits_for_money_is_woken_by_a_stop(tmp_path: Path) -> None:
    """A run that is stopped does not wait for money first."""

    async def scenario(clock: Clock) -> None:
        world = World(tmp_path, clock, {"a": [picture(100.0)]}, max_cost_usd=0.15)
        asyncio.get_running_loop().call_later(
            5.0, world.dispatcher.stop, Stop(StopReason.INTERRUPTED, "interrupted")
        )
        await world.send([make_call("a"), make_call("b")], concurrency=2)
        assert world.statuses == {"a": "succeeded"}
        assert world.reasons == [StopReason.INTERRUPTED]

    run(scenario)
