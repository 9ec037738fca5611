"""Names of the fields of a GenerateContentRequest, to find those that the API refuses. Pure."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, TypeAlias

from gemini_batch.wording import shown

Problem: TypeAlias = tuple[str, str]
"""The field, the message."""

# https://generativelanguage.googleapis.com/$discovery/rest?version=v1beta (2026-08), and what
# google-genai 3.6.1 (2026-11-18) sends besides, to Vertex AI too. Protobuf's JSON also takes each
# name in snake_case. A path that is absent here is not looked at.
_KNOWN: dict[str, tuple[str, ...]] = {
    "": (
        "contents", "systemInstruction", "tools", "toolConfig", "safetySettings",
        "generationConfig", "cachedContent", "serviceTier", "store", "labels",
        "modelArmorConfig", "model",
    ),
    "generationConfig": (
        "candidateCount", "stopSequences", "maxOutputTokens", "temperature", "topP", "topK", "seed",
        "responseMimeType", "responseSchema", "responseJsonSchema", "presencePenalty",
        "frequencyPenalty", "responseLogprobs", "logprobs", "enableEnhancedCivicAnswers",
        "responseModalities", "responseFormat", "speechConfig", "thinkingConfig", "imageConfig",
        "mediaResolution", "audioTimestamp", "audioTranscriptionConfig", "continuationToken",
        "enableAffectiveDialog", "modelSelectionConfig", "routingConfig", "translationConfig",
    ),
    "generationConfig.imageConfig": ("aspectRatio", "imageSize"),
    "generationConfig.thinkingConfig": ("includeThoughts", "thinkingBudget", "thinkingLevel"),
}  # fmt: skip
# What other APIs and Google's own SDK call them.
_ALSO_CALLED = {
    "config": "generationConfig",
    "messages": "contents",
    "prompt": "contents",
    "n": "candidateCount",
    "size": "imageSize",
    "modalities": "responseModalities",
    "maxtokens": "maxOutputTokens",
}
# A typing mistake, such as "temprature"; a new field is less like the known ones.
_NEAR = 0.88
_SHOWN_CHARS = 80


def check(body: dict[str, Any]) -> tuple[list[Problem], tuple[str, ...]]:
    """Return the problems of a request's names, and the paths of those that are unknown."""
    problems: list[Problem] = []
    unknown: list[str] = []
    for path, written, fields in _objects(body):
        for name, message in _faults(path, tuple(name[:_SHOWN_CHARS] for name in fields)):
            where = ".".join(filter(None, ("request", written, name)))
            if message is None:
                unknown.append(where)
            else:
                problems.append((where, message))
    return problems, tuple(unknown)


def _objects(
    value: dict[str, Any], path: str = "", written: str = ""
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (path, path as it is written, object) of each object whose fields are known."""
    yield path, written, value
    for name, inner in value.items():
        below = f"{path}.{_camel(name)}".lstrip(".")
        if below in _KNOWN and isinstance(inner, dict):
            yield from _objects(inner, below, f"{written}.{name}".lstrip("."))


@lru_cache(maxsize=256)  # nearly all lines of a manifest have the same names
def _faults(path: str, names: tuple[str, ...]) -> tuple[tuple[str, str | None], ...]:
    """Return (name, message) for each name that the object at a path has not; None if unknown."""
    known = _KNOWN[path]
    taken = {*known, *map(_snake, known)}
    return tuple((name, _message(path, name)) for name in names if name not in taken)


def _message(path: str, name: str) -> str | None:
    plain = name.replace("_", "").replace("-", "").lower()
    by_plain = {each.lower(): (where, each) for where in _KNOWN for each in _KNOWN[where]}
    by_plain |= {each.lower(): (path, each) for each in _KNOWN[path]}
    known = [each.lower() for each in _KNOWN[path]]
    also = _ALSO_CALLED.get(plain, plain).lower()
    near = [also, *get_close_matches(plain, known, n=1, cutoff=_NEAR)]
    for each in near:
        if each in by_plain:
            where, meant = by_plain[each]
            place = "" if where == path else f" in {shown(where or 'request')}"
            return f"no such field; did you mean {shown(meant)}{place}?"
    return None


def _camel(name: str) -> str:
    return re.sub("_([a-z])", lambda match: match[1].upper(), name)


def _snake(name: str) -> str:
    return re.sub("([A-Z])", lambda match: f"_{match[1].lower()}", name)
