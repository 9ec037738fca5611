"""Parts of messages: values that were found and that are allowed, money and times."""

from collections.abc import Iterable
from datetime import datetime
from math import isfinite
from typing import Any

import orjson

SHOWN_CHARS = 60


def shown(value: Any) -> str:
    """Return the value as JSON; a long one is cut, and its length added."""
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    try:
        text = orjson.dumps(value, default=str).decode()
    except TypeError:  # a whole number of more than 64 bits, or too many levels
        text = _as_python(value)
    if len(text) <= SHOWN_CHARS:
        return text
    return f"{text[: SHOWN_CHARS - 20]}… ({len(text):,} characters)"


def _as_python(value: Any) -> str:
    try:
        return repr(value)
    except (ValueError, RecursionError):  # a number of more than 4,300 digits
        return type(value).__name__


def choices(values: Iterable[object]) -> str:
    """Return `1:1, 16:9, 9:16`."""
    return ", ".join(str(value) for value in values)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `did you mean "free"?`, or all known names when none is similar."""
    known = list(known)
    return did_you_mean(name, known) or f"known: {choices(known)}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `did you mean "free"?`, or "" when no known name is similar."""
    from difflib import get_close_matches  # few commands come here

    near = get_close_matches(name.lower(), list(known), n=1)
    return f'did you mean "{near[0]}"?' if near else ""


def usd(amount: float | None) -> str:
    """Return dollars in cents, with three digits below a dollar: `$13.40`, `$0.134`.

    All money that a user reads is written by this function; JSON has the full precision.
    """
    if amount is None:
        return "cost unknown"
    if 0 < amount < 0.0005:
        return "less than $0.001"
    is_small = 0 < amount < 0.9995
    return f"${amount:.3f}" if is_small else f"${amount:,.2f}"


def local_time(moment: datetime, *, seconds: bool = False) -> str:
    """Return a time in the user's zone, with its name: `2026-12-01 09:00 CET`."""
    local = moment.astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S %Z}" if seconds else f"{local:%Y-%m-%d %H:%M %Z}"


def with_advice(message: str, advice: str) -> str:
    """Append advice to a server's message, which may or may not end with a full stop."""
    if message.endswith("."):
        return f"{message} {advice[:1].upper()}{advice[1:]}"
    return f"{message}; {advice}"
