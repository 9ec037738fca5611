"""The default model is shut down: calls that name no model continue with its announced successor."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gemini_batch.engine.summary import Summary
from gemini_batch.events import ModelReplaced, Stopping
from gemini_batch.output.rows import newest_rows
from gemini_batch.output.staging import StagedAnswer
from gemini_batch.records import Answer, Call, Failure, Limits
from tests.builders import MODEL, Step, picture, says
from tests.virtual.desk import Desk
from tests.virtual.dispatch.world import RETRY_IN_AN_HOUR

SUCCESSOR = "gemini-3-pro-image"
NAMES = "abcdefgh"


def only_of(*served: str, latency_s: float = 1.0) -> Step:
    """Answer with a picture for these models, and that there is no such model for any other."""

    def answer(call: Call, staged: StagedAnswer) -> Answer | Failure:
        model = call.request.model
        gone = says(404, f"models/{model} is not found for API version v1beta")
        return (picture() if model in served else gone).answer(call, staged)

    return Step(answer, latency_s)


GONE = only_of(SUCCESSOR)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Return a desk with eight jobs that name no model."""
    made = Desk(tmp_path, monkeypatch)
    made.write(**{name: f"A {name}" for name in NAMES})
    return made


def run(desk: Desk, *, first: dict[str, list[Step]] | None = None, **changes: Any) -> Summary:
    """Run with a server that does not have the default model any more."""
    return desk.run({name: [GONE] for name in [*NAMES, "robot"]} | (first or {}), **changes)


def models_of(desk: Desk) -> dict[str, str]:
    """Return the model of each call's row."""
    return {row["id"]: row["model"] for row in newest_rows(desk.out)}


def replaced(desk: Desk) -> list[ModelReplaced]:
    """Return what the last run said of a model that is gone."""
    return [event for event in desk.events if isinstance(event, ModelReplaced)]


def test_a_default_that_is_gone_is_replaced_by_its_successor(desk: Desk) -> None:
    """All calls succeed, the run says it once, and the rows say which model was called."""
    summary = run(desk, concurrency=3)

    assert (summary.exit_code, summary.left) == (0, 0)
    assert models_of(desk) == dict.fromkeys(NAMES, SUCCESSOR)
    (said,) = replaced(desk)
    assert (said.model, said.successor) == (MODEL, SUCCESSOR)
    assert said.message.endswith(f"the run continues with its successor {SUCCESSOR}")
    assert not [event for event in desk.events if isinstance(event, Stopping)]


def test_what_the_successor_drew_is_done(desk: Desk) -> None:
    """The next run sends nothing, whether it names the successor or no model."""
    run(desk)
    named: dict[str, Any] = {"model": SUCCESSOR, "is_model_named": True}
    for changes in ({}, named):
        desk.run(**changes)
        assert desk.sent() == []


def test_only_calls_in_flight_meet_the_model_that_is_gone(desk: Desk) -> None:
    """Calls that were not sent yet go to the successor at once."""
    run(desk, concurrency=2)

    assert len(desk.sent()) == len(NAMES) + 2


@pytest.mark.parametrize("max_attempts", [1, 2])
def test_the_error_of_a_model_that_is_gone_is_no_attempt(desk: Desk, max_attempts: int) -> None:
    """A call has all its attempts with the successor."""
    summary = run(desk, max_attempts=max_attempts)

    assert (summary.exit_code, summary.this_run.retries) == (0, 0)
    assert {row["attempts"] for row in newest_rows(desk.out)} == {1}


def test_a_model_that_the_command_names_is_never_replaced(desk: Desk) -> None:
    """With --model the run stops, and names the successor."""
    summary = run(desk, is_model_named=True)

    assert summary.exit_code == 6
    assert f"--model {SUCCESSOR}" in summary.stops[0]["message"]
    assert (models_of(desk), replaced(desk)) == ({}, [])


@pytest.mark.parametrize("concurrency", [1, 2, 8])
@pytest.mark.parametrize("named", [0, 1])
def test_a_model_that_a_job_names_is_never_replaced(
    desk: Desk, concurrency: int, named: int
) -> None:
    """Jobs that name the model are left, and reported once; the others continue."""
    jobs = [
        {"id": name, "prompt": "x"} | ({"model": MODEL} if index % 2 == named else {})
        for index, name in enumerate(NAMES)
    ]
    desk.write_jobs(*jobs)
    summary = run(desk, concurrency=concurrency)

    unnamed = [str(job["id"]) for job in jobs if "model" not in job]
    assert models_of(desk) == dict.fromkeys(unnamed, SUCCESSOR)
    assert (summary.exit_code, summary.left) == (6, 4)
    assert [stop["reason"] for stop in summary.stops] == ["model"]
    assert len(replaced(desk)) == 1


def test_a_manifest_that_names_the_model_in_each_line_stops_at_once(desk: Desk) -> None:
    """Where no call may be replaced, nothing is sent to the successor, nor said of it."""
    desk.write_jobs(*({"id": name, "prompt": "x", "model": MODEL} for name in NAMES))
    summary = run(desk, concurrency=1)

    assert (summary.exit_code, desk.sent(), replaced(desk)) == (6, ["a"], [])


def test_a_raw_request_names_a_model_or_not(desk: Desk) -> None:
    """A raw request without a model is replaced, one with the model is not."""
    body = {"contents": [{"parts": [{"text": "x"}]}]}
    desk.write_jobs(
        {"id": "a", "request": body}, {"id": "b", "request": {**body, "model": f"models/{MODEL}"}}
    )
    summary = run(desk)

    assert (summary.exit_code, models_of(desk)) == (6, {"a": SUCCESSOR})


def test_calls_share_the_lane_and_the_quota_of_the_successor(desk: Desk) -> None:
    """With jobs that name the successor, all of its requests count in one window."""
    desk.write_jobs(
        *({"id": name, "prompt": "x"} for name in "abcd"),
        *({"id": name, "prompt": "x", "model": SUCCESSOR} for name in "efgh"),
    )
    summary = run(desk, concurrency=2, limits=Limits(requests_per_min=5))

    assert (summary.exit_code, models_of(desk)) == (0, dict.fromkeys(NAMES, SUCCESSOR))
    used = {window.model: window.used_by_run for window in summary.windows}
    assert used[SUCCESSOR] == 8
    assert desk.transport is not None
    at_s = sorted(sent_s for sent_s, call in desk.transport.sent)
    assert at_s[-1] > 60


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_retry_that_waits_continues_with_the_successor(desk: Desk, concurrency: int) -> None:
    """A call that is to be sent again when the model is found gone is not lost."""
    summary = run(desk, first={"a": [says(503, latency_s=0.1), GONE]}, concurrency=concurrency)

    assert (summary.exit_code, models_of(desk)) == (0, dict.fromkeys(NAMES, SUCCESSOR))


def test_calls_that_wait_for_the_quota_continue_with_the_successor(desk: Desk) -> None:
    """A call that waits for a permit of the old model is sent to its successor at once."""
    summary = run(desk, concurrency=8, limits=Limits(requests_per_min=2))

    assert (summary.exit_code, models_of(desk)) == (0, dict.fromkeys(NAMES, SUCCESSOR))
    assert [at_s for at_s in sent_s(desk, SUCCESSOR) if at_s < 60] == [1.0, 6.0]
    assert sent_s(desk, MODEL) == [0]


@pytest.mark.parametrize("first", [says(503, details=[RETRY_IN_AN_HOUR]), says(429), says(500)])
def test_calls_that_wait_to_be_sent_again_continue_at_once(desk: Desk, first: Step) -> None:
    """Their wait was for the model that is gone."""
    gone = replace(GONE, latency_s=3.0)
    summary = run(desk, first={"a": [first, GONE], "b": [gone, GONE]}, concurrency=2)

    assert (summary.exit_code, models_of(desk)) == (0, dict.fromkeys(NAMES, SUCCESSOR))
    assert max(sent_s(desk, SUCCESSOR)) < 20


@pytest.mark.parametrize("limits", [Limits(), Limits(requests_per_min=60)])
def test_no_call_waits_for_a_permit_of_a_model_that_is_gone(desk: Desk, limits: Limits) -> None:
    """A pause that the server asked for is of the model that is gone; each model has its own quota."""
    pause = says(429, details=[RETRY_IN_AN_HOUR], latency_s=0.5)
    summary = run(
        desk,
        first={"a": [pause, GONE], "b": [replace(GONE, latency_s=9.0), GONE]},
        concurrency=2,
        limits=limits,
    )

    assert (summary.exit_code, models_of(desk)) == (0, dict.fromkeys(NAMES, SUCCESSOR))
    assert max(sent_s(desk, SUCCESSOR)) < 30


def sent_s(desk: Desk, model: str) -> list[float]:
    """Return when the calls of a model were sent."""
    assert desk.transport is not None
    sent = zip(desk.transport.sent, desk.transport.models, strict=True)
    return [at_s for (at_s, _), to in sent if to == model]


def test_a_named_call_that_waits_for_the_quota_is_left_and_reported(desk: Desk) -> None:
    """Also where no other call names the model, and the wait ends after the model was found gone."""
    desk.write_jobs(
        {"id": "a", "prompt": "x"},
        {"id": "b", "prompt": "x"},
        {"id": "c", "prompt": "x", "model": MODEL},
    )
    summary = run(desk, concurrency=3, limits=Limits(requests_per_min=1))

    assert (summary.exit_code, models_of(desk)) == (6, dict.fromkeys("ab", SUCCESSOR))
    assert [stop["reason"] for stop in summary.stops] == ["model"]


def test_a_late_error_of_the_old_model_stops_nothing(desk: Desk) -> None:
    """An answer that is still on its way when the model is found gone may say anything."""
    late = {"b": [says(403, latency_s=5.0), GONE], "c": [says(404, latency_s=9.0), GONE]}
    summary = run(desk, first=late)

    assert (summary.exit_code, models_of(desk)) == (0, dict.fromkeys(NAMES, SUCCESSOR))
    assert len(replaced(desk)) == 1


def test_a_successor_that_is_gone_too_ends_the_run(desk: Desk) -> None:
    """Without any model to continue with, the run stops with 6."""
    summary = desk.run({name: [only_of()] for name in NAMES})

    assert (summary.exit_code, summary.left, models_of(desk)) == (6, len(NAMES), {})
    assert len(replaced(desk)) == 1


def test_a_page_that_is_not_of_the_api_moves_nothing(desk: Desk) -> None:
    """A 404 of a web server says nothing about the model."""
    page = Step(lambda _call, _staged: Answer(404, b"<html>Not Found</html>"), 1.0)
    summary = desk.run({name: [page] for name in NAMES})

    assert [stop["reason"] for stop in summary.stops] == ["address"]
    assert replaced(desk) == []
