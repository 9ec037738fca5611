"""Session: one run, from its plan to its summary."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from random import random
from typing import TypeAlias

from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.engine.admission import AdmissionControl
from gemini_batch.engine.breaker import server_breaker
from gemini_batch.engine.call_queue import CallQueue
from gemini_batch.engine.commit import Committer
from gemini_batch.engine.concurrency import AdaptiveConcurrency
from gemini_batch.engine.disk_space import DiskReservations
from gemini_batch.engine.dispatcher import Dispatcher, make_dispatcher
from gemini_batch.engine.preprocess import Preprocessor
from gemini_batch.engine.recovery import Interrupted
from gemini_batch.engine.remote import RemoteReplies
from gemini_batch.engine.retry import TABLE, RetryRules
from gemini_batch.engine.run_record import RunRecord
from gemini_batch.engine.stats import RunStats
from gemini_batch.engine.summary import Summary
from gemini_batch.engine.vertex_rules import VERTEX_TABLE
from gemini_batch.errors import StorageError, storage_errors
from gemini_batch.events import CallFinished, Event, Observer, RunStarted, Waiting
from gemini_batch.inputs import Downscaler
from gemini_batch.output import OutputFolder, inflight
from gemini_batch.output.inflight import InFlightLog
from gemini_batch.output.rows import ResultsFile
from gemini_batch.plan import CallState
from gemini_batch.plan.build import BuiltPlan, loads, price_table
from gemini_batch.quota.limiter import RateLimiter
from gemini_batch.quota.results import Used
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.records import Stop, StopReason
from gemini_batch.records.service_tier import quota_name

_Uses: TypeAlias = dict[str, tuple[Used, ...]]


@dataclass(eq=False, repr=False)
class Run:
    """One run, ready to send.

    Attributes:
        planned: The calls to send.
        summary: The result, also if `send` was cancelled; None before the end.
    """

    _name: str
    _config: Settings
    _folder: OutputFolder
    planned: BuiltPlan
    _ledger: SharedLedger
    _observer: Observer
    _interrupted: Interrupted
    summary: Summary | None = None
    _early_stops: list[Stop] = field(default_factory=list)
    _dispatcher: Dispatcher | None = None
    _task: asyncio.Task[object] | None = None
    _is_draining: bool = False

    def stop(self, stop: Stop) -> None:
        """Start no more calls; `send` returns when those in flight are written."""
        if self._dispatcher is None:
            self._early_stops.append(stop)
        else:
            self._dispatcher.stop(stop)

    def interrupt(self, stop: Stop) -> None:
        """Drain the run at the first call; abandon what is in flight at the second."""
        if not self._is_draining:
            self._is_draining = True
            self.stop(stop)
        elif self._task is not None:
            self._task.cancel()

    @property
    def in_flight(self) -> int:
        """Requests that were sent and not yet answered."""
        return self._dispatcher.sender.in_flight if self._dispatcher else 0

    async def used(self, clock: Clock | None = None) -> _Uses:
        """Return what counts against each limit of each model now, of all runs that share it.

        Cancellation: safe; nothing changes.

        Raises:
            StorageError: The ledger can't be read.
        """
        clock = clock or Clock()
        lanes = self._dispatcher.queue.lanes if self._dispatcher else ()
        models = sorted(set(map(quota_name, (*self.planned.plan.lanes, *lanes))))

        def ask() -> _Uses:
            now_s, utc = clock.steady_s(), clock.utc()
            return {model: self._ledger.used(model, now_s, utc) for model in models}

        return await clock.run_blocking(ask) if self._ledger.blocks else ask()

    async def send(self, base_url: str, clock: Clock | None = None) -> Summary:
        """Send what is left to be done, and write `summary.json`.

        Cancellation: what is in flight may have been billed and is lost; all that was answered is
        written.

        Raises:
            StorageError: The output folder can't be opened.
        """
        clock, todo = clock or Clock(), self.planned.plan.todo
        unknown = len(self._interrupted.unanswered) - len(self._interrupted.journaled)
        stats = RunStats(self._config.limits, clock, possibly_billed=unknown)
        observe = partial(self._observe, stats)
        self._task = asyncio.current_task()
        record = RunRecord(self._folder, sends=todo > 0)
        record.begin(self._summarize(stats))
        observe(self._started())
        used: _Uses = {}
        try:
            if todo:
                await self._dispatch(base_url, clock, observe)
            else:
                self._forget()
            with suppress(StorageError):  # of a disk that ended the run; all else is known
                used = await self.used(clock)
        except asyncio.CancelledError:
            if not self._stops:
                self.stop(Stop(StopReason.INTERRUPTED, "cancelled"))
            self._conclude(record, stats)
            raise
        finally:
            self._task = None
        return self._conclude(record, stats, used)

    async def _dispatch(self, base_url: str, clock: Clock, observe: Observer) -> None:
        from gemini_batch.client.interactive import InteractiveTransport
        from gemini_batch.client.remote_images import RemoteImages

        config = self._config
        with self._opened_logs() as (rows, in_flight):
            prices = price_table(config)
            committer = Committer(
                self._folder, rows, in_flight, prices, config.endpoint, clock, observe
            )
            async with (
                InteractiveTransport(config, base_url, clock) as transport,
                RemoteImages(base_url, clock, config.certificates) as fetcher,
            ):
                remote = RemoteReplies(fetcher, committer, clock)
                concurrency = min(config.concurrency, self.planned.plan.todo)
                dispatcher = make_dispatcher(
                    queue=CallQueue(
                        self.planned.calls(),
                        AdaptiveConcurrency(concurrency),
                        server_breaker(random),
                        clock,
                        self.planned.successors,
                    ),
                    preprocess=self._preprocessor(committer, remote, clock, observe),
                    admission=self._admission(clock, observe),
                    transport=transport,
                    committer=committer,
                    remote=remote,
                    rules=RetryRules(
                        config.max_attempts,
                        config.skip_uncertain,
                        config.keeps_going,
                        VERTEX_TABLE if config.vertex else TABLE,
                    ),
                    observe=observe,
                )
                self._dispatcher = dispatcher
                for stop in self._early_stops:
                    dispatcher.stop(stop)
                with self._deadline(dispatcher):
                    await dispatcher.run(concurrency)
        if not dispatcher.stops:
            try:
                self._forget()
            except StorageError as error:
                self.stop(Stop(StopReason.STORAGE, str(error)))

    def _admission(self, clock: Clock, observe: Observer) -> AdmissionControl:
        def on_wait(model: str, until_s: float, why: str) -> None:
            observe(Waiting(model, until_s - clock.steady_s(), why))

        return AdmissionControl(
            RateLimiter(self._ledger, self._config.limits, clock, on_wait),
            DiskReservations(self._folder.out, clock.steady_s),
            clock,
            observe,
            max_cost_usd=self._config.max_cost_usd,
            waits_for_reset=self._config.waits_for_reset,
        )

    def _preprocessor(
        self, committer: Committer, remote: RemoteReplies, clock: Clock, observe: Observer
    ) -> Preprocessor:
        return Preprocessor(
            self._folder,
            committer,
            clock,
            observe,
            interrupted=self._interrupted,
            remote=remote,
            skip_uncertain=self._config.skip_uncertain,
            reuse=self.planned.history.reuse,
            adopts=self.planned.history.adopts,
            unfetched=self.planned.history.unfetched,
            downscaler=Downscaler(self._folder.inputs) if self._config.max_input_pixels else None,
        )

    @contextmanager
    def _opened_logs(self) -> Iterator[tuple[ResultsFile, InFlightLog]]:
        # A call that was reported and is sent again is reported once. One whose answer was
        # journaled, or that is not sent again or not yet, stays in the log.
        interrupted, has_later = self._interrupted, self.planned.plan.count(CallState.LATER) > 0
        still_open = {
            call_id: request_sha256
            for call_id, request_sha256 in interrupted.unanswered.items()
            if self._config.skip_uncertain or has_later or call_id in interrupted.journaled
        }
        with ExitStack() as stack:
            with storage_errors(f"{self._folder.out}: can't be written"):
                rows = stack.enter_context(
                    closing(ResultsFile(self._folder.out, self._folder.root()))
                )
                log = InFlightLog(self._folder.private, rows.end_bytes, still_open)
                stack.enter_context(closing(log))
            yield rows, log

    @contextmanager
    def _deadline(self, dispatcher: Dispatcher) -> Iterator[None]:
        seconds = self._config.deadline_s
        if seconds is None:
            yield
            return
        stop = Stop(StopReason.DEADLINE, f"the deadline of {seconds:g} s is over")
        timer = asyncio.get_running_loop().call_later(seconds, dispatcher.stop, stop)
        try:
            yield
        finally:
            timer.cancel()

    @property
    def _stops(self) -> list[Stop]:
        return self._early_stops if self._dispatcher is None else self._dispatcher.stops

    def _started(self) -> RunStarted:
        plan, time = self.planned.plan, self.planned.duration
        return RunStarted(
            todo=plan.to_send,
            done=plan.count(CallState.DONE),
            reused=plan.count(CallState.REUSED),
            edited=plan.count(CallState.EDITED),
            later=plan.count(CallState.LATER),
            max_cost_usd=self._config.max_cost_usd,
            cost_usd=plan.total.cost_usd,
            duration_s=time.sending_s,
            days=time.days,
            bound_by=time.bound_by,
            out=str(self._folder.out),
            tier=self._config.tier,
            is_simulated=self._config.base_url is None,
            loads=loads(plan),
            notices=self.planned.notices(),
        )

    def _conclude(self, record: RunRecord, stats: RunStats, used: _Uses | None = None) -> Summary:
        summary = self._summarize(stats, used)
        try:
            record.end(summary)
        except StorageError as error:
            if not record.sends:
                raise
            # The result is reported all the same, and what to do next.
            self.stop(Stop(StopReason.STORAGE, str(error)))
            summary = self._summarize(stats, used)
        self.summary = summary
        return summary

    def _summarize(self, stats: RunStats, used: _Uses | None = None) -> Summary:
        stops, uses = self._stops if self.planned.plan.todo else (), used or {}
        return stats.summary(
            self._name, self._folder.out, self._config, self.planned, stops=stops, used=uses.get
        )

    def _forget(self) -> None:
        """Remove what only calls that are still to be sent would need, if each call has ended."""
        if self.planned.plan.count(CallState.LATER):
            return
        with storage_errors(f"{self._folder.out}: files without further use can't be removed"):
            inflight.forget(self._folder.private)
            self._folder.clear_inputs()
            self._folder.remove_staged_files()

    def _observe(self, stats: RunStats, event: Event) -> None:
        stats.observe(event)
        if isinstance(event, CallFinished):
            self.planned.history.replace(event.row)
        self._observer(event)
