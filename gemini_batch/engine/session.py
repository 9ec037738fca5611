"""Session: one run, from its plan to its summary."""

from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.engine.recovery import Interrupted
from gemini_batch.engine.run_record import RunRecord
from gemini_batch.engine.started import started_run
from gemini_batch.engine.stats import RunStats
from gemini_batch.engine.summary import Summary
from gemini_batch.errors import StorageError, storage_errors
from gemini_batch.events import CallFinished, Event, Observer, Repaired
from gemini_batch.output import OutputFolder, inflight
from gemini_batch.plan import CallState
from gemini_batch.plan.built import BuiltPlan
from gemini_batch.plan.chaining import Reason
from gemini_batch.records import Stop, StopReason
from gemini_batch.records.service_tier import quota_name
from gemini_batch.records.stop import stop_of

if TYPE_CHECKING:  # a run with nothing to do sends nothing, and needs no event loop
    import asyncio
    from collections.abc import Callable

    from gemini_batch.engine.dispatcher import Dispatcher
    from gemini_batch.engine.mirror import Mirror
    from gemini_batch.engine.sending import Sending
    from gemini_batch.output.bucket.opened import OpenBucket
    from gemini_batch.quota.results import Used
    from gemini_batch.quota.shared import SharedLedger
    from gemini_batch.quota.shared_budget import SharedBudget

_Uses: TypeAlias = "dict[str, tuple[Used, ...]]"


@dataclass(eq=False, repr=False)
class Run:
    """One run, ready to send.

    Attributes:
        planned: The calls to send.
        join: Opens the ledger, and returns a stop if that can't be reached; None if it is open.
        summary: The result, also if `send` was cancelled; None before the end.
    """

    _name: str
    _config: Settings
    _folder: OutputFolder
    planned: BuiltPlan
    _ledger: "SharedLedger | None"  # None only where there is nothing to do
    _observer: Observer
    _interrupted: Interrupted
    _shared_budget: "SharedBudget | None" = None
    _bucket: "OpenBucket | None" = None
    join: "Callable[[], Stop | None] | None" = None
    summary: Summary | None = None
    _stops: list[Stop] = field(default_factory=list)
    _sending: "Sending | None" = None
    _mirror: "Mirror | None" = None
    _task: "asyncio.Task[object] | None" = None
    _is_draining: bool = False

    def stop(self, stop: Stop) -> None:
        """Start no more calls; `send` returns when those in flight are written."""
        if self._sending is None:
            self._stops.append(stop)
        else:
            self._sending.stop(stop)

    def interrupt(self, stop: Stop) -> None:
        """Drain the run at the first call; abandon what is in flight at the second."""
        if not self._is_draining:
            self._is_draining = True
            self.stop(stop)
            if self._ledger is not None:
                self._ledger.hurry()
        elif self._task is not None:
            self._task.cancel()

    @property
    def in_flight(self) -> int:
        """Requests that were sent and not yet answered."""
        return self._dispatcher.sender.in_flight if self._dispatcher else 0

    @property
    def _dispatcher(self) -> "Dispatcher | None":
        return self._sending.dispatcher if self._sending else None

    @property
    def out(self) -> Path:
        """The folder that this run writes into."""
        return self._folder.out

    @property
    def has_work(self) -> bool:
        """True if there are calls to make or to await, or rows that the bucket does not have."""
        is_behind = self._bucket is not None and self._bucket.is_behind
        return is_behind or bool(self.planned.plan.todo or self.planned.history.waiting)

    async def used(self, clock: Clock | None = None) -> _Uses:
        """Return what counts against each limit of each model now, of all runs that share it.

        A server that can't be reached is not waited for: nothing is known then.

        Cancellation: safe; nothing changes.

        Raises:
            StorageError: The ledger can't be read.
        """
        if (ledger := self._ledger) is None or ledger.is_away:
            return {}
        clock = clock or Clock()
        lanes = self._dispatcher.queue.lanes if self._dispatcher else ()
        models = sorted(set(map(quota_name, (*self.planned.plan.lanes, *lanes))))

        def ask() -> _Uses:
            now_s, utc = clock.steady_s(), clock.utc()
            return {model: ledger.used(model, now_s, utc) for model in models}

        return await ledger.ask(clock, ask)

    async def send(self, base_url: str, clock: Clock | None = None) -> Summary:
        """Send what is left to be done, and write `summary.json`.

        Cancellation: what is in flight may have been billed and is lost; all that was answered is
        written.

        Raises:
            StorageError: The output folder, or the ledger's file, can't be opened.
            ConfigError: The server of the ledger refuses.
        """
        import asyncio

        clock = clock or Clock()
        if self._ledger is None or not self.has_work:
            summary = self._ended(clock)
            await self._finish_bucket(clock)
            return summary
        if self.join is not None and (stop := await self._ledger.ask(clock, self.join)):
            self._stops += [] if self._stops else [stop]
        stats, record = self._begun(clock)
        observe = partial(self._observe, stats)
        self._task = asyncio.current_task()
        self._mirror = self._opened_mirror(clock, observe)
        used: _Uses = {}
        if self._bucket is not None:
            await clock.run_waiting(self._bucket.announce)
        try:
            await self._send(base_url, self._ledger, clock, observe)
            with suppress(StorageError):  # of a disk that ended the run; all else is known
                used = await self.used(clock)
        except asyncio.CancelledError:
            if not self._stops:
                self.stop(Stop(StopReason.INTERRUPTED, "cancelled"))
            self._conclude(record, stats)
            raise
        finally:
            self._task = None
        summary = self._conclude(record, stats, used)
        await self._finish_bucket(clock)
        return summary

    def _opened_mirror(self, clock: Clock, observe: Observer) -> "Mirror | None":
        if self._bucket is None:
            return None
        from gemini_batch.engine.disk_space import UploadSpace
        from gemini_batch.engine.mirror import Mirror

        space = UploadSpace(self._config.scratch_max_bytes // 2)
        out = self._folder.out
        return Mirror(out=out, bucket=self._bucket, clock=clock, observe=observe, space=space)

    async def _finish_bucket(self, clock: Clock) -> None:
        if self._bucket is not None and (problem := await clock.run_waiting(self._bucket.end)):
            self._observer(Repaired(problem))

    def end_at_once(self, clock: Clock | None = None) -> Summary:
        """End a run that has nothing to do; renew `summary.json`, and raise as `send`."""
        summary = self._ended(clock or Clock())
        if self._bucket is not None:
            self._bucket.end()
        return summary

    def _ended(self, clock: Clock) -> Summary:
        stats, record = self._begun(clock)
        self._forget()
        return self._conclude(record, stats, {})

    def _begun(self, clock: Clock) -> tuple[RunStats, RunRecord]:
        unknown = len(self._interrupted.unanswered) - len(self._interrupted.journaled)
        stats = RunStats(
            self._config.limits,
            clock,
            possibly_billed=unknown,
            is_of_other=self.planned.history.waiting.is_of_other,
        )
        record = RunRecord(self._folder, sends=self.has_work)
        record.begin(self._summarize(stats))
        self._observe(stats, started_run(self.planned, self._config, self._shown))
        return stats, record

    async def _send(
        self, base_url: str, ledger: "SharedLedger", clock: Clock, observe: Observer
    ) -> None:
        from gemini_batch.engine.sending import Sending

        self._sending = Sending(
            config=self._config,
            folder=self._folder,
            planned=self.planned,
            ledger=ledger,
            interrupted=self._interrupted,
            clock=clock,
            observe=observe,
            stops=self._stops,
            mirror=self._mirror,
            shared_budget=self._shared_budget,
        )
        await self._sending.run(base_url)
        if not self._stops:
            try:
                self._forget()
            except StorageError as error:
                self.stop(stop_of(error))

    def _conclude(self, record: RunRecord, stats: RunStats, used: "_Uses | None" = None) -> Summary:
        summary = self._summarize(stats, used)
        try:
            record.end(summary)
        except StorageError as error:
            if not record.sends:
                raise
            # The result is still reported, and what to do next.
            self.stop(stop_of(error))
            summary = self._summarize(stats, used)
        self.summary = summary
        return summary

    def _summarize(self, stats: RunStats, used: "_Uses | None" = None) -> Summary:
        stops, uses = [*self._stops] if self.has_work else [], used or {}
        stops += _waits_for_others(self.planned)
        return stats.summary(
            self._name, self._shown, self._config, self.planned, stops=stops, used=uses.get
        )

    @property
    def _shown(self) -> str:
        """The output folder, or its bucket, as the user names it."""
        return self._bucket.store.shown if self._bucket else str(self._folder.out)

    def _forget(self) -> None:
        """Remove what only calls that are still to be sent would need, if each call has ended."""
        if self.planned.plan.count(CallState.LATER) or self.planned.held():
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


def _waits_for_others(planned: BuiltPlan) -> list[Stop]:
    """Return why calls can't be done before other workers have done theirs."""
    stops: list[Stop] = []
    if calls := planned.history.waiting_elsewhere:
        wait = "1 call waits" if calls == 1 else f"{calls:,} calls wait"
        text = f"{wait} in batches that other workers collect"
        stops.append(Stop(StopReason.WAITING, text))
    if calls := planned.held().get(Reason.ELSEWHERE.name.lower(), 0):
        use = "1 call uses" if calls == 1 else f"{calls:,} calls use"
        text = f"{use} pictures that other workers are still to make: run again after them"
        stops.append(Stop(StopReason.WAITING, text))
    return stops
