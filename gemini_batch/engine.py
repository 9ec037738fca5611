"""Puts the parts of a run together: manifest and config become a plan, the plan becomes calls, their rows become a summary.

A run has two steps. `prepared` blocks and sends nothing: it locks the folder, repairs it, checks the whole manifest and plans. `Run.send` is
asynchronous and does the rest.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
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
from gemini_batch.fingerprints import fingerprint
from gemini_batch.inputs import Inputs, Shrinker
from gemini_batch.manifest import Manifest
from gemini_batch.plan import JobError, Plan, Planner, Verdict
from gemini_batch.policy import prices
from gemini_batch.prepare import Preparation
from gemini_batch.quota.bounds import Duration, Weights, check, duration
from gemini_batch.quota.gate import Gate, Ledger
from gemini_batch.quota.memory import MemoryLedger
from gemini_batch.quota.sqlite import SqliteLedger, project_of
from gemini_batch.quota.statefile import state_path
from gemini_batch.records import Call, Limits, ResultRow, Status, Stop, StopReason
from gemini_batch.reuse import Reuse
from gemini_batch.store import Store, load_image_readers
from gemini_batch.summary import Meter, Summary
from gemini_batch.transport.interactive import Transport
from gemini_batch.unfinished import Unfinished

FINAL = frozenset({Status.SUCCEEDED, Status.BLOCKED, Status.REJECTED, Status.UNCERTAIN})
"""A call whose newest row has one of these is done, unless it is asked for again by `RunConfig.retry`."""


class Past:
    """What earlier runs made of each call of a manifest.

    Attributes:
        reuse: The answers of other folders, for calls that are not done; None without any.
        statuses: The newest rows of these calls by status, but for those of another request; a row of this run takes its
            predecessor out.
    """

    def __init__(
        self,
        history: results.History,
        config: RunConfig,
        reuse: Reuse | None = None,
        missing: Callable[[str], bool] = lambda _call_id: False,
    ) -> None:
        self._history = history
        self._endpoint = config.endpoint
        self._again = config.retry
        self._is_missing = missing
        self.reuse = reuse
        self.statuses: Counter[Status] = Counter()

    def __call__(self, call_id: str, request_sha256: str) -> Verdict:
        """Return the verdict on a call, and count its status."""
        verdict = self._own(call_id, request_sha256)
        if verdict is not Verdict.DONE and self.reuse and self.reuse.reserve(call_id, request_sha256):
            return Verdict.REUSED
        return verdict

    def _own(self, call_id: str, request_sha256: str) -> Verdict:
        status = self._history.status(call_id, request_sha256, self._endpoint)
        if status is None:
            return Verdict.EDITED if self._history.was_answered(call_id) else Verdict.NEW
        self.statuses[status] += 1
        is_done = status in FINAL and status not in self._again and not self._is_missing(call_id)
        return Verdict.DONE if is_done else Verdict.RETRY

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
        ConfigError: A call is larger than the quota, a price is wrong, or a folder of `--reuse-from` can't be used.
        StorageError: The results of earlier runs are damaged, or can't be read.
    """
    try:
        reuse = Reuse(config.reuse_from, config.endpoint, out) if config.reuse_from else None
        missing = results.without_images(out) if config.retry_missing else frozenset[int]()
        past = Past(results.read_history(out), config, reuse, lambda call_id: fingerprint(call_id) in missing)
    except OSError as error:
        raise StorageError(f"{out}: can't be read: {error.strerror}") from error
    planner = Planner(config.model, Inputs(path.parent, config.max_input_pixels).resolve, price_table(config))
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
def prepared(
    path: Path, out: Path, config: RunConfig, observe: Observer, ledger: Ledger | None = None
) -> Iterator["Run"]:
    """Lock and repair the output folder, check the manifest, and plan; sends nothing.

    Args:
        path: The manifest.
        out: The output folder.
        config: The settings.
        observe: Told what happens.
        ledger: Of the quota; None is the one that all runs of this machine share, and one of its own for the embedded simulator.

    Raises:
        ManifestError: Lines of the manifest are wrong.
        FolderBusyError: Another run holds the folder.
        StorageError: The folder can't be written, or what is in it is damaged.
    """
    store = Store(out)
    with store.locked():
        try:
            repaired = recovery.recover(store)
            unanswered = recovery.possibly_billed(store)
            possibly_billed = [call_id for call_id in unanswered if store.kept_answer(call_id) is None]
        except OSError as error:
            raise StorageError(f"{out}: can't be repaired: {error}") from error
        for message in repaired:
            observe(Repaired(message))
        if possibly_billed:
            names = ", ".join(possibly_billed[:10]) + (", …" if len(possibly_billed) > 10 else "")
            observe(
                Repaired(
                    f"{len(possibly_billed)} calls were sent by a run that was killed, and may have been billed: {names}"
                )
            )
        with (
            planned(path, out, config) as plan,
            nullcontext(ledger) if ledger else _opened_ledger(config, observe) as of_quota,
        ):
            run = Run(path, out, config, store, plan, of_quota, observe=observe, possibly_billed=len(possibly_billed))
            run.take_over(unanswered)
            yield run


@contextmanager
def _opened_ledger(config: RunConfig, observe: Observer) -> Iterator[Ledger]:
    if config.base_url is None:
        yield MemoryLedger(config.limits)
        return
    project = project_of(config.api_key, config.quota_scope)
    with SqliteLedger(state_path(), config.limits, endpoint=config.endpoint, project=project) as ledger:
        for notice in ledger.notices:
            observe(Repaired(notice))
        yield ledger


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
        ledger: Ledger,
        *,
        observe: Observer,
        possibly_billed: int,
    ) -> None:
        self.planned = planned_
        self._path = path
        self._out = out
        self._config = config
        self._store = store
        self._ledger = ledger
        self._watcher = observe
        self._meter = Meter(possibly_billed)
        self._dispatcher: Dispatcher | None = None
        self._early_stops: list[Stop] = []
        self._unanswered: dict[str, str] = {}
        self.summary: Summary | None = None

    def take_over(self, unanswered: dict[str, str]) -> None:
        """Take note of the calls (id → request_sha256) that a killed run had in flight."""
        self._unanswered = unanswered

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
            todo=plan.to_send,
            done=plan.count(Verdict.DONE),
            reused=plan.count(Verdict.REUSED),
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
        await clock.run_blocking(load_image_readers)
        with self._opened_logs() as (log, in_flight):
            committer = Committer(
                self._store, log, price_table(config), config.endpoint, clock=clock, observe=self._observe
            )
            gate = Gate(self._ledger, config.limits, clock, partial(self._on_wait, clock))
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
                        self._unanswered,
                        skip=config.skip_uncertain,
                        prepare=Preparation(
                            self._store,
                            committer,
                            clock,
                            self._observe,
                            shrinker=Shrinker(self._store.private / "inputs") if config.max_input_pixels else None,
                            reuse=self.planned.past.reuse,
                        ),
                    ),
                    skip_uncertain=config.skip_uncertain,
                )
                # The wall clock jumped, or the machine was off: a day may have ended, or only seem to.
                if await gate.doubts_time() and (server_at := await transport.server_date()) is not None:
                    await gate.note_server_date(server_at)
                for stop in self._early_stops:
                    dispatcher.stop(stop)
                with self._deadline(dispatcher):
                    plan = self.planned.plan
                    models = {model for model, _ in plan.tallies}
                    await dispatcher.run(self.planned.calls(), models, min(config.concurrency, plan.todo))
        if not dispatcher.stops:
            # Each call has ended. What is left of answers belongs to calls that are in the manifest no more.
            inflight.forget(self._store.private)
            self._store.clear_incoming()

    @contextmanager
    def _opened_logs(self) -> Iterator[tuple[results.ResultsLog, inflight.InFlightLog]]:
        try:
            log = results.ResultsLog(self._out)
            # What was told and is sent again is told once; what still has an answer to come to, or is left alone, stays known.
            still_open = {
                call_id: request_sha256
                for call_id, request_sha256 in self._unanswered.items()
                if self._config.skip_uncertain or self._store.kept_answer(call_id)
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
        calls = sum(tally.calls for tally in tallies.values()) or 1  # none, when all of them are reused
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
