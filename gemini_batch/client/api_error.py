"""Parsing of an answer whose status is not a success. Pure.

Shapes: google.rpc.Status with its details, as the API's errors have it (August 2026).
"""

import html
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson

from gemini_batch.client.untrusted_json import (
    MAX_MESSAGE_CHARS,
    MAX_NAME_CHARS,
    as_dict,
    as_dicts,
    as_name,
    as_text,
    field,
    load,
    one_line,
)
from gemini_batch.records import Answer, ApiError, QuotaViolation

# "Please retry in 34.286670503s.", "10h17m5.72s", "739.5ms".
_RETRY_IN = re.compile(r"retry in\s+((?:[\d.]+(?:ms|h|m|s))+)", re.IGNORECASE)
_NUMBER = re.compile(r"\s*[0-9]+(?:\.[0-9]+)?")
_DURATION_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)", re.IGNORECASE)
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
# The names of google.rpc.Code in the order of their numbers, and their HTTP statuses:
# https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto (2026-11-30).
_CODES = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
# An error as JSON within a message: `got status: 429. {"error":{"code":429,…}}`.
_QUOTED = re.compile(r"\{\s*+\"error\".*\}", re.DOTALL)
_MAX_QUOTED = 4
# An element or a tag without end extends to the end of the text, so that no page makes this slow.
_HTML_TAG = re.compile(
    r"<(style|script)\b.*?(?:</\1>|\Z)|<!--.*?(?:-->|\Z)|<[a-z/!][^>]*(?:>|\Z)",
    re.IGNORECASE | re.DOTALL,
)


def parse_error(answer: Answer) -> ApiError:
    """Return the error, with the longest wait that its header, message or details name."""
    if answer.redirects_to:
        message = one_line(
            f"redirects to {answer.redirects_to}; redirects are not followed, because the key "
            "would go along"
        )
        return ApiError(answer.http_status, "", None, message, answer.retry_after_s)
    error = _innermost(load(answer.body))
    if error is None:
        message = _text_of_page(answer.body)
        return ApiError(answer.http_status, "", None, message, answer.retry_after_s)
    message = as_text(error.get("message")) or ""
    details = as_dicts(error.get("details"))
    delays_s = [answer.retry_after_s, *_delays_s(message, details)]
    reasons = (
        as_text(detail.get("reason"), MAX_NAME_CHARS) for detail in _of(details, "ErrorInfo")
    )
    status = as_text(error.get("status")) or ""
    own_status = _CODES.get(status)
    is_of_another = own_status is not None and as_name(error.get("code")) == str(own_status)
    return ApiError(
        # Gateways pass an error on with a status of their own.
        http_status=own_status if own_status and is_of_another else answer.http_status,
        status=status if own_status else "",
        reason=next(filter(None, reasons), None),
        message=one_line(message) or f"HTTP {answer.http_status}",
        retry_delay_s=max((delay for delay in delays_s if delay is not None), default=None),
        violations=tuple(_quota_violations(details)),
        fields=tuple(
            name
            for violation in _violations(details, "BadRequest", "fieldViolations")
            if (name := as_text(violation.get("field")))
        ),
    )


def parse_nested(answer: Answer, document: dict[str, Any]) -> ApiError | None:
    """Return the error that a 200 contains, as one of its own code; None if it has none.

    A gateway that keeps the connection alive sends the status before the model has answered.
    """
    error = _innermost(document) or {}
    code, status = as_name(error.get("code")) or "", as_text(error.get("status")) or ""
    number = int(code) if code.isascii() and code.isdigit() and len(code) <= 3 else None
    named = code if number is None else dict(enumerate(_CODES)).get(number, "")
    is_http = number is not None and 400 <= number < 600
    http_status = number if is_http else _CODES.get(status) or _CODES.get(named)
    if http_status is None or http_status < 400:
        return None
    if named not in _CODES and http_status not in {400, 401, 403, 404}:
        # The API's own, because it was not billed; a refusal without a status may be a gateway's.
        named = next((name for name, code in _CODES.items() if code == http_status), "")
    status = next((name for name in (status, named) if name in _CODES), "")
    body = orjson.dumps({"error": error | {"code": http_status, "status": status}})
    return parse_error(replace(answer, http_status=http_status, body=body, images=()))


def parse_status(value: Any) -> ApiError | None:
    """Return the error of a google.rpc.Status in a batch, or in a line of its results.

    It has the HTTP status of its code, because no HTTP answer had it; None if it is none, or OK.
    """
    if not value or as_name(as_dict(value).get("code")) == "0":
        return None
    if nested := parse_nested(Answer(200, b""), {"error": value}):
        return nested
    message = as_text(as_dict(value).get("message")) or as_text(value)
    return ApiError(500, "UNKNOWN", None, one_line(message or "an error without a message"))


def _innermost(body: Any) -> dict[str, Any] | None:
    """Return the error of a body; of one that quotes another error as JSON, that one.

    Gateways pass on so what they got; an error with details is the API's own.
    """
    error: dict[str, Any] | None = None
    for _ in range(_MAX_QUOTED):
        if isinstance(body, list) and body:  # as Google's streaming methods wrap it
            body = body[0]
        found = as_dict(body).get("error")
        error = found if isinstance(found, dict) else error
        text = as_text(found.get("message") if isinstance(found, dict) else found) or ""
        quoted = _QUOTED.search(text)
        if quoted is None or (error is not None and error.get("details")):
            break
        body = load(quoted[0].encode(errors="replace"))
    return error


def duration_s(text: str) -> float | None:
    """Return the seconds of a duration such as `35.17s`, `10h17m5.72s` or `739ms`, or None."""
    pieces = _DURATION_PIECE.findall(text)
    if not pieces or "".join(number + unit for number, unit in pieces) != text.strip():
        return None
    seconds = float(sum(float(number) * _SECONDS[unit.lower()] for number, unit in pieces))
    return seconds if math.isfinite(seconds) else None


def _delays_s(message: str, details: list[dict[str, Any]]) -> Iterator[float | None]:
    if match := _RETRY_IN.search(message):
        yield duration_s(match[1])
    for detail in _of(details, "RetryInfo"):
        delay = field(detail, "retryDelay")
        seconds = as_name(as_dict(delay).get("seconds")) or ""  # as protobuf's libraries have it
        if type(delay) in (int, float):  # of a gateway, as a text of digits is
            delay = f"{delay:f}"
        text = as_text(delay) or seconds
        yield duration_s(f"{text}s" if _NUMBER.fullmatch(text) else text)


def _quota_violations(details: list[dict[str, Any]]) -> Iterator[QuotaViolation]:
    """Yield the violations of the details, and those in the metadata of an ErrorInfo.

    The latter, `quota_limit`, `quota_metric`, `quota_unit` and `quota_limit_value`, only where no
    violation has a name: https://cloud.google.com/docs/quotas/troubleshoot (2026-11-30).
    """
    is_named = False
    for violation in _violations(details, "QuotaFailure", "violations"):
        quota_id = as_text(field(violation, "quotaId")) or ""
        quota_metric = as_text(field(violation, "quotaMetric")) or ""
        is_named = is_named or bool(quota_id or quota_metric)
        said = quota_id or as_text(violation.get("description")) or ""
        yield QuotaViolation(said, quota_metric, as_name(field(violation, "quotaValue")))
    for detail in () if is_named else _of(details, "ErrorInfo"):
        metadata = as_dict(detail.get("metadata"))
        if named := as_text(metadata.get("quota_limit")) or as_text(metadata.get("quota_metric")):
            yield QuotaViolation(
                quota_id=" ".join(filter(None, (named, as_text(metadata.get("quota_unit"))))),
                quota_metric=as_text(metadata.get("quota_metric")) or "",
                quota_value=as_name(metadata.get("quota_limit_value")),
            )


def _violations(details: list[dict[str, Any]], kind: str, key: str) -> Iterator[dict[str, Any]]:
    for detail in _of(details, kind):
        yield from filter(None, as_dicts(field(detail, key)))


def _of(details: list[dict[str, Any]], kind: str) -> Iterator[dict[str, Any]]:
    """Yield the details of a type."""
    name = f"google.rpc.{kind}"
    return (detail for detail in details if str(detail.get("@type", "")).endswith(name))


def _text_of_page(body: bytes) -> str:
    """Return the text of a front end's HTML page or plain text."""
    text = body[: 16 * MAX_MESSAGE_CHARS].decode(errors="replace")
    return one_line(html.unescape(_HTML_TAG.sub(" ", text))) or "the answer has no text"
