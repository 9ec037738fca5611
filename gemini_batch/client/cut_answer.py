"""The reply of an answer that breaks off after its picture, or is damaged there. Pure.

What was paid for is the picture. What would have come after it, such as the usage, stays unknown.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gemini_batch.client.cut_json import Completed, completed
from gemini_batch.client.untrusted_json import as_dict, as_dicts, field, load
from gemini_batch.records import Answer, Outcome, Reply

Parse = Callable[[Answer, Any], Outcome]
# Of an open part, and of all that it is in: {"candidates": [{"content": {"parts": [{.
_OPEN_PART = b"}]}}]}"


def cut_reply(answer: Answer, parse: Parse, within: str = "") -> Reply | None:
    """Return the reply of an answer that is no JSON, if its picture is whole; else None.

    `parse` takes the JSON up to its last whole value; `within` is the key that the answer has in
    it, "" if it is the answer.
    """
    cut = completed(answer.body)
    document = load(cut.body)
    if document is None:
        return None
    reply = parse(replace(answer, body=cut.body), document)
    if not isinstance(reply, Reply) or reply.image is None:
        return None
    depth = isinstance(document, list) or bool(within)
    document = document[within] if within else document
    if _may_be_a_draft(document, cut, depth):
        return None
    if _ends_in_usage(document, cut, depth):
        reply = replace(reply, usage=None)
    return replace(reply, is_cut=True)


def _may_be_a_draft(document: Any, cut: Completed, depth: int) -> bool:
    """Return whether a picture may be a thought: that comes after it, in its part."""
    is_open = len(cut.closers) >= len(_OPEN_PART) + depth
    return is_open and any(part.get("thought") is True for part in _parts(document))


def _ends_in_usage(document: Any, cut: Completed, depth: int) -> bool:
    """Return whether the usage was cut: it has less than it counts."""
    while isinstance(document, list):
        document = document[-1] if document else None
    last = list(as_dict(document))[-1:]
    return last in (["usageMetadata"], ["usage_metadata"]) and len(cut.closers) > 1 + depth


def _parts(document: Any) -> list[dict[str, Any]]:
    bodies = as_dicts(document) if isinstance(document, list) else [as_dict(document)]
    return [
        part
        for body in bodies
        for candidate in as_dicts(field(body, "candidates"))
        for part in as_dicts(as_dict(candidate.get("content")).get("parts"))
    ]
