"""Parsing of an answer of the API. Pure; no input makes it raise.

Shapes: GenerateContentResponse of
https://generativelanguage.googleapis.com/$discovery/rest?version=v1beta (August 2026), and every
200 without an image that has been seen in the wild. An unknown value is data; but an object with
none of the documented fields is not an answer.
"""

import html
import re
from dataclasses import replace
from typing import Any

import orjson

from gemini_batch.client.api_error import parse_error, parse_nested
from gemini_batch.client.cut_answer import cut_reply
from gemini_batch.client.documents import is_answer, merged
from gemini_batch.client.envelope import LEFT_OUT
from gemini_batch.client.no_answer import not_an_answer, place_of_image, place_of_link
from gemini_batch.client.service_tier import served_tier
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
    load_joined,
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
    media_types,
)

EMPTY = "EMPTY"
"""The block reason of a 200 that has no image and does not say why."""

# Rows are bounded: 64 of them may wait for the disk. No model writes this much text with an image:
# 32,768 tokens are the most of any (Google's model pages, 2026-11-22).
MAX_TEXT_CHARS = 1_000_000
# Real answers have about ten, and so has each event of a stream. The event loop stands still while
# each is looked at.
MAX_OBJECTS = 150_000
MAX_RATINGS_BYTES = 65_536
MAX_MODALITIES = 100
# Of a call; more is not a true count.
MAX_SEARCHES = 100
# As many as images in an answer; a signed URL has about 2,000 characters.
MAX_REMOTE = 64
MAX_URI_CHARS = 8_192
# An image that the image extractor took out of a text. What follows shows that it is whole.
DATA_URI = re.compile(
    r"data:(image/[\w.+-]+)[^,\s]*;base64,(#\d+)(?=[\s)\]}>\"'<`,;*|\\]|$)", re.IGNORECASE
)
# A smaller one of an unknown format is an example in a text.
MIN_UNKNOWN_BYTES = 1_024
# ![a robot](https://example.com/robot.png "Robot")
_LINKED_IMAGE = re.compile(
    r"!\[[^\]]{0,1000}\]\(\s{0,9}<?(https?://[^\s<>()]{1,8192})", re.IGNORECASE
)
# <img src="https://example.com/robot.png?a=1&amp;b=2">
_HTML_IMAGE = re.compile(
    r"<img\s[^<>]{0,1000}?\bsrc\s{0,9}=\s{0,9}[\"']?(https?://[^\s<>\"']{1,8192})", re.IGNORECASE
)
_FINISHED_NORMALLY = {None, "STOP", "FINISH_REASON_UNSPECIFIED"}


def parse_answer(answer: Answer | Failure) -> Outcome:
    """Return a `Reply`, an `ApiError`, or the `Failure` that it already is."""
    if isinstance(answer, Failure):
        return answer
    if not 200 <= answer.http_status < 300:
        return parse_error(answer)
    if answer.body.count(b"{") > MAX_OBJECTS:
        message = f"the answer has more than {MAX_OBJECTS:,} objects"
        return Failure(FailureKind.TOO_LARGE, message, may_be_billed=True)
    value = load(answer.body)
    if value is None and answer.body.strip() != b"null":
        failure = Failure(FailureKind.MALFORMED, "the answer is not valid JSON", may_be_billed=True)
        return cut_reply(answer, parse_value) or failure
    outcome = parse_value(answer, value)
    if not has_all(outcome, answer) and (joined := load_joined(answer.body)) is not None:
        return parse_value(answer, joined)
    return outcome


def has_all(outcome: Outcome, answer: Answer) -> bool:
    """Return whether an answer has a result, and each image that arrived is in it."""
    if not isinstance(outcome, Reply) or outcome.block_reason == EMPTY:
        return False
    arrived = sum(image.size_bytes > 0 for image in answer.images)
    return (outcome.image is not None) + len(outcome.drafts) >= arrived


def has_picture(envelope: bytes, images: tuple[IncomingImage, ...]) -> bool:
    """Return whether a 200 with this JSON, or as much of it as came, has its result."""
    outcome = parse_answer(Answer(200, envelope, images))
    return isinstance(outcome, Reply) and outcome.image is not None


def parse_value(answer: Answer, value: Any) -> Outcome:
    """Return what the JSON of an answer means."""
    documents = as_dicts(value) if isinstance(value, list) else [as_dict(value)]
    body = merged([each for each in documents if is_answer(each)])
    reply = None if body is None else _reply(body, answer)
    if reply is not None and (reply.image is not None or reply.remote):
        return reply
    # An image that arrived where images are is one, also in an object that is not an answer.
    if (united := merged(documents)) and (other := _reply(united, answer)).image:
        return other
    errors = (parse_nested(answer, each) for each in documents)
    if error := next(filter(None, errors), None):
        return error
    if reply is None or body is None:
        return not_an_answer(value)
    if reply.block_reason == EMPTY and (why := _unread(answer, body, value)):
        return Failure(FailureKind.MALFORMED, why, may_be_billed=True)
    return reply


def _unread(answer: Answer, body: dict[str, Any], value: Any) -> str | None:
    """Return why an answer without an image may still have one; None if it has none."""
    if LEFT_OUT.search(answer.body):
        return "the answer has no image in the expected place, and much unknown content"
    if place := place_of_image(value) or place_of_link(_parts(body)):
        return f"the answer has an image where none is expected: {place}"
    if isinstance(value, list) and not any(
        field(candidate, "finishReason") for candidate in as_dicts(body.get("candidates"))
    ):
        return "the answer ends without a finishReason"
    return None


def _parts(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        part
        for candidate in as_dicts(body.get("candidates"))
        for part in as_dicts(as_dict(candidate.get("content")).get("parts"))
        if part
    ]


def _reply(body: dict[str, Any], answer: Answer) -> Reply:
    candidates = as_dicts(body.get("candidates"))
    first = candidates[0] if candidates else {}
    feedback = as_dict(field(body, "promptFeedback"))
    parts = _parts(body)
    image, drafts = _images(parts, answer.images)
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
        is_empty=block_reason == EMPTY and not any(any(part.values()) for part in parts),
        remote=remote,
        service_tier=served_tier(as_dict(field(body, "usageMetadata")), answer.service_tier),
        searches=min(MAX_SEARCHES, sum(map(_searches, candidates))),
    )


def _images(
    parts: list[dict[str, Any]], arrived: tuple[IncomingImage, ...]
) -> tuple[IncomingImage | None, tuple[IncomingImage, ...]]:
    """Return the result, the last image that is not a thought, and the others.

    An image in a text is the result only if there is no other.
    """
    # The image extractor replaced the base64 of each image by "#i". An empty one is not an image.
    by_mark = {f"#{index}": image for index, image in enumerate(arrived) if image.size_bytes}
    result: IncomingImage | None = None
    of_text: IncomingImage | None = None
    found: dict[str, IncomingImage] = {}
    for part in parts:
        is_thought = part.get("thought") is True
        for each in _inline(part, by_mark):
            found[each.file] = each
            result = result if is_thought else each
        for mime_type, mark in _data_uris(part):
            image = by_mark.get(mark)
            if image is None or not _is_image(image):
                continue
            image = replace(image, mime_type=mime_type.lower())
            found.setdefault(image.file, image)
            of_text = of_text if is_thought else image
    result = result or of_text
    return result, tuple(image for image in found.values() if image is not result)


def _inline(part: dict[str, Any], by_mark: dict[str, IncomingImage]) -> list[IncomingImage]:
    """Return the images of a part, which has one; gateways write it in both spellings as well."""
    images: dict[str, IncomingImage] = {}
    for blob in filter(None, (as_dict(part.get("inline_data")), as_dict(part.get("inlineData")))):
        for mark in (as_text(blob.get("data")) or "").split():
            if image := by_mark.get(mark):
                mime_type = as_text(field(blob, "mimeType")) or ""
                images[image.sha256] = replace(image, mime_type=mime_type)
    return list(images.values())


def _data_uris(part: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the MIME types and marks of the images in the texts of a part."""
    file = as_dict(field(part, "fileData"))
    texts = (as_text(part.get("text")) or "", as_text(field(file, "fileUri")) or "")
    return [found for text in texts if "," in text for found in DATA_URI.findall(text)]


def _is_image(image: IncomingImage) -> bool:
    """Return whether a data URI is an image, and no example of one."""
    return media_types.sniff(image.head) is not None or image.size_bytes >= MIN_UNKNOWN_BYTES


def _remote(parts: list[dict[str, Any]], *, has_image: bool) -> tuple[RemoteImage, ...]:
    """Return the images that parts name by a URI; of links in texts only without any other."""
    found: dict[str, RemoteImage] = {}
    for part in parts:
        file = as_dict(field(part, "fileData"))
        if has_image and not file:
            continue
        is_thought = part.get("thought") is True
        uri = as_text(field(file, "fileUri")) or ""
        mime_type = as_text(field(file, "mimeType"), MAX_NAME_CHARS) or ""
        text = "" if has_image else as_text(part.get("text")) or ""
        linked = _LINKED_IMAGE.findall(text) if "](" in text else []
        linked += map(html.unescape, _HTML_IMAGE.findall(text) if "<" in text else ())
        for each, its_type in ((uri, mime_type), *((link, "") for link in linked)):
            is_elsewhere = 0 < len(each) <= MAX_URI_CHARS and each[:5].lower() != "data:"
            if is_elsewhere and len(found) < MAX_REMOTE:
                found.setdefault(each, RemoteImage(each, its_type, is_thought))
    return tuple(found.values())


def _text(parts: list[dict[str, Any]]) -> str | None:
    """Return the text that is not a thought."""
    texts = (as_text(part.get("text")) for part in parts if part.get("thought") is not True)
    text = "".join(filter(None, texts))
    return as_text(DATA_URI.sub(r"\1", text) if "," in text else text, MAX_TEXT_CHARS)


def _searches(candidate: dict[str, Any]) -> int:
    """Return the queries of the web for a candidate, of pages and of images."""
    if not (grounding := as_dict(field(candidate, "groundingMetadata"))):
        return 0
    lists = (field(grounding, name) for name in ("webSearchQueries", "imageSearchQueries"))
    return sum(len(as_list(queries)) for queries in lists)


def _ratings(value: Any) -> list[Any]:
    ratings = as_list(value)
    return ratings if not ratings or len(orjson.dumps(ratings)) <= MAX_RATINGS_BYTES else []


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
