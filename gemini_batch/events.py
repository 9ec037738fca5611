"""Events of a run: the engine emits them, observers decide what to show."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

from gemini_batch.records import Load, Stop

if TYPE_CHECKING:
    from gemini_batch.records import ResultRow


@dataclass(frozen=True, slots=True)
class Repaired:
    """Something that an earlier, killed run left behind was repaired.

    `pays` is true if a call is therefore sent, and paid for, again; also a quiet run says so.
    """

    message: str
    pays: bool = False


@dataclass(frozen=True, slots=True)
class LedgerNotice:
    """The ledger of several machines can't be reached, or answers again.

    It may be emitted in a thread, because the run waits.
    """

    message: str


@dataclass(frozen=True, slots=True)
class ManifestWarning:
    """The manifest has something that the API may refuse; it is sent anyway."""

    message: str


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The manifest is valid and the first request is about to be sent.

    Attributes:
        todo: Calls to send.
        reused: Calls whose answer is copied from another folder, at no cost.
        edited: Calls of `todo` whose line was edited since: they are paid for again.
        cost_usd: Cost of `todo` at list price; None when a model's price is unknown.
        duration_s: The shortest time that the quota allows, without days of waiting.
        days: Number of Pacific dates that it takes.
        bound_by: The limit that takes the longest; "" when there is none.
        waiting: Calls that wait in open batches.
        route: The way of the calls to send: `interactive`, `batch` or `auto`.
        notices: State and successor of each model that will not stay.
        later: Calls that are not done, and not in the part that this run is for.
        max_cost_usd: The budget; None for none.
        is_simulated: The answers are the embedded simulator's: nothing is paid.
        held: Calls that can't be sent, because the picture of another call is missing, by reason.
        stale: Calls that are done with a picture that was or will be made again.
        depth: The most calls that follow each other.
        waiting_usd: Expected cost of the calls that wait.
        submitted_at_first: About how many calls of `todo` the budget holds enough for, in batches,
            until answers show what they cost; None if that does not hold any back.
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
    notices: tuple[str, ...] = ()
    waiting: int = 0
    route: str = "interactive"
    is_simulated: bool = False
    later: int = 0
    max_cost_usd: float | None = None
    held: Mapping[str, int] = field(default_factory=dict)
    stale: int = 0
    depth: int = 1
    waiting_usd: float = 0.0
    submitted_at_first: int | None = None


@dataclass(frozen=True, slots=True)
class CallNotReused:
    """An answer of another folder can't be reused: the call is sent, and paid for, after all."""

    call_id: str
    message: str


@dataclass(frozen=True, slots=True)
class CallHeld:
    """A call is not sent, because the picture of another call is gone: `message` says which."""

    call_id: str
    message: str


@dataclass(frozen=True, slots=True)
class CallSent:
    """An attempt's request is being sent; `model` is its lane, with the service tier."""

    call_id: str
    attempt: int
    model: str


@dataclass(frozen=True, slots=True)
class CallUnanswered:
    """An attempt was sent and got no usable answer: it may have been billed."""

    call_id: str
    attempt: int
    message: str


@dataclass(frozen=True, slots=True)
class CallRetrying:
    """An attempt failed; the call is sent again after `wait_s` seconds.

    `reason` is short: `503 UNAVAILABLE`, `TIMEOUT`.
    """

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

    The row is at `offset_bytes` of `results.jsonl`. An unknown price leaves `estimated_usd` None.
    `lane` is that of the call, "" for the lane of the row's model.
    """

    row: "ResultRow"
    offset_bytes: int
    estimated_usd: float | None = None
    lane: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing of a model is sent for `wait_s` seconds."""

    model: str
    wait_s: float
    why: str


@dataclass(frozen=True, slots=True)
class ModelReplaced:
    """The API no longer has the default model: the run continues with its successor."""

    model: str
    successor: str
    message: str


@dataclass(frozen=True, slots=True)
class BatchSeen:
    """A batch was created, looked at, or collected.

    Attributes:
        batch: Its name on the server, or its uuid while it has none.
        calls: Number of calls in it.
        done: How many of them have ended, by the server; None if unknown.
        state: `PENDING`, `RUNNING`, `SUCCEEDED` … by the server; "" if unknown.
        since: When it was created.
        is_new: It was created now.
        is_over: Its calls have their rows.
    """

    batch: str
    model: str
    calls: int
    done: int | None
    state: str
    since: datetime
    is_new: bool = False
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class BatchNotice:
    """Something about a batch that the user should know; `pays` as that of `Repaired`."""

    message: str
    pays: bool = False


@dataclass(frozen=True, slots=True)
class LittleRoom:
    """The disk has too little space for a full set of answers in flight. Emitted once per run."""

    out: str


@dataclass(frozen=True, slots=True)
class Stopping:
    """No more calls are started; the `in_flight` answers, already paid for, are awaited.

    `model` is the one that stops while others continue; "" when all stop.
    """

    stop: Stop
    in_flight: int
    model: str = ""


Event: TypeAlias = (
    Repaired
    | LedgerNotice
    | ManifestWarning
    | RunStarted
    | CallNotReused
    | CallHeld
    | CallSent
    | CallUnanswered
    | CallRetrying
    | CallAbandoned
    | CallFinished
    | Waiting
    | ModelReplaced
    | BatchSeen
    | BatchNotice
    | LittleRoom
    | Stopping
)
Observer: TypeAlias = Callable[[Event], None]


class SafeObserver:
    """An observer that gets no more events once it can't write; the run continues."""

    def __init__(self, observe: Observer) -> None:
        self._observe: Observer | None = observe

    def __call__(self, event: Event) -> None:
        """Pass an event on."""
        if self._observe is not None:
            try:
                self._observe(event)
            except OSError:  # the reader of our output has gone, or the log's disk is full
                self._observe = None
