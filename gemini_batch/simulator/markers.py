"""Faults that a prompt asks for: `A robot [[fault:503 x2]]` is answered with 503 the first two times.

A marker is `[[fault:NAME]]`, with `=SECONDS` after the name where the fault takes time (`trickle=5`), with ` xN` for the first
N times only, and with `+` between faults that work together (`escaped+chunked`). Of several markers the first that is not
used up counts: `[[fault:429-minute]]` never ends, `[[fault:503 x2]] [[fault:reset x1]]` does.
"""

import re
from dataclasses import dataclass

_MARKER = re.compile(r"\s*\[\[fault:\s*(?P<faults>[^\s\]]+?)\s*(?:x(?P<times>\d+))?\s*\]\]")


@dataclass(frozen=True, slots=True)
class Marker:
    """Faults to apply together, `times` times; None is every time."""

    faults: str
    times: int | None


def markers_in(prompt: str) -> list[Marker]:
    """Return the markers of a prompt, in order."""
    return [
        Marker(found["faults"], int(found["times"]) if found["times"] else None) for found in _MARKER.finditer(prompt)
    ]


def without_markers(prompt: str) -> str:
    """Return the prompt as a person would write it."""
    return _MARKER.sub("", prompt).strip()
