"""What a run tells while it goes on; the engine emits, whoever watches decides what to show."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gemini_batch.records import ResultRow, Stop


@dataclass(frozen=True, slots=True)
class Repaired:
    """Something that an earlier, killed run left behind was put right."""

    message: str


@dataclass(frozen=True, slots=True)
class Load:
    """Calls of one model that are to be sent, as the plan has them.

    Attributes:
        calls: How many.
        input_tokens: Of all of them.
        cost_usd: Of all of them, at list price; None when the price is unknown.
    """

    calls: int
    input_tokens: int
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The manifest is valid and the first request is about to be sent.

    Attributes:
        todo: Calls to send.
        done: Calls that were finished by earlier runs.
        reused: Calls whose answer is copied from another folder, at no cost.
        edited: Calls of `todo` whose line was edited since: they are paid for again.
        cost_usd: What `todo` costs at list price; None when a model's price is unknown.
        duration_s: How long the quota takes for it, at the least, days of waiting left out.
        days: On how many Pacific dates.
        bound_by: The limit that takes the longest; "" when there is none.
        out: The output folder.
        tier: The tier's name.
        loads: What is to be sent of each model.
        is_simulated: Nothing is paid, for the answers are the embedded simulator's.
    """

    todo: int
    done: int
    reused: int
    edited: int
    cost_usd: float | None
    duration_s: float
    days: int
    bound_by: str
    out: str
    tier: str
    loads: Mapping[str, Load]
    is_simulated: bool = False


@dataclass(frozen=True, slots=True)
class CallNotReused:
    """An answer of another folder was to be reused and can't be: the call is sent, and paid for, after all."""

    call_id: str
    message: str


@dataclass(frozen=True, slots=True)
class CallSent:
    """An attempt's request is leaving."""

    call_id: str
    attempt: int
    model: str


@dataclass(frozen=True, slots=True)
class CallUnanswered:
    """An attempt was sent and gave nothing that can be used: it may have been billed."""

    call_id: str
    attempt: int
    message: str


@dataclass(frozen=True, slots=True)
class CallRetrying:
    """An attempt gave nothing; the call is sent again after `wait_s` seconds. `reason` is short: `503 UNAVAILABLE`, `TIMEOUT`."""

    call_id: str
    attempt: int
    wait_s: float
    message: str
    may_be_billed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class CallAbandoned:
    """The run was cancelled while the call was in flight: it may have been billed."""

    call_id: str


@dataclass(frozen=True, slots=True)
class CallFinished:
    """A call ended, and its row and its image are durable.

    Attributes:
        row: Its row.
        place: Where the row begins in `results.jsonl`, in bytes.
        estimated_usd: What the plan said that the call would cost; None when the price is unknown.
    """

    row: ResultRow
    place: int
    estimated_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing of a model is sent for `wait_s` seconds, because of `why`."""

    model: str
    wait_s: float
    why: str


@dataclass(frozen=True, slots=True)
class LittleRoom:
    """The disk has no room for the answers of as many calls as could be in flight: fewer are; `out` is the folder. Told once a run."""

    out: str


@dataclass(frozen=True, slots=True)
class Stopping:
    """No more calls are taken in; `in_flight` answers, already paid for, are waited for.

    Attributes:
        stop: Why.
        in_flight: Calls that are waited for, of all models.
        model: The one model that it is about, while others go on; "" when it is about all.
    """

    stop: Stop
    in_flight: int
    model: str = ""


Event: TypeAlias = (
    Repaired
    | RunStarted
    | CallNotReused
    | CallSent
    | CallUnanswered
    | CallRetrying
    | CallAbandoned
    | CallFinished
    | Waiting
    | LittleRoom
    | Stopping
)
Observer: TypeAlias = Callable[[Event], None]


class SafeObserver:
    """An observer that may go away: when it can't write any more, it is told nothing more, and the run goes on."""

    def __init__(self, observe: Observer) -> None:
        self._observe: Observer | None = observe

    def __call__(self, event: Event) -> None:
        """Tell it what happened."""
        if self._observe is not None:
            try:
                self._observe(event)
            except OSError:  # whoever read our words has gone, or the disk with the log is full
                self._observe = None
