"""Every fault by its name, and several at once.

A fault works at one of four stages, and faults of different stages can be joined by `+` (`escaped+chunked`):
`error` answers with an error, `shape` changes the JSON of a good answer, `write` its bytes, `deliver` how they are sent.
"""

import math
from dataclasses import dataclass
from difflib import get_close_matches
from textwrap import fill
from typing import Any

from gemini_batch.errors import ConfigError
from gemini_batch.simulator.answer_faults import (
    ANSWERS,
    DELIVERIES,
    NO_PICTURE,
    ODD_PICTURE,
    REASONS,
    WRITES,
)
from gemini_batch.simulator.error_faults import ERRORS
from gemini_batch.simulator.fault import Fault

FAULTS: dict[str, Fault] = ERRORS | ANSWERS


@dataclass(frozen=True, slots=True)
class Chosen:
    """Faults to apply to one answer: their names as asked for, and at most one for each stage."""

    names: str
    faults: tuple[Fault, ...]
    seconds: float | None = None

    def stage(self, name: str) -> Any:
        """Return the function of a stage, or None."""
        return next(
            (found for fault in self.faults if (found := getattr(fault, name)) is not None), None
        )


def choose(names: str) -> Chosen:
    """Return the faults that `names` asks for: one, or several joined by `+`, a time in seconds after `=`.

    Raises:
        ConfigError: A name is unknown, or its time is no number of seconds.
    """
    faults, seconds = [], None
    for name in names.split("+"):
        plain, _, time_s = name.partition("=")
        if plain not in FAULTS:
            near = get_close_matches(plain, FAULTS, n=3, cutoff=0.5)
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise ConfigError(
                f"unknown fault {plain!r}{hint}; `simulate --list-faults` names all {len(FAULTS)}"
            )
        fault = FAULTS[plain]
        faults.append(fault)
        wanted = fault.seconds
        if time_s:
            try:
                wanted = float(time_s)
            except ValueError:
                wanted = math.nan
            if not 0 <= wanted < math.inf:
                raise ConfigError(
                    f"fault {name!r}: got {time_s!r} for a time; allowed: seconds, such as {plain}=5"
                )
        seconds = wanted if wanted is not None else seconds
    return Chosen(names, tuple(faults), seconds)


NO_FAULT = Chosen("", ())

_GROUPS: dict[str, dict[str, Fault]] = {
    "Errors: the request, the key or the project": {
        name: fault
        for name, fault in ERRORS.items()
        if name.startswith("4") and not name.startswith("429")
    },
    "Errors: too many requests": {
        name: fault for name, fault in ERRORS.items() if name.startswith("429")
    },
    "Errors: the server": {name: fault for name, fault in ERRORS.items() if name.startswith("5")},
    "A 200 without a picture": NO_PICTURE,
    "A 200 whose picture, or what is around it, is odd": ODD_PICTURE,
    "How its JSON is written": WRITES,
    "How it is sent (other times as in trickle=5)": DELIVERIES,
}


def listing() -> str:
    """Return every fault with what it does, under headings, for a person."""
    width = max(len(name) for group in _GROUPS.values() for name in group) + 2
    blocks = [
        "In a prompt: A robot [[fault:503 x2]] is answered with 503 twice; [[fault:escaped+chunked]] is both.\n"
    ]
    for title, group in _GROUPS.items():
        lines = [f"  {name:<{width}}{fault.says}\n" for name, fault in group.items()]
        blocks.append("".join([f"{title}\n", *lines]))
    named = fill(
        " ".join(REASONS), 98, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
    )
    blocks.append(f"Any finishReason or blockReason by its name, without a picture\n{named}\n")
    return "\n".join(blocks)
