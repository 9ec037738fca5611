"""Every fault by its name, and several at once.

A fault works at one of four stages, and faults of different stages can be joined by `+` (`escaped+chunked`):
`error` answers with an error, `shape` changes the JSON of a good answer, `write` its bytes, `deliver` how they are sent.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from gemini_batch.errors import ConfigError
from gemini_batch.simulator.answer_faults import ANSWERS
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
        return next((found for fault in self.faults if (found := getattr(fault, name)) is not None), None)


def choose(names: str) -> Chosen:
    """Return the faults that `names` asks for: one, or several joined by `+`, a time in seconds after `=`.

    Raises:
        ConfigError: A name is unknown, or its time is no number.
    """
    faults, seconds = [], None
    for name in names.split("+"):
        plain, _, time_s = name.partition("=")
        if plain not in FAULTS:
            near = get_close_matches(plain, FAULTS, n=3, cutoff=0.5)
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise ConfigError(f"unknown fault {plain!r}{hint}; `simulate --list-faults` names all {len(FAULTS)}")
        fault = FAULTS[plain]
        faults.append(fault)
        try:
            wanted = float(time_s) if time_s else fault.seconds
        except ValueError:
            raise ConfigError(
                f"fault {name!r}: got {time_s!r} for a time; allowed: seconds, such as {plain}=5"
            ) from None
        seconds = wanted if wanted is not None else seconds
    return Chosen(names, tuple(faults), seconds)


NO_FAULT = Chosen("", ())
