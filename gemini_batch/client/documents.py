"""The objects of an answer: those of the documented form, joined to one.

Streaming methods and gateways spread an answer over several objects. Pure.
"""

from typing import Any

from gemini_batch.client.untrusted_json import as_dict, as_dicts, as_list, field

_OF_A_CANDIDATE = ("content", "finishReason", "finishMessage", "safetyRatings", "tokenCount")


def is_answer(document: dict[str, Any]) -> bool:
    """Return whether an object has the form that is documented, in at least one of its fields."""
    candidates = field(document, "candidates")
    if isinstance(candidates, list):
        return all(isinstance(each, dict) and _is_candidate(each) for each in candidates)
    return any(
        isinstance(field(document, name), dict) for name in ("promptFeedback", "usageMetadata")
    )


def _is_candidate(candidate: dict[str, Any]) -> bool:
    """Return whether a candidate is the API's: PaLM's had `output`, or a text as its content."""
    if not isinstance(candidate.get("content"), dict | None) or "output" in candidate:
        return False
    return not candidate or any(field(candidate, name) is not None for name in _OF_A_CANDIDATE)


def merged(documents: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return one object with the parts of all; of other fields the last one counts."""
    if len(documents) <= 1:
        return documents[0] if documents else None
    body: dict[str, Any] = {}
    candidates: dict[Any, dict[str, Any]] = {}
    for document in documents:
        body |= {name: value for name, value in document.items() if value is not None}
        for place, candidate in enumerate(as_dicts(document.get("candidates"))):
            index = candidate.get("index", place)
            earlier = candidates.get(index if isinstance(index, int) else place, {})
            later = {name: value for name, value in candidate.items() if value is not None}
            parts = _parts(earlier) + _parts(candidate)
            both = earlier | later | {"content": {"parts": parts}}
            candidates[index if isinstance(index, int) else place] = both
    return body | {"candidates": list(candidates.values())}


def _parts(candidate: dict[str, Any]) -> list[Any]:
    return as_list(as_dict(candidate.get("content")).get("parts"))
