"""What is done stays done when a model or an endpoint gets another name."""

from pathlib import Path
from typing import Any

import pytest

from gemini_batch.config.run_config import RunConfig
from gemini_batch.records import FailureKind
from tests.builders import MODEL, fails, says
from tests.unit.config.test_endpoints import GOOGLES
from tests.virtual.desk import Desk

PRO, ALIAS = "gemini-3-pro-image", "nano-banana-pro-preview"
FLASH, NANO = "gemini-3.1-flash-image", "gemini-nano-banana-2.1"
NAMED: dict[str, Any] = {"is_model_named": True}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Return a desk with two jobs that name no model."""
    made = Desk(tmp_path, monkeypatch)
    made.write(a="A cat", b="A dog")
    return made


@pytest.mark.parametrize(
    ("before", "after"),
    [(MODEL, PRO), (PRO, MODEL), (MODEL, ALIAS), (ALIAS, PRO), (FLASH, NANO), (NANO, FLASH),
     ("gemini-3.1-flash-image-preview", FLASH), ("gemini-2.5-flash-image", "gemini-3.1-flash-lite-image")],
)  # fmt: skip
def test_a_model_and_its_successor_are_the_same(desk: Desk, before: str, after: str) -> None:
    """A finished run is finished by the other name as well."""
    desk.run(model=before, **NAMED)
    summary = desk.run(model=after, **NAMED)

    assert (desk.sent(), summary.exit_code, summary.by_status) == ([], 0, {"succeeded": 2})


@pytest.mark.parametrize("other", [FLASH, "gemini-9-image", "gemini-2.5-flash-image"])
def test_another_model_is_another_request(desk: Desk, other: str) -> None:
    """A model that is not the successor draws all again."""
    desk.run(model=MODEL)
    desk.run(model=other, **NAMED)

    assert desk.sent() == ["a", "b"]


def jobs_of(model: str) -> list[dict[str, Any]]:
    """Return jobs that name a model, with and without an id, two of them equal."""
    body = {"contents": [{"parts": [{"text": "x"}]}], "model": f"models/{model}"}
    plain = {"prompt": "A cat", "model": model}
    return [
        {"id": "named", **plain, "variants": 2},
        plain,
        plain,
        {"prompt": "A dog", "model": f"models/{model}", "seed": 3, "image_size": "1K"},
        {"request": body},
        {"id": "raw", "request": body},
    ]


def test_lines_that_name_the_successor_now_are_done(desk: Desk) -> None:
    """Also lines without an id, whose derived id has the model in it."""
    desk.write_jobs(*jobs_of(MODEL))
    desk.run()
    assert len(desk.sent()) == 7
    desk.write_jobs(*jobs_of(PRO))

    summary = desk.run()
    assert (desk.sent(), summary.by_status) == ([], {"succeeded": 7})
    desk.write_jobs(*jobs_of(FLASH))
    desk.run()
    assert len(desk.sent()) == 7


def test_an_edited_line_is_sent_again_by_any_name(desk: Desk) -> None:
    """The successor's name does not hide that the prompt is another one."""
    desk.run()
    desk.write(a="A cat", b="A red dog")
    desk.run(model=PRO, **NAMED)

    assert desk.sent() == ["b"]


def test_failed_calls_are_sent_again_and_counted_once(desk: Desk) -> None:
    """A row by the old name is replaced by the one of the new name."""
    first = desk.run({"b": [says(503)]})
    second = desk.run(model=PRO, **NAMED)

    assert first.by_status == {"succeeded": 1, "failed": 1}
    assert (desk.sent(), second.by_status) == (["b"], {"succeeded": 2})


def test_what_a_killed_run_had_in_flight_is_left_alone_by_any_name(desk: Desk) -> None:
    """With `--on-uncertain skip` a call that may have been billed is not sent by the other name."""
    desk.run({"b": [fails(FailureKind.TIMEOUT, 1000.0)]}, cancel_at_s=100.0)
    summary = desk.run(model=PRO, skip_uncertain=True, **NAMED)

    assert (desk.sent(), summary.by_status) == ([], {"succeeded": 1, "uncertain": 1})


@pytest.mark.parametrize("before", GOOGLES[:1] + GOOGLES[5:8])
@pytest.mark.parametrize("after", GOOGLES[4:])
def test_moving_between_googles_endpoints_pays_for_nothing_again(
    desk: Desk, before: str, after: str
) -> None:
    """Gemini API, Vertex AI and its locations are one place for finished calls."""
    desk.run(endpoint=before)
    desk.run(endpoint=after, model=PRO, **NAMED)

    assert desk.sent() == []


def test_vertex_and_its_locations_pay_for_nothing_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemini API, then `--vertex PROJECT`, then other locations and another project: each sends 0."""
    monkeypatch.delenv("GEMINI_BATCH_BASE_URL", raising=False)
    desk.run(model=PRO, endpoint=RunConfig().settings(needs_key=False).endpoint, **NAMED)
    assert desk.sent() == ["a", "b"]
    for named in ("my-project", "my-project/us-central1", "my-project/eu", "other/europe-west4"):
        settings = RunConfig(vertex=named).settings(needs_key=False)
        desk.run(model=PRO, endpoint=settings.endpoint, vertex=settings.vertex, **NAMED)
        assert desk.sent() == []


@pytest.mark.parametrize("other", ["https://gateway.test", "simulator", "http://127.0.0.1:8787"])
def test_another_server_is_another_place(desk: Desk, other: str) -> None:
    """What a gateway or a simulator answered is not Google's, nor the other way around."""
    desk.run(endpoint=other)
    desk.run(endpoint=GOOGLES[0])
    assert desk.sent() == ["a", "b"]
    desk.run(endpoint=other)
    assert desk.sent() == ["a", "b"]


def test_answers_of_another_folder_are_reused_by_any_name(desk: Desk, tmp_path: Path) -> None:
    """`--reuse-from` takes an answer of the successor, and of another of Google's endpoints."""
    desk.run(endpoint=GOOGLES[0])
    done, desk.out = desk.out, tmp_path / "other.out"
    summary = desk.run(endpoint=GOOGLES[4], model=PRO, reuse_from=(done,), **NAMED)

    assert (desk.sent(), summary.this_run.reused, summary.this_run.cost_usd) == ([], 2, 0.0)
