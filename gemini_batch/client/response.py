"""Parsing of an answer of the API. Pure; no input makes it raise.

Shapes: GenerateContentResponse of
https://generativelanguage.googleapis.com/$discovery/rest?version=v1beta (August 2026), and every
200 without an image that has been seen in the wild. An unknown value is data; only an answer that
is not a JSON object is malformed.
"""

import re
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
    field,
    load,
    one_line,
)
from gemini_batch.records import (
    Answer,
    Failure,
    FailureKind,
    IncomingImage,
    Outcome,
    RemoteImage,
    Reply,
    Usage,
)

EMPTY = "EMPTY"
"""The block reason of a 200 that has no image and does not say why."""

# Rows are bounded: 64 of them may wait for the disk. No model writes this much text with an image:
# 32,768 tokens are the most of any (Google's model pages, 2026-11-22).
MAX_TEXT_CHARS = 1_000_000
MAX_RATINGS_BYTES = 65_536
MAX_MODALITIES = 100
# As many as images in an answer; a signed URL has about 2,000 characters.
MAX_REMOTE = 64
MAX_URI_CHARS = 8_192
# ![a robot](https://example.com/robot.png "Robot")
_LINKED_IMAGE = re.compile(
    r"!\[[^\]]{0,1000}\]\(\s{0,9}<?(https?://[^\s<>()]{1,8192})", re.IGNORECASE
)
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
    feedback = as_dict(field(body, "promptFeedback"))
    parts = [
        part
        for candidate in candidates
        for part in as_dicts(as_dict(candidate.get("content")).get("parts"))
    ]
    image, drafts = _images(parts, arrived)
    remote = _remote(parts, has_image=image is not None or bool(drafts))
    finish_reason = as_name(field(first, "finishReason"))
    block_reason = as_name(field(feedback, "blockReason"))
    has_result = image is not None or not all(each.is_thought for each in remote)
    if not has_result and block_reason is None and finish_reason in _FINISHED_NORMALLY:
        block_reason = EMPTY
    return Reply(
        image=image,
        drafts=drafts,
        text=_text(parts),
        finish_reason=finish_reason,
        finish_message=as_text(field(first, "finishMessage"), MAX_MESSAGE_CHARS),
        block_reason=block_reason,
        safety_ratings=_ratings(field(first, "safetyRatings"))
        or _ratings(field(feedback, "safetyRatings")),
        usage=_usage(field(body, "usageMetadata")),
        model_version=as_text(field(body, "modelVersion"), MAX_NAME_CHARS),
        response_id=as_text(field(body, "responseId"), MAX_NAME_CHARS),
        remote=remote,
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
        inline = as_dict(field(part, "inlineData"))
        image = by_mark.get(as_text(inline.get("data")) or "")
        if image is None:
            continue
        image = replace(image, mime_type=as_text(field(inline, "mimeType")) or "")
        all_images.append(image)
        if part.get("thought") is not True:
            result = image
    return result, tuple(image for image in all_images if image is not result)


def _remote(parts: list[dict[str, Any]], *, has_image: bool) -> tuple[RemoteImage, ...]:
    """Return the images that parts name by a URI; of links in texts only without any other."""
    found: dict[str, RemoteImage] = {}
    for part in parts:
        is_thought = part.get("thought") is True
        file = as_dict(field(part, "fileData"))
        uri = as_text(field(file, "fileUri")) or ""
        mime_type = as_text(field(file, "mimeType"), MAX_NAME_CHARS) or ""
        linked = [] if has_image else _LINKED_IMAGE.findall(as_text(part.get("text")) or "")
        for each, its_type in ((uri, mime_type), *((link, "") for link in linked)):
            if 0 < len(each) <= MAX_URI_CHARS and len(found) < MAX_REMOTE:
                found.setdefault(each, RemoteImage(each, its_type, is_thought))
    return tuple(found.values())


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
        prompt_tokens=as_count(field(value, "promptTokenCount")),
        candidates_tokens=as_count(field(value, "candidatesTokenCount")),
        thoughts_tokens=as_count(field(value, "thoughtsTokenCount")),
        total_tokens=as_count(field(value, "totalTokenCount")),
        by_modality={
            name: counts
            for name in ("prompt", "candidates")
            if (counts := _by_modality(field(value, f"{name}TokensDetails")))
        },
    )


def _by_modality(value: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for entry in as_list(value)[:MAX_MODALITIES]:
        name = as_text(as_dict(entry).get("modality"), MAX_NAME_CHARS)
        count = as_count(field(as_dict(entry), "tokenCount"))
        if name is not None and count is not None:
            counts[name] = counts.get(name, 0) + count
    return counts
