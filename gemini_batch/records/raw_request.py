"""Facts of a raw GenerateContentRequest, in camelCase or snake_case; the rest is not checked."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

SEARCH_TOOLS = frozenset({"google_search", "google_search_retrieval"})
SERVICE_TIER_NAMES = ("serviceTier", "service_tier")
_CAPITAL = re.compile("[A-Z]")


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A GenerateContentRequest as the manifest has it, and what planning needs to know of it.

    Attributes:
        body: The request, without its model and service tier; a number may be an
            `exact_json.Number`.
        prompt: Its texts, one per line; None without any.
        images: Number of parts that hold or name a file.
        base64_bytes: Length of all inline data.
        image_size: As written, None if there is none.
        unknown: Paths of the fields that the API may not have, for a warning.
        thinking: The level, in lower case; None if there is none.
        features: Its settings of `generationConfig`, its tools, `thinking_budget` and
            `cached_content`, in snake_case.
        service_tiers: The service tier, by the names that it is written with. It is not in `body`,
            because it does not change what is asked for.
    """

    body: dict[str, Any]
    prompt: str | None
    images: int
    base64_bytes: int
    image_size: str | None
    unknown: tuple[str, ...] = ()
    thinking: str | None = None
    features: frozenset[str] = frozenset()
    service_tiers: dict[str, Any] = field(default_factory=dict)

    @property
    def whole_body(self) -> dict[str, Any]:
        """The request with its service tier."""
        return self.body | self.service_tiers

    @property
    def searches(self) -> bool:
        """True if it has a tool with which the model searches the web, at a price a query."""
        return bool(self.features & SEARCH_TOOLS)


def parse(body: dict[str, Any]) -> RawRequest:
    """Return the request with its facts; values of an unexpected shape are ignored."""
    texts: list[str] = []
    images = base64_bytes = 0
    for part in _parts(body):
        if isinstance(text := part.get("text"), str):
            texts.append(text)
        inline = _either(part, "inlineData", "inline_data")
        if isinstance(inline, dict):
            images += 1
            data = inline.get("data")
            base64_bytes += len(data) if isinstance(data, str) else 0
        elif isinstance(_either(part, "fileData", "file_data"), dict):
            images += 1
    config = _either(body, "generationConfig", "generation_config")
    image_config = _either(config, "imageConfig", "image_config")
    thinking = _either(
        _either(config, "thinkingConfig", "thinking_config"), "thinkingLevel", "thinking_level"
    )
    image_size = _either(image_config, "imageSize", "image_size")
    return RawRequest(
        body=without_tier(body),
        service_tiers={name: body[name] for name in _tier_names(body)},
        prompt="\n".join(texts) or None,
        images=images,
        base64_bytes=base64_bytes,
        image_size=image_size if isinstance(image_size, str) else None,
        thinking=thinking.lower() if isinstance(thinking, str) else None,
        features=frozenset(_features(body, config)),
    )


def without_tier(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request without its service tier."""
    named = _tier_names(body)
    return {name: body[name] for name in body if name not in named} if named else body


def _tier_names(body: dict[str, Any]) -> list[str]:
    """Return the names that a request gives its service tier; one that is null counts as absent."""
    return [name for name in SERVICE_TIER_NAMES if body.get(name) is not None]


def texts_in_lists(body: dict[str, Any]) -> str:
    """Return the texts, one per line, that are in lists, and not in single objects.

    Derived ids are made of them, and never change.
    """
    contents = body.get("contents")
    lists = [_either(each, "parts") for each in contents] if isinstance(contents, list) else []
    parts = [part for parts in lists if isinstance(parts, list) for part in parts]
    return "\n".join(text for part in parts if isinstance(text := _either(part, "text"), str))


def _features(body: dict[str, Any], config: Any) -> Iterator[str]:
    """Yield the features; one that is null counts as absent."""
    thinking = _either(config, "thinkingConfig", "thinking_config")
    given = [config, thinking, *_list(body.get("tools"))]
    for each in given:
        if isinstance(each, dict):
            yield from (_snake_case(name) for name, value in each.items() if value is not None)
    if _either(body, "cachedContent", "cached_content") is not None:
        yield "cached_content"


def _snake_case(name: str) -> str:
    return _CAPITAL.sub(lambda capital: f"_{capital[0].lower()}", name)


def _parts(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for content in _list(body.get("contents")):
        yield from (part for part in _list(_either(content, "parts")) if isinstance(part, dict))


def _either(value: Any, *names: str) -> Any:
    """Return the value of the first of these keys that an object has; None if it has none."""
    if not isinstance(value, dict):
        return None
    return next((value[name] for name in names if name in value), None)


def _list(value: Any) -> list[Any]:
    """Return a list; the API takes a single object for a list of one."""
    return [value] if isinstance(value, dict) else value if isinstance(value, list) else []
