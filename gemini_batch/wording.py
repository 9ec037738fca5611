"""How a message puts what was found and what is allowed."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import orjson

SHOWN_CHARS = 60


def shown(value: Any) -> str:
    """Return the value as JSON, shortened in the middle of nowhere rather than shown at length."""
    text = orjson.dumps(value).decode()
    return (
        text
        if len(text) <= SHOWN_CHARS
        else f"{text[: SHOWN_CHARS - 20]}… ({len(text):,} characters)"
    )


def choices(values: Iterable[object]) -> str:
    """Return `1:1, 16:9, 9:16`."""
    return ", ".join(str(value) for value in values)


def unknown(name: str, known: Iterable[str]) -> str:
    """Return what to say of a name that does not exist: the nearest one that does, or all of them."""
    known = list(known)
    return meant(name, known) or f"known: {choices(known)}"


def meant(name: str, known: Iterable[str]) -> str:
    """Return `did you mean "free"?`, or nothing when no known name is near."""
    near = get_close_matches(name.lower(), list(known), n=1)
    return f'did you mean "{near[0]}"?' if near else ""
