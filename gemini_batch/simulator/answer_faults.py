"""Table of the faults that change an answer or its delivery. One line adds a fault."""

import base64
from collections.abc import Callable
from typing import Any

from gemini_batch.simulator import answers, delivery
from gemini_batch.simulator.answers import AnswerContext, Json
from gemini_batch.simulator.fault import Fault
from gemini_batch.simulator.files import Mode

_Shape = Callable[[AnswerContext, Json], Any]


def _finish_with(reason: str, **extra: Any) -> _Shape:
    return lambda context, _good: answers.finished(context, reason, **extra)


def _block_with(reason: str) -> _Shape:
    return lambda context, _good: answers.blocked(context, reason)


def _set_fields(**values: Any) -> _Shape:
    """Replace top-level fields; None removes them."""

    def shape(_context: AnswerContext, good: Json) -> Json:
        return {name: value for name, value in (good | values).items() if value is not None}

    return shape


def _edit_parts(change: Callable[[list[Json]], list[Json]]) -> _Shape:
    """Replace the list of parts by the result of `change`."""

    def shape(_context: AnswerContext, good: Json) -> Json:
        content = good["candidates"][0]["content"]
        content["parts"] = change(content["parts"])
        return good

    return shape


def _edit_data(change: Callable[[str], str]) -> _Shape:
    """Replace the image's base64 by the result of `change`."""

    def per_part(parts: list[Json]) -> list[Json]:
        for part in parts:
            if "inlineData" in part:
                part["inlineData"]["data"] = change(part["inlineData"]["data"])
        return parts

    return _edit_parts(per_part)


def _corrupted(data: str) -> str:
    """Put a character that base64 does not have into the middle."""
    return data[: len(data) // 2] + "*" + data[len(data) // 2 + 1 :]


def _with_drafts(*, thought: bool) -> _Shape:
    """Put two drafts before the image; they are billed like it."""

    def shape(context: AnswerContext, good: Json) -> Json:
        ideas = [{"text": "Let me try the light first.", "thought": True}] if thought else []
        content = good["candidates"][0]["content"]
        drafts = [context.image_part(thought=thought), context.image_part(thought=thought)]
        content["parts"] = [*ideas, *drafts, *content["parts"]]
        return good | {"usageMetadata": answers.usage(context, images=3)}

    return shape


def _thought_only(context: AnswerContext, good: Json) -> Json:
    good["candidates"][0]["content"]["parts"] = [context.image_part(thought=True)]
    return good


def _with_decoys(parts: list[Json]) -> list[Json]:
    """Put parts that only look like an image next to the real one."""
    image = '{"inlineData":{"mimeType":"image/png","data":"Tk9U"}}'
    decoy = '{"candidates":[{"content":{"parts":[' + image + "]}}]}"
    return [
        {"text": decoy, "inlineDataX": {"data": "Tk9U"}},
        {
            "functionCall": {
                "name": "draw",
                "args": {"inlineData": {"mimeType": "image/png", "data": "Tk9U"}},
            }
        },
        *parts,
    ]


def _reversed(value: Any) -> Any:
    """Reverse the order of all keys: usage first, data before its MIME type."""
    if isinstance(value, dict):
        return {name: _reversed(item) for name, item in reversed(list(value.items()))}
    return [_reversed(item) for item in value] if isinstance(value, list) else value


def _with_unknown_fields(_context: AnswerContext, good: Json) -> Json:
    """Add fields that no client knows yet."""
    good["candidates"][0] |= {
        "citationMetadata": {},
        "imageWatermark": {"kind": "SYNTHID", "layers": [1, 2]},
    }
    return {"newInNextVersion": {"deep": [{"er": None}]}} | good


def _with_wrong_type(parts: list[Json]) -> list[Json]:
    for part in parts:
        if "inlineData" in part:
            other = {"image/png": "image/jpeg", "image/jpeg": "image/png"}
            part["inlineData"]["mimeType"] = other[part["inlineData"]["mimeType"]]
    return parts


def _by_uri(mode: Mode) -> _Shape:
    """Name the image by a URI of this server."""

    def shape(context: AnswerContext, good: Json) -> Json:
        content = good["candidates"][0]["content"]
        content["parts"] = [
            context.file_part(mode) if "inlineData" in part else part for part in content["parts"]
        ]
        return good

    return shape


_DRAFT_TEXT: Json = {"parts": [{"text": "Here it comes."}], "role": "model"}
_NOT_AN_IMAGE = base64.b64encode(b"This is no picture, though it says so." * 20).decode()

NO_IMAGE: dict[str, Fault] = {
    "safety": Fault(summary="finishReason SAFETY", shape=_finish_with("SAFETY")),
    "image-safety": Fault(
        summary="finishReason IMAGE_SAFETY with finishMessage", shape=_finish_with("IMAGE_SAFETY")
    ),
    "prohibited": Fault(
        summary="finishReason PROHIBITED_CONTENT", shape=_finish_with("PROHIBITED_CONTENT")
    ),
    "recitation": Fault(summary="finishReason RECITATION", shape=_finish_with("RECITATION")),
    "no-image": Fault(summary="finishReason NO_IMAGE", shape=_finish_with("NO_IMAGE")),
    "max-tokens": Fault(
        summary="finishReason MAX_TOKENS after some text",
        shape=_finish_with("MAX_TOKENS", content=_DRAFT_TEXT),
    ),
    "unknown-reason": Fault(
        summary="an unknown finishReason", shape=_finish_with("IMAGE_TOO_BEAUTIFUL")
    ),
    "prompt-blocked": Fault(
        summary="promptFeedback.blockReason, no candidates", shape=_block_with("PROHIBITED_CONTENT")
    ),
    "unknown-block": Fault(
        summary="an unknown blockReason", shape=_block_with("PHASE_OF_THE_MOON")
    ),
    "text-only": Fault(
        summary="STOP with text instead of an image",
        shape=lambda context, _good: answers.text_only(context),
    ),
    "no-parts": Fault(
        summary="STOP without parts",
        shape=_finish_with("STOP", content={"parts": [], "role": "model"}),
    ),
    "content-absent": Fault(summary="STOP without content", shape=_finish_with("STOP")),
    "content-empty": Fault(summary="STOP with content {}", shape=_finish_with("STOP", content={})),
    "parts-null": Fault(
        summary="STOP with parts: null",
        shape=_finish_with("STOP", content={"parts": None, "role": "model"}),
    ),
    "candidates-absent": Fault(
        summary="a 200 without candidates", shape=_set_fields(candidates=None)
    ),
    "candidates-empty": Fault(summary="a 200 with candidates []", shape=_set_fields(candidates=[])),
    "thought-only": Fault(summary="a draft and no image", shape=_thought_only),
}

UNUSUAL: dict[str, Fault] = {
    "drafts": Fault(
        summary="two drafts as thoughts before the image", shape=_with_drafts(thought=True)
    ),
    "drafts-plain": Fault(
        summary="two drafts as plain parts before the image", shape=_with_drafts(thought=False)
    ),
    "text-after": Fault(
        summary="text after the image",
        shape=_edit_parts(lambda parts: [*parts, {"text": "Enjoy!"}]),
    ),
    "wrong-mime": Fault(
        summary="a MIME type that does not match the bytes", shape=_edit_parts(_with_wrong_type)
    ),
    "not-an-image": Fault(
        summary="bytes that are not an image", shape=_edit_data(lambda _old: _NOT_AN_IMAGE)
    ),
    "data-empty": Fault(summary="an image of zero bytes", shape=_edit_data(lambda _old: "")),
    "bad-base64": Fault(
        summary="an invalid character in the base64 data", shape=_edit_data(_corrupted)
    ),
    "bad-padding": Fault(
        summary="base64 data that ends in the middle of a byte",
        shape=_edit_data(lambda data: data[:-3]),
    ),
    "usage-absent": Fault(summary="no usageMetadata", shape=_set_fields(usageMetadata=None)),
    "decoys": Fault(
        summary="parts that only look like an image, next to the real one",
        shape=_edit_parts(_with_decoys),
    ),
    "reordered": Fault(
        summary="all keys in reverse order", shape=lambda _context, good: _reversed(good)
    ),
    "future": Fault(summary="unknown fields", shape=_with_unknown_fields),
    "array": Fault(summary="the answer in a list", shape=lambda _context, good: [good]),
}

BY_URI: dict[str, Fault] = {
    "file-uri": Fault(summary="a fileUri of this server", shape=_by_uri(Mode.WHOLE)),
    "file-uri-slow": Fault(summary="a fileUri whose picture takes 2 s", shape=_by_uri(Mode.SLOW)),
    "file-uri-redirect": Fault(
        summary="a fileUri that redirects to the picture", shape=_by_uri(Mode.REDIRECT)
    ),
    "file-uri-cut": Fault(
        summary="a fileUri whose picture breaks off the first time", shape=_by_uri(Mode.CUT_ONCE)
    ),
    "file-uri-404-once": Fault(
        summary="a fileUri that is a 404 the first time", shape=_by_uri(Mode.GONE_ONCE)
    ),
    "file-uri-404": Fault(summary="a fileUri that is a 404", shape=_by_uri(Mode.GONE)),
    "file-uri-page": Fault(summary="a fileUri that is a login page", shape=_by_uri(Mode.PAGE)),
}

REASONS: dict[str, Fault] = {
    **{
        "finish-" + reason.lower().replace("_", "-"): Fault(
            summary=f"finishReason {reason}, no image", shape=_finish_with(reason)
        )
        for reason in answers.FINISH_REASONS
    },
    **{
        "block-" + reason.lower().replace("_", "-"): Fault(
            summary=f"blockReason {reason}", shape=_block_with(reason)
        )
        for reason in answers.BLOCK_REASONS
    },
}

WRITES: dict[str, Fault] = {
    "pretty": Fault(summary="indented JSON", write=answers.pretty),
    "compact": Fault(summary="JSON without white space", write=answers.compact),
    "escaped": Fault(
        summary="JSON with \\/ and \\u003d escapes, also in keys", write=answers.escaped
    ),
    "no-end": Fault(summary="JSON without anything after the picture", write=answers.without_end),
    "not-json": Fault(
        summary="a 200 with an HTML body",
        write=lambda _answer: b"<html><body>Welcome to the proxy</body></html>",
    ),
    "empty-body": Fault(summary="a 200 without a body", write=lambda _answer: b""),
}

DELIVERIES: dict[str, Fault] = {
    "gzip": Fault(
        summary="compressed, even if the client does not accept it", deliver=delivery.gzipped
    ),
    "chunked": Fault(summary="in chunks of uneven lengths", deliver=delivery.chunked),
    "trickle": Fault(summary="slowly, over 2 s", deliver=delivery.trickle, seconds=2.0),
    "late": Fault(
        summary="nothing for 2 s, then the whole answer", deliver=delivery.late, seconds=2.0
    ),
    "hang": Fault(
        summary="nothing until the client gives up", deliver=delivery.hang, seconds=600.0
    ),
    "stall": Fault(
        summary="half of the picture, then nothing until the client gives up",
        deliver=delivery.stall,
        seconds=600.0,
    ),
    "reset": Fault(summary="half of the picture, then a reset (RST)", deliver=delivery.reset),
    "reset-at-once": Fault(
        summary="a reset (RST) instead of an answer", deliver=delivery.reset_at_once
    ),
    "disconnect": Fault(summary="closed without an answer", deliver=delivery.disconnect),
    "truncated": Fault(
        summary="half of the picture, less than was announced, then closed",
        deliver=delivery.truncated,
    ),
    "truncated-chunks": Fault(
        summary="half of the picture in chunks, then closed", deliver=delivery.truncated_chunks
    ),
    "cut": Fault(
        summary="half of the picture, with a Content-Length that matches", deliver=delivery.cut
    ),
    "endless": Fault(summary="an endless body", deliver=delivery.endless),
    "close": Fault(
        summary="whole, then the connection is closed without notice", deliver=delivery.closing
    ),
    "redirect": Fault(summary="a redirect to another host", deliver=delivery.redirect),
}

ANSWERS: dict[str, Fault] = NO_IMAGE | UNUSUAL | BY_URI | REASONS | WRITES | DELIVERIES
