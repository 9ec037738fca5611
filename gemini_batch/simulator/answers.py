"""The bodies of a 200: a picture with its usage, and every answer without a picture that the API is known to give."""

import base64
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from gemini_batch.simulator.checks import Ask
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.markers import without_markers
from gemini_batch.simulator.pictures import Picture

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
        "Unable to show the generated image. The image was filtered out because it violated Google's Generative AI Prohibited "
        "Use policy. You will not be charged for blocked images. Try rephrasing the prompt."
    ),
    "NO_IMAGE": "Unable to show the generated image. The model could not generate the image based on the prompt provided.",
}


@dataclass(frozen=True, slots=True)
class Scene:
    """All that an answer is made from.

    Attributes:
        ask: What was asked.
        picture: The answer's picture.
        rng: Seeded by the server, the request and the try: equal scenes give equal answers.
        config: The simulator's.
    """

    ask: Ask
    picture: Picture
    rng: random.Random
    config: SimulatorConfig

    def image_part(self, *, thought: bool = False) -> Json:
        """Return the picture as a part, as a draft if `thought`."""
        data = base64.b64encode(self.picture.data).decode()
        part: Json = {"inlineData": {"mimeType": self.picture.mime_type, "data": data}}
        return {**part, "thought": True} if thought else part

    def signature(self) -> str:
        """Return bytes that mean nothing, as a `thoughtSignature` does to a client."""
        return base64.b64encode(self.rng.randbytes(self.rng.randint(300, 900))).decode()


def with_picture(scene: Scene) -> Json:
    """Return the good answer."""
    parts: list[Json] = []
    words = without_markers(scene.ask.prompt)
    if "TEXT" in scene.ask.modalities:
        parts.append({"text": f"Here is the picture you asked for: {words[:200]}"})
    parts.append({**scene.image_part(), "thoughtSignature": scene.signature()})
    candidate = {"content": {"parts": parts, "role": "model"}, "finishReason": "STOP", "index": 0}
    return _whole(scene, [candidate], usage(scene, images=1))


def usage(scene: Scene, *, images: int) -> Json:
    """Return usage as it was measured: the candidates' count exceeds the sum of its details by 88 to 630."""
    ask = scene.ask
    image_tokens = images * ask.model.size(ask.image_size).output_tokens
    thoughts = scene.rng.randint(80, 520) if ask.model.thinks else 0
    text_tokens = scene.rng.randint(8, 100) if "TEXT" in ask.modalities or not images else 0
    candidates = image_tokens + max(thoughts, 88 if images else 1) + (text_tokens if images else 0)
    if not images and thoughts:
        candidates = thoughts
    counted: Json = {
        "promptTokenCount": ask.prompt_tokens,
        "candidatesTokenCount": candidates,
        "totalTokenCount": ask.prompt_tokens + candidates,
        "promptTokensDetails": prompt_details(ask),
    }
    if images:
        counted["candidatesTokensDetails"] = [{"modality": "IMAGE", "tokenCount": image_tokens}]
    if thoughts:
        counted["thoughtsTokenCount"] = thoughts
    counted["serviceTier"] = "standard"
    return counted


def prompt_details(ask: Ask) -> list[Json]:
    """Return the prompt's tokens by modality."""
    details: list[Json] = [{"modality": "TEXT", "tokenCount": ask.text_tokens}]
    if ask.references:
        details.append(
            {"modality": "IMAGE", "tokenCount": len(ask.references) * ask.model.input_image_tokens}
        )
    return details


def finished(
    scene: Scene, reason: str, *, content: Json | None = None, message: str | None = None
) -> Json:
    """Return an answer that ends with `reason` and has no picture."""
    candidate: Json = {} if content is None else {"content": content}
    candidate |= {"finishReason": reason, "index": 0}
    message = message or _FINISH_MESSAGES.get(reason)
    if message:
        candidate["finishMessage"] = message
    if "SAFETY" in reason or "PROHIBITED" in reason:
        candidate["safetyRatings"] = safety_ratings(scene)
    return _whole(scene, [candidate], usage(scene, images=0))


def blocked(scene: Scene, reason: str) -> Json:
    """Return the answer to a prompt that is refused itself: no candidates, and nothing to pay."""
    tokens = scene.ask.prompt_tokens
    counted = {
        "promptTokenCount": tokens,
        "totalTokenCount": tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": scene.ask.text_tokens}],
    }
    whole = _whole(scene, [], counted)
    del whole["candidates"]
    return {
        "promptFeedback": {"blockReason": reason, "safetyRatings": safety_ratings(scene)},
        **whole,
    }


def refusal(scene: Scene) -> Json:
    """Return `STOP` with words in place of a picture."""
    words = "I can't create that picture. Could I help you with another idea?"
    return finished(scene, "STOP", content={"parts": [{"text": words}], "role": "model"})


def safety_ratings(scene: Scene) -> list[Json]:
    """Return ratings of which one says no."""
    bad = scene.rng.choice(_CATEGORIES)
    return [
        {"category": category, "probability": "HIGH", "blocked": True}
        if category == bad
        else {"category": category, "probability": "NEGLIGIBLE"}
        for category in _CATEGORIES
    ]


def _whole(scene: Scene, candidates: Sequence[Json], counted: Json) -> Json:
    response_id = base64.urlsafe_b64encode(scene.rng.randbytes(17)).decode().rstrip("=")
    return {
        "candidates": list(candidates),
        "usageMetadata": counted,
        "modelVersion": scene.ask.model.id,
        "responseId": response_id,
    }


# --- JSON in the forms that servers write it --------------------------------------------------------------------------


def pretty(answer: Json) -> bytes:
    """Return indented JSON, as the API sends it."""
    return json.dumps(answer, indent=2, ensure_ascii=False).encode() + b"\n"


def compact(answer: Json) -> bytes:
    """Return JSON without a space."""
    return json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode()


def escaped(answer: Json) -> bytes:
    r"""Return JSON in which `/` is `\/`, `=` is `\u003d`, and some letters of the keys are escaped."""
    dumped = (
        json.dumps(answer, indent=1, ensure_ascii=True).replace("/", "\\/").replace("=", "\\u003d")
    )
    return re.sub(
        r'"(inline|mime|dat|candidat|par)',
        lambda found: f'"\\u{ord(found[1][0]):04x}{found[1][1:]}',
        dumped,
    ).encode()
