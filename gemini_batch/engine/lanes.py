"""Lane: all state of one model within a run."""

import asyncio
import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import InitVar, dataclass, field, replace
from math import inf

from gemini_batch.engine.breaker import SERVER_GIVES_UP_AFTER_S, CircuitBreaker, model_breaker
from gemini_batch.engine.error_kinds import kind_of
from gemini_batch.engine.retry import is_limited
from gemini_batch.engine.retry_table import NOT_REACHED, SERVER_FAILURES
from gemini_batch.records import (
    ApiError,
    Call,
    Failure,
    FailureKind,
    ResultRow,
    Stop,
    StopReason,
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sending of a call.

    Attributes:
        number: Counts from 1.
        unusable: Kinds of the answers of the call so far that could not be used, if the retry
            policy limits them.
        may_be_billed: An earlier attempt of the call may have been billed.
    """

    call: Call
    lane: "Lane"
    number: int = 1
    unusable: tuple[FailureKind, ...] = ()
    may_be_billed: bool = False

    def after(self, error: ApiError | Failure) -> "Attempt":
        """Return the attempt with what is known once it has ended without an answer."""
        if isinstance(error, Failure) and is_limited(error):
            return replace(self, unusable=(*self.unusable, error.kind))
        return self


@dataclass(eq=False, slots=True)
class Streak:
    """Outcomes in a row that say the same."""

    _said: str = ""
    _length: int = 0

    def note(self, said: str) -> int:
        """Note an outcome; return how many in a row said this."""
        self._length = self._length + 1 if said == self._said else 1
        self._said = said
        return self._length

    def end(self) -> None:
        """Note an outcome of another kind."""
        self._length = 0


@dataclass(eq=False, slots=True)
class Lane:
    """The calls of one model, and everything that can hold them back.

    Attributes:
        server: The breaker of the server, which all lanes share.
        breaker: The breaker of the model.
        quiet_until_s: Nothing is handed out before, steady clock: the quota's day is used up.
        is_closed: Nothing more of the model is sent in this run.
        stopped: Set once that is so, or the run has stopped; calls then wait for no permit.
        waiting: Calls that were handed out and are not sent yet.
        outstanding: Calls that were handed out and have not ended.
        refusals: Its calls in a row that were rejected with the same message.
        successor: The model of the calls that name none, once the API does not have this one.
        gone: Why the lane's calls that name the model can't be sent; None while it is there.
        next_lane: The lane that took over the others.
    """

    model: str
    server: CircuitBreaker
    _first: InitVar[Iterator[Call | Stop | None] | None]
    breaker: CircuitBreaker = field(default_factory=model_breaker)
    quiet_until_s: float = 0.0
    is_closed: bool = False
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: set[str] = field(default_factory=set)
    outstanding: int = 0
    refusals: Streak = field(default_factory=Streak)
    successor: str | None = None
    gone: Stop | None = None
    next_lane: "Lane | None" = None
    _new: deque[Iterator[Call | Stop | None]] = field(default_factory=deque)
    _is_dry: bool = False  # no call was ready when one was asked for last
    _retries: list[tuple[float, int, Attempt]] = field(default_factory=list)

    def __post_init__(self, first: Iterator[Call | Stop | None] | None) -> None:
        """Start with the lane's own calls; None in their place is none yet."""
        self._new.extend(() if first is None else (first,))

    @property
    def retries(self) -> int:
        """The number of attempts that wait for their time."""
        return len(self._retries)

    def retry_at(self, due_s: float, sequence: int, attempt: Attempt) -> None:
        """Hand the attempt out at `due_s`, steady clock; equal times in order of `sequence`."""
        heapq.heappush(self._retries, (due_s, sequence, attempt))

    def next_at_s(self, *, takes_new: bool) -> float | None:
        """Return when the next attempt can be handed out, steady clock; None when none is left.

        Infinity while a call probes whether the model or the server answers again. With
        `takes_new`, calls that were never sent count.
        """
        has_new = takes_new and bool(self._new) and not self._is_dry
        if not has_new and not self._retries:
            return None
        due_s = 0.0 if has_new else self.retry_due_s
        return max(due_s, self.quiet_until_s, self.breaker.ready_at_s, self.server.ready_at_s)

    @property
    def retry_due_s(self) -> float:
        """The time when the earliest retry is due, steady clock; infinity without one."""
        return self._retries[0][0] if self._retries else inf

    def take(self, now_s: float, *, takes_new: bool) -> Attempt | Stop | None:
        """Return the next attempt: a retry that is due, else a new call; None without any.

        A new call probes if possible, so that no call uses up its attempts by probing.
        """
        found: Attempt | Stop | None = None
        if takes_new and (self.breaker.is_open or self.retry_due_s > now_s):
            found = self._take_new()
        if found is None and self.retry_due_s <= now_s:
            found = heapq.heappop(self._retries)[2]
        if isinstance(found, Attempt):
            self.waiting.add(found.call.id)
            self.outstanding += 1
            self.breaker.hand_out(found.call.id)
            self.server.hand_out(found.call.id)
        return found

    def allows(self, call_id: str, now_s: float) -> bool:
        """Return whether a call that has its permit may be sent now; if one must probe, it does."""
        return (
            not self.is_closed
            and self.breaker.allows(call_id, now_s)
            and self.server.allows(call_id, now_s)
        )

    def note(self, outcome: ResultRow | ApiError | Failure, now_s: float) -> CircuitBreaker | None:
        """Update the breakers; return the one that the outcome opened, first or again."""
        if isinstance(outcome, Failure) and outcome.kind is FailureKind.UNREACHABLE:
            return self.server if self.server.failed(now_s, outcome.message) else None
        self.server.succeeded()
        if isinstance(outcome, ApiError) and (kind := kind_of(outcome)) in SERVER_FAILURES:
            reason = f"the server answers nothing but {outcome.http_status}"
            # Where nothing has reached the model, it may be well.
            patience_s = SERVER_GIVES_UP_AFTER_S if kind in NOT_REACHED else inf
            return self.breaker if self.breaker.failed(now_s, reason, patience_s) else None
        if not isinstance(outcome, Failure):
            self.breaker.succeeded()
        return None

    def outage(self, now_s: float) -> Stop | None:
        """Return a stop once the server, or the model, has not answered for too long."""
        if (after_s := self.server.exhausted_after_s(now_s)) is not None:
            return Stop(StopReason.OUTAGE, f"{self.server.reason}, for {after_s:g} s")
        if (after_s := self.breaker.exhausted_after_s(now_s)) is not None:
            message = f"{self.breaker.reason} for {self.model}, for {after_s / 60:g} minutes"
            return Stop(StopReason.OUTAGE, message, model=self.model)
        return None

    def sent(self, call_id: str) -> None:
        """Note that a call is sent."""
        self.waiting.discard(call_id)

    def ended(self, call_id: str) -> None:
        """Note that a call that was handed out has ended or was put back."""
        self.waiting.discard(call_id)
        self.outstanding -= 1
        self.release(call_id)

    def release(self, call_id: str) -> None:
        """Let another call probe, if this one was to."""
        self.breaker.release(call_id)
        self.server.release(call_id)

    def hand_over(self, next_lane: "Lane", gone: Stop, now_s: float) -> None:
        """Give the calls that name no model to the successor's lane, and close this one.

        A call that waits to be sent again is due at once: its wait was for the model that is gone.
        In the place of a call that names the model, `gone` is handed out.
        """
        self.gone, self.next_lane = gone, next_lane
        if not next_lane.is_closed:
            for calls in self._new:
                next_lane.add_calls(_moved(calls, gone))
            for _, sequence, attempt in self._retries:
                if (moved := self.current(attempt)).lane is next_lane:
                    next_lane.retry_at(now_s, sequence, moved)
        self.close()

    def add_calls(self, calls: Iterator[Call | Stop | None]) -> None:
        """Hand these out after the lane's own calls."""
        self._new.append(calls)
        self._is_dry = False

    def refill(self) -> None:
        """Look again for new calls: a call that ended may have made others ready."""
        self._is_dry = False

    def current(self, attempt: Attempt) -> Attempt:
        """Return the attempt as it can be sent now: of the next lane, if it may be replaced."""
        if self.next_lane is None or attempt.call.if_gone is None:
            return attempt
        return replace(attempt, call=attempt.call.if_gone, lane=self.next_lane)

    def passes_on(self, call: Call) -> bool:
        """Return whether the next lane has taken over a call."""
        return self.next_lane is not None and call.if_gone is not None

    def close(self) -> None:
        """Hand out nothing more."""
        self.is_closed = True
        self.stopped.set()
        self._new.clear()
        self._retries.clear()

    def _take_new(self) -> Attempt | Stop | None:
        waiting = 0
        while waiting < len(self._new):
            try:
                call = next(self._new[0])
            except StopIteration:
                self._new.popleft()
                continue
            if call is not None:
                return Attempt(call, self) if isinstance(call, Call) else call
            self._new.rotate(-1)
            waiting += 1
        self._is_dry = True
        return None


def _moved(calls: Iterator[Call | Stop | None], gone: Stop) -> Iterator[Call | Stop | None]:
    """Yield the calls that name no model, of its successor; a stop for each of the others."""
    for call in calls:
        yield (call.if_gone or gone) if isinstance(call, Call) else call
