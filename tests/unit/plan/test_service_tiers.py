"""Service tiers and searches in the plan of a manifest."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.catalog.prices import built_in, merged
from gemini_batch.config import Settings
from gemini_batch.errors import ConfigError, ManifestError
from gemini_batch.plan import Plan, Planner
from gemini_batch.plan.build import build_plan
from gemini_batch.plan.canonical import other_forms, other_sha256s, request_sha256
from gemini_batch.plan.planner import JobError
from gemini_batch.quota.limits import Weights, duration
from gemini_batch.records import Limits, Request, ServiceTier, ids
from tests.unit.plan.jobs import PLANNER, about, job, refusal, request

PRO, FLASH, LITE, NANO = (
    "gemini-3-pro-image",
    "gemini-3.1-flash-image",
    "gemini-3.1-flash-lite-image",
    "gemini-nano-banana-2.1",
)
ADVICE = ': choose another model, or "standard" for this job'
CONTENTS = [{"parts": [{"text": "x"}]}]
IMAGE_USD, EXTRA_USD = 0.1344, 300 * 12 / 1e6  # and a token or two of the prompt


def raw(**fields: Any) -> dict[str, Any]:
    """Return a request for a picture with more fields."""
    return {"contents": CONTENTS, **fields}


def planner(tier: ServiceTier) -> Planner:
    """Return the planner of a run with `--service-tier`."""
    return replace(PLANNER, service_tier=tier)


def planned(jobs: Iterable[dict[str, Any]], tier: ServiceTier = "standard") -> Plan:
    """Return the plan of jobs that are all to be sent."""
    plan = Plan(planner(tier))
    for line, fields in enumerate(jobs, start=1):
        plan.add(job(**{"id": f"job-{line}", **fields}), line)
    return plan


TIERS: list[tuple[dict[str, Any], ServiceTier, ServiceTier]] = [
    ({"prompt": "x"}, "standard", "standard"),
    ({"prompt": "x"}, "flex", "flex"),
    ({"prompt": "x", "service_tier": "priority"}, "flex", "priority"),
    ({"prompt": "x", "service_tier": "standard"}, "flex", "standard"),
    ({"request": raw()}, "flex", "flex"),
    ({"request": raw(serviceTier="priority")}, "standard", "priority"),
    ({"request": raw(service_tier="flex")}, "priority", "flex"),
    ({"request": raw(serviceTier="unspecified")}, "flex", "standard"),
    ({"request": raw(serviceTier=None)}, "flex", "flex"),
]


@pytest.mark.parametrize(("fields", "of_run", "expected"), TIERS)
def test_the_tier_is_that_of_the_job_else_of_the_run(
    fields: dict[str, Any], of_run: ServiceTier, expected: ServiceTier
) -> None:
    """A raw request names it in either spelling."""
    assert planner(of_run).request(job(**fields), 1).service_tier == expected


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "x", "model": FLASH, "service_tier": "flex"}, f'service_tier: got "flex", which {FLASH} does not have{ADVICE}'),
    ({"prompt": "x", "model": LITE, "service_tier": "flex"}, f'service_tier: got "flex", which {LITE} does not have{ADVICE}'),
    ({"request": raw(model=f"models/{LITE}", serviceTier="flex")}, f'service_tier: got "flex", which {LITE} does not have{ADVICE}'),
    ({"request": raw(serviceTier="PRIORITY")}, 'request.serviceTier: got "PRIORITY"; allowed: standard, flex, priority, unspecified'),
    ({"request": raw(service_tier=3)}, "request.service_tier: got 3; allowed: standard, flex, priority, unspecified"),
    ({"request": raw(serviceTier="standard", service_tier="priority")}, "request.serviceTier: is there in two spellings: leave one out"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), WRONG)
def test_a_tier_that_can_not_be_had_is_refused(fields: dict[str, Any], message: str) -> None:
    """Before anything is sent, with what was found."""
    assert refusal(**fields) == [f"jobs.jsonl:17: {message}"]


@pytest.mark.parametrize("model", [FLASH, NANO, "gemini-9-image"])
def test_priority_needs_a_price(model: str) -> None:
    """What it would cost is not known; a price of the user makes it possible."""
    fields = {"prompt": "x", "model": model, "service_tier": "priority"}
    (message,) = refusal(**fields)
    assert message.startswith(
        f'jobs.jsonl:17: service_tier: got "priority", and its price for {model} is unknown: '
        f'set priority_factor in [prices."{model}"]'
    )
    table = merged(built_in(), {model: {"priority_factor": 2.5, "image_usd": {"1K": 0.1}}})
    own = replace(PLANNER, prices=table)
    call = own.call(job(**fields), 1, 1)
    assert call.estimate.cost_usd is not None
    assert 0.25 <= call.estimate.cost_usd < 0.28


def test_flex_is_possible_where_nothing_is_known() -> None:
    """A model of which no page says that it lacks flex is sent with it, at the price of standard."""
    for model in (NANO, "gemini-2.5-flash-image"):
        flex = PLANNER.call(job(prompt="x", model=model, service_tier="flex"), 1, 1)
        assert flex.request.service_tier == "flex"
        assert (
            flex.estimate.cost_usd
            == PLANNER.call(job(prompt="x", model=model), 1, 1).estimate.cost_usd
        )


def test_a_run_is_refused_for_a_model_without_flex() -> None:
    """`--service-tier flex` with such a model is an error of each line that names none."""
    with pytest.raises(JobError, match="does not have"):
        planner("flex").request(job(prompt="x", model=LITE), 1)


def forms(tier: ServiceTier | None) -> list[Request]:
    """Return requests that differ only in their tier."""
    field = {"service_tier": tier} if tier else {}
    body = {"serviceTier": tier} if tier else {}
    return [
        request(prompt="x", **field),
        request(parts=[{"text": "x"}], image_size="2K", **field),
        request(request=raw(**body)),
        request(request=raw(service_tier=tier or "unspecified")),
    ]


@pytest.mark.parametrize("tier", ["standard", "flex", "priority"])
def test_a_tier_does_not_change_what_is_asked_for(tier: ServiceTier) -> None:
    """`request_sha256` is the same in all of them, so a finished call stays finished."""
    assert list(map(request_sha256, forms(tier))) == list(map(request_sha256, forms(None)))


@pytest.mark.parametrize("tier", ["standard", "flex", "priority"])
def test_a_tier_does_not_change_a_derived_id(tier: ServiceTier) -> None:
    """An id that is made of the line is the same in all tiers."""
    derived = {
        ids.derived(job(id=None, prompt="x")),
        ids.derived(job(id=None, prompt="x", service_tier=tier)),
    }
    of_raw = {
        ids.derived(job(id=None, request=raw())),
        ids.derived(job(id=None, request=raw(serviceTier=tier))),
        ids.derived(job(id=None, request=raw(service_tier=tier))),
    }
    assert (len(derived), len(of_raw)) == (1, 1)


def test_the_form_of_earlier_versions_is_known() -> None:
    """They took the tier of a raw request for a part of it: that form is one of the others."""
    # Of version 0.1.0, 2026-11-30.
    old = "80758c47ea9efc2ffabcb66764ebdc1c0725ec1c54da0f03f08b671bcfab4b13"
    found = request(request=raw(serviceTier="flex"))
    assert old in set(other_sha256s(found))
    assert {form.model for form in other_forms(found)} == {
        PRO,
        "gemini-3-pro-image-preview",
        "nano-banana-pro-preview",
    }


def test_the_plan_has_the_price_of_the_tier_that_is_asked_for() -> None:
    """Each tier of a model is a lane, with its own sum."""
    plan = planned(
        [
            {"prompt": "x"},
            {"prompt": "x", "service_tier": "flex", "variants": 2},
            {"request": raw(serviceTier="priority")},
        ]
    )
    totals = {lane: total for (lane, _), total in plan.totals.items()}
    default = PLANNER.default_model
    assert list(totals) == [default, f"{default} (flex)", f"{default} (priority)"]
    one_usd = IMAGE_USD + EXTRA_USD
    assert [total.cost_usd for total in totals.values()] == [
        pytest.approx(each, abs=1e-5) for each in (one_usd, one_usd, 1.8 * one_usd)
    ]
    assert plan.total.cost_usd == pytest.approx(3.8 * one_usd, abs=1e-4)
    assert plan.models == (default,)


def test_plain_lines_have_the_tier_of_the_run() -> None:
    """Lines that are read quickly are in the lane of the run's tier as well."""
    plan = planned([{"prompt": "x"}] * 4, "flex")
    assert plan.lanes == (f"{PLANNER.default_model} (flex)",)
    assert plan.total.cost_usd == pytest.approx(2 * (IMAGE_USD + EXTRA_USD), abs=1e-4)


def seconds(folder: Path, limits: Limits, *jobs: dict[str, Any], **fields: Any) -> float:
    """Return how long the quota takes for jobs."""
    path = folder / "jobs.jsonl"
    path.write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in jobs))
    config = replace(Settings("test", limits, "https://api.test", None, PRO), **fields)
    with build_plan(path, folder / "out", config) as planned:
        return planned.duration.sending_s


def test_the_duration_is_that_of_each_quota(tmp_path: Path) -> None:
    """Flex and standard take their time together, priority at the same time by limits of its own."""
    limits, a_call = Limits(requests_per_min=60), Weights()
    flex = {"id": "f", "prompt": "x", "service_tier": "flex", "variants": 60}
    standard = {"id": "s", "prompt": "x", "variants": 61}
    priority = {"id": "p", "prompt": "x", "service_tier": "priority", "variants": 19}
    assert seconds(tmp_path, limits, flex) == duration(60, a_call, limits).sending_s
    assert seconds(tmp_path, limits, flex, standard) == duration(121, a_call, limits).sending_s
    share = Limits(requests_per_min=18)
    assert seconds(tmp_path, limits, flex, priority) == duration(19, a_call, share).sending_s


@pytest.mark.parametrize(
    ("limit_usd", "fields"),
    [(0.7, {"prompt": "x", "service_tier": "priority"}), (0.25, {"request": raw(tools=[{"googleSearch": {}}])})],
)  # fmt: skip
def test_a_call_that_never_fits_is_found_by_the_plan(
    tmp_path: Path, limit_usd: float, fields: dict[str, Any]
) -> None:
    """Priority has 0.3 of the dollars too, and searches take some."""
    limits = Limits(usd_per_10min=limit_usd)
    assert seconds(tmp_path, limits, {"id": "a", "prompt": "x"}) == 0
    with pytest.raises(ConfigError, match=r"jobs\.jsonl:1: .*: one call takes \$0\.2"):
        seconds(tmp_path, limits, {"id": "a", **fields})


@pytest.mark.parametrize(
    "tools",
    [
        [{"googleSearch": {}}],
        [{"google_search": {}}],
        {"googleSearch": {}},
        [{"codeExecution": None}, {"googleSearch": {"searchTypes": {"imageSearch": {}}}}],
        [{"googleSearchRetrieval": {}}],
    ],
)
def test_searches_are_in_plan_and_estimate(tools: Any) -> None:
    """Ten queries of each call are expected, in any form of the tool; $0.14 a call."""
    plan = planned([{"request": raw(tools=tools), "variants": 3}, {"prompt": "x"}])
    expected = 4 * (IMAGE_USD + EXTRA_USD) + 0.42
    assert plan.total.cost_usd == pytest.approx(expected, abs=1e-4)
    estimate = PLANNER.call(job(request=raw(tools=tools)), 1, 1).estimate
    assert estimate.reserved_usd == about(estimate.cost_usd or 0)
    assert estimate.cost_usd == pytest.approx(IMAGE_USD + EXTRA_USD + 0.14, abs=1e-5)


@pytest.mark.parametrize(
    "tools", [None, [], [{"googleSearch": None}], [{"functionDeclarations": []}], "googleSearch"]
)
def test_other_tools_cost_nothing(tools: Any) -> None:
    """A tool that is null is absent; others have no price a query."""
    plan = planned([{"request": raw(tools=tools)}])
    assert plan.total.cost_usd == pytest.approx(IMAGE_USD + EXTRA_USD, abs=1e-5)


REGIONAL = "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1"


@pytest.mark.parametrize(
    ("tier", "fields", "base_url"),
    [
        ("flex", {"prompt": "x"}, REGIONAL),
        ("standard", {"prompt": "x", "service_tier": "flex"}, REGIONAL),
        ("standard", {"request": raw(serviceTier="flex")}, REGIONAL),
        ("priority", {"request": raw(service_tier="flex")}, REGIONAL),
        ("flex", {"request": raw()}, "https://aiplatform.eu.rep.googleapis.com/v1/projects/p"),
        ("flex", {"prompt": "x"}, "https://gateway.test/projects/p/locations/europe-west4/x"),
        ("flex", {"prompt": "x", "model": "my-own-model"}, REGIONAL),
    ],
)
def test_flex_is_refused_at_a_location_of_vertex(
    tmp_path: Path, tier: ServiceTier, fields: dict[str, Any], base_url: str
) -> None:
    """However it is asked for: Vertex AI has it at the location global alone."""
    with pytest.raises(ManifestError, match=r"got \"flex\", which Vertex AI has at the location"):
        seconds(tmp_path, Limits(), {"id": "a"} | fields, base_url=base_url, service_tier=tier)


@pytest.mark.parametrize(
    ("tier", "base_url"),
    [
        ("standard", REGIONAL),
        ("priority", REGIONAL),
        ("flex", REGIONAL.replace("us-central1-", "").replace("us-central1", "global")),
        ("flex", "https://generativelanguage.googleapis.com"),
    ],
)
def test_other_places_and_tiers_are_planned(
    tmp_path: Path, tier: ServiceTier, base_url: str
) -> None:
    """Flex at the location global and of the Gemini API, the other tiers everywhere."""
    job = {"id": "a", "prompt": "x"}
    assert seconds(tmp_path, Limits(), job, base_url=base_url, service_tier=tier) >= 0
