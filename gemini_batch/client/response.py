"""Parsing of an answer of the API. Pure; no input makes it raise.

Shapes: GenerateContentResponse of
https://generativelanguage.googleapis.com/$discovery/rest?version=v1beta (August 2026), and every
200 without an image that has been seen in the wild. An unknown value is data; only an answer that
is not a JSON object is malformed.
"""

from dataclasses import replace
from typing import Any

import orjson

from gemini_batch.client.api_error import parse_error
from gemini_batch.client.untrusted_json import (
    MAX_MESSAGE_CHARS,
    MAX_NAME_CHARS,
    as_count,
    as_dict,
    as_dicts,
    as_list,
    as_name,
    as_text,
    load,
    one_line,
)
from gemini_batch.records import Answer, Failure, FailureKind, IncomingImage, Outcome, Reply, Usage

EMPTY = "EMPTY"
"""The block reason of a 200 that has no image and does not say why."""

# Rows are bounded: 64 of them may wait for the disk. No model writes this much text with an image:
# 32,768 tokens are the most of any (Google's model pages, 2026-11-22).
MAX_TEXT_CHARS = 1_000_000
MAX_RATINGS_BYTES = 65_536
MAX_MODALITIES = 100
_FINISHED_NORMALLY = {None, "STOP", "FINISH_REASON_UNSPECIFIED"}


def parse_answer(answer: Answer | Failure) -> Outcome:
    """Return a `Reply`, an `ApiError`, or the `Failure` that it already is."""
    if isinstance(answer, Failure):
        return answer
    if not 200 <= answer.http_status < 300:
        return parse_error(answer)
    body = load(answer.body)
    if not isinstance(body, dict):
        return Failure(FailureKind.MALFORMED, "the answer is not a JSON object", may_be_billed=True)
    if isinstance(error := body.get("error"), dict) and "candidates" not in body:
        message = one_line(as_text(error.get("message")) or "") or "it does not say which"
        message = f"a {answer.http_status} that contains an error: {message}"
        return Failure(FailureKind.MALFORMED, message, may_be_billed=True)
    return _reply(body, answer.images)


def _reply(body: dict[str, Any], arrived: tuple[IncomingImage, ...]) -> Reply:
    candidates = as_dicts(body.get("candidates"))
    first = candidates[0] if candidates else {}
    feedback = as_dict(body.get("promptFeedback"))
    parts = [
        part
        for candidate in candidates
        for part in as_dicts(as_dict(candidate.get("content")).get("parts"))
    ]
    image, drafts = _images(parts, arrived)
    finish_reason = as_name(first.get("finishReason"))
    block_reason = as_name(feedback.get("blockReason"))
    if image is None and block_reason is None and finish_reason in _FINISHED_NORMALLY:
        block_reason = EMPTY
    return Reply(
        image=image,
        drafts=drafts,
        text=_text(parts),
        finish_reason=finish_reason,
        finish_message=as_text(first.get("finishMessage"), MAX_MESSAGE_CHARS),
        block_reason=block_reason,
        safety_ratings=_ratings(first.get("safetyRatings"))
        or _ratings(feedback.get("safetyRatings")),
        usage=_usage(body.get("usageMetadata")),
        model_version=as_text(body.get("modelVersion"), MAX_NAME_CHARS),
        response_id=as_text(body.get("responseId"), MAX_NAME_CHARS),
        is_empty=block_reason == EMPTY and not any(any(part.values()) for part in parts),
    )


def _images(
    parts: list[dict[str, Any]], arrived: tuple[IncomingImage, ...]
) -> tuple[IncomingImage | None, tuple[IncomingImage, ...]]:
    """Return the result, the last image that is not a thought, and the others."""
    # The image extractor replaced the base64 of each image by "#i". An empty one is no image.
    by_mark = {f"#{index}": image for index, image in enumerate(arrived) if image.size_bytes}
    result: IncomingImage | None = None
    all_images: list[IncomingImage] = []
    for part in parts:
        inline = as_dict(part.get("inlineData"))
        image = by_mark.get(as_text(inline.get("data")) or "")
        if image is None:
            continue
        image = replace(image, mime_type=as_text(inline.get("mimeType")) or "")
        all_images.append(image)
        if part.get("thought") is not True:
            result = image
    return result, tuple(image for image in all_images if image is not result)


def _text(parts: list[dict[str, Any]]) -> str | None:
    """Return the text that is not a thought."""
    texts = (as_text(part.get("text")) for part in parts if part.get("thought") is not True)
    return as_text("".join(filter(None, texts)), MAX_TEXT_CHARS)


def _ratings(value: Any) -> list[Any]:
    ratings = as_list(value)
    return ratings if len(orjson.dumps(ratings)) <= MAX_RATINGS_BYTES else []


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    return Usage(
        prompt_tokens=as_count(value.get("promptTokenCount")),
        candidates_tokens=as_count(value.get("candidatesTokenCount")),
        thoughts_tokens=as_count(value.get("thoughtsTokenCount")),
        total_tokens=as_count(value.get("totalTokenCount")),
        by_modality={
            name: counts
            for name in ("prompt", "candidates")
            if (counts := _by_modality(value.get(f"{name}TokensDetails")))
        },
    )


def _by_modality(value: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for entry in as_list(value)[:MAX_MODALITIES]:
        name = as_text(as_dict(entry).get("modality"), MAX_NAME_CHARS)
        count = as_count(as_dict(entry).get("tokenCount"))
        if name is not None and count is not None:
            counts[name] = counts.get(name, 0) + count
    return counts
