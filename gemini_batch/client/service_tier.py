"""The service tier on the wire: in the body for the Gemini API, in headers for Vertex AI. Pure."""

from typing import Any

from gemini_batch.client.untrusted_json import as_name, field
from gemini_batch.config.endpoints import is_vertex
from gemini_batch.records import Request
from gemini_batch.records.service_tier import UNSPECIFIED

SERVED_HEADER = "x-gemini-service-tier"
# Vertex AI ignores or refuses the field in the body (anomalyco/opencode#48886, 2026-11-30).
_VERTEX_TIER = "X-Vertex-AI-LLM-Shared-Request-Type"
_VERTEX_SHARED = {"X-Vertex-AI-LLM-Request-Type": "shared"}
# `trafficType` of google-genai 3.6.1 (2026-11-18). Provisioned throughput is none of the tiers.
_OF_TRAFFIC = {
    "ON_DEMAND": "standard",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_PRIORITY": "priority",
}


def tier_fields(request: Request, base_url: str) -> dict[str, Any]:
    """Return what the tier adds to a request's JSON; a raw request has it as it was written."""
    if is_vertex(base_url):
        return {}
    if request.raw is not None and request.raw.service_tiers:
        return request.raw.service_tiers
    # A gateway may not know the field, and standard is its default.
    return {} if request.service_tier == "standard" else {"serviceTier": request.service_tier}


def tier_headers(request: Request, base_url: str) -> dict[str, str]:
    """Return the headers of a request's tier."""
    if request.service_tier == "standard" or not is_vertex(base_url):
        return {}
    return {_VERTEX_TIER: request.service_tier, **_VERTEX_SHARED}


def served_tier(usage: dict[str, Any], header: str | None) -> str | None:
    """Return the tier that an answer says was served, in lower case; None if it names none."""
    traffic = as_name(field(usage, "trafficType")) or ""
    in_usage, of_traffic = as_name(field(usage, "serviceTier")), _OF_TRAFFIC.get(traffic)
    for named in (in_usage, as_name(header), of_traffic):
        tier = (named or "").strip().lower().removeprefix("service_tier_")
        if tier and tier != UNSPECIFIED:
            return tier
    return None
