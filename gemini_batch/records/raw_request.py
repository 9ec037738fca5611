"""What can be read from a raw GenerateContentRequest, in camelCase or snake_case, without judging the rest of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RawFacts:
    """What planning needs to know of a raw request.

    Attributes:
        prompt: Its texts, one a line; None without any.
        images: How many parts hold or name a file.
        base64_bytes: Length of all inline data.
        image_size: `generationConfig.imageConfig.imageSize`, if it is a string.
    """

    prompt: str | None
    images: int
    base64_bytes: int
    image_size: str | None


def facts(raw: dict[str, Any]) -> RawFacts:
    """Return what a raw request asks for; what has an unexpected shape is passed over, the server will judge it."""
    texts: list[str] = []
    images = base64_bytes = 0
    for part in _parts(raw):
        if isinstance(text := part.get("text"), str):
            texts.append(text)
        inline = _either(part, "inlineData", "inline_data")
        if isinstance(inline, dict):
            images += 1
            data = inline.get("data")
            base64_bytes += len(data) if isinstance(data, str) else 0
        elif isinstance(_either(part, "fileData", "file_data"), dict):
            images += 1
    image_config = _either(
        _either(raw, "generationConfig", "generation_config"), "imageConfig", "image_config"
    )
    image_size = _either(image_config, "imageSize", "image_size")
    return RawFacts(
        prompt="\n".join(texts) or None,
        images=images,
        base64_bytes=base64_bytes,
        image_size=image_size if isinstance(image_size, str) else None,
    )


def _parts(raw: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for content in _list(raw.get("contents")):
        for part in _list(_either(content, "parts")):
            if isinstance(part, dict):
                yield part


def _either(value: Any, *names: str) -> Any:
    """Return the first of these keys that an object has; None if it is no object."""
    return (
        next((value[name] for name in names if name in value), None)
        if isinstance(value, dict)
        else None
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
