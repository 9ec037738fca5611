"""What one fault is: a name's line in the tables `error_faults.ERRORS` and `answer_faults.ANSWERS`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gemini_batch.simulator.answers import Json, Scene
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.delivery import Deliver


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong: exactly one of the four stages is set.

    Attributes:
        says: One line for a person.
        error: Answers with an error.
        shape: Changes the JSON of the good answer, or puts another in its place.
        write: Turns the JSON into bytes.
        deliver: Sends the bytes.
        seconds: How long it takes if the marker does not say; None where time is not the fault.
    """

    says: str
    error: Callable[[Scene], ErrorBody] | None = None
    shape: Callable[[Scene, Json], Any] | None = None
    write: Callable[[Json], bytes] | None = None
    deliver: Deliver | None = None
    seconds: float | None = None
