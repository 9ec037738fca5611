"""Puts the parts of a run together: manifest and config become a plan, the plan becomes calls, their rows become a summary.

A run has two steps. `prepared` blocks and sends nothing: it locks the folder, repairs it, checks the whole manifest and plans. `Run.send` is
asynchronous and does the rest.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

from gemini_batch import inflight, recovery, results
from gemini_batch.clock import Clock
from gemini_batch.commit import Committer
from gemini_batch.config import RunConfig
from gemini_batch.dispatch import Dispatcher, weights
from gemini_batch.errors import ConfigError, StorageError
from gemini_batch.events import CallFinished, Event, Observer, Repaired, RunStarted, Waiting
from gemini_batch.inputs import Inputs
from gemini_batch.manifest import Manifest
from gemini_batch.plan import JobError, Plan, Planner, Verdict
from gemini_batch.policy import prices
from gemini_batch.quota.bounds import Duration, Weights, check, duration
from gemini_batch.quota.gate import Gate
from gemini_batch.quota.memory import MemoryLedger
from gemini_batch.records import Call, Limits, ResultRow, Status, Stop, StopReason
from gemini_batch.store import Store
from gemini_batch.summary import Meter, Summary
from gemini_batch.transport.interactive import Transport

FINAL = frozenset({Status.SUCCEEDED, Status.BLOCKED, Status.REJECTED, Status.UNCERTAIN})
"""A call whose newest row has one of these is done, unless it is asked for again by `RunConfig.retry`."""


class Past:
    """What earlier runs made of each call of a manifest.

    Attributes:
        statuses: The newest rows of these calls by status, but for those of another request; a row of this run takes its
            predecessor out.
    """

    def __init__(self, history: results.History, config: RunConfig) -> None:
        self._history = history
        self._endpoint = config.endpoint
        self._again = config.retry
        self.statuses: Counter[Status] = Counter()

    def __call__(self, call_id: str, request_sha256: str) -> Verdict:
        """Return the verdict on a call, and count its status."""
        status = self._history.status(call_id, request_sha256, self._endpoint)
        if status is None:
            return Verdict.EDITED if self._history.was_answered(call_id) else Verdict.NEW
        self.statuses[status] += 1
        return Verdict.DONE if status in FINAL and status not in self._again else Verdict.RETRY

    def replace(self, row: ResultRow) -> None:
        """Take out the status of the row that `row` stands in place of."""
        status = self._history.status(row.id, row.request_sha256, row.endpoint)
        if status is not None:
            self.statuses[status] -= 1


class Planned:
    """A manifest that is valid, and what of it is still to be done."""

    def __init__(self, manifest: Manifest, planner: Planner, plan: Plan, past: Past, limits: Limits) -> None:
        self.plan = plan
        self.past = past
        self.duration = _duration(plan, limits, planner.prices)
        self._manifest = manifest
        self._planner = planner

    def calls(self) -> Iterator[Call | Stop]:
        """Yield the calls to be made, each read again when its turn comes; a line that was edited since stops the run."""
        for index, variant in self.plan.pending():
            line = self._manifest.line(index)
            job = self._manifest.read(index)
            if job is None:
                yield _changed(f"{self._manifest.path}:{line}: was edited while the run went on")
                return
            try:
                yield self._planner.call(job, line, variant)
            except JobError as error:
                yield _changed(f"{self._manifest.path}:{line}: {error}")
                return


@contextmanager
def planned(path: Path, out: Path, config: RunConfig) -> Iterator[Planned]:
    """Check and plan a manifest against what earlier runs wrote into `out`; sends nothing, writes nothing.

    Raises:
        ManifestError: Lines of the manifest are wrong.
        ConfigError: A call is larger than the quota, or a price is wrong.
        StorageError: The results of earlier runs are damaged, or can't be read.
    """
    try:
        past = Past(results.read_history(out), config)
    except OSError as error:
        raise StorageError(f"{out}: can't be read: {error.strerror}") from error
    planner = Planner(config.model, Inputs(path.parent).resolve, price_table(config))
    with Manifest(path) as manifest:
        plan = Plan(planner, past)
        for index, job in manifest.scan():
            try:
                plan.add(job, manifest.line(index))
            except JobError as error:
                for problem in error.problems:
                    manifest.problem(problem.line, problem.field, problem.message)
        yield Planned(manifest, planner, plan, past, config.limits)


def price_table(config: RunConfig) -> prices.PriceTable:
    """Return the built-in prices with the config file's over them.

    Raises:
        ConfigError: The config file's are wrong.
    """
    try:
        return prices.built_in().merged(config.tables.get("prices", {}))
    except ValueError as error:
        raise ConfigError(f"--config: {error}") from error


@contextmanager
def prepared(path: Path, out: Path, config: RunConfig, observe: Observer) -> Iterator["Run"]:
    """Lock and repair the output folder, check the manifest, and plan; sends nothing.

    Raises:
        ManifestError: Lines of the manifest are wrong.
        FolderBusyError: Another run holds the folder.
        StorageError: The folder can't be written, or what is in it is damaged.
    """
    store = Store(out)
    with store.locked():
        try:
            repaired = recovery.recover(store)
            possibly_billed = recovery.possibly_billed(store)
        except OSError as error:
            raise StorageError(f"{out}: can't be repaired: {error}") from error
        for message in repaired:
            observe(Repaired(message))
        if possibly_billed:
            names = ", ".join(list(possibly_billed)[:10]) + (", …" if len(possibly_billed) > 10 else "")
            observe(
                Repaired(
                    f"{len(possibly_billed)} calls were sent by a run that was killed, and may have been billed: {names}"
                )
            )
        with planned(path, out, config) as plan:
            yield Run(path, out, config, store, plan, observe=observe, possibly_billed=len(possibly_billed))


class Run:
    """One run that is ready to send.

    Attributes:
        planned: What is to be done.
        summary: What it came to, also when `send` was cancelled; None before its end.
    """

    def __init__(
        self,
        path: Path,
        out: Path,
        config: RunConfig,
        store: Store,
        planned_: Planned,
        *,
        observe: Observer,
        possibly_billed: int,
    ) -> None:
        self.planned = planned_
        self._path = path
        self._out = out
        self._config = config
        self._store = store
        self._watcher = observe
        self._meter = Meter(possibly_billed)
        self._dispatcher: Dispatcher | None = None
        self._early_stops: list[Stop] = []
        self.summary: Summary | None = None

    def stop(self, stop: Stop) -> None:
        """Take in no more calls; `send` returns when what is in flight is written."""
        if self._dispatcher is None:
            self._early_stops.append(stop)
        else:
            self._dispatcher.stop(stop)

    async def send(self, base_url: str, clock: Clock | None = None) -> Summary:
        """Send what is left to be done, and write `summary.json`.

        Args:
            base_url: Where requests go.
            clock: Where time comes from.

        Cancellation: what is in flight may have been billed and is lost; all that was answered is written.

        Raises:
            StorageError: The output folder can't be opened.
        """
        clock = clock or Clock()
        started_at = clock.utc()
        plan = self.planned.plan
        self._observe(self._started())
        try:
            if plan.todo:
                await self._send(base_url, clock)
            else:
                inflight.forget(self._store.private)
        except asyncio.CancelledError:
            if not self._stops:
                self.stop(Stop(StopReason.INTERRUPTED, "cancelled"))
            self._conclude(started_at, clock.utc())
            raise
        return self._conclude(started_at, clock.utc())

    @property
    def _stops(self) -> list[Stop]:
        return self._early_stops if self._dispatcher is None else self._dispatcher.stops

    def _started(self) -> RunStarted:
        plan, time = self.planned.plan, self.planned.duration
        return RunStarted(
            todo=plan.todo,
            done=plan.count(Verdict.DONE),
            edited=plan.count(Verdict.EDITED),
            cost_usd=plan.total.cost_usd,
            duration_s=time.sending_s,
            days=time.days,
            bound_by=time.bound_by,
            out=str(self._out),
            tier=self._config.tier,
        )

    def _conclude(self, started_at: datetime, ended_at: datetime) -> Summary:
        summary = self._meter.summary(
            manifest=self._path,
            out=self._out,
            config=self._config,
            plan=self.planned.plan,
            before=self.planned.past.statuses,
            stops=self._stops if self.planned.plan.todo else [],
            started_at=started_at,
            ended_at=ended_at,
        )
        try:
            summary.write(self._out)
        except OSError as error:
            raise StorageError(f"{self._out}: summary.json can't be written: {error.strerror}") from error
        self.summary = summary
        return summary

    async def _send(self, base_url: str, clock: Clock) -> None:
        config = self._config
        with self._opened_logs() as (log, in_flight):
            committer = Committer(
                self._store, log, price_table(config), config.endpoint, clock=clock, observe=self._observe
            )
            gate = Gate(MemoryLedger(config.limits), config.limits, clock, partial(self._on_wait, clock))
            async with Transport(config, base_url, clock) as transport:
                self._dispatcher = dispatcher = Dispatcher(
                    gate=gate,
                    transport=transport,
                    store=self._store,
                    committer=committer,
                    in_flight_log=in_flight,
                    max_attempts=config.max_attempts,
                    clock=clock,
                    observe=self._observe,
                )
                for stop in self._early_stops:
                    dispatcher.stop(stop)
                with self._deadline(dispatcher):
                    plan = self.planned.plan
                    models = {model for model, _ in plan.tallies}
                    await dispatcher.run(self.planned.calls(), models, min(config.concurrency, plan.todo))

    @contextmanager
    def _opened_logs(self) -> Iterator[tuple[results.ResultsLog, inflight.InFlightLog]]:
        try:
            log = results.ResultsLog(self._out)
            in_flight = inflight.InFlightLog(self._store.private, log.end_bytes)
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
        try:
            self._watcher(event)
        except OSError:  # whoever read our words has gone, or the disk with the log is full: no reason to stop
            self._watcher = _nobody

    def _on_wait(self, clock: Clock, model: str, until_s: float, why: str) -> None:
        self._observe(Waiting(model, until_s - clock.steady_s(), why))


def _nobody(_event: Event) -> None:
    """Tell nobody."""


def _duration(plan: Plan, limits: Limits, price_table: prices.PriceTable) -> Duration:
    """Return how long the quota takes for what is to be done; the models of a manifest have quotas of their own.

    Raises:
        ConfigError: A call is larger than a limit.
    """
    longest = Duration(0.0, 0, "")
    for model in {model for model, _ in plan.tallies}:
        tallies = {size: tally for (of, size), tally in plan.tallies.items() if of == model}
        calls = sum(tally.calls for tally in tallies.values())
        tokens = sum(tally.input_tokens for tally in tallies.values())
        usd = sum(tally.cost_usd or 0.0 for tally in tallies.values())
        try:
            for size, tally in tallies.items():
                most = tally.largest_input_tokens
                largest = prices.estimate_all(model, size, calls=1, input_tokens=most, prices=price_table)
                check(limits, weights(largest))
            average = Weights(tokens=-(-tokens // calls), usd_micros=round(usd / calls * 1_000_000))
            longest = max(longest, duration(calls, average, limits), key=lambda each: (each.days, each.sending_s))
        except ValueError as error:
            raise ConfigError(f"{model}: {error}; choose another tier, or smaller inputs") from error
    return longest


def _changed(message: str) -> Stop:
    return Stop(StopReason.MANIFEST_CHANGED, f"{message}; run again to check and plan it anew")
