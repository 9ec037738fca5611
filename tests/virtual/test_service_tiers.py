"""Runs in the service tiers: what is booked, what is sent again, and what holds what back."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.events import ModelReplaced
from gemini_batch.output.rows import read_rows
from gemini_batch.records import Answer, Limits, Status, ids
from gemini_batch.records.job import Job
from tests.builders import MODEL, OFFLINE, Step, answers, line_of, make_row, picture, png, says
from tests.virtual.desk import Desk

pytestmark = pytest.mark.slow

CONTENTS = [{"parts": [{"text": "A cat"}]}]
IMAGE_USD = 0.1344
USAGE = {"promptTokenCount": 10, "totalTokenCount": 1130}
ZERO = {"promptTokenCount": 0, "candidatesTokenCount": 0, "totalTokenCount": 0}
FLEX: dict[str, Any] = {"service_tier": "flex"}


def serving(tier: str | None, *, usage: dict[str, Any] = USAGE) -> Step:
    """Answer with an image, and with the tier that was served."""
    return picture(usage={**usage, **({"serviceTier": tier} if tier else {})})


def searching(queries: int) -> Step:
    """Answer with an image for which the web was searched so often."""
    part = {"inlineData": {"mimeType": "image/png", "data": "#0"}}

    def answer(call: Any, incoming: Any) -> Answer:
        image = incoming.open_image(0)
        image.write(png(call.id))
        image.close()
        grounding = {"webSearchQueries": [f"cat {number}" for number in range(queries)]}
        candidate = {
            "content": {"parts": [part]},
            "finishReason": "STOP",
            "groundingMetadata": grounding,
        }
        usage = {**USAGE, "serviceTier": "standard"}
        body = orjson.dumps({"candidates": [candidate], "usageMetadata": usage})
        return Answer(200, body, incoming.arrived())

    return Step(answer)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Return a desk with two jobs that name no tier."""
    made = Desk(tmp_path, monkeypatch)
    made.write(a="A cat", b="A dog")
    return made


def rows(desk: Desk) -> dict[str, dict[str, Any]]:
    """Return the newest row of each call."""
    return {row["id"]: row for row in read_rows(desk.out)}


# --- no budget is passed ---

PRIORITY: dict[str, Any] = {"serviceTier": "priority"}
SEARCH: dict[str, Any] = {"tools": [{"googleSearch": {}}]}
# The request, the answer, and what it costs.
BILLS: dict[str, tuple[dict[str, Any], Step, float]] = {
    "raw priority": (PRIORITY, serving("priority"), 1.8 * IMAGE_USD),
    "raw priority in the other spelling": ({"service_tier": "priority"}, serving("priority"), 1.8 * IMAGE_USD),
    "priority, no tier named": (PRIORITY, serving(None), 1.8 * IMAGE_USD),
    "priority served as standard": (PRIORITY, serving("standard"), IMAGE_USD),
    "priority, zero usage": (PRIORITY, serving("priority", usage=ZERO), 1.8 * IMAGE_USD),
    "priority, zero usage, no tier": (PRIORITY, serving(None, usage=ZERO), 1.8 * IMAGE_USD),
    "flex served as standard": ({"serviceTier": "flex"}, serving("standard"), IMAGE_USD),
    "flex, no tier named": ({"serviceTier": "flex"}, serving(None), IMAGE_USD),
    "flex, an unknown tier": ({"serviceTier": "flex"}, serving("deferred"), IMAGE_USD),
    "flex, zero usage": ({"serviceTier": "flex"}, serving("flex", usage=ZERO), IMAGE_USD / 2),
    "flex, zero usage, no tier": ({"serviceTier": "flex"}, serving(None, usage=ZERO), IMAGE_USD),
    "flex": ({"serviceTier": "flex"}, serving("flex"), IMAGE_USD / 2),
    "standard served as priority": ({}, serving("priority"), 1.8 * IMAGE_USD),
    "search": (SEARCH, searching(3), IMAGE_USD + 3 * 0.014),
    "search, as often as is expected": (SEARCH, searching(10), IMAGE_USD + 10 * 0.014),
    "search in the other spelling": ({"tools": [{"google_search": {}}]}, searching(9), IMAGE_USD + 9 * 0.014),
    "search without a query": (SEARCH, serving("standard"), IMAGE_USD),
}  # fmt: skip


@pytest.mark.parametrize("name", BILLS)
@pytest.mark.parametrize("concurrency", [1, 20])
def test_nothing_passes_a_budget(desk: Desk, name: str, concurrency: int) -> None:
    """Rows cost what was billed, all of them together no more than the budget, and it is well used."""
    fields, step, cost_usd = BILLS[name]
    body = {"contents": CONTENTS, **fields}
    desk.write_jobs(*({"id": f"c{n}", "request": body} for n in range(40)))
    script = {f"c{n}": [step] for n in range(40)}
    summary = desk.run(script, max_cost_usd=2.0, concurrency=concurrency)

    assert [row["cost_usd"] for row in read_rows(desk.out)] == [
        pytest.approx(cost_usd, abs=1e-4)
    ] * len(desk.sent())
    assert summary.this_run.cost_usd <= 2.0
    if name != "standard served as priority":  # nobody could know
        held_usd = IMAGE_USD * (1.8 if "priority" in name else 1.0) + 0.14 * ("search" in name)
        assert summary.this_run.cost_usd > 2.0 - 1.2 * held_usd or summary.left == 0
    assert [stop["reason"] for stop in summary.stops] == ["budget"] * bool(summary.left)


def test_more_searches_than_expected_are_learned(desk: Desk) -> None:
    """The first answers show that a call searches oftener, and fewer calls are sent."""
    body = {"contents": CONTENTS, **SEARCH}
    desk.write_jobs(*({"id": f"c{n}", "request": body} for n in range(40)))
    summary = desk.run(
        {f"c{n}": [searching(30)] for n in range(40)}, max_cost_usd=4.0, concurrency=1
    )

    assert 3.0 < summary.this_run.cost_usd <= 4.0


def test_an_attempt_without_an_answer_counts_at_the_price_of_standard(desk: Desk) -> None:
    """Flex that may have been billed may have been served as standard."""
    cut = Step(lambda _call, _incoming: Answer(504, b"<html>"), 1.0)
    summary = desk.run({"a": [cut]}, max_cost_usd=0.27, concurrency=1, **FLEX)

    assert desk.sent() == ["a"]
    assert [stop["reason"] for stop in summary.stops] == ["budget"]


# --- rows, summary and plan ---


def test_rows_say_what_was_served(desk: Desk) -> None:
    """Row, summary and estimate: half price where flex was served, the full one where not."""
    desk.write(a="A cat", b="A dog", c="A cow")
    summary = desk.run(
        {"a": [serving("flex")], "b": [serving("standard")], "c": [serving(None)]}, **FLEX
    )

    found = {name: (row["service_tier"], row["cost_usd"]) for name, row in rows(desk).items()}
    assert found == {
        "a": ("flex", pytest.approx(IMAGE_USD / 2, abs=1e-4)),
        "b": ("standard", pytest.approx(IMAGE_USD, abs=1e-4)),
        "c": (None, pytest.approx(IMAGE_USD, abs=1e-4)),
    }
    run = summary.this_run
    assert run.service_tiers == {"flex": 1, "standard": 1, "unnamed": 1}
    assert run.estimated_cost_usd == pytest.approx(3 * (IMAGE_USD + 0.0036) / 2, abs=1e-4)


@pytest.mark.parametrize(
    ("location", "tier", "times"), [("europe-west4-", "priority", 1.1 * 1.8), ("", "flex", 0.5)]
)
def test_vertex_names_a_type_of_traffic(desk: Desk, location: str, tier: str, times: float) -> None:
    """Its answers have no `serviceTier`; outside the global endpoint they cost a tenth more."""
    usage = {**USAGE, "trafficType": f"ON_DEMAND_{tier.upper()}"}
    endpoint = f"https://{location}aiplatform.googleapis.com"
    summary = desk.run(
        {"a": [picture(usage=usage)], "b": [picture(usage=usage)]},
        endpoint=endpoint,
        base_url=endpoint,
        service_tier=tier,
    )

    assert {row["service_tier"] for row in rows(desk).values()} == {tier}
    run = summary.this_run
    assert run.cost_usd == pytest.approx(2 * times * IMAGE_USD, abs=1e-4)
    assert run.estimated_cost_usd == pytest.approx(2 * times * (IMAGE_USD + 0.0036), abs=1e-4)


# --- a finished call stays finished ---


@pytest.mark.parametrize("before", ["standard", "flex", "priority"])
@pytest.mark.parametrize("after", ["standard", "flex", "priority"])
def test_another_tier_sends_nothing_again(desk: Desk, before: str, after: str) -> None:
    """By flag, by field, and in a raw request, with and without an id."""

    def write(tier: str | None) -> None:
        field = {"service_tier": tier} if tier else {}
        body = {"contents": CONTENTS, **({"serviceTier": tier} if tier else {})}
        desk.write_jobs(
            {"id": "plain", "prompt": "A cat"},
            {"prompt": "A cat"},
            {"prompt": "A dog", "seed": 3, **field},
            {"id": "raw", "request": body},
            {"request": body},
        )

    write(before)
    desk.run(service_tier=before)
    assert len(desk.sent()) == 5
    write(after)
    assert (desk.run(service_tier=after).by_status, desk.sent()) == ({"succeeded": 5}, [])
    write(None)
    assert (desk.run(service_tier=before).by_status, desk.sent()) == ({"succeeded": 5}, [])


# Of the version before this one: the tier was in the hash and in the derived id.
OLD_SHA256 = "80758c47ea9efc2ffabcb66764ebdc1c0725ec1c54da0f03f08b671bcfab4b13"
OLD_ID = "x-b67b882994"


@pytest.mark.parametrize(("given", "row_id"), [({"id": "robot"}, "robot"), ({}, OLD_ID)])
def test_rows_of_earlier_versions_count(desk: Desk, given: dict[str, Any], row_id: str) -> None:
    """A raw request with a tier was another request there; its answer is not paid for again."""
    body = {"contents": [{"parts": [{"text": "x"}]}], "serviceTier": "flex"}
    desk.write_jobs({**given, "request": body})
    desk.out.mkdir()
    row = make_row(row_id, Status.BLOCKED, request_sha256=OLD_SHA256)
    (desk.out / "results.jsonl").write_bytes(line_of(row))
    summary = desk.run()

    assert (desk.sent(), summary.by_status) == ([], {"blocked": 1})
    assert ids.derived(Job.model_validate({"request": body})) != OLD_ID


# --- patience ---

SHED = {"503": says(503), "a bare 429": says(429, "Resource exhausted, please try again later.")}


@pytest.mark.parametrize("name", SHED)
def test_flex_waits_for_capacity(desk: Desk, name: str) -> None:
    """Calls that are refused for a quarter of an hour get their pictures in the end."""
    script = {"a": [*[SHED[name]] * 9, serving("flex")]}
    assert desk.run(script, **FLEX).by_status == {"succeeded": 2}
    assert desk.sent().count("a") == 10


@pytest.mark.parametrize("name", SHED)
def test_flex_does_not_wait_for_ever(desk: Desk, name: str) -> None:
    """A call that is refused while others are not is left to the next run, which is no stop of the others."""
    desk.write(**{f"c{n}": "A cat" for n in range(200)})
    script = {"c0": [SHED[name]], **{f"c{n}": [serving("flex")] for n in range(1, 200)}}
    summary = desk.run(script, concurrency=2, **FLEX)

    assert desk.sent().count("c0") == 6 * 2  # the run has two attempts
    assert (summary.by_status, summary.stops) == ({"succeeded": 199, "failed": 1}, [])


def test_standard_is_not_patient(desk: Desk) -> None:
    """A call in the standard tier ends after the attempts of the run."""
    assert desk.run({"a": [says(503)]}).by_status == {"succeeded": 1, "failed": 1}
    assert desk.sent().count("a") == 2


def test_flex_without_capacity_does_not_hold_up_standard(desk: Desk) -> None:
    """Each tier has a circuit breaker of its own, so the standard calls of a model go on."""
    jobs = [{"id": f"f{n}", "prompt": "A cat", **FLEX} for n in range(30)]
    desk.write_jobs(*jobs, *({"id": f"s{n}", "prompt": "A dog"} for n in range(30)))
    summary = desk.run({f"f{n}": [says(503)] for n in range(30)}, max_attempts=6)
    (stop,) = summary.stops

    assert desk.transport is not None
    last_s = max(at_s for at_s, call_id in desk.transport.sent if call_id.startswith("s"))
    assert last_s <= 300  # four at a time, 20 s each
    assert summary.by_status == {"succeeded": 30}
    assert f"for {MODEL} (flex), for 30 minutes" in stop["message"]


# --- quotas ---


def test_flex_counts_with_standard_and_priority_on_its_own(desk: Desk) -> None:
    """Ten a day for standard and flex together, three more for priority; the summary shows both."""
    desk.write_jobs(
        *({"id": f"{tier[0]}{n}", "prompt": "A cat", "service_tier": tier}
          for n in range(8) for tier in ("standard", "flex", "priority"))
    )  # fmt: skip
    summary = desk.run(limits=Limits(requests_per_day=10))
    sent = [name[0] for name in desk.sent()]

    assert (sent.count("s") + sent.count("f"), sent.count("p")) == (10, 3)
    assert {(use.model, use.limit, use.used_by_run, use.left) for use in summary.windows} == {
        (MODEL, 10, 10, 0),
        (f"{MODEL} (priority)", 3, 3, 0),
    }
    assert {stop["reason"] for stop in summary.stops} == {"day_closed"}


def test_windows_say_what_each_quota_is_used_for(desk: Desk) -> None:
    """Flex alone is in the window of its model; the dollars of priority are in its own."""
    summary = desk.run({"a": [serving("flex")], "b": [serving("flex")]}, limits=Limits(10), **FLEX)
    assert [(use.model, use.used_by_run, use.used, use.left) for use in summary.windows] == [
        (MODEL, 2, 2, 8)
    ]
    desk.write(c="A cow")
    limits = Limits(usd_per_day=100)
    summary = desk.run({"c": [serving("priority")]}, limits=limits, service_tier="priority")
    (use,) = summary.windows
    assert (use.model, use.limit) == (f"{MODEL} (priority)", 30)
    assert use.used_by_run == use.used == pytest.approx(1.8 * IMAGE_USD, abs=1e-4)


def test_a_model_that_is_gone_is_named_with_its_successor(desk: Desk) -> None:
    """The advice is about the model, in any tier."""
    gone = says(404, f"models/{MODEL} is not found for API version v1beta")
    summary = desk.run({"a": [gone], "b": [gone]}, is_model_named=True, **FLEX)

    (stop,) = summary.stops
    assert "its announced successor: --model gemini-3-pro-image" in stop["message"].replace(
        "I", "i"
    )


def test_an_image_that_is_fetched_later_keeps_its_tier(desk: Desk) -> None:
    """The row of the fetched image names the tier of the answer, which an earlier row has paid for."""
    part = {"fileData": {"fileUri": "https://cdn.test/a.png", "mimeType": "image/png"}}
    candidates = [{"content": {"parts": [part]}, "finishReason": "STOP"}]
    answer = {"candidates": candidates, "usageMetadata": {**USAGE, "serviceTier": "flex"}}
    desk.write(a="A cat")
    desk.fetcher.script["https://cdn.test/a.png"] = [OFFLINE]
    desk.run({"a": [answers(answer)]}, **FLEX)
    first = rows(desk)["a"]
    desk.fetcher.script.clear()
    desk.run(**FLEX)
    second = rows(desk)["a"]

    assert (first["status"], second["status"]) == ("failed", "succeeded")
    assert (first["service_tier"], second["service_tier"]) == ("flex", "flex")
    assert first["cost_usd"] == pytest.approx(IMAGE_USD / 2, abs=1e-4)
    assert second["cost_usd"] == 0


def test_a_default_model_that_is_gone_keeps_its_tier(desk: Desk) -> None:
    """The calls of each tier continue with the successor in the same tier."""
    desk.write_jobs({"id": "a", "prompt": "x", **FLEX}, {"id": "b", "prompt": "x"})
    gone = says(404, f"models/{MODEL} is not found for API version v1beta")
    summary = desk.run({"a": [gone, serving("flex")], "b": [gone, serving("standard")]})

    assert summary.by_status == {"succeeded": 2}
    found = {name: (row["model"], row["service_tier"]) for name, row in rows(desk).items()}
    assert found == {"a": ("gemini-3-pro-image", "flex"), "b": ("gemini-3-pro-image", "standard")}
    replaced = [each for each in desk.events if isinstance(each, ModelReplaced)]
    assert {(each.model, each.successor) for each in replaced} == {
        (MODEL, "gemini-3-pro-image"),
        (f"{MODEL} (flex)", "gemini-3-pro-image (flex)"),
    }
