"""Validation of requests: `check` returns the parsed request, or the 400 that the API answers."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gemini_batch.simulator import bodies, gemini_schema, model_rules, schema, vertex_schema
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.models import DEFAULT_SIZE, Model
from gemini_batch.simulator.parsing import json_problem, parsed
from gemini_batch.simulator.references import Reference, is_image

MAX_REFERENCES = 14  # https://ai.google.dev/gemini-api/docs/image-generation, 2026-11-22
MAX_TEMPERATURE = 2.0
INPUT_TYPES = (
    "image/png",
    "image/jpeg",
    "image/webp",
    "image/heic",
    "image/heif",
    "image/gif",
    "image/avif",
)
OUTPUT_TYPES = ("image/jpeg", "image/png")
_BAD_IMAGE = (
    "Unable to process input image. Please retry or report in "
    "https://developers.generativeai.google/guide/troubleshooting"
)
# https://ai.google.dev/gemini-api/docs/pricing, updated 2026-09-22.
_TIER_FACTORS = {"standard": 1.0, "flex": 0.5, "priority": 1.8}
_DATA_FIELDS = ("text", "inline_data", "file_data", "function_call", "function_response")


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """A valid request for an image.

    Attributes:
        model: The model that it is sent to.
        prompt: All its texts, joined by line breaks.
        references: Its images, in order.
        modalities: `TEXT` and `IMAGE`, as requested or by default.
        aspect_ratio: As requested; None leaves the choice to the model.
        image_size: As requested, or `1K`.
        seed: As requested.
        thinking: The level of thinking, in lower case; None for the model's own.
        includes_thoughts: Whether the answer shows its thoughts.
        searches: Whether it has the tool `googleSearch`.
        tier: The service tier that is served.
        max_output_tokens: As requested.
        text_tokens: Estimated tokens of the texts: four characters per token.
        sha256: Hash of the whole request and its model.
    """

    model: Model
    prompt: str
    references: tuple[Reference, ...]
    modalities: tuple[str, ...]
    aspect_ratio: str | None
    image_size: str
    seed: int | None
    thinking: str | None
    includes_thoughts: bool
    searches: bool
    tier: str
    max_output_tokens: int | None
    text_tokens: int
    sha256: str

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the texts and the reference images."""
        return self.text_tokens + len(self.references) * self.model.input_image_tokens

    @property
    def usd(self) -> float:
        """List price of its image."""
        return self.model.size(self.image_size).usd * _TIER_FACTORS[self.tier]


def check(
    body: bytes, model: Model, *, counting: bool = False, vertex: bool = False
) -> ImageRequest | ErrorBody:
    """Return the request in `body`, or the 400 for it.

    Args:
        body: JSON as it arrived, decompressed.
        model: The model that it is sent to.
        counting: Whether it is a request of `countTokens`.
        vertex: Whether it is one of Vertex AI.
    """
    try:
        return check_json(parsed(body), model, counting=counting, vertex=vertex)
    except RecursionError:
        problem_text = "Message too deep."
    except UnicodeDecodeError:
        problem_text = "The payload is not valid UTF-8."
    except UnicodeEncodeError:
        problem_text = "Illegal Unicode code point."  # derived
    except ValueError as problem:
        problem_text = json_problem(body, problem)
    return bodies.error(400, f"Invalid JSON payload received. {problem_text}")


def check_json(
    raw: Any, model: Model, *, counting: bool = False, vertex: bool = False
) -> ImageRequest | ErrorBody:
    """Return the request in JSON that has been parsed, or the 400 for it."""
    of_gemini = gemini_schema.COUNT_REQUEST if counting else gemini_schema.REQUEST
    violations: schema.Violations = []
    request = schema.read(vertex_schema.REQUEST if vertex else of_gemini, raw, "", violations)
    if violations:
        return bodies.bad_fields(violations)
    request = request.get("generate_content_request", request)
    return check_fields(request, raw, model, default_role=None if vertex else "user")


def check_fields(
    request: dict[str, Any], raw: Any, model: Model, *, default_role: str | None = "user"
) -> ImageRequest | ErrorBody:
    """Return a request, or the model's 400 for it.

    Args:
        request: Read by its schema.
        raw: The same as it was sent.
        model: The model that it is sent to.
        default_role: The role of a content that names none; None requires one.
    """
    config = request.get("generation_config", {})
    return (
        _contents(request, default_role=default_role)
        or _config(config, model)
        or model_rules.refusal(request, model)
        or _images(request, model)
        or _image_request(request, config, raw, model)
    )


def _contents(request: dict[str, Any], default_role: str | None) -> ErrorBody | None:
    contents = request.get("contents")
    if not contents:
        return bodies.bad_argument("GenerateContentRequest.contents: contents is not specified")
    for place, content in enumerate(contents):
        where = f"GenerateContentRequest.contents[{place}]"
        if content.get("role", default_role) not in ("user", "model"):
            return bodies.error(400, "Please use a valid role: user, model.")
        if not content.get("parts"):
            return bodies.bad_argument(f"{where}.parts: contents.parts must not be empty.")
        for number, part in enumerate(content["parts"]):
            if not any(name in part for name in _DATA_FIELDS):
                return bodies.bad_argument(
                    f"{where}.parts[{number}].data: required oneof field 'data' must have one "
                    "initialized field"
                )
    if not any(
        part.get("text") or "inline_data" in part or "file_data" in part for part in _parts(request)
    ):
        return bodies.error(400, "Unable to submit request because it must have a text parameter.")
    return None


def _config(config: dict[str, Any], model: Model) -> ErrorBody | None:  # noqa: PLR0911
    where = "GenerateContentRequest.generation_config"
    if config.get("candidate_count", 1) != 1:
        return bodies.error(400, "Multiple candidates is not enabled for this model")
    temperature = config.get("temperature", 1.0)
    if not 0 <= temperature <= MAX_TEMPERATURE:
        return bodies.bad_argument(
            f"{where}.temperature: temperature must be in the range [0.0, 2.0]."
        )
    modalities = config.get("response_modalities", [])
    if modalities and ("IMAGE" not in modalities or not set(modalities) <= {"TEXT", "IMAGE"}):
        # Text alone is refused too: these models always make an image.
        return bodies.error(
            400,
            "The requested combination of response modalities is not supported by the model. "
            f"models/{model.id} accepts the following combination of response modalities:\n"
            "* IMAGE\n* TEXT, IMAGE\n",
        )
    if config.get("response_mime_type", "text/plain") not in ("text/plain", ""):
        return bodies.bad_argument(
            f"{where}.response_mime_type: allowed mimetypes are `text/plain`."
        )
    image = config.get("image_config", {})
    ratio, size = image.get("aspect_ratio"), image.get("image_size")
    if ratio is not None and ratio not in model.pixels:
        allowed = _listed(list(model.pixels))
        return bodies.bad_argument(
            f"{where}.image_config.aspect_ratio: aspect_ratio must be one of {allowed}"
        )
    if size is not None and size not in model.sizes and not model.ignores_size:
        allowed = _listed(list(model.sizes))
        return bodies.bad_argument(
            f"{where}.image_config.image_size: image_size must be one of {allowed}"
        )
    mime_type = image.get("image_output_options", {}).get("mime_type", OUTPUT_TYPES[0])
    if mime_type not in OUTPUT_TYPES:
        return bodies.bad_argument(
            f"{where}.image_config.image_output_options.mime_type: must be one of "
            f"{_listed(OUTPUT_TYPES)}"
        )
    return None


def _images(request: dict[str, Any], model: Model) -> ErrorBody | None:
    images = [part for part in _parts(request) if "inline_data" in part or "file_data" in part]
    if len(images) > MAX_REFERENCES:
        return bodies.error(
            400,
            f"Too many images in the request: got {len(images)}, "
            f"at most {MAX_REFERENCES} are allowed.",
        )
    for part in images:
        mime_type = part.get("inline_data", part.get("file_data", {})).get("mime_type")
        if mime_type is None and "inline_data" in part:
            return bodies.error(
                400, "Unable to submit request because it has an empty mimeType parameter."
            )
        if mime_type in model.inputs:
            continue
        if mime_type is not None and mime_type not in INPUT_TYPES:
            return bodies.error(400, f"Unsupported MIME type: {mime_type}")
        if "file_data" in part:
            uri = part["file_data"].get("file_uri", "")
            if not uri.startswith(("https://", "gs://")):
                return bodies.error(400, "Invalid or unsupported file uri: " + uri)
        elif not is_image(part["inline_data"].get("data", b"")):
            return bodies.error(400, _BAD_IMAGE)
    return None


def _image_request(
    request: dict[str, Any], config: dict[str, Any], raw: Any, model: Model
) -> ImageRequest:
    parts = _parts(request)
    texts = [part["text"] for part in parts if part.get("text")]
    system = [
        part.get("text", "") for part in request.get("system_instruction", {}).get("parts", [])
    ]
    references = tuple(
        Reference(data=part["inline_data"]["data"])
        if "inline_data" in part
        else Reference(uri=part["file_data"]["file_uri"])
        for part in parts
        if "inline_data" in part or "file_data" in part
    )
    image, thinking = config.get("image_config", {}), config.get("thinking_config", {})
    level, tier = thinking.get("thinking_level", ""), (request.get("service_tier") or "").lower()
    canonical = json.dumps([model.id, raw], sort_keys=True, separators=(",", ":"))
    mime_type = image.get("image_output_options", {}).get("mime_type", model.mime_type)
    return ImageRequest(
        model=replace(model, mime_type=mime_type),
        prompt="\n".join(texts),
        references=references,
        modalities=tuple(config.get("response_modalities") or ("TEXT", "IMAGE")),
        aspect_ratio=image.get("aspect_ratio"),
        image_size=image.get("image_size") or DEFAULT_SIZE,
        seed=config.get("seed"),
        thinking=level.lower() if level.lower() in model.thinking else None,
        includes_thoughts=bool(thinking.get("include_thoughts")),
        searches="google_search" in model_rules.tools(request),
        tier=tier if tier in model.tiers else "standard",
        max_output_tokens=config.get("max_output_tokens"),
        text_tokens=max(1, sum(len(text) + 3 for text in [*texts, *system]) // 4),
        sha256=hashlib.sha256(canonical.encode()).hexdigest(),
    )


def _parts(request: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for content in request.get("contents", []) for part in content.get("parts", [])]


def _listed(values: Sequence[str]) -> str:
    return ", ".join(f"'{value}'" for value in values)
