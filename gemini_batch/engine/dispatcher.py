"""The spine: each call goes through the quota, over the wire, and into its row, with as many in flight as the quota can use.

Workers take calls from a backlog: first the retries whose time has come, then the manifest's next line. Whatever stops a run is a value that
closes the backlog; what is in flight drains and is written, because it is paid for.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias

from gemini_batch.client.interactive import Transport
from gemini_batch.client.response import parse_answer
from gemini_batch.clock import Clock
from gemini_batch.engine import retry
from gemini_batch.engine.admission import Clearance, Later, Leave
from gemini_batch.engine.call_queue import Backlog, Turn
from gemini_batch.engine.commit import Attempted, Committer
from gemini_batch.engine.concurrency import AdaptiveConcurrency
from gemini_batch.engine.storm import MAX_STORM_S
from gemini_batch.errors import StorageError, describe_os_error, out_of_resources
from gemini_batch.events import (
    CallAbandoned,
    CallRetrying,
    CallSent,
    CallUnanswered,
    Observer,
    Stopping,
)
from gemini_batch.output import OutputFolder
from gemini_batch.output.inflight import InFlightLog
from gemini_batch.quota.limiter import RateLimiter
from gemini_batch.quota.limits import Weights, micros
from gemini_batch.quota.model_quota import Grant
from gemini_batch.records import (
    ApiError,
    Call,
    Estimate,
    Failure,
    FailureKind,
    Reply,
    ResultRow,
    Status,
    Stop,
    StopReason,
)

# With no connection to be had for so long, the run ends; the next one goes on.
OUTAGE_S = 120.0
# What a server says of one model; others of the manifest may do.
_OF_ONE_MODEL = {StopReason.NO_QUOTA, StopReason.ADDRESS, StopReason.MODEL, StopReason.NO_ACCESS}

Prepare: TypeAlias = Callable[[Call, int], Awaitable[Call | None]]
"""Makes a call ready for its attempt; None when it is not to be sent, and its row is written."""


async def _as_it_is(call: Call, _attempt: int) -> Call:
    return call


class Dispatcher:
    """One run of calls through the stations.

    Attributes:
        stops: Why the run takes in no more calls, or none of a model, in the order that it was found out; empty while it does.
        in_flight: Requests that were sent and not yet answered.
    """

    def __init__(
        self,
        *,
        gate: RateLimiter,
        transport: Transport,
        store: OutputFolder,
        committer: Committer,
        in_flight_log: InFlightLog,
        max_attempts: int,
        waits_for_reset: bool = False,
        clock: Clock,
        observe: Observer,
        prepare: Prepare = _as_it_is,
        skip_uncertain: bool = False,
        max_cost_usd: float | None = None,
    ) -> None:
        self._gate = gate
        self._transport = transport
        self._store = store
        self._committer = committer
        self._in_flight_log = in_flight_log
        self._max_attempts = max_attempts
        self._clock = clock
        self._observe = observe
        self._prepare = prepare
        self._skip_uncertain = skip_uncertain
        self._backlog = Backlog(clock)
        self._flow = AdaptiveConcurrency(1)
        self._clearance = Clearance(
            gate,
            store,
            clock,
            observe,
            stop=self.stop,
            model_closed=self._model_closed,
            max_cost_usd=max_cost_usd,
            waits_for_reset=waits_for_reset,
        )
        self._outage = self._clearance.outage
        self._bug: Exception | None = None
        self.stops: list[Stop] = []
        self.in_flight = 0

    async def run(self, calls: Mapping[str, Iterator[Call | Stop]], concurrency: int) -> None:
        """Send all calls, or as many as can be before something stops the run; returns when all that was sent is written.

        Args:
            calls: Of each model, in the order of sending; taken one by one, when a worker is free. A `Stop` among them ends the run.
            concurrency: Most calls in flight.

        Cancellation: what is in flight may have been billed and is lost; all that was answered is written and made durable.
        """
        self._clearance.open(calls)
        self._flow = AdaptiveConcurrency(concurrency)
        self._backlog.fill(calls, self._flow)
        try:
            async with asyncio.TaskGroup() as background:
                durability = background.create_task(
                    self._guarded(self._committer.keep_durable), name="keep durable"
                )
                async with asyncio.TaskGroup() as workers:
                    for number in range(concurrency):
                        workers.create_task(self._guarded(self._work), name=f"worker {number}")
                durability.cancel()
        finally:
            await self._guarded(self._committer.flush)
        if self._bug is not None:
            raise self._bug

    def stop(self, stop: Stop) -> None:
        """Take in no more calls; what is in flight goes on.

        In an outage the stop says so as well: whoever reads only the last words would not know why so little was done.
        """
        if self._outage.why and stop.reason is not StopReason.OUTAGE:
            stop = replace(
                stop, message=f"{stop.message}; the server can't be reached: {self._outage.why}"
            )
        self._close()
        if all(stop.reason != earlier.reason for earlier in self.stops):
            self.stops.append(stop)
            self._observe(Stopping(stop, self.in_flight))

    def _model_closed(self, stop: Stop, model: str) -> None:
        """Send nothing more of a model; with `""`, of any."""
        self.stops.append(stop)
        self._observe(Stopping(stop, self.in_flight, model))
        if model:
            self._backlog.drop(model)
        else:
            self._close()

    def _close(self) -> None:
        self._backlog.close()
        self._clearance.close()

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Let a disk that fails, or a bug, end the run, but never what others have in flight: that is paid for."""
        try:
            await work()
        except StorageError as error:
            self.stop(Stop(StopReason.STORAGE, str(error)))
        except OSError as error:
            self.stop(
                Stop(
                    StopReason.STORAGE,
                    f"the output folder can't be written: {describe_os_error(error)}",
                )
            )
        except Exception as bug:  # noqa: BLE001 # raised again when all is written
            if words := out_of_resources(bug):
                self.stop(Stop(StopReason.STORAGE, words))
                return
            self._bug = self._bug or bug
            self._close()

    # --- the road of one call -----------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while (turn := await self._backlog.next()) is not None:
            if isinstance(turn, Stop):
                self.stop(turn)
                return
            try:
                await self._attempt(turn)
            finally:
                self._backlog.ended(turn)
                self._outage.left(turn.call.id)

    async def _attempt(self, turn: Turn) -> None:
        ready = await self._ready(turn)  # its images can be sent
        if ready is None:
            return
        # There is money, room, a server, and the quota says: now.
        async with self._clearance.leave(ready.call) as leave:
            if isinstance(leave, Later):
                self._backlog.hold(ready.call.request.model, leave.fresh_s)
                self._backlog.later(ready, leave.due_s)
            if not isinstance(leave, Leave):
                return
            attempted, outcome = await self._send(ready)  # an answer that arrived has its row
            leave.spent_usd = _spent_usd(ready.call.estimate, outcome)
            if isinstance(outcome, ResultRow):
                await self._settle(ready.call, leave.grant, outcome)
            else:
                await self._follow(ready, leave.grant, attempted, outcome)
        await self._committer.room()  # and is durable soon

    async def _ready(self, turn: Turn) -> Turn | None:
        """Return the call as it is to be sent; None when its row is written without."""
        if not self._clearance.is_open(turn.call.request.model):
            return turn
        call = await self._prepare(turn.call, turn.attempt)
        if call is None:
            await self._committer.room()
            return None
        return turn if call is turn.call else replace(turn, call=call)

    async def _send(self, turn: Turn) -> tuple[Attempted, ResultRow | ApiError | Failure]:
        """Send a call once; the row of a reply is written without an await after its last byte."""
        call = turn.call
        incoming = self._store.incoming(call.id, turn.attempt, self._clock.utc())
        try:
            self._in_flight_log.sent(call.id, call.request_sha256, self._committer.rows_bytes)
        except OSError:
            incoming.discard()
            raise
        self._observe(CallSent(call.id, turn.attempt, call.request.model))
        self._backlog.sent(turn)
        self.in_flight += 1
        try:
            sent = await self._transport.send(call, incoming, self._outage.over)
        except BaseException:
            incoming.discard()
            self._observe(CallAbandoned(call.id))
            raise
        finally:
            self.in_flight -= 1
        attempted = Attempted(call, turn.attempt, sent.timing)
        outcome: ResultRow | ApiError | Failure
        match parse_answer(sent.answer):
            case Reply() as reply:
                # Should the disk not take it, its parts and its note stay for the next run to see.
                outcome = self._committer.reply(attempted, reply)
            case outcome:
                if isinstance(outcome, Failure) and outcome.may_be_billed:
                    self._observe(CallUnanswered(call.id, turn.attempt, outcome.message))
        self._in_flight_log.ended(call.id)
        incoming.discard()
        return attempted, outcome

    async def _settle(self, call: Call, grant: Grant, row: ResultRow) -> None:
        """Put what a call really used in place of what was reserved for it."""
        self._outage.over()
        self._flow.succeeded()
        self._note_answer(row.model, 200)
        tokens = row.usage.prompt_tokens if row.usage else None
        usd_micros = None if row.cost_usd is None else micros(row.cost_usd)
        estimated = Weights.of(call.estimate)
        await self._gate.reconcile(
            row.model, grant, tokens=tokens, usd_micros=usd_micros, estimated=estimated
        )

    # --- without a reply ----------------------------------------------------------------------------------------------

    async def _follow(
        self, turn: Turn, grant: Grant, attempted: Attempted, error: ApiError | Failure
    ) -> None:
        """Do what the policy says of an attempt that gave no reply."""
        if _never_left(error):
            await self._unreachable(turn, grant, error)
            return
        self._outage.over()
        if isinstance(error, ApiError):
            self._note_answer(turn.call.request.model, error.http_status)
        if _is_overload(error):
            now_s = self._clock.steady_s()
            self._flow.overloaded(now_s - attempted.timing.latency_s, now_s)
        count = turn.attempt
        if isinstance(error, Failure) and error.kind is FailureKind.MALFORMED:
            turn = replace(turn, unusable=turn.unusable + 1)
            count = turn.unusable
        match retry.decide(error, count, random.random):
            case retry.RetryAfter() as decision:
                await self._retry(turn, attempted, error, decision)
            case retry.Reject():
                self._committer.error(attempted, Status.REJECTED, error)
            case retry.GiveUp():
                self._committer.error(attempted, Status.FAILED, error)
            case retry.StopRun(stop):
                self._stop_of(turn.call, stop)
            case retry.CloseDay():
                await self._gate.close_day(turn.call.request.model, grant)
                self._backlog.later(
                    turn, self._clock.steady_s()
                )  # back to the gate, which now says until when

    def _note_answer(self, model: str, http_status: int) -> None:
        """Take in whether a model answers at all: in a storm it is left in peace, and one without end is left for another run."""
        storm, now_s = self._clearance.storms[model], self._clock.steady_s()
        if http_status < 500:
            if storm.over():
                self._backlog.hold(model, now_s)
            return
        storm.failed(http_status, now_s)
        if storm.is_endless(now_s):
            words = f"the server answers nothing but {http_status} for {model}, for {MAX_STORM_S / 60:g} minutes"
            self._clearance.close_model(model, Stop(StopReason.OUTAGE, words))

    def _stop_of(self, call: Call, stop: Stop) -> None:
        """End the run, or its calls of one model, where only that is refused."""
        if stop.reason in _OF_ONE_MODEL:
            self._clearance.close_model(
                call.request.model, retry.advised_of(stop, call.request.model)
            )
        else:
            self.stop(stop)

    async def _retry(
        self,
        turn: Turn,
        attempted: Attempted,
        error: ApiError | Failure,
        decision: retry.RetryAfter,
    ) -> None:
        is_quota = isinstance(error, ApiError) and error.http_status == 429
        if decision.pauses_model:
            why = "the server asked for a pause"
            await self._gate.pause(turn.call.request.model, decision.wait_s, why, overrun=is_quota)
        if self._skip_uncertain and isinstance(error, Failure) and error.may_be_billed:
            self._committer.error(attempted, Status.UNCERTAIN, error)
        elif turn.attempt < self._max_attempts:
            self._later(turn, turn.attempt + 1, decision.wait_s, error)
        elif is_quota:  # not this job's fault, and the next job would fare no better
            words = retry.advised(
                f"the server keeps answering 429: {error.message}", retry.LOWER_LIMITS
            )
            self._stop_of(turn.call, Stop(StopReason.NO_QUOTA, words))
        else:
            self._committer.error(attempted, Status.FAILED, error)

    async def _unreachable(self, turn: Turn, grant: Grant, error: ApiError | Failure) -> None:
        """Not a byte of the request left: it was no attempt. All wait, longer each time, and in the end the run gives up."""
        now_s, model = self._clock.steady_s(), turn.call.request.model
        decision = retry.decide(error, self._outage.failed(now_s, error.message), random.random)
        wait_s = decision.wait_s if isinstance(decision, retry.RetryAfter) else 0.0
        self._outage.wait_until(now_s + wait_s)
        await self._gate.refund(model, grant)
        await self._gate.pause(model, wait_s, "the server can't be reached")
        if self._outage.length_s(now_s) >= OUTAGE_S:
            self.stop(Stop(StopReason.OUTAGE, f"{error.message}, for {OUTAGE_S:g} s"))
        else:
            self._later(turn, turn.attempt, wait_s, error)

    def _later(self, turn: Turn, attempt: int, wait_s: float, error: ApiError | Failure) -> None:
        may_be_billed = isinstance(error, Failure) and error.may_be_billed
        self._observe(
            CallRetrying(
                turn.call.id, turn.attempt, wait_s, error.message, may_be_billed, error.name
            )
        )
        self._backlog.later(replace(turn, attempt=attempt), self._clock.steady_s() + wait_s)


def _spent_usd(estimate: Estimate, outcome: ResultRow | ApiError | Failure) -> float:
    """Return what an attempt cost; where nobody knows, what it was expected to."""
    if isinstance(outcome, ApiError) or (
        isinstance(outcome, Failure) and not outcome.may_be_billed
    ):
        return 0.0
    cost_usd = outcome.cost_usd if isinstance(outcome, ResultRow) else None
    return (estimate.cost_usd or 0.0) if cost_usd is None else cost_usd


def _is_overload(error: ApiError | Failure) -> bool:
    """Tell whether fewer in flight would do better: at the server, or on a line that so many answers share."""
    if isinstance(error, ApiError):
        return error.http_status in {429, 503}
    return error.kind is FailureKind.TIMEOUT


def _never_left(error: ApiError | Failure) -> bool:
    return isinstance(error, Failure) and error.kind is FailureKind.UNREACHABLE
