"""The spine: each call goes through the quota, over the wire, and into its row, with as many in flight as the quota can use.

Workers take calls from a backlog: first the retries whose time has come, then the manifest's next line. Whatever stops a run is a value that
closes the backlog; what is in flight drains and is written, because it is paid for.
"""

import asyncio
import random
from collections.abc import Coroutine, Iterable, Iterator

from gemini_batch.answer import judge
from gemini_batch.backlog import Backlog, Turn
from gemini_batch.clock import Clock
from gemini_batch.commit import Attempted, Committer
from gemini_batch.errors import StorageError
from gemini_batch.events import CallAbandoned, CallRetrying, CallSent, Observer, Stopping
from gemini_batch.inflight import InFlightLog
from gemini_batch.policy import retry
from gemini_batch.quota.gate import Gate
from gemini_batch.quota.bounds import Weights
from gemini_batch.quota.ledger import DayClosed, Grant
from gemini_batch.records import ApiError, Call, Failure, FailureKind, Outcome, Reply, Status, Stop, StopReason
from gemini_batch.store import Store
from gemini_batch.transport.interactive import Sent, Transport

# With no connection to be had for so long, the run ends; the next one goes on.
OUTAGE_S = 120.0


class Dispatcher:
    """One run of calls through the stations.

    Attributes:
        stops: Why the run takes in no more calls, in the order that it was found out; empty while it does.
        in_flight: Requests that were sent and not yet answered.
    """

    def __init__(
        self,
        gate: Gate,
        transport: Transport,
        store: Store,
        committer: Committer,
        in_flight_log: InFlightLog,
        *,
        max_attempts: int,
        clock: Clock,
        observe: Observer,
    ) -> None:
        self._gate = gate
        self._transport = transport
        self._store = store
        self._committer = committer
        self._in_flight_log = in_flight_log
        self._max_attempts = max_attempts
        self._clock = clock
        self._observe = observe
        self._backlog = Backlog(clock)
        self._closed = asyncio.Event()
        self._open_models: set[str] = set()
        self._bug: Exception | None = None
        self._unreachable_since_s: float | None = None
        self.stops: list[Stop] = []
        self.in_flight = 0

    async def run(self, calls: Iterator[Call | Stop], models: Iterable[str], concurrency: int) -> None:
        """Send all calls, or as many as can be before something stops the run; returns when all that was sent is written.

        Args:
            calls: In the order of sending; taken one by one, when a worker is free. A `Stop` among them ends the run.
            models: The models that these calls use.
            concurrency: Most calls in flight.

        Cancellation: what is in flight may have been billed and is lost; all that was answered is written and made durable.
        """
        self._open_models = set(models)
        self._backlog.fill(calls)
        try:
            async with asyncio.TaskGroup() as background:
                durability = background.create_task(
                    self._make_durable(self._committer.keep_durable()), name="keep durable"
                )
                async with asyncio.TaskGroup() as workers:
                    for number in range(concurrency):
                        workers.create_task(self._work(), name=f"worker {number}")
                durability.cancel()
        finally:
            await self._make_durable(self._committer.flush())
        if self._bug is not None:
            raise self._bug

    def stop(self, stop: Stop) -> None:
        """Take in no more calls; what is in flight goes on."""
        self._backlog.close()
        self._closed.set()
        self._note(stop)

    def _note(self, stop: Stop) -> None:
        is_news = not any(earlier.reason == stop.reason for earlier in self.stops)
        self.stops.append(stop)
        if is_news:
            self._observe(Stopping(stop, self.in_flight))

    async def _make_durable(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except (OSError, StorageError) as error:
            self.stop(Stop(StopReason.STORAGE, f"what was written can't be made durable: {error}"))

    async def _work(self) -> None:
        while (turn := await self._backlog.next()) is not None:
            try:
                if isinstance(turn, Stop):
                    self.stop(turn)
                else:
                    await self._attempt(turn)
            except (OSError, StorageError) as error:  # before the request left: its files could not be opened
                self.stop(Stop(StopReason.STORAGE, f"the output folder can't be written: {error}"))
            except Exception as bug:  # noqa: BLE001 # raised again when what the others have in flight is written
                self._bug = self._bug or bug
                self._backlog.close()
                self._closed.set()
            finally:
                self._backlog.ended()

    async def _attempt(self, turn: Turn) -> None:
        call = turn.call
        model = call.request.model
        if model not in self._open_models:
            return
        grant = await self._gate.acquire(model, _weights(call), self._closed)
        if grant is None:
            return
        if isinstance(grant, DayClosed):
            self._close_day(model, grant)
            return
        incoming = self._store.incoming(call.id, turn.attempt)
        self._in_flight_log.sent(call.id, call.request_sha256)
        self._observe(CallSent(call.id, turn.attempt))
        self.in_flight += 1
        try:
            sent = await self._transport.send(call, incoming)
            outcome = judge(sent.answer)
            if isinstance(outcome, Reply):
                self._commit(Attempted(call, turn.attempt, sent.timing), outcome)  # no await since the last byte
            self._in_flight_log.ended(call.id)
        except asyncio.CancelledError:
            self._observe(CallAbandoned(call.id))
            raise
        finally:
            self.in_flight -= 1
            incoming.discard()
        if isinstance(outcome, Reply):
            await self._settle(call, grant, outcome)
        else:
            await self._follow(turn, grant, sent, outcome)
        await self._committer.durable()

    def _commit(self, attempted: Attempted, outcome: Outcome, status: Status = Status.FAILED) -> None:
        try:
            if isinstance(outcome, Reply):
                self._committer.reply(attempted, outcome)
            else:
                self._committer.error(attempted, status, outcome)
        except (OSError, StorageError) as error:
            self.stop(Stop(StopReason.STORAGE, f"an answer can't be written: {error}"))

    async def _settle(self, call: Call, grant: Grant, reply: Reply) -> None:
        self._unreachable_since_s = None
        tokens = reply.usage.prompt_tokens if reply.usage else None
        if tokens is not None:
            await self._gate.settle(call.request.model, grant, tokens=tokens)

    async def _follow(self, turn: Turn, grant: Grant, sent: Sent, error: ApiError | Failure) -> None:
        """Do what follows from an attempt without a reply."""
        attempted = Attempted(turn.call, turn.attempt, sent.timing)
        if not _never_left(error):
            self._unreachable_since_s = None
        match retry.decide(error, turn.attempt, random.random):
            case retry.RetryAfter() as decision:
                await self._retry(turn, grant, attempted, error, decision)
            case retry.Reject():
                self._commit(attempted, error, Status.REJECTED)
            case retry.GiveUp():
                self._commit(attempted, error, Status.FAILED)
            case retry.StopRun(stop):
                self.stop(stop)
            case retry.CloseDay():
                await self._gate.close_day(turn.call.request.model, grant)
                # Back to the gate, which now says until when.
                self._backlog.later(turn, self._clock.steady_s())

    async def _retry(
        self, turn: Turn, grant: Grant, attempted: Attempted, error: ApiError | Failure, decision: retry.RetryAfter
    ) -> None:
        model = turn.call.request.model
        is_quota = isinstance(error, ApiError) and error.http_status == 429
        if decision.pauses_model:
            why = "the server asked for a pause" if is_quota else "the server can't be reached"
            await self._gate.pause(model, decision.wait_s, why, overrun=is_quota)
        if _never_left(error):
            await self._gate.give_back(model, grant)
            if self._is_outage():
                self.stop(Stop(StopReason.OUTAGE, f"{error.message}, for {OUTAGE_S:g} s"))
                return
        elif turn.attempt >= self._max_attempts:
            if is_quota:  # not this job's fault, and the next job would fare no better
                self.stop(Stop(StopReason.NO_QUOTA, f"the server keeps answering 429: {error.message}"))
            else:
                self._commit(attempted, error, Status.FAILED)
            return
        self._observe(
            CallRetrying(
                call_id=turn.call.id,
                attempt=turn.attempt,
                wait_s=decision.wait_s,
                message=error.message,
                may_be_billed=isinstance(error, Failure) and error.may_be_billed,
            )
        )
        attempt = turn.attempt if _never_left(error) else turn.attempt + 1
        self._backlog.later(Turn(turn.call, attempt), self._clock.steady_s() + decision.wait_s)

    def _is_outage(self) -> bool:
        now_s = self._clock.steady_s()
        if self._unreachable_since_s is None:
            self._unreachable_since_s = now_s
        return now_s - self._unreachable_since_s >= OUTAGE_S

    def _close_day(self, model: str, closed: DayClosed) -> None:
        """Send nothing more of a model; other models of the manifest go on."""
        self._open_models.discard(model)
        stop = Stop(StopReason.DAY_CLOSED, f"today's quota of {model} is used up ({closed.why})", closed.until)
        if self._open_models:
            self._note(stop)
        else:
            self.stop(stop)


def _never_left(error: ApiError | Failure) -> bool:
    return isinstance(error, Failure) and error.kind is FailureKind.UNREACHABLE


def _weights(call: Call) -> Weights:
    usd = call.estimate.cost_usd or 0.0
    return Weights(requests=1, images=1, tokens=call.estimate.input_tokens, usd_micros=round(usd * 1_000_000))
