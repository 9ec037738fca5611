"""Fault markers in prompts: `A robot [[fault:503 x2]]` is answered with 503 the first two times.

A marker is `[[fault:NAME]]`. `=SECONDS` after the name sets the duration (`trickle=5`), ` xN`
applies the fault to the first N attempts only, `+` combines faults (`escaped+chunked`). Of several
markers, the first one that is not used up applies: `[[fault:429-minute]]` applies forever,
`[[fault:503 x2]] [[fault:reset x1]]` three times.
"""

import re
from dataclasses import dataclass

from gemini_batch.errors import ConfigError

_MAX_DIGITS = 9
_MARKER = re.compile(r"\s*\[\[fault:\s*(?P<faults>[^\s\]]+?)\s*(?:x(?P<times>\d+))?\s*\]\]")


@dataclass(frozen=True, slots=True)
class Marker:
    """Names of faults, and the number of times to apply them; None is every time."""

    faults: str
    times: int | None


def markers_in(prompt: str) -> list[Marker]:
    """Return the markers of a prompt, in order.

    Raises:
        ConfigError: A count has more than nine digits.
    """
    found = []
    for match in _MARKER.finditer(prompt):
        faults, times = match["faults"], match["times"]
        if times and len(times) > _MAX_DIGITS:
            raise ConfigError(
                f"fault {faults!r}: got x{times[:20]}… as count; "
                f"allowed: x0 to x{'9' * _MAX_DIGITS}"
            )
        found.append(Marker(faults, int(times) if times else None))
    return found


def without_markers(prompt: str) -> str:
    """Return the prompt without its markers."""
    return _MARKER.sub("", prompt).strip()
