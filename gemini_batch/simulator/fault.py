"""One fault: an entry of the tables `error_faults.ERRORS` and `answer_faults.ANSWERS`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gemini_batch.simulator.answers import AnswerContext, Json
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.delivery import Deliver


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault; exactly one of its four stages is set.

    Attributes:
        summary: One line for `--list-faults`.
        error: Makes the error answer; None lets the good one pass.
        shape: Changes or replaces the JSON of the good answer.
        write: Serializes the JSON.
        deliver: Sends the bytes.
        seconds: Duration if the marker has none; None if the fault takes no time.
    """

    summary: str
    error: Callable[[AnswerContext], ErrorBody | None] | None = None
    shape: Callable[[AnswerContext, Json], Any] | None = None
    write: Callable[[Json], bytes] | None = None
    deliver: Deliver | None = None
    seconds: float | None = None
