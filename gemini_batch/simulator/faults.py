"""Faults by name, alone or combined.

A fault works at one of four stages. Faults of different stages can be combined with `+`, such as
`escaped+chunked`. The stage `error` answers with an error, `shape` changes the JSON of a good
answer, `write` its serialization, `deliver` the way it is sent.
"""

import math
from dataclasses import dataclass
from difflib import get_close_matches
from textwrap import fill
from typing import Any

from gemini_batch.errors import ConfigError
from gemini_batch.simulator.answer_faults import (
    ANSWERS,
    BY_URI,
    DELIVERIES,
    NO_IMAGE,
    REASONS,
    UNUSUAL,
    WRITES,
)
from gemini_batch.simulator.batch_faults import BATCH_FAULTS, At
from gemini_batch.simulator.error_faults import ERRORS
from gemini_batch.simulator.fault import Fault
from gemini_batch.simulator.usage_faults import USAGES

FAULTS: dict[str, Fault] = ERRORS | ANSWERS | USAGES


@dataclass(frozen=True, slots=True)
class FaultSet:
    """Faults to apply to one answer: their names as requested, and at most one per stage."""

    names: str
    faults: tuple[Fault, ...]
    seconds: float | None = None

    def stage(self, name: str) -> Any:
        """Return the function of a stage, or None."""
        return next(
            (found for fault in self.faults if (found := getattr(fault, name)) is not None), None
        )


def parse_faults(names: str) -> FaultSet:
    """Parse the names of faults.

    Args:
        names: One name, or several joined by `+`; each may have a time in seconds after `=`.

    Raises:
        ConfigError: A name is unknown, or a time is not a number of seconds.
    """
    faults, seconds = [], None
    for name in names.split("+"):
        plain, _, time_s = name.partition("=")
        if plain not in FAULTS:
            near = get_close_matches(plain, [*FAULTS, *BATCH_FAULTS], n=3, cutoff=0.5)
            hint = f"; similar: {', '.join(near)}" if near else ""
            raise ConfigError(f"unknown fault {plain!r}{hint}; see `simulate --list-faults`")
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
                    f"fault {name!r}: got {time_s!r} as time; allowed: seconds, such as {plain}=5"
                )
        seconds = wanted if wanted is not None else seconds
    return FaultSet(names, tuple(faults), seconds)


NO_FAULT = FaultSet("", ())

_GROUPS: dict[str, dict[str, Fault]] = {
    "Errors: request, key or project": {
        name: fault
        for name, fault in ERRORS.items()
        if name.startswith("4") and not name.startswith("429")
    },
    "Errors: quota exceeded": {
        name: fault for name, fault in ERRORS.items() if name.startswith("429")
    },
    "Errors: server": {name: fault for name, fault in ERRORS.items() if name.startswith("5")},
    "200 without an image": NO_IMAGE,
    "200 with an unusual answer or image": UNUSUAL,
    "200 with an unusual usage": USAGES,
    "200 that names its image by a URI": BY_URI,
    "JSON serialization": WRITES,
    "Delivery (set the seconds with trickle=5)": DELIVERIES,
}


_INTRODUCTION = """\
In a prompt: A robot [[fault:503 x2]] is answered with 503 twice.
[[fault:escaped+chunked]] combines two faults.
A fault of files and batches is chosen by a display name, or by a prompt of the batch; a rule
searches what is in brackets after its place. All that apply are used.
"""


def _batch_blocks() -> list[str]:
    """Return the faults of files and batches, grouped by place."""
    width = max(map(len, BATCH_FAULTS)) + 2
    blocks = []
    for at in At:
        lines = [
            f"  {name:<{width}}{fault.summary}\n"
            for name, fault in BATCH_FAULTS.items()
            if fault.at is at
        ]
        blocks.append("".join([f"Files and batches: {at}\n", *lines]))
    return blocks


def listing() -> str:
    """Return the text of `--list-faults`: every fault with its effect, grouped."""
    width = max(len(name) for group in _GROUPS.values() for name in group) + 2
    blocks = [_INTRODUCTION]
    for title, group in _GROUPS.items():
        lines = [f"  {name:<{width}}{fault.summary}\n" for name, fault in group.items()]
        blocks.append("".join([f"{title}\n", *lines]))
    named = fill(
        " ".join(REASONS), 98, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
    )
    blocks += _batch_blocks()
    blocks.append(f"Any finishReason or blockReason by its name, without an image\n{named}\n")
    return "\n".join(blocks)
