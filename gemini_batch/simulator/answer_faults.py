"""The table of faults that spoil an answer, or the way that it is sent. One line adds one."""

import base64
from collections.abc import Callable
from typing import Any

from gemini_batch.simulator import answers, delivery
from gemini_batch.simulator.answers import Json, Scene
from gemini_batch.simulator.fault import Fault

_Shape = Callable[[Scene, Json], Any]


def _ends(reason: str, **extra: Any) -> _Shape:
    return lambda scene, _good: answers.finished(scene, reason, **extra)


def _blocks(reason: str) -> _Shape:
    return lambda scene, _good: answers.blocked(scene, reason)


def _set(**values: Any) -> _Shape:
    """Replace top-level fields; None takes them away."""

    def shape(_scene: Scene, good: Json) -> Json:
        return {name: value for name, value in (good | values).items() if value is not None}

    return shape


def _parts(change: Callable[[list[Json]], list[Json]]) -> _Shape:
    """Change the list of parts."""

    def shape(_scene: Scene, good: Json) -> Json:
        content = good["candidates"][0]["content"]
        content["parts"] = change(content["parts"])
        return good

    return shape


def _data(change: Callable[[str], str]) -> _Shape:
    """Change the picture's base64."""

    def per_part(parts: list[Json]) -> list[Json]:
        for part in parts:
            if "inlineData" in part:
                part["inlineData"]["data"] = change(part["inlineData"]["data"])
        return parts

    return _parts(per_part)


def _spoiled(data: str) -> str:
    """Put a character into the middle that base64 does not have."""
    return data[: len(data) // 2] + "*" + data[len(data) // 2 + 1 :]


def _drafts(*, thought: bool) -> _Shape:
    """Put two drafts before the picture, paid for like it."""

    def shape(scene: Scene, good: Json) -> Json:
        ideas = [{"text": "Let me try the light first.", "thought": True}] if thought else []
        content = good["candidates"][0]["content"]
        drafts = [scene.image_part(thought=thought), scene.image_part(thought=thought)]
        content["parts"] = [*ideas, *drafts, *content["parts"]]
        return good | {"usageMetadata": answers.usage(scene, images=3)}

    return shape


def _thought_only(scene: Scene, good: Json) -> Json:
    good["candidates"][0]["content"]["parts"] = [scene.image_part(thought=True)]
    return good


def _decoys(parts: list[Json]) -> list[Json]:
    """Put look-alikes of a picture beside the real one."""
    decoy = '{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":"Tk9U"}}]}}]}'
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
    """Put everything in the other order: usage first, data before its MIME type."""
    if isinstance(value, dict):
        return {name: _reversed(item) for name, item in reversed(list(value.items()))}
    return [_reversed(item) for item in value] if isinstance(value, list) else value


def _future(_scene: Scene, good: Json) -> Json:
    """Add fields that nobody knows yet."""
    good["candidates"][0] |= {
        "citationMetadata": {},
        "imageWatermark": {"kind": "SYNTHID", "layers": [1, 2]},
    }
    return {"newInNextVersion": {"deep": [{"er": None}]}} | good


def _wrong_type(parts: list[Json]) -> list[Json]:
    for part in parts:
        if "inlineData" in part:
            other = {"image/png": "image/jpeg", "image/jpeg": "image/png"}
            part["inlineData"]["mimeType"] = other[part["inlineData"]["mimeType"]]
    return parts


_DRAFT_TEXT: Json = {"parts": [{"text": "Here it comes."}], "role": "model"}
_NOT_AN_IMAGE = base64.b64encode(b"This is no picture, though it says so." * 20).decode()

NO_PICTURE: dict[str, Fault] = {
    "safety": Fault(says="finishReason SAFETY", shape=_ends("SAFETY")),
    "image-safety": Fault(
        says="finishReason IMAGE_SAFETY with finishMessage", shape=_ends("IMAGE_SAFETY")
    ),
    "prohibited": Fault(says="finishReason PROHIBITED_CONTENT", shape=_ends("PROHIBITED_CONTENT")),
    "recitation": Fault(says="finishReason RECITATION", shape=_ends("RECITATION")),
    "no-image": Fault(says="finishReason NO_IMAGE", shape=_ends("NO_IMAGE")),
    "max-tokens": Fault(
        says="finishReason MAX_TOKENS after some text",
        shape=_ends("MAX_TOKENS", content=_DRAFT_TEXT),
    ),
    "unknown-reason": Fault(
        says="a finishReason that nobody knows", shape=_ends("IMAGE_TOO_BEAUTIFUL")
    ),
    "prompt-blocked": Fault(
        says="promptFeedback.blockReason, no candidates", shape=_blocks("PROHIBITED_CONTENT")
    ),
    "unknown-block": Fault(
        says="a blockReason that nobody knows", shape=_blocks("PHASE_OF_THE_MOON")
    ),
    "text-only": Fault(
        says="STOP with words in place of a picture",
        shape=lambda scene, _good: answers.refusal(scene),
    ),
    "no-parts": Fault(
        says="STOP without a part", shape=_ends("STOP", content={"parts": [], "role": "model"})
    ),
    "content-absent": Fault(says="STOP without content", shape=_ends("STOP")),
    "content-empty": Fault(says="STOP with content {}", shape=_ends("STOP", content={})),
    "parts-null": Fault(
        says="STOP with parts: null", shape=_ends("STOP", content={"parts": None, "role": "model"})
    ),
    "candidates-absent": Fault(says="a 200 without candidates", shape=_set(candidates=None)),
    "candidates-empty": Fault(says="a 200 with candidates []", shape=_set(candidates=[])),
    "thought-only": Fault(says="a draft and no picture", shape=_thought_only),
}

ODD_PICTURE: dict[str, Fault] = {
    "drafts": Fault(says="two drafts as thoughts before the picture", shape=_drafts(thought=True)),
    "drafts-plain": Fault(
        says="two drafts as plain parts before the picture", shape=_drafts(thought=False)
    ),
    "text-after": Fault(
        says="words after the picture", shape=_parts(lambda parts: [*parts, {"text": "Enjoy!"}])
    ),
    "wrong-mime": Fault(says="a MIME type that is not the bytes'", shape=_parts(_wrong_type)),
    "not-an-image": Fault(
        says="bytes that are no picture", shape=_data(lambda _data: _NOT_AN_IMAGE)
    ),
    "data-empty": Fault(says="a picture of no bytes", shape=_data(lambda _data: "")),
    "bad-base64": Fault(
        says="a character in the data that base64 does not have", shape=_data(_spoiled)
    ),
    "bad-padding": Fault(
        says="data that ends in the middle of a byte", shape=_data(lambda data: data[:-3])
    ),
    "usage-absent": Fault(says="no usageMetadata", shape=_set(usageMetadata=None)),
    "decoys": Fault(says="look-alikes of a picture in other places", shape=_parts(_decoys)),
    "reordered": Fault(
        says="all keys in the other order", shape=lambda _scene, good: _reversed(good)
    ),
    "future": Fault(says="fields that nobody knows yet", shape=_future),
    "array": Fault(says="the answer in a list", shape=lambda _scene, good: [good]),
}

REASONS: dict[str, Fault] = {
    **{
        "finish-" + reason.lower().replace("_", "-"): Fault(
            says=f"finishReason {reason}, no picture", shape=_ends(reason)
        )
        for reason in answers.FINISH_REASONS
    },
    **{
        "block-" + reason.lower().replace("_", "-"): Fault(
            says=f"blockReason {reason}", shape=_blocks(reason)
        )
        for reason in answers.BLOCK_REASONS
    },
}

WRITES: dict[str, Fault] = {
    "pretty": Fault(says="indented JSON", write=answers.pretty),
    "compact": Fault(says="JSON without a space", write=answers.compact),
    "escaped": Fault(says="JSON with \\/ and \\u003d, in keys too", write=answers.escaped),
    "not-json": Fault(
        says="a 200 that is HTML",
        write=lambda _answer: b"<html><body>Welcome to the proxy</body></html>",
    ),
    "empty-body": Fault(says="a 200 without a body", write=lambda _answer: b""),
}

DELIVERIES: dict[str, Fault] = {
    "gzip": Fault(says="compressed, asked for or not", deliver=delivery.gzipped),
    "chunked": Fault(says="chunks of uneven lengths", deliver=delivery.chunked),
    "trickle": Fault(says="slowly, over 2 s", deliver=delivery.trickle, seconds=2.0),
    "late": Fault(says="nothing for 2 s, then all", deliver=delivery.late, seconds=2.0),
    "hang": Fault(says="nothing until the client gives up", deliver=delivery.hang, seconds=600.0),
    "stall": Fault(
        says="half, then nothing until the client gives up", deliver=delivery.stall, seconds=600.0
    ),
    "reset": Fault(says="half, then a reset (RST)", deliver=delivery.reset),
    "reset-at-once": Fault(
        says="a reset (RST) in place of an answer", deliver=delivery.reset_at_once
    ),
    "disconnect": Fault(says="closed without an answer", deliver=delivery.disconnect),
    "truncated": Fault(says="half of the promised length, then closed", deliver=delivery.truncated),
    "truncated-chunks": Fault(
        says="half in chunks, then closed", deliver=delivery.truncated_chunks
    ),
    "cut": Fault(says="half of the JSON, with a length that fits", deliver=delivery.cut),
    "endless": Fault(says="a body without end", deliver=delivery.endless),
    "close": Fault(
        says="whole, and the connection closed without a word", deliver=delivery.closing
    ),
    "redirect": Fault(says="a redirect to another host", deliver=delivery.redirect),
}

ANSWERS: dict[str, Fault] = NO_PICTURE | ODD_PICTURE | REASONS | WRITES | DELIVERIES
