"""JSON of a request, as proto's parser reads it, and its errors."""

import json
from typing import Any


def parsed(body: bytes) -> Any:
    """Return JSON as proto's parser reads it: no NaN, no half of a surrogate pair."""
    raw = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    if b"\\ud" in body.lower():
        # Fails if there is half of a surrogate pair.
        json.dumps(raw, ensure_ascii=False).encode()
    return raw


def _no_constant(name: str) -> float:
    """Reject NaN and Infinity, which Python's JSON accepts and the API does not."""
    raise ValueError(name)


def json_problem(body: bytes, problem: ValueError) -> str:
    """Return Google's error message for a body that can't be parsed."""
    if not isinstance(problem, json.JSONDecodeError):
        return f"Unexpected token.\n{problem}\n^"
    text = body.decode("utf-8", "replace")
    if problem.pos >= len(text.rstrip()):
        return "Unexpected end of string. Expected a value.\n\n^"
    line_start = text.rfind("\n", 0, problem.pos) + 1
    start = max(line_start, problem.pos - 20)
    around = text[start : problem.pos + 20].splitlines()[0]
    return f"Expected a value.\n{around}\n{' ' * (problem.pos - start)}^"
