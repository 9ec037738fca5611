"""Error bodies of the API.

The texts are copies of real answers that users have posted. Where none is known, the text is marked
"derived".
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gemini_batch.simulator import quota

API = "generativelanguage.googleapis.com"
JSON_TYPE = "application/json; charset=UTF-8"
HTML_TYPE = "text/html; charset=UTF-8"
_TYPE = "type.googleapis.com/google.rpc."

# HTTP status -> Google's name of it.
STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """An error answer: its HTTP status, bytes and headers."""

    http_status: int
    message: str
    body: bytes
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)


def error(
    http_status: int,
    message: str,
    *,
    status: str | None = None,
    details: Sequence[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
) -> ErrorBody:
    """Return an error as Google's JSON."""
    content: dict[str, Any] = {
        "code": http_status,
        "message": message,
        "status": status or STATUS_NAMES[http_status],
    }
    if details:
        content["details"] = list(details)
    body = json.dumps({"error": content}, indent=2, ensure_ascii=False).encode() + b"\n"
    return ErrorBody(http_status, message, body, headers=headers or {})


def page(http_status: int, title: str, text: str) -> ErrorBody:
    """Return an error as the HTML page of Google's front end."""
    body = (
        "<!DOCTYPE html>\n<html lang=en>\n  <meta charset=utf-8>\n"
        '  <meta name=viewport content="initial-scale=1, minimum-scale=1, width=device-width">\n'
        f"  <title>Error {http_status} ({title})!!1</title>\n"
        "  <style>*{margin:0;padding:0}html{font:15px/22px arial,sans-serif;background:#fff;"
        "color:#222;padding:15px}</style>\n"
        f"  <p><b>{http_status}.</b> <ins>That&rsquo;s an error.</ins>\n"
        f"  <p>{text}  <ins>That&rsquo;s all we know.</ins>\n"
    )
    return ErrorBody(http_status, text, body.encode(), HTML_TYPE)


def text(http_status: int, message: str) -> ErrorBody:
    """Return an error as a proxy's plain text."""
    return ErrorBody(http_status, message, message.encode(), "text/plain; charset=utf-8")


def bad_fields(violations: Sequence[tuple[str, str]]) -> ErrorBody:
    """Return the 400 for fields that are unknown or of a wrong type.

    Args:
        violations: Pairs of a field's path in snake_case (`""` for the top level) and its error.
    """
    listed = [
        {"field": path, "description": message} if path else {"description": message}
        for path, message in violations
    ]
    details = [{"@type": _TYPE + "BadRequest", "fieldViolations": listed}]
    return error(400, "\n".join(message for _, message in violations), details=details)


def bad_argument(*lines: str) -> ErrorBody:
    """Return the 400 of the model's own checks: one line per problem, no details."""
    return error(400, "".join(f"* {line}\n" for line in lines))


def error_info(reason: str, **metadata: str) -> dict[str, Any]:
    """Return the detail of an error that names its reason."""
    return {
        "@type": _TYPE + "ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": metadata,
    }


def key_invalid(message: str = "API key not valid. Please pass a valid API key.") -> ErrorBody:
    """Return the 400 for a wrong key."""
    localized = {"@type": _TYPE + "LocalizedMessage", "locale": "en-US", "message": message}
    return error(400, message, details=[error_info("API_KEY_INVALID", service=API), localized])


def key_missing() -> ErrorBody:
    """Return the 403 for a request without a key."""
    return error(
        403,
        "Method doesn't allow unregistered callers (callers without established identity). "
        "Please use API Key or other form of API consumer identity to call this API.",
    )


EXPIRED = "ACCESS_TOKEN_EXPIRED"
"""Reason of a token whose time is over."""


def unauthenticated(reason: str = "ACCESS_TOKEN_TYPE_UNSUPPORTED") -> ErrorBody:
    """Return the 401 for an invalid token."""
    return error(
        401,
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login "
        "cookie or other valid authentication credential. See "
        "https://developers.google.com/identity/sign-in/web/devconsole-project.",
        details=[
            error_info(
                reason,
                service=API,
                method="google.ai.generativelanguage.v1beta.GenerativeService.GenerateContent",
            )
        ],
    )


def permission_denied(message: str, reason: str | None = None) -> ErrorBody:
    """Return a 403, with a reason if one is given."""
    details = [error_info(reason, service=API, consumer="projects/123456789012")] if reason else []
    return error(403, message, details=details)


def unimplemented(name: str, simulated: Sequence[str]) -> ErrorBody:
    """Return the 501 for a part of the API that is not simulated."""
    *others, last = simulated
    return error(
        501, f"simulator: {name} is not simulated; available: {', '.join(others)} and {last}"
    )


def model_not_found(model: str, version: str, method: str = "generateContent") -> ErrorBody:
    """Return the 404 for a model that is unknown or retired."""
    return error(
        404,
        f"models/{model} is not found for API version {version}, or is not supported for {method}. "
        "Call ListModels to see the list of available models and their supported methods.",
    )


def too_large(limit_bytes: int) -> ErrorBody:
    """Return the 400 for a request above the size limit."""
    return error(400, f"Request payload size exceeds the limit: {limit_bytes} bytes.")


# quotaId and metric of a limit, paid and free, from posted bodies; those of images and USD are
# derived.
_QUOTAS: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    quota.REQUESTS_PER_MIN: (
        ("GenerateRequestsPerMinutePerProjectPerModel", "generate_requests_per_model"),
        (
            "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
            "generate_content_free_tier_requests",
        ),
    ),
    quota.REQUESTS_PER_DAY: (
        ("GenerateRequestsPerDayPerProjectPerModel", "generate_requests_per_model_per_day"),
        (
            "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
            "generate_content_free_tier_requests",
        ),
    ),
    quota.TOKENS_PER_MIN: (
        (
            "GenerateContentPaidTierInputTokensPerModelPerMinute",
            "generate_content_paid_tier_input_token_count",
        ),
        (
            "GenerateContentInputTokensPerModelPerMinute-FreeTier",
            "generate_content_free_tier_input_token_count",
        ),
    ),
    quota.IMAGES_PER_MIN: (
        ("GenerateImagesPerMinutePerProjectPerModel", "generate_images_per_model"),
        ("GenerateImagesPerMinutePerProjectPerModel-FreeTier", "generate_images_free_tier"),
    ),
    quota.USD_PER_10MIN: (
        ("GenerateContentSpendPerTenMinutesPerProject", "generate_content_spend"),
        ("GenerateContentSpendPerTenMinutesPerProject-FreeTier", "generate_content_spend"),
    ),
}


def duration_text(seconds: float) -> str:
    """Return a duration as written in the message: `34.286670503s`, `684.12ms`, `10h17m5.72s`."""
    if seconds < 1:
        return f"{seconds * 1000:.6f}".rstrip("0").rstrip(".") + "ms"
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    text = f"{rest:.9f}".rstrip("0").rstrip(".") + "s"
    return (
        (f"{hours:.0f}h" if hours else "") + (f"{minutes:.0f}m" if hours or minutes else "") + text
    )


def quota_exceeded(
    violations: Sequence[quota.Violation],
    model: str,
    *,
    free: bool,
    retry_s: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> ErrorBody:
    """Return the 429 for one or more exceeded limits.

    Args:
        violations: The exceeded limits.
        model: Named in the message and in the dimensions.
        free: Whether the project is on the free tier.
        retry_s: Seconds to name instead of the longest wait; the API names a few seconds even when
            the daily quota is used up.
        headers: Additional headers; the API sends no Retry-After.
    """
    wait_s = max(violation.wait_s for violation in violations) if retry_s is None else retry_s
    lines: list[str] = []
    listed: list[dict[str, Any]] = []
    for violation in violations:
        quota_id, metric = _QUOTAS[violation.kind][free]
        value = f"{violation.limit:g}" if violation.limit < 1e6 else f"{violation.limit:.0f}"
        lines.append(f"* Quota exceeded for metric: {API}/{metric}, limit: {value}, model: {model}")
        listed.append(
            {
                "quotaMetric": f"{API}/{metric}",
                "quotaId": quota_id,
                "quotaDimensions": {"location": "global", "model": model},
                "quotaValue": value,
            }
        )
    message = (
        "You exceeded your current quota, please check your plan and billing details. For more "
        "information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits. "
        "To monitor your current usage, head to: https://ai.dev/rate-limit. \n"
        + ", \n".join(lines)
        + f"\nPlease retry in {duration_text(wait_s)}."
    )
    details: list[dict[str, Any]] = [
        {
            "@type": _TYPE + "Help",
            "links": [
                {
                    "description": "Learn more about Gemini API quotas",
                    "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
                }
            ],
        },
        {"@type": _TYPE + "QuotaFailure", "violations": listed},
        {"@type": _TYPE + "RetryInfo", "retryDelay": f"{int(wait_s)}s"},
    ]
    return error(429, message, details=details, headers=headers)
