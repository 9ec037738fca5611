"""What an answer means: pure, and never surprised by what a server sends.

Shapes: GenerateContentResponse of https://generativelanguage.googleapis.com/$discovery/rest?version=v1beta (August 2026), and every 200
without an image that has been seen in the wild. An unknown value is data; only an answer that is no JSON object is malformed.
"""

import html
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson

from gemini_batch.records import (
    Answer,
    ApiError,
    Failure,
    FailureKind,
    IncomingImage,
    Outcome,
    QuotaViolation,
    Reply,
    Usage,
)

EMPTY = "EMPTY"
"""The block reason of a 200 that has no image and does not say why."""

MAX_MESSAGE_CHARS = 2_000
# What goes into a row is bounded, whatever a server sends: 64 rows may wait for the disk. No model writes so much beside an image: 32,768
# tokens are the most of any (Google's model pages, 2026-11-22).
MAX_TEXT_CHARS = 1_000_000
MAX_NAME_CHARS = 500
MAX_RATINGS_BYTES = 65_536
MAX_MODALITIES = 100
# "Please retry in 34.286670503s.", "10h17m5.72s", "739.5ms".
_RETRY_IN = re.compile(r"retry in\s+((?:[\d.]+(?:ms|h|m|s))+)", re.IGNORECASE)
_DURATION_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)", re.IGNORECASE)
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
# What has no end takes the rest with it, so that no page makes this slow.
_HTML_TAG = re.compile(
    r"<(style|script)\b.*?(?:</\1>|\Z)|<!--.*?(?:-->|\Z)|<[a-z/!][^>]*(?:>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
# Control characters would move a terminal's cursor, or end a line of a log; whitespace is dealt with by `str.split`.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
# int32 in the discovery schema; what is larger is no count, and no database would take it.
_MAX_COUNT = 2**31 - 1
# 64 bits are all that orjson writes, and 4,300 all that Python reads.
_MAX_INT_DIGITS = 18


def parse_answer(answer: Answer | Failure) -> Outcome:
    """Return what came back as a `Reply`, an `ApiError`, or the `Failure` that it already was."""
    if isinstance(answer, Failure):
        return answer
    if 200 <= answer.http_status < 300:
        return _reply(answer)
    return _api_error(answer)


def duration_s(text: str) -> float | None:
    """Return the seconds of a duration such as `34s`, `35.174346048s`, `10h17m5.72s` or `739ms`; None when it is none."""
    pieces = _DURATION_PIECE.findall(text)
    if not pieces or "".join(number + unit for number, unit in pieces) != text.strip():
        return None
    seconds = float(sum(float(number) * _SECONDS[unit.lower()] for number, unit in pieces))
    return seconds if math.isfinite(seconds) else None


# --- a 200 ------------------------------------------------------------------------------------------------------------


def _reply(answer: Answer) -> Reply | Failure:
    body = _load(answer.body)
    if not isinstance(body, dict):
        return Failure(FailureKind.MALFORMED, "the answer is not a JSON object", may_be_billed=True)
    if isinstance(error := body.get("error"), dict) and "candidates" not in body:
        message = _shortened(_text(error.get("message")) or "") or "it does not say which"
        return Failure(
            FailureKind.MALFORMED,
            f"a {answer.http_status} that holds an error: {message}",
            may_be_billed=True,
        )
    candidates = [
        candidate for candidate in _list(body.get("candidates")) if isinstance(candidate, dict)
    ]
    parts = [
        part
        for candidate in candidates
        for part in _list(_dict(candidate.get("content")).get("parts"))
    ]
    parts = [part for part in parts if isinstance(part, dict)]
    image, drafts = _images(parts, answer.images)
    first = candidates[0] if candidates else {}
    block_reason = _name(_dict(body.get("promptFeedback")).get("blockReason"))
    finish_reason = _name(first.get("finishReason"))
    if (
        image is None
        and block_reason is None
        and finish_reason in {None, "STOP", "FINISH_REASON_UNSPECIFIED"}
    ):
        block_reason = EMPTY
    texts = [
        part["text"]
        for part in parts
        if isinstance(part.get("text"), str) and part.get("thought") is not True
    ]
    return Reply(
        image=image,
        drafts=drafts,
        text=_cut("".join(texts), MAX_TEXT_CHARS) or None,
        finish_reason=finish_reason,
        finish_message=_cut(_text(first.get("finishMessage")), MAX_MESSAGE_CHARS),
        block_reason=block_reason,
        safety_ratings=_ratings(first.get("safetyRatings"))
        or _ratings(_dict(body.get("promptFeedback")).get("safetyRatings")),
        usage=_usage(body.get("usageMetadata")),
        model_version=_cut(_text(body.get("modelVersion")), MAX_NAME_CHARS),
        response_id=_cut(_text(body.get("responseId")), MAX_NAME_CHARS),
    )


def _images(
    parts: list[dict[str, Any]], arrived: tuple[IncomingImage, ...]
) -> tuple[IncomingImage | None, tuple[IncomingImage, ...]]:
    """Return the result, the last image that is not a thought, and the others; an image without bytes is none."""
    # The sieve put "#i" in the place of each image's base64.
    by_mark = {f"#{index}": image for index, image in enumerate(arrived) if image.size_bytes}
    result: IncomingImage | None = None
    all_images: list[IncomingImage] = []
    for part in parts:
        inline = _dict(part.get("inlineData"))
        image = by_mark.get(_text(inline.get("data")) or "")
        if image is None:
            continue
        image = replace(image, mime_type=_text(inline.get("mimeType")) or "")
        all_images.append(image)
        if part.get("thought") is not True:
            result = image
    return result, tuple(image for image in all_images if image is not result)


def _ratings(value: Any) -> list[Any]:
    ratings = _list(value)
    return ratings if len(orjson.dumps(ratings)) <= MAX_RATINGS_BYTES else []


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    details = {
        "prompt": _by_modality(value.get("promptTokensDetails")),
        "candidates": _by_modality(value.get("candidatesTokensDetails")),
    }
    return Usage(
        prompt_tokens=_count(value.get("promptTokenCount")),
        candidates_tokens=_count(value.get("candidatesTokenCount")),
        thoughts_tokens=_count(value.get("thoughtsTokenCount")),
        total_tokens=_count(value.get("totalTokenCount")),
        by_modality={name: counts for name, counts in details.items() if counts},
    )


def _by_modality(value: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for entry in _list(value)[:MAX_MODALITIES]:
        name, count = (
            _cut(_text(_dict(entry).get("modality")), MAX_NAME_CHARS),
            _count(_dict(entry).get("tokenCount")),
        )
        if name is not None and count is not None:
            counts[name] = counts.get(name, 0) + count
    return counts


# --- anything else ----------------------------------------------------------------------------------------------------


def _api_error(answer: Answer) -> ApiError:
    if answer.redirects_to:
        message = f"redirects to {answer.redirects_to}, and no redirect is followed, for it would take the key along; check --base-url"
        return ApiError(answer.http_status, "", None, _shortened(message), answer.retry_after_s)
    body = _load(answer.body)
    if isinstance(body, list) and body:  # as Google's streaming methods wrap it
        body = body[0]
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return ApiError(answer.http_status, "", None, _plain(answer.body), answer.retry_after_s)
    message = _text(error.get("message")) or ""
    details = [detail for detail in _list(error.get("details")) if isinstance(detail, dict)]
    delays = [answer.retry_after_s, *_delays_s(message, details)]
    return ApiError(
        http_status=answer.http_status,
        status=_cut(_text(error.get("status")), MAX_NAME_CHARS) or "",
        reason=next(
            filter(
                None,
                (
                    _cut(_text(detail.get("reason")), MAX_NAME_CHARS)
                    for detail in details
                    if _is(detail, "ErrorInfo")
                ),
            ),
            None,
        ),
        message=_shortened(message) or f"HTTP {answer.http_status}",
        retry_delay_s=max((delay for delay in delays if delay is not None), default=None),
        violations=tuple(_violations(details)),
        fields=tuple(_fields(details)),
    )


def _delays_s(message: str, details: list[dict[str, Any]]) -> Iterator[float | None]:
    if match := _RETRY_IN.search(message):
        yield duration_s(match[1])
    for detail in details:
        if _is(detail, "RetryInfo"):
            yield duration_s(_text(detail.get("retryDelay")) or "")


def _violations(details: list[dict[str, Any]]) -> Iterator[QuotaViolation]:
    for detail in details:
        if _is(detail, "QuotaFailure"):
            for violation in filter(None, map(_dict, _list(detail.get("violations")))):
                value = violation.get("quotaValue")
                yield QuotaViolation(
                    quota_id=_text(violation.get("quotaId")) or "",
                    quota_metric=_text(violation.get("quotaMetric")) or "",
                    quota_value=_name(value),
                )


def _fields(details: list[dict[str, Any]]) -> Iterator[str]:
    for detail in details:
        if _is(detail, "BadRequest"):
            for violation in _list(detail.get("fieldViolations")):
                if name := _text(_dict(violation).get("field")):
                    yield name


def _is(detail: dict[str, Any], kind: str) -> bool:
    return str(detail.get("@type", "")).endswith(f"google.rpc.{kind}")


def _plain(body: bytes) -> str:
    """Return the words of a front end's HTML or text."""
    text = body[: 16 * MAX_MESSAGE_CHARS].decode(errors="replace")
    return _shortened(html.unescape(_HTML_TAG.sub(" ", text))) or "the answer has no text"


def _shortened(text: str) -> str:
    """Return a message on one line, and not too long."""
    text = " ".join(_CONTROL.sub(" ", text[: 2 * MAX_MESSAGE_CHARS]).split())
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"


# --- JSON of any shape ------------------------------------------------------------------------------------------------


def _load(body: bytes) -> Any:
    """Return the parsed JSON, or None; with what orjson refuses, such as lone surrogates, an answer is still an answer."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return _writable(
            json.loads(body.decode("utf-8", errors="replace"), strict=False, parse_int=_whole)
        )
    except (ValueError, RecursionError):
        return None


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_INT_DIGITS else digits


def _writable(value: Any) -> Any:
    """Return the value with all that could not be written again as JSON made harmless."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [_writable(item) for item in value]
        case dict():
            return {_writable(key): _writable(item) for key, item in value.items()}
        case _:
            return value


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _name(value: Any) -> str | None:
    """Return the name of an enum's value, or its number: that is how a server writes one that it does not know itself."""
    return (
        str(value)
        if isinstance(value, int) and not isinstance(value, bool)
        else _cut(_text(value), MAX_NAME_CHARS)
    )


def _cut(text: str | None, most: int) -> str | None:
    return text if text is None or len(text) <= most else text[: most - 1] + "…"


def _count(value: Any) -> int | None:
    return (
        value
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT
        else None
    )
