"""Sending: the phases of a run, which collects, sends and submits until nothing is left to do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from random import random
from typing import TYPE_CHECKING

from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.engine.admission import AdmissionControl
from gemini_batch.engine.advice import advised
from gemini_batch.engine.breaker import server_breaker
from gemini_batch.engine.budget import Budget
from gemini_batch.engine.call_queue import CallQueue
from gemini_batch.engine.concurrency import AdaptiveConcurrency
from gemini_batch.engine.disk_space import DiskReservations
from gemini_batch.engine.dispatcher import Dispatcher, make_dispatcher
from gemini_batch.engine.origins import Origins
from gemini_batch.engine.parts import Parts, open_parts
from gemini_batch.engine.recovery import Interrupted
from gemini_batch.engine.remaining import RemainingCalls
from gemini_batch.engine.retry import RetryRules
from gemini_batch.engine.retry_table import TABLE
from gemini_batch.engine.shared_money import SharedMoney
from gemini_batch.engine.vertex_rules import VERTEX_TABLE
from gemini_batch.errors import StorageError, out_of_resources
from gemini_batch.events import BatchNotice, CallFinished, Event, Observer, Stopping, Waiting
from gemini_batch.output import OutputFolder
from gemini_batch.plan.built import BuiltPlan
from gemini_batch.quota.limiter import RateLimiter
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.shared_budget import SharedBudget
from gemini_batch.records import Stop, StopReason
from gemini_batch.records.stop import stop_of

if TYPE_CHECKING:  # few runs have one
    from gemini_batch.engine.mirror import Mirror

_ENDS_ALL = {StopReason.INTERRUPTED, StopReason.TERMINATED, StopReason.STORAGE}
"""After these nothing is collected either; others hold back only what would be sent."""
_SENDS_NO_MORE = {StopReason.BUDGET, StopReason.MANIFEST_CHANGED}


@dataclass(kw_only=True, eq=False, repr=False)
class Sending:
    """The work of one run: batches that are open, then single requests, then new batches.

    Attributes:
        stops: Why the run, or a model in it, starts no more calls.
        shared_budget: That of all workers of the run; None for none.
        dispatcher: Sends single requests; None before the first.
    """

    config: Settings
    folder: OutputFolder
    planned: BuiltPlan
    ledger: SharedLedger
    interrupted: Interrupted
    clock: Clock
    observe: Observer
    stops: list[Stop]
    mirror: "Mirror | None" = None
    shared_budget: SharedBudget | None = None
    dispatcher: Dispatcher | None = field(default=None, init=False)
    _stopped: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _ended: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _is_resting: bool = field(default=False, init=False)
    _has_new: bool = field(default=True, init=False)  # calls that were not sent in this run

    def __post_init__(self) -> None:
        """Prepare what phases share; without batches nothing is noted of single calls."""
        self._budget = Budget(self.config.max_cost_usd)
        self._has_batches = self.config.route != "interactive" or bool(self.planned.history.waiting)
        self._remaining = RemainingCalls(self.planned, self.config, self._has_batches)

    def stop(self, stop: Stop) -> None:
        """Start nothing more, of one model or of all; what is in flight is completed."""
        if not stop.model:
            self._stopped.set()
        if stop.reason in _ENDS_ALL or (self._is_resting and stop.reason is StopReason.DEADLINE):
            self._ended.set()
        lanes = self.dispatcher.queue.lanes if self.dispatcher else {}
        if self.dispatcher is not None and (not stop.model or stop.model in lanes):
            self.dispatcher.stop(stop)
        elif all((stop.reason, stop.model) != (each.reason, each.model) for each in self.stops):
            self.stops.append(stop if self._is_for_now(stop) else advised(stop))
            others = [each for each in self.planned.plan.models if each != stop.model]
            self._announce(Stopping(self.stops[-1], 0, stop.model if others else ""))

    async def run(self, base_url: str) -> None:
        """Do all that can be done in this run, until something stops it.

        Cancellation: single requests in flight may have been billed and are lost; all that was
        answered is written, and batches stay noted.

        Raises:
            StorageError: The output folder can't be opened.
        """
        early, self.stops[:] = list(self.stops), []
        origins = Origins(
            config=self.config,
            folder=self.folder,
            planned=self.planned,
            interrupted=self.interrupted,
            budget=self._budget,
            stopped=self._stopped,
            ended=self._ended,
            has_batches=self._has_batches,
            clock=self.clock,
            observe=self.observe,
            note=self._note,
            store=None if self.mirror is None else self.mirror.bucket.root,
        )
        async with open_parts(base_url, origins) as parts:
            for stop in early:
                self.stop(stop)
            async with self._mirrored():
                with self._deadline():
                    try:
                        await self._phases(parts)
                    finally:
                        await self._guarded(parts.committer.flush())
            if parts.batches is not None and (waiting := parts.batches.stop()):
                self.stops.append(waiting)

    @asynccontextmanager
    async def _mirrored(self) -> AsyncIterator[None]:
        """Upload rows while the block runs, and then what is left.

        Rows of earlier runs are in the bucket before anything is sent: nothing is paid for while
        it can't be reached.
        """
        if (mirror := self.mirror) is None:
            yield
            return
        failed: Exception | None = None
        async with asyncio.TaskGroup() as group:
            group.create_task(self._guarded(mirror.run()), name="mirror")
            try:
                await self._guarded(mirror.catch_up())
                yield
            except Exception as error:  # noqa: BLE001 # raised again when all is uploaded
                failed = error
            finally:
                mirror.close()
        if failed is not None:
            raise failed

    async def _phases(self, parts: Parts) -> None:
        batches, is_first = parts.batches, True
        while True:
            if batches is not None and not self._ended.is_set():
                number = len(batches.awaited())
                await self._stop_for(batches.settle(is_first=is_first))
                if len(batches.awaited()) < number:  # there is room, and money, for others
                    self._has_new |= any(self._is_for_now(stop) for stop in self.stops)
            if self._has_new and not self._stopped.is_set():
                self._has_new = False
                if self._remaining.may_have:
                    await self._send(parts)
            if batches is None or not self._waits():
                return
            self._is_resting = True
            if not await batches.rest():
                return
            self._is_resting = False
            is_first = False

    def _waits(self) -> bool:
        """Return whether to stay until open batches have ended: a budget does not end that."""
        of_run = {stop.reason for stop in self.stops if not stop.model}
        return self.config.waits_for_batches and of_run <= _SENDS_NO_MORE

    def _is_for_now(self, stop: Stop) -> bool:
        """Return whether a stop is over once an open batch has ended, which this run awaits."""
        is_held = stop.reason is StopReason.BUDGET and stop.model != ""
        return self.config.waits_for_batches and (is_held or stop.reason is StopReason.BATCH_FULL)

    async def _send(self, parts: Parts) -> None:
        """Send what is left by the routes of the run."""
        self.stops[:] = [each for each in self.stops if not self._is_for_now(each)]
        if self.config.route != "batch":
            await self._dispatch(parts)
        if parts.batches is None or self.config.route == "interactive" or self._stopped.is_set():
            return
        calls = self.planned.calls(self._remaining.is_for_batch)
        closed = {stop.model for stop in self.stops if stop.reason is StopReason.DAY_CLOSED}
        if self.config.route == "auto":
            of = self.planned.successors
            calls = {each: calls[each] for each in calls if {each, of.get(each)} & closed}
        stops = await self._stop_for(parts.batches.submit(calls))
        if not stops and not self._stopped.is_set():  # all that the day did not do is in batches
            self.stops[:] = [each for each in self.stops if each.model not in closed]

    async def _dispatch(self, parts: Parts) -> None:
        """Send calls as single requests."""
        config, chaining = self.config, self.planned.chaining
        concurrency = max(1, min(config.concurrency, self.planned.plan.todo))
        self.dispatcher = make_dispatcher(
            queue=CallQueue(
                self.planned.calls_in_turn(self._remaining.has),
                AdaptiveConcurrency(concurrency),
                server_breaker(random),
                self.clock,
                self.planned.successors,
            ),
            preprocess=parts.preprocess,
            admission=self._admission(),
            transport=parts.transport,
            committer=parts.committer,
            remote=parts.remote,
            rules=RetryRules(
                config.max_attempts,
                config.skip_uncertain,
                config.keeps_going,
                VERTEX_TABLE if config.vertex else TABLE,
            ),
            observe=self._announce,
            is_parent=chaining.is_parent if chaining else lambda _call_id: False,
        )
        self.dispatcher.stops = self.stops
        for stop in [each for each in self.stops if each.model in self.dispatcher.queue.lanes]:
            self.dispatcher.queue.close_lane(self.dispatcher.queue.lanes[stop.model])
        await self.dispatcher.run(concurrency)
        if any(not stop.model for stop in self.stops):
            self._stopped.set()

    def _admission(self) -> AdmissionControl:
        def on_wait(model: str, until_s: float, why: str) -> None:
            self.observe(Waiting(model, until_s - self.clock.steady_s(), why))

        shared = None
        if self.shared_budget is not None:
            shared = SharedMoney(self.shared_budget, self.ledger, self.clock)
        return AdmissionControl(
            RateLimiter(self.ledger, self.config.limits, self.clock, on_wait),
            DiskReservations(
                self.folder.out, self.clock.steady_s, self.mirror.space if self.mirror else None
            ),
            self.clock,
            self.observe,
            budget=self._budget,
            waits_for_reset=self.config.waits_for_reset,
            shared=shared,
        )

    @contextmanager
    def _deadline(self) -> Iterator[None]:
        seconds = self.config.deadline_s
        if seconds is None:
            yield
            return
        stop = Stop(StopReason.DEADLINE, f"the deadline of {seconds:g} s is over")
        timer = asyncio.get_running_loop().call_later(seconds, self.stop, stop)
        try:
            yield
        finally:
            timer.cancel()

    async def _stop_for(self, work: Awaitable[list[Stop]]) -> list[Stop]:
        """Stop for the reasons that some work returns, or for a disk that fails."""
        try:
            stops = await work
        except StorageError as error:
            stops = [stop_of(error)]
        for stop in stops:
            self.stop(stop)
        return stops

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Let a disk that fails stop the run, and a machine that is out of memory."""
        try:
            await work
        except StorageError as error:
            self.stop(stop_of(error))
        except Exception as error:
            if not (message := out_of_resources(error)):
                raise
            self.stop(Stop(StopReason.STORAGE, message))

    def _announce(self, event: Event) -> None:
        """Pass an event on; a stop after which the run continues in another way says so."""
        is_auto = self.config.route == "auto"
        match event:
            case Stopping(stop) if stop.reason is StopReason.DAY_CLOSED and is_auto:
                event = BatchNotice(f"{stop.message}: what is left is sent in batches")
            case Stopping(stop) if self._is_for_now(stop):
                event = BatchNotice(f"{stop.message}; what is left waits until a batch has ended")
        self.observe(event)

    def _note(self, event: Event) -> None:
        """Note what an ended call changes for the others, and pass the event on."""
        if isinstance(event, CallFinished):
            if self.mirror is not None:
                self.mirror.offer(event)
            self._has_new |= self._remaining.note(event)
        self.observe(event)
