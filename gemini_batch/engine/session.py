"""Puts the parts of a run together: what is planned becomes calls, and their rows become a summary."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from gemini_batch.client.interactive import Transport
from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.engine.commit import Committer
from gemini_batch.engine.dispatcher import Dispatcher
from gemini_batch.engine.preprocess import Preparation
from gemini_batch.engine.stats import RunStats
from gemini_batch.engine.summary import Summary
from gemini_batch.engine.unfinished import Unfinished
from gemini_batch.errors import StorageError, describe_os_error
from gemini_batch.events import CallFinished, Event, Observer, RunStarted, Waiting
from gemini_batch.inputs import Downscaler
from gemini_batch.output import OutputFolder, inflight, load_image_readers
from gemini_batch.output.rows import ResultsFile
from gemini_batch.plan import CallState
from gemini_batch.plan.build import BuiltPlan, loads, price_table
from gemini_batch.quota.limiter import RateLimiter
from gemini_batch.quota.model_quota import Used
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.records import Stop, StopReason


@dataclass(frozen=True, slots=True)
class Left:
    """What a killed run had in flight.

    Attributes:
        unanswered: The calls (id → request_sha256) that have no row.
        kept: Those of them whose answer had arrived and was kept.
    """

    unanswered: dict[str, str]
    kept: frozenset[str]


class Run:
    """One run that is ready to send.

    Attributes:
        planned: What is to be done.
        summary: What it came to, also when `send` was cancelled; None before its end.
    """

    def __init__(
        self,
        name: str,
        config: Settings,
        store: OutputFolder,
        planned: BuiltPlan,
        *,
        ledger: SharedLedger,
        observe: Observer,
        left: Left,
    ) -> None:
        self.planned = planned
        self._name = name
        self._out = store.out
        self._config = config
        self._store = store
        self._ledger = ledger
        self._watcher = observe
        self._left = left
        self._clock: Clock
        self._meter: RunStats
        self._dispatcher: Dispatcher | None = None
        self._early_stops: list[Stop] = []
        self.summary: Summary | None = None

    def stop(self, stop: Stop) -> None:
        """Take in no more calls; `send` returns when what is in flight is written."""
        if self._dispatcher is None:
            self._early_stops.append(stop)
        else:
            self._dispatcher.stop(stop)

    @property
    def in_flight(self) -> int:
        """Requests that were sent and not yet answered."""
        return self._dispatcher.in_flight if self._dispatcher else 0

    async def used(self, clock: Clock | None = None) -> dict[str, tuple[Used, ...]]:
        """Return what counts against each limit of each model now, by all runs that share the quota; for whoever looks on.

        Cancellation: safe; nothing changes.

        Raises:
            StorageError: The ledger can't be read.
        """
        clock = clock or Clock()
        models = self.planned.plan.models

        def ask() -> dict[str, tuple[Used, ...]]:
            now_s, utc = clock.steady_s(), clock.utc()
            return {model: self._ledger.used(model, now_s, utc) for model in sorted(models)}

        return await clock.run_blocking(ask) if self._ledger.blocks else ask()

    async def send(self, base_url: str, clock: Clock | None = None) -> Summary:
        """Send what is left to be done, and write `summary.json`.

        Args:
            base_url: Where requests go.
            clock: Where time comes from.

        Cancellation: what is in flight may have been billed and is lost; all that was answered is written.

        Raises:
            StorageError: The output folder can't be opened.
        """
        self._clock = clock = clock or Clock()
        self._meter = RunStats(
            self._config.limits,
            clock,
            possibly_billed=len(self._left.unanswered) - len(self._left.kept),
        )
        started_at = clock.utc()
        plan = self.planned.plan
        if plan.todo:
            self._write(self._summary(started_at, {}), is_over=False)
        self._observe(self._started())
        try:
            if plan.todo:
                await self._send(base_url, clock)
            else:
                self._forget()
            used = await self._used_at_end()
        except asyncio.CancelledError:
            if not self._stops:
                self.stop(Stop(StopReason.INTERRUPTED, "cancelled"))
            self._conclude(
                started_at, {}
            )  # whoever is in such a hurry does not wait for the ledger
            raise
        return self._conclude(started_at, used)

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
            cost_usd=plan.total.cost_usd,
            duration_s=time.sending_s,
            days=time.days,
            bound_by=time.bound_by,
            out=str(self._out),
            tier=self._config.tier,
            is_simulated=self._config.base_url is None,
            loads=loads(plan),
        )

    def _conclude(self, started_at: datetime, used: Mapping[str, tuple[Used, ...]]) -> Summary:
        summary = self._summary(started_at, used)
        try:
            self._write(summary)
        except StorageError as error:
            if not self.planned.plan.todo:
                raise
            # What the run came to is to be told all the same, and what to do next.
            self.stop(Stop(StopReason.STORAGE, str(error)))
            summary = self._summary(started_at, used)
        self.summary = summary
        return summary

    def _summary(self, started_at: datetime, used: Mapping[str, tuple[Used, ...]]) -> Summary:
        return self._meter.summary(
            manifest=self._name,
            out=self._out,
            config=self._config,
            plan=self.planned.plan,
            before=self.planned.past.statuses,
            stops=self._stops if self.planned.plan.todo else [],
            standing=used.get,
            started_at=started_at,
            ended_at=self._clock.utc(),
        )

    async def _used_at_end(self) -> dict[str, tuple[Used, ...]]:
        try:
            return await self.used(self._clock)
        except StorageError:  # the disk that ended the run, maybe; all else is known
            return {}

    def _write(self, summary: Summary, *, is_over: bool = True) -> None:
        try:
            summary.write(self._out, is_over=is_over)
        except OSError as error:
            raise StorageError(
                f"{self._out}: summary.json can't be written: {error.strerror}"
            ) from error

    async def _send(self, base_url: str, clock: Clock) -> None:
        config = self._config
        await clock.run_blocking(load_image_readers)
        with self._opened_logs() as (log, in_flight):
            committer = Committer(
                self._store,
                log,
                price_table(config),
                config.endpoint,
                clock=clock,
                observe=self._observe,
            )
            gate = RateLimiter(self._ledger, config.limits, clock, partial(self._on_wait, clock))
            async with Transport(config, base_url, clock) as transport:
                self._dispatcher = dispatcher = Dispatcher(
                    gate=gate,
                    transport=transport,
                    store=self._store,
                    committer=committer,
                    in_flight_log=in_flight,
                    max_attempts=config.max_attempts,
                    waits_for_reset=config.waits_for_reset,
                    clock=clock,
                    observe=self._observe,
                    prepare=Unfinished(
                        self._store,
                        committer,
                        in_flight,
                        clock,
                        self._left.unanswered,
                        skip=config.skip_uncertain,
                        prepare=Preparation(
                            self._store,
                            committer,
                            clock,
                            self._observe,
                            shrinker=Downscaler(self._store.inputs)
                            if config.max_input_pixels
                            else None,
                            reuse=self.planned.past.reuse,
                        ),
                    ),
                    skip_uncertain=config.skip_uncertain,
                    max_cost_usd=config.max_cost_usd,
                )
                for stop in self._early_stops:
                    dispatcher.stop(stop)
                with self._deadline(dispatcher):
                    await dispatcher.run(
                        self.planned.calls(), min(config.concurrency, self.planned.plan.todo)
                    )
        if not dispatcher.stops:
            try:
                self._forget()
            except StorageError as error:
                self.stop(Stop(StopReason.STORAGE, str(error)))

    def _forget(self) -> None:
        """Each call has ended: remove what only calls that are to be sent would need, and answers of calls that are in the manifest no more."""
        try:
            inflight.forget(self._store.private)
            self._store.clear_inputs()
            self._store.clear_incoming()
        except OSError as error:
            raise StorageError(
                f"{self._out}: what is needed no more can't be removed: {describe_os_error(error)}"
            ) from error

    @contextmanager
    def _opened_logs(self) -> Iterator[tuple[ResultsFile, inflight.InFlightLog]]:
        try:
            log = ResultsFile(self._out)
            # What was told and is sent again is told once; what still has an answer to come to, or is left alone, stays known.
            still_open = {
                call_id: request_sha256
                for call_id, request_sha256 in self._left.unanswered.items()
                if self._config.skip_uncertain or call_id in self._left.kept
            }
            in_flight = inflight.InFlightLog(self._store.private, log.end_bytes, still_open)
        except OSError as error:
            raise StorageError(f"{self._out}: can't be written: {error.strerror}") from error
        try:
            yield log, in_flight
        finally:
            log.close()
            in_flight.close()

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

    def _observe(self, event: Event) -> None:
        self._meter.observe(event)
        if isinstance(event, CallFinished):
            self.planned.past.replace(event.row)
        self._watcher(event)

    def _on_wait(self, clock: Clock, model: str, until_s: float, why: str) -> None:
        self._observe(Waiting(model, until_s - clock.steady_s(), why))
