"""Dispatcher: takes calls from the queue, admits them, sends them, and decides what follows.

A reason to stop is a value that closes the queue. Calls in flight are paid for, so they are
completed and written.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from gemini_batch.client.response import parse_answer
from gemini_batch.client.transport import Transport
from gemini_batch.engine import retry
from gemini_batch.engine.admission import AdmissionControl, Admitted, Closed, Deferred
from gemini_batch.engine.call_queue import CallQueue
from gemini_batch.engine.commit import Attempted, Committer
from gemini_batch.engine.lanes import Attempt, Lane
from gemini_batch.engine.preprocess import Preprocessor
from gemini_batch.errors import StorageError, describe_os_error, out_of_resources
from gemini_batch.events import (
    CallAbandoned,
    CallRetrying,
    CallSent,
    CallUnanswered,
    Observer,
    Stopping,
    Waiting,
)
from gemini_batch.records import (
    ApiError,
    Estimate,
    Failure,
    FailureKind,
    Reply,
    ResultRow,
    Status,
    Stop,
    StopReason,
)

# What a server refuses of one model; others of the manifest may be accepted.
_OF_ONE_MODEL = {StopReason.NO_QUOTA, StopReason.ADDRESS, StopReason.MODEL, StopReason.NO_ACCESS}

Outcome: TypeAlias = ResultRow | ApiError | Failure
"""The row of an answer, or why there is none."""


@dataclass(frozen=True, slots=True)
class DispatchRules:
    """Settings of a run that decide about retries.

    Attributes:
        max_attempts: Most attempts of a call.
        skip_uncertain: Do not send a call again that may have been billed.
    """

    max_attempts: int
    skip_uncertain: bool = False


class Dispatcher:
    """Sends the calls of one run.

    Attributes:
        stops: Why no more calls are started, of all models or of one, in the order of events.
        in_flight: Requests that were sent and not yet answered.
    """

    def __init__(
        self,
        *,
        queue: CallQueue,
        admission: AdmissionControl,
        preprocess: Preprocessor,
        transport: Transport,
        committer: Committer,
        rules: DispatchRules,
        observe: Observer,
    ) -> None:
        self._queue = queue
        self._admission = admission
        self._preprocess = preprocess
        self._transport = transport
        self._committer = committer
        self._rules = rules
        self._observe = observe
        self._bug: Exception | None = None
        self.stops: list[Stop] = []
        self.in_flight = 0

    async def run(self, workers: int) -> None:
        """Send all calls, or as many as possible until something stops the run.

        Returns when all that was sent is written and durable.

        Args:
            workers: Most calls under way.

        Cancellation: what is in flight may have been billed and is lost; all that was answered is
        written and made durable.
        """
        try:
            async with asyncio.TaskGroup() as background:
                durability = background.create_task(
                    self._guarded(self._committer.keep_durable), name="keep durable"
                )
                async with asyncio.TaskGroup() as group:
                    for number in range(workers):
                        group.create_task(self._guarded(self._work), name=f"worker {number}")
                durability.cancel()
        finally:
            await self._guarded(self._committer.flush)
        if self._bug is not None:
            raise self._bug

    def stop(self, stop: Stop) -> None:
        """Start no more calls; calls in flight are completed.

        If the server can't be reached the message says so as well: it may be why little was done.
        """
        if (reason := self._queue.server.reason) and stop.reason is not StopReason.OUTAGE:
            message = f"{stop.message}; the server can't be reached: {reason}"
            stop = replace(stop, message=message)
        self._close()
        if all(stop.reason != earlier.reason for earlier in self.stops):
            self.stops.append(stop)
            self._observe(Stopping(stop, self.in_flight))

    def _stop_lane(self, lane: Lane, stop: Stop) -> None:
        """Send nothing more of a model; if no other one is open, end the run."""
        if lane.is_closed:
            return  # another call met the same before
        self._queue.close_lane(lane)
        is_last = not self._queue.open_lanes
        self.stops.append(stop)
        self._observe(Stopping(stop, self.in_flight, "" if is_last else lane.model))
        if is_last:
            self._close()

    def _close(self) -> None:
        self._queue.close()
        self._admission.close()

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Let a disk that fails, or a bug, end the run, but not what others have in flight."""
        try:
            await work()
        except StorageError as error:
            self.stop(Stop(StopReason.STORAGE, str(error)))
        except OSError as error:
            message = f"the output folder can't be written: {describe_os_error(error)}"
            self.stop(Stop(StopReason.STORAGE, message))
        except Exception as bug:  # noqa: BLE001 # raised again when all is written
            if message := out_of_resources(bug):
                self.stop(Stop(StopReason.STORAGE, message))
                return
            self._bug = self._bug or bug
            self._close()

    # --- one attempt ------------------------------------------------------------------------------

    async def _work(self) -> None:
        while (attempt := await self._queue.next()) is not None:
            if isinstance(attempt, Stop):
                self.stop(attempt)
                return
            try:
                await self._attempt(attempt)
            finally:
                self._queue.ended(attempt)
            await self._committer.wait_for_disk()

    async def _attempt(self, attempt: Attempt) -> None:
        """Take one attempt from the queue to its row, or back into the queue."""
        if attempt.lane.is_closed or (call := await self._preprocess(attempt)) is None:
            return
        attempt = replace(attempt, call=call)
        match await self._admission.admit(attempt.lane, call):
            case Admitted() as admitted:
                with admitted:
                    await self._send(attempt, admitted)
            case Deferred(until_s):
                self._queue.defer(attempt, until_s)
            case Closed(Stop() as stop, is_of_lane=True):
                self._stop_lane(attempt.lane, stop)
            case Closed(Stop() as stop):
                self.stop(stop)
            case Closed():
                pass  # known already

    async def _send(self, attempt: Attempt, admitted: Admitted) -> None:
        """Send once, and do what follows from the outcome."""
        attempted, outcome = await self._exchange(attempt)
        admitted.spend(_cost_usd(attempt.call.estimate, outcome))
        if isinstance(outcome, Failure) and outcome.kind is FailureKind.UNREACHABLE:
            await admitted.refund()
            await self._unreachable(attempt, outcome)
            return
        self._connected()
        self._note_outcome(attempt.lane, outcome, attempted.timing.latency_s)
        if isinstance(outcome, ResultRow):
            await admitted.reconcile(outcome)
        else:
            await self._follow_up(attempt, admitted, attempted, outcome)

    async def _exchange(self, attempt: Attempt) -> tuple[Attempted, Outcome]:
        """Send a call and commit its answer; nothing is awaited between last byte and row."""
        call = attempt.call
        staged = self._committer.begin(call, attempt.number)
        self._observe(CallSent(call.id, attempt.number, call.request.model))
        self._queue.sent(attempt)
        self.in_flight += 1
        try:
            exchange = await self._transport.send(call, staged, self._connected)
        except BaseException:
            staged.discard()
            self._observe(CallAbandoned(call.id))
            raise
        finally:
            self.in_flight -= 1
        attempted = Attempted(call, attempt.number, exchange.timing)
        outcome: Outcome
        match parse_answer(exchange.answer):
            case Reply() as reply:
                # If the disk refuses the row, the staged files and the in-flight note stay for the
                # next run.
                outcome = self._committer.reply(attempted, reply)
            case outcome:
                if isinstance(outcome, Failure) and outcome.may_be_billed:
                    self._observe(CallUnanswered(call.id, attempt.number, outcome.message))
        self._committer.end(call.id)
        staged.discard()
        return attempted, outcome

    # --- circuit breakers -------------------------------------------------------------------------

    def _connected(self) -> None:
        if self._queue.server.succeeded():
            self._queue.wake()

    async def _unreachable(self, attempt: Attempt, failure: Failure) -> None:
        """Handle a connection that could not be made: no byte left, so it was no attempt."""
        server = self._queue.server
        if server.failed(self._queue.now_s, failure.message):
            for lane in self._queue.open_lanes:
                # Calls that wait for their permit would get it while they may not be sent.
                await self._admission.pause(lane.model, server.left_s(self._queue.now_s))
        wait_s = server.left_s(self._queue.now_s)
        if server.is_exhausted(self._queue.now_s):
            message = f"{failure.message}, for {server.gives_up_after_s:g} s"
            self.stop(Stop(StopReason.OUTAGE, message))
        else:
            self._put_back(attempt, attempt.number, wait_s, failure)

    def _note_outcome(self, lane: Lane, outcome: Outcome, latency_s: float) -> None:
        """Update the model's circuit breaker and the concurrency."""
        now_s = self._queue.now_s
        if isinstance(outcome, ResultRow):
            self._queue.concurrency.succeeded()
        elif _is_overload(outcome):
            self._queue.concurrency.overloaded(now_s - latency_s, now_s)
        if isinstance(outcome, Failure):
            return
        if isinstance(outcome, ResultRow) or outcome.http_status < 500:
            if lane.breaker.succeeded():
                self._queue.wake()
            return
        status = outcome.http_status
        reason = f"the server answers nothing but {status}"
        if lane.breaker.failed(now_s, reason):
            self._observe(Waiting(lane.model, lane.breaker.left_s(now_s), reason))
        if lane.breaker.is_exhausted(now_s):
            minutes = lane.breaker.gives_up_after_s / 60
            message = (
                f"the server answers nothing but {status} for {lane.model}, for {minutes:g} minutes"
            )
            self._stop_lane(lane, Stop(StopReason.OUTAGE, message))

    # --- without an answer ------------------------------------------------------------------------

    async def _follow_up(
        self, attempt: Attempt, admitted: Admitted, attempted: Attempted, error: ApiError | Failure
    ) -> None:
        """Do what the retry policy decides about an attempt without an answer."""
        count = attempt.number
        if isinstance(error, Failure) and error.kind is FailureKind.MALFORMED:
            attempt = replace(attempt, malformed_answers=attempt.malformed_answers + 1)
            count = attempt.malformed_answers
        match retry.decide(error, count, random.random):
            case retry.RetryAfter() as decision:
                if decision.pauses_model:
                    await admitted.pause(decision.wait_s, overrun=_is_quota(error))
                self._retry(attempt, attempted, error, decision.wait_s)
            case retry.Reject():
                self._committer.error(attempted, Status.REJECTED, error)
            case retry.GiveUp():
                self._committer.error(attempted, Status.FAILED, error)
            case retry.StopRun(stop):
                self._refused(attempt.lane, stop)
            case retry.CloseDay():
                await admitted.close_day()
                self._queue.put_back(attempt)  # admission now says until when

    def _retry(
        self, attempt: Attempt, attempted: Attempted, error: ApiError | Failure, wait_s: float
    ) -> None:
        """Send the call again, unless it may have been billed or has used its attempts."""
        if self._rules.skip_uncertain and isinstance(error, Failure) and error.may_be_billed:
            self._committer.error(attempted, Status.UNCERTAIN, error)
        elif attempt.number < self._rules.max_attempts:
            self._put_back(attempt, attempt.number + 1, wait_s, error)
        elif _is_quota(error):  # not this job's fault, and the next job would fare no better
            message = f"the server keeps answering 429: {error.message}"
            advised = retry.advised(message, retry.LOWER_LIMITS)
            self._refused(attempt.lane, Stop(StopReason.NO_QUOTA, advised))
        else:
            self._committer.error(attempted, Status.FAILED, error)

    def _refused(self, lane: Lane, stop: Stop) -> None:
        """End the run, or only the calls of one model where only that is refused."""
        if stop.reason in _OF_ONE_MODEL:
            self._stop_lane(lane, retry.advised_of(stop, lane.model))
        else:
            self.stop(stop)

    def _put_back(
        self, attempt: Attempt, number: int, wait_s: float, error: ApiError | Failure
    ) -> None:
        call_id, may_be_billed = (
            attempt.call.id,
            isinstance(error, Failure) and error.may_be_billed,
        )
        self._observe(
            CallRetrying(call_id, attempt.number, wait_s, error.message, may_be_billed, error.name)
        )
        self._queue.put_back(replace(attempt, number=number), wait_s)


def _cost_usd(estimate: Estimate, outcome: Outcome) -> float:
    """Return what an attempt cost; its estimate if that is unknown."""
    if isinstance(outcome, ApiError) or (
        isinstance(outcome, Failure) and not outcome.may_be_billed
    ):
        return 0.0
    cost_usd = outcome.cost_usd if isinstance(outcome, ResultRow) else None
    return (estimate.cost_usd or 0.0) if cost_usd is None else cost_usd


def _is_overload(error: ApiError | Failure) -> bool:
    """Return whether fewer calls in flight would help the server, or the line they share."""
    if isinstance(error, ApiError):
        return error.http_status in {429, 503}
    return error.kind is FailureKind.TIMEOUT


def _is_quota(error: ApiError | Failure) -> bool:
    return isinstance(error, ApiError) and error.http_status == 429
