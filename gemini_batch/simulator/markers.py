"""Faults that a prompt asks for: `A robot [[fault:503 x2]]` is answered with 503 the first two times.

A marker is `[[fault:NAME]]`, with `=SECONDS` after the name where the fault takes time (`trickle=5`), with ` xN` for the first
N times only, and with `+` between faults that work together (`escaped+chunked`). Of several markers the first that is not
used up counts: `[[fault:429-minute]]` never ends, `[[fault:503 x2]] [[fault:reset x1]]` does.
"""

import re
from dataclasses import dataclass

from gemini_batch.errors import ConfigError

_MOST_DIGITS = 9
_MARKER = re.compile(r"\s*\[\[fault:\s*(?P<faults>[^\s\]]+?)\s*(?:x(?P<times>\d+))?\s*\]\]")


@dataclass(frozen=True, slots=True)
class Marker:
    """Faults to apply together, `times` times; None is every time."""

    faults: str
    times: int | None


def markers_in(prompt: str) -> list[Marker]:
    """Return the markers of a prompt, in order.

    Raises:
        ConfigError: A count is beyond all reason, such as one that Python does not even read.
    """
    found = []
    for match in _MARKER.finditer(prompt):
        faults, times = match["faults"], match["times"]
        if times and len(times) > _MOST_DIGITS:
            raise ConfigError(
                f"fault {faults!r}: got x{times[:20]}… for its count; allowed: x0 to x{'9' * _MOST_DIGITS}"
            )
        found.append(Marker(faults, int(times) if times else None))
    return found


def without_markers(prompt: str) -> str:
    """Return the prompt as a person would write it."""
    return _MARKER.sub("", prompt).strip()
