"""Bodies of a 200: an image with its usage, and every known answer of the API without an image."""

import base64
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from gemini_batch.simulator.checks import ImageRequest
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.files import Mode
from gemini_batch.simulator.markers import without_markers
from gemini_batch.simulator.pictures import EncodedImage

Json: TypeAlias = dict[str, Any]

# Google's discovery document, 2026-08; FINISH_REASON_UNSPECIFIED is never sent.
FINISH_REASONS = (
    "STOP",
    "MAX_TOKENS",
    "SAFETY",
    "RECITATION",
    "LANGUAGE",
    "OTHER",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "MALFORMED_FUNCTION_CALL",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_OTHER",
    "NO_IMAGE",
    "IMAGE_RECITATION",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
    "MISSING_THOUGHT_SIGNATURE",
    "MALFORMED_RESPONSE",
    "ESCALATION",
)
BLOCK_REASONS = ("SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY")
_CATEGORIES = (
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
)
_FINISH_MESSAGES = {
    "IMAGE_SAFETY": (
        "Unable to show the generated image. The image was filtered out because it violated "
        "Google's Generative AI Prohibited Use policy. You will not be charged for blocked "
        "images. Try rephrasing the prompt."
    ),
    "NO_IMAGE": (
        "Unable to show the generated image. The model could not generate the image based on the "
        "prompt provided."
    ),
}


@dataclass(frozen=True, slots=True)
class AnswerContext:
    """The data that an answer is made from.

    Attributes:
        request: The checked request.
        image: The answer's image.
        rng: Seeded by the server, the request and the attempt: equal contexts give equal answers.
        config: The simulator's configuration.
        host: Keeps the image, for a URI that behaves as a mode says, and returns the URI.
    """

    request: ImageRequest
    image: EncodedImage
    rng: random.Random
    config: SimulatorConfig
    host: Callable[[Mode, EncodedImage], str] | None = None

    def image_part(self, *, thought: bool = False) -> Json:
        """Return the image as a part; as a draft if `thought`."""
        data = base64.b64encode(self.image.data).decode()
        part: Json = {"inlineData": {"mimeType": self.image.mime_type, "data": data}}
        return {**part, "thought": True} if thought else part

    def file_part(self, mode: Mode) -> Json:
        """Return the image as a part that names it by URI."""
        assert self.host is not None, "each answer with an image has one"  # noqa: S101 - for mypy
        uri = self.host(mode, self.image)
        return {"fileData": {"mimeType": self.image.mime_type, "fileUri": uri}}

    def signature(self) -> str:
        """Return random bytes in base64: a `thoughtSignature` is opaque to clients."""
        return base64.b64encode(self.rng.randbytes(self.rng.randint(300, 900))).decode()


def image_answer(context: AnswerContext) -> Json:
    """Return an answer with one image."""
    asked = context.request
    size = asked.model.size(asked.image_size)
    if asked.max_output_tokens and asked.max_output_tokens < size.output_tokens:
        return finished(context, "MAX_TOKENS")
    parts: list[Json] = []
    prompt = without_markers(asked.prompt)
    if asked.includes_thoughts and asked.model.mean_thinking(asked.thinking):
        parts.append(
            {"text": f"**Composing**\n\nThe picture is of: {prompt[:80]}", "thought": True}
        )
    if "TEXT" in context.request.modalities:
        parts.append({"text": f"Here is the picture you asked for: {prompt[:200]}"})
    parts.append({**context.image_part(), "thoughtSignature": context.signature()})
    candidate: Json = {
        "content": {"parts": parts, "role": "model"},
        "finishReason": "STOP",
        "index": 0,
    }
    if asked.searches:
        queries = [f"{prompt[:60]} {number}".strip() for number in range(context.rng.randint(1, 3))]
        candidate["groundingMetadata"] = {"webSearchQueries": queries}
    return _whole(context, [candidate], usage(context, images=1))


def usage(context: AnswerContext, *, images: int) -> Json:
    """Return usage like that of real answers.

    The candidates' count of Pro exceeds the sum of its details by 88 to 630 (measured): the
    thoughts.
    """
    image_request = context.request
    image_tokens = images * image_request.model.size(image_request.image_size).output_tokens
    model = image_request.model
    thoughts = round(model.mean_thinking(image_request.thinking) * context.rng.uniform(0.5, 1.5))
    text_tokens = (
        context.rng.randint(8, 100) if "TEXT" in image_request.modalities or not images else 0
    )
    written = image_tokens + text_tokens if images else int(not thoughts)
    counts_thoughts = thoughts and (model.candidates_have_thoughts or not images)
    counted: Json = {
        "promptTokenCount": image_request.prompt_tokens,
        "candidatesTokenCount": written + thoughts if counts_thoughts else written,
        "totalTokenCount": image_request.prompt_tokens + written + thoughts,
        "promptTokensDetails": prompt_details(image_request),
    }
    if images:
        counted["candidatesTokensDetails"] = [{"modality": "IMAGE", "tokenCount": image_tokens}]
    if thoughts:
        counted["thoughtsTokenCount"] = thoughts
    if context.config.vertex:
        tier = image_request.tier
        counted["trafficType"] = "ON_DEMAND" + ("" if tier == "standard" else f"_{tier.upper()}")
    else:
        counted["serviceTier"] = image_request.tier
    return counted


def prompt_details(image_request: ImageRequest) -> list[Json]:
    """Return the prompt's tokens by modality."""
    details: list[Json] = [{"modality": "TEXT", "tokenCount": image_request.text_tokens}]
    if image_request.references:
        details.append(
            {
                "modality": "IMAGE",
                "tokenCount": len(image_request.references)
                * image_request.model.input_image_tokens,
            }
        )
    return details


def finished(
    context: AnswerContext, reason: str, *, content: Json | None = None, message: str | None = None
) -> Json:
    """Return an answer with the finish reason `reason` and no image."""
    candidate: Json = {} if content is None else {"content": content}
    candidate |= {"finishReason": reason, "index": 0}
    message = message or _FINISH_MESSAGES.get(reason)
    if message:
        candidate["finishMessage"] = message
    if "SAFETY" in reason or "PROHIBITED" in reason:
        candidate["safetyRatings"] = safety_ratings(context)
    return _whole(context, [candidate], usage(context, images=0))


def blocked(context: AnswerContext, reason: str) -> Json:
    """Return the answer to a blocked prompt: no candidates, and only prompt tokens in its usage."""
    tokens = context.request.prompt_tokens
    counted = {
        "promptTokenCount": tokens,
        "totalTokenCount": tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": context.request.text_tokens}],
    }
    whole = _whole(context, [], counted)
    del whole["candidates"]
    return {
        "promptFeedback": {"blockReason": reason, "safetyRatings": safety_ratings(context)},
        **whole,
    }


def text_only(context: AnswerContext) -> Json:
    """Return `STOP` with text instead of an image."""
    text = "I can't create that picture. Could I help you with another idea?"
    return finished(context, "STOP", content={"parts": [{"text": text}], "role": "model"})


def safety_ratings(context: AnswerContext) -> list[Json]:
    """Return safety ratings, one of them blocked."""
    bad = context.rng.choice(_CATEGORIES)
    return [
        {"category": category, "probability": "HIGH", "blocked": True}
        if category == bad
        else {"category": category, "probability": "NEGLIGIBLE"}
        for category in _CATEGORIES
    ]


def _whole(context: AnswerContext, candidates: Sequence[Json], counted: Json) -> Json:
    response_id = base64.urlsafe_b64encode(context.rng.randbytes(17)).decode().rstrip("=")
    whole: Json = {
        "candidates": list(candidates),
        "usageMetadata": counted,
        "modelVersion": context.request.model.id,
        "responseId": response_id,
    }
    if context.config.vertex:
        at = context.config.clock.utc()
        whole["createTime"] = f"{at:%Y-%m-%dT%H:%M:%S.%f}Z"
    return whole


# --- JSON as servers write it ---------------------------------------------------------------------


def pretty(answer: Json) -> bytes:
    """Return indented JSON, as the API sends it."""
    return json.dumps(answer, indent=2, ensure_ascii=False).encode() + b"\n"


def compact(answer: Json) -> bytes:
    """Return JSON without white space."""
    return json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode()


def without_end(answer: Json) -> bytes:
    """Return JSON that breaks off after the last picture, or as much of it."""
    body = compact(answer)
    return body[: body.find(b'"', body.rfind(b'"data":"') + len(b'"data":"')) + 1]


def escaped(answer: Json) -> bytes:
    r"""Return JSON with `/` as `\/`, `=` as `\u003d`, and some letters of the keys escaped."""
    dumped = (
        json.dumps(answer, indent=1, ensure_ascii=True).replace("/", "\\/").replace("=", "\\u003d")
    )
    return re.sub(
        r'"(inline|mime|dat|candidat|par)',
        lambda found: f'"\\u{ord(found[1][0]):04x}{found[1][1:]}',
        dumped,
    ).encode()
