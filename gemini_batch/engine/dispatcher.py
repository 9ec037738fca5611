"""Dispatcher: takes calls from the queue, admits them, sends them, and decides what follows.

A reason to stop is a value that closes the queue. Calls in flight are paid for, so they are
completed and written.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
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
from gemini_batch.records import ApiError, Failure, FailureKind, Reply, ResultRow, Stop, StopReason

Outcome: TypeAlias = ResultRow | ApiError | Failure
"""The row of an answer, or why there is none."""


@dataclass(kw_only=True, eq=False, repr=False)
class Dispatcher:
    """Sends the calls of one run.

    Attributes:
        stops: Why no more calls are started, of all models or of one, in the order of events.
        in_flight: Requests that were sent and not yet answered.
    """

    queue: CallQueue
    admission: AdmissionControl
    preprocess: Preprocessor
    transport: Transport
    committer: Committer
    rules: retry.RetryRules
    observe: Observer
    stops: list[Stop] = field(default_factory=list, init=False)
    in_flight: int = field(default=0, init=False)
    _run_stops: set[StopReason] = field(default_factory=set, init=False)
    _bug: Exception | None = field(default=None, init=False)

    async def run(self, workers: int) -> None:
        """Send all calls, at most `workers` at a time, until something stops the run.

        Returns when all that was sent is written and durable.

        Cancellation: what is in flight may have been billed and is lost; all that was answered is
        written and made durable.
        """
        try:
            async with asyncio.TaskGroup() as background:
                durability = background.create_task(
                    self._guarded(self.committer.keep_durable), name="keep durable"
                )
                async with asyncio.TaskGroup() as group:
                    for number in range(workers):
                        group.create_task(self._guarded(self._work), name=f"worker {number}")
                durability.cancel()
        finally:
            await self._guarded(self.committer.flush)
        if self._bug is not None:
            raise self._bug

    def stop(self, stop: Stop) -> None:
        """Start no more calls; calls in flight are completed.

        If the server can't be reached the message says so as well: it may be why little was done.
        """
        if (reason := self.queue.server.reason) and stop.reason is not StopReason.OUTAGE:
            message = f"{stop.message}; the server can't be reached: {reason}"
            stop = replace(stop, message=message)
        self._close()
        if stop.reason not in self._run_stops:
            self._run_stops.add(stop.reason)
            self.stops.append(stop)
            self.observe(Stopping(stop, self.in_flight))

    def _stop_run_or_lane(self, lane: Lane, stop: Stop) -> None:
        if stop.reason in retry.OF_ONE_MODEL:
            self._stop_lane(lane, stop)
        else:
            self.stop(stop)

    def _stop_lane(self, lane: Lane, stop: Stop) -> None:
        """Send nothing more of a model; if no other one is open, end the run."""
        if lane.is_closed:
            return  # another call met the same before
        self.queue.close_lane(lane)
        is_last = not self.queue.open_lanes
        self.stops.append(stop)
        self.observe(Stopping(stop, self.in_flight, "" if is_last else lane.model))
        if is_last:
            self._close()

    def _close(self) -> None:
        self.queue.close()
        self.admission.close()

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

    async def _work(self) -> None:
        while (attempt := await self.queue.next()) is not None:
            if isinstance(attempt, Stop):
                self.stop(attempt)
                return
            try:
                await self._attempt(attempt)
            finally:
                self.queue.ended(attempt)
            await self.committer.wait_for_disk()

    async def _attempt(self, attempt: Attempt) -> None:
        """Take one attempt from the queue to its row, or back into the queue."""
        if attempt.lane.is_closed or (call := await self.preprocess(attempt)) is None:
            return
        attempt = replace(attempt, call=call)
        match await self.admission.admit(attempt.lane, call):
            case Admitted() as admitted:
                with admitted.held:  # the disk space, until an error has its row as well
                    attempted, outcome = await self._exchange(attempt)
                    await admitted.settle(outcome)
                    await self._note(attempt.lane, outcome, attempted.timing.latency_s)
                    if not isinstance(outcome, ResultRow):
                        await self._follow_up(attempt, admitted, attempted, outcome)
            case Deferred(until_s):
                self.queue.defer(attempt, until_s)
            case Closed(stop):
                if stop is not None:
                    self._stop_run_or_lane(attempt.lane, stop)

    async def _exchange(self, attempt: Attempt) -> tuple[Attempted, Outcome]:
        """Send a call; nothing is awaited between the last byte of a reply and its row."""
        call = attempt.call
        staged = self.committer.begin(call, attempt.number)
        self.observe(CallSent(call.id, attempt.number, call.request.model))
        self.queue.sent(attempt)
        self.in_flight += 1
        try:
            exchange = await self.transport.send(call, staged, self._connected)
        except BaseException:
            staged.discard()  # the in-flight note stays: it may have been billed
            self.observe(CallAbandoned(call.id))
            raise
        finally:
            self.in_flight -= 1
        attempted = Attempted(call, attempt.number, exchange.timing)
        outcome: Outcome
        match parse_answer(exchange.answer):
            case Reply() as reply:
                # If the disk refuses the row, the staged files and the in-flight note stay for the
                # next run.
                outcome = self.committer.reply(attempted, reply)
            case ApiError() | Failure() as error:
                outcome = error
                if isinstance(error, Failure) and error.may_be_billed:
                    self.observe(CallUnanswered(call.id, attempt.number, error.message))
        self.committer.end(call.id)
        staged.discard()
        return attempted, outcome

    def _connected(self) -> None:
        if self.queue.server.succeeded():
            self.queue.wake()

    async def _note(self, lane: Lane, outcome: Outcome, latency_s: float) -> None:
        """Let the outcome open or close circuit breakers; stop what one gives up on."""
        opened, now_s = self.queue.note(lane, outcome, latency_s), self.queue.now_s
        if opened is lane.server:
            for each in self.queue.open_lanes:
                # Calls that wait for their permit would get it while they may not be sent.
                await self.admission.pause(each.model, opened.left_s(now_s))
        elif opened is not None:
            self.observe(Waiting(lane.model, opened.left_s(now_s), opened.reason))
        if lane.server.is_exhausted(now_s):
            message = f"{lane.server.reason}, for {lane.server.gives_up_after_s:g} s"
            self.stop(Stop(StopReason.OUTAGE, message))
        elif lane.breaker.is_exhausted(now_s):
            minutes = lane.breaker.gives_up_after_s / 60
            message = f"{lane.breaker.reason} for {lane.model}, for {minutes:g} minutes"
            self._stop_lane(lane, Stop(StopReason.OUTAGE, message))

    async def _follow_up(
        self, attempt: Attempt, admitted: Admitted, attempted: Attempted, error: ApiError | Failure
    ) -> None:
        """Do what the retry policy decides about an attempt without an answer."""
        if isinstance(error, Failure) and error.kind is FailureKind.UNREACHABLE:
            # No byte left, so it was no attempt.
            wait_s = attempt.lane.server.left_s(self.queue.now_s)
            self._put_back(attempt, attempt.number, wait_s, error)
            return
        if isinstance(error, Failure) and error.kind is FailureKind.MALFORMED:
            attempt = replace(attempt, malformed_answers=attempt.malformed_answers + 1)
        match retry.follow_up(
            error,
            self.rules,
            model=attempt.lane.model,
            attempt=attempt.number,
            malformed_answers=attempt.malformed_answers,
            random=random.random,
        ):
            case retry.RetryAfter(wait_s, pauses_model):
                if pauses_model:
                    await admitted.pause(wait_s, overrun=retry.is_quota(error))
                self._put_back(attempt, attempt.number + 1, wait_s, error)
            case retry.EndCall(status):
                self.committer.error(attempted, status, error)
            case Stop() as stop:
                self._stop_run_or_lane(attempt.lane, stop)
            case retry.CloseDay():
                await admitted.close_day()
                self.queue.put_back(attempt)  # admission now says until when

    def _put_back(
        self, attempt: Attempt, number: int, wait_s: float, error: ApiError | Failure
    ) -> None:
        if attempt.lane.is_closed:
            return  # it is left to the next run
        may_be_billed = isinstance(error, Failure) and error.may_be_billed
        call_id, message, reason = attempt.call.id, error.message, error.name
        self.observe(CallRetrying(call_id, attempt.number, wait_s, message, may_be_billed, reason))
        self.queue.put_back(replace(attempt, number=number), wait_s)
