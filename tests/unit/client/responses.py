"""Answers for the tests of the response parser."""

import json
from typing import Any

import orjson

from gemini_batch.client.response import parse_answer
from gemini_batch.records import Answer, ApiError, IncomingImage, Outcome, Reply


def image(number: int, size_bytes: int = 10) -> IncomingImage:
    """Return an image that arrived."""
    return IncomingImage(f"part.{number}", size_bytes, f"{number:064x}", b"\xff\xd8\xff")


IMAGES = tuple(image(number) for number in range(4))


def reply(body: Any, images: tuple[IncomingImage, ...] = IMAGES) -> Reply:
    """Parse a success."""
    outcome = parse_answer(
        Answer(200, body if isinstance(body, bytes) else json.dumps(body).encode(), images)
    )
    assert isinstance(outcome, Reply)
    return outcome


def error(status: int, body: Any, retry_after_s: float | None = None) -> ApiError:
    """Parse an error."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    outcome = parse_answer(Answer(status, raw, (), retry_after_s))
    assert isinstance(outcome, ApiError)
    return outcome


def written(outcome: Outcome) -> bytes:
    """Write an outcome as JSON, as a row is written."""
    return orjson.dumps(outcome, default=bytes.hex)


def inline(number: int, **more: Any) -> dict[str, Any]:
    """Return a part with an image, of an envelope."""
    return {"inlineData": {"mimeType": "image/jpeg", "data": f"#{number}"}, **more}


def candidate(*parts: Any, finish: str = "STOP") -> dict[str, Any]:
    """Return an answer of one candidate."""
    return {
        "candidates": [
            {"content": {"parts": list(parts), "role": "model"}, "finishReason": finish, "index": 0}
        ]
    }
