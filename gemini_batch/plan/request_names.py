"""Names of the fields of a GenerateContentRequest, to find those that the API refuses. Pure."""

import re
from functools import lru_cache
from typing import Any, TypeAlias

from gemini_batch.wording import SHOWN_CHARS, shown

Problem: TypeAlias = tuple[str, str]
"""The field, the message."""

# https://generativelanguage.googleapis.com/$discovery/rest?version=v1beta (2026-08), and what
# google-genai 3.6.1 (2026-11-18) sends besides, to Vertex AI too. Protobuf's JSON also takes each
# name in snake_case. A path that is absent here is not looked at.
_KNOWN: dict[str, tuple[str, ...]] = {
    "": (
        "contents", "systemInstruction", "tools", "toolConfig", "safetySettings",
        "generationConfig", "cachedContent", "serviceTier", "store", "labels",
        "continuationToken", "modelArmorConfig", "outputConfig", "model",
    ),
    "generationConfig": (
        "candidateCount", "stopSequences", "maxOutputTokens", "temperature", "topP", "topK", "seed",
        "responseMimeType", "responseSchema", "responseJsonSchema", "presencePenalty",
        "frequencyPenalty", "responseLogprobs", "logprobs", "enableEnhancedCivicAnswers",
        "responseModalities", "responseFormat", "speechConfig", "thinkingConfig", "imageConfig",
        "mediaResolution", "audioTimestamp", "audioTranscriptionConfig",
        "enableAffectiveDialog", "modelConfig", "routingConfig", "translationConfig",
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


def check(body: dict[str, Any]) -> tuple[list[Problem], tuple[str, ...]]:
    """Return the problems of a request's names, and the paths of those that are unknown."""
    problems: list[Problem] = []
    unknown: list[str] = []
    objects = [("", "request", body)]
    for path, where, fields in objects:  # grows
        if not fields.keys() <= _TAKEN[path]:
            for name in fields.keys() - _TAKEN[path]:
                shown_name = name[:SHOWN_CHARS]
                if message := _message(path, shown_name):
                    problems.append((f"{where}.{shown_name}", message))
                else:
                    unknown.append(f"{where}.{shown_name}")
        for name, below in _INNER[path]:
            if isinstance(inner := fields.get(name), dict):
                objects.append((below, f"{where}.{name}", inner))
    return sorted(problems), tuple(sorted(unknown))


def _snake(name: str) -> str:
    return re.sub("([A-Z])", lambda match: f"_{match[1].lower()}", name)


_TAKEN = {path: frozenset((*names, *map(_snake, names))) for path, names in _KNOWN.items()}
# The objects in an object that have known names themselves: how they are written, their paths.
_INNER = {
    path: [
        (spelling, below)
        for name in names
        if (below := f"{path}.{name}".lstrip(".")) in _KNOWN
        for spelling in (name, _snake(name))
    ]
    for path, names in _KNOWN.items()
}


@lru_cache(maxsize=256)  # the lines of a manifest are alike
def _message(path: str, name: str) -> str | None:
    """Return what to write instead of an unknown name; None for one that is like no known one."""
    plain = name.replace("_", "").replace("-", "").lower()
    by_plain = {each.lower(): (where, each) for where in _KNOWN for each in _KNOWN[where]}
    by_plain |= {each.lower(): (path, each) for each in _KNOWN[path]}
    known = [each.lower() for each in _KNOWN[path]]
    also = _ALSO_CALLED.get(plain, plain).lower()
    from difflib import get_close_matches  # few manifests come here

    near = [also, *get_close_matches(plain, known, n=1, cutoff=_NEAR)]
    for each in near:
        if each in by_plain:
            where, meant = by_plain[each]
            place = "" if where == path else f" in {shown(where or 'request')}"
            return f"no such field; did you mean {shown(meant)}{place}?"
    return None
