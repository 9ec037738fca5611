"""The service tier in requests and in answers."""

from typing import Any

import orjson
import pytest

from gemini_batch.client import request_json
from gemini_batch.client.service_tier import served_tier, tier_fields, tier_headers
from gemini_batch.records import Request, ServiceTier, Text, raw_request
from tests.unit.client.responses import candidate, inline, reply

GEMINI = "https://generativelanguage.googleapis.com"
VERTEX = [
    "https://aiplatform.googleapis.com/v1/publishers/google",
    "https://europe-west4-aiplatform.googleapis.com",
    "https://aiplatform.eu.rep.googleapis.com/v1beta1",
    "https://gateway.test/v1/projects/p/locations/global/publishers/google",
]
BODY = {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}


def sent(request: Request, base_url: str = GEMINI) -> dict[str, Any]:
    """Return the JSON of a request as it is sent to a server."""
    pieces = request_json.body(request, tier_fields(request, base_url))
    return dict(orjson.loads(b"".join(piece for piece in pieces if isinstance(piece, bytes))))


def asking(tier: ServiceTier) -> Request:
    """Return a request in a tier."""
    return Request("m", (Text("x"),), service_tier=tier)


@pytest.mark.parametrize("tier", ["flex", "priority"])
def test_the_gemini_api_gets_the_tier_in_the_body(tier: ServiceTier) -> None:
    """The field is at the top level; no header names it."""
    assert sent(asking(tier))["serviceTier"] == tier
    assert tier_headers(asking(tier), GEMINI) == {}


@pytest.mark.parametrize("base_url", VERTEX)
@pytest.mark.parametrize("tier", ["flex", "priority"])
def test_vertex_gets_the_tier_in_headers(tier: ServiceTier, base_url: str) -> None:
    """The body, raw or not, has no tier there; provisioned throughput is bypassed."""
    raw = Request("m", raw=raw_request.parse({**BODY, "serviceTier": tier}), service_tier=tier)
    for request in (asking(tier), raw):
        assert "serviceTier" not in sent(request, base_url)
        assert tier_headers(request, base_url) == {
            "X-Vertex-AI-LLM-Shared-Request-Type": tier,
            "X-Vertex-AI-LLM-Request-Type": "shared",
        }


@pytest.mark.parametrize("base_url", [GEMINI, *VERTEX])
def test_standard_is_not_named(base_url: str) -> None:
    """It is the default of every server, and some gateways refuse a field that they do not know."""
    assert sent(asking("standard"), base_url) == sent(Request("m", (Text("x"),)), base_url)
    assert "serviceTier" not in sent(asking("standard"), base_url)
    assert tier_headers(asking("standard"), base_url) == {}


@pytest.mark.parametrize("given", [
    {"serviceTier": "flex"}, {"service_tier": "priority"}, {"serviceTier": "unspecified"}, {"service_tier": "standard"},
    {"serviceTier": None}, {"serviceTier": "flex", "labels": {"a": "b"}},
])  # fmt: skip
def test_a_raw_request_is_sent_with_its_tier_as_written(given: dict[str, Any]) -> None:
    """The same fields by the same names arrive."""
    raw = raw_request.parse({**BODY, **given})
    assert sent(Request("m", raw=raw)) == {**BODY, **given}


SERVED: list[tuple[dict[str, Any], str | None, str | None]] = [
    ({}, None, None),
    ({"serviceTier": "flex"}, None, "flex"),
    ({"service_tier": "STANDARD"}, None, "standard"),
    ({"serviceTier": "SERVICE_TIER_PRIORITY"}, None, "priority"),
    ({"serviceTier": "unspecified"}, None, None),
    ({"serviceTier": "unspecified"}, "flex", "flex"),
    ({"serviceTier": "standard"}, "flex", "standard"),
    ({}, " Priority ", "priority"),
    ({"serviceTier": 7}, None, "7"),
    ({"serviceTier": {"no": 1}}, "", None),
    ({"trafficType": "ON_DEMAND"}, None, "standard"),
    ({"trafficType": "ON_DEMAND_FLEX"}, None, "flex"),
    ({"traffic_type": "ON_DEMAND_PRIORITY"}, None, "priority"),
    ({"trafficType": "PROVISIONED_THROUGHPUT"}, None, None),
    ({"serviceTier": "flex", "trafficType": "ON_DEMAND"}, None, "flex"),
    ({"serviceTier": "deferred"}, None, "deferred"),
]


@pytest.mark.parametrize(("usage", "header", "expected"), SERVED)
def test_the_tier_that_was_served(
    usage: dict[str, Any], header: str | None, expected: str | None
) -> None:
    """The usage says it, else the header, else Vertex AI's type of traffic."""
    assert served_tier(usage, header) == expected


def test_a_long_name_is_cut() -> None:
    """A server can't make rows large."""
    assert len(served_tier({"serviceTier": "x" * 10_000}, None) or "") <= 500
    assert len(served_tier({}, "x" * 10_000) or "") <= 500


@pytest.mark.parametrize(
    ("grounding", "searches"),
    [
        ({}, 0),
        ({"webSearchQueries": ["a", "b", "a"]}, 3),
        ({"web_search_queries": ["a"], "imageSearchQueries": ["b", "c"]}, 3),
        ({"webSearchQueries": "a"}, 0),
        ({"webSearchQueries": ["a"] * 100_000}, 100),
    ],
)
def test_searches_are_counted(grounding: dict[str, Any], searches: int) -> None:
    """Queries for pages and for images count, up to what is possible."""
    body = candidate(inline(0))
    body["candidates"][0]["groundingMetadata"] = grounding
    assert reply(body).searches == searches


def test_searches_of_a_stream_count_once() -> None:
    """Objects of a stream repeat the queries so far."""
    first = candidate({"text": "a"})
    first["candidates"][0]["groundingMetadata"] = {"webSearchQueries": ["a"]}
    last = candidate(inline(0))
    last["candidates"][0]["groundingMetadata"] = {"webSearchQueries": ["a", "b"]}
    assert reply([first, last]).searches == 2
