import asyncio
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.engine import call_queue
from gemini_batch.engine.disk_space import ANSWER_BYTES, SPARE_BYTES
from gemini_batch.engine.recovery import possibly_billed
from gemini_batch.events import (
    CallRetrying,
    CallUnanswered,
)
from gemini_batch.output.rows import read_rows
from gemini_batch.quota.limits import Weights
from gemini_batch.quota.results import RealUse
from gemini_batch.records import Call, FailureKind, Limits, Status, Stop, StopReason
from tests.builders import (
    MODEL,
    PICTURE,
    Step,
    fails,
    make_call,
    picture,
    png,
    quota_of_the_day,
    says,
    tree,
)
from tests.virtual.dispatch.world import OTHER, RETRY_IN_AN_HOUR, Script, World, play

# --- the good road ---


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
    assert possibly_billed(world.folder) == {}


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


@pytest.mark.parametrize(
    ("usage", "prompt_tokens"),
    [
        ({"promptTokenCount": 500, "totalTokenCount": 1620}, 500),
        ({"promptTokenCount": 500, "totalTokenCount": 500}, 500),
        ({"promptTokenCount": 0, "totalTokenCount": 0}, None),
        ({"promptTokenCount": 2**31 - 1, "totalTokenCount": 1120}, None),
        ({"candidatesTokenCount": 1120}, None),
    ],
)
def test_what_a_call_used_is_settled(
    tmp_path: Path, usage: dict[str, Any], prompt_tokens: int | None
) -> None:
    """The server's tokens and the price stand in place of the estimates, if they make sense."""
    limits = Limits(tokens_per_min=1_000_000, usd_per_10min=100.0)
    used: list[tuple[int | None, int | None]] = []

    def spy(world: World) -> None:
        reconcile_all = world.ledger.reconcile_all

        def note(model: str, uses: Iterable[RealUse]) -> None:
            uses = list(uses)
            used.extend((use.tokens, use.usd_micros) for use in uses)
            reconcile_all(model, uses)

        world.ledger.reconcile_all = note  # type: ignore[method-assign]

    world = play(tmp_path, ["robot"], {"robot": [picture(usage=usage)]}, prepare=spy, limits=limits)

    (row,) = read_rows(world.out)
    assert row["cost_usd"] >= 0.1344
    assert [(prompt_tokens, round(row["cost_usd"] * 1e6))] == used


# --- retries ---


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


# --- whatever happens ---

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
        return SimpleNamespace(
            f_blocks=1, f_bavail=answers * ANSWER_BYTES["1K"] + SPARE_BYTES, f_frsize=1
        )

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
        assert possibly_billed(world.folder).keys() <= world.unanswered - set(ids)
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

    def journal(self, envelope: bytes, /, *, is_whole: bool = True) -> None:
        pass

    def arrived(self) -> tuple[()]:
        return ()


def test_more_calls_than_may_wait_for_a_retry_are_no_deadlock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a server has no time for an hour, no more calls wait than fit in memory; all are sent in the end."""
    monkeypatch.setattr(call_queue, "MAX_WAITING", 100)
    ids = [str(number) for number in range(200)]
    down = says(408, latency_s=0.1, details=[RETRY_IN_AN_HOUR])
    world = play(tmp_path, ids, {call_id: [down, picture(0.1)] for call_id in ids}, concurrency=20)

    assert len(ids) == len(world.statuses)
    first_hour = [call_id for at_s, call_id in world.transport.sent if at_s < 3600]
    assert 100 <= len(first_hour) <= 100 + 20


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
