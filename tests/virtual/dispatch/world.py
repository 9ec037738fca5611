import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from gemini_batch.catalog import prices
from gemini_batch.client.transport import Transport
from gemini_batch.clock import Clock
from gemini_batch.engine.admission import AdmissionControl
from gemini_batch.engine.breaker import (
    server_breaker,
)
from gemini_batch.engine.budget import Budget
from gemini_batch.engine.call_queue import CallQueue
from gemini_batch.engine.commit import Committer
from gemini_batch.engine.concurrency import AdaptiveConcurrency
from gemini_batch.engine.disk_space import DiskReservations
from gemini_batch.engine.dispatcher import make_dispatcher
from gemini_batch.engine.preprocess import Preprocessor
from gemini_batch.engine.recovery import Interrupted, recover
from gemini_batch.engine.remote import RemoteReplies
from gemini_batch.engine.retry import RetryRules
from gemini_batch.events import (
    CallFinished,
    CallUnanswered,
    Event,
)
from gemini_batch.output import OutputFolder
from gemini_batch.output.inflight import InFlightLog
from gemini_batch.output.results_file import ResultsFile
from gemini_batch.output.rows import newest_rows
from gemini_batch.quota.limiter import RateLimiter
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import MemoryStorage
from gemini_batch.records import Call, Limits, Stop, StopReason
from tests.builders import (
    ENDPOINT,
    MODEL,
    ScriptedFetcher,
    ScriptedTransport,
    Step,
    by_model,
    make_call,
)
from tests.virtual.clock import run

T = TypeVar("T")
OTHER = "gemini-2.5-flash-image"
RETRY_IN_AN_HOUR = {"@type": "google.rpc.RetryInfo", "retryDelay": "3600s"}
UNLIMITED = Limits()
Script = dict[str, list[Step]]


@dataclass
class World:
    """Everything around a dispatcher, and what came of a run."""

    out: Path
    clock: Clock
    script: Script
    fetcher: ScriptedFetcher = field(default_factory=ScriptedFetcher)
    limits: Limits = UNLIMITED
    max_attempts: int = 3
    max_cost_usd: float | None = None
    waits_for_reset: bool = False
    keeps_going: bool = False
    events: list[Event] = field(default_factory=list)
    also: Callable[[Event], None] = lambda _event: None
    models: tuple[str, ...] = (MODEL, OTHER)
    on_end: float = 0.0

    calls: Iterable[Call | Stop] | Mapping[str, Iterator[Call | Stop]] = ()
    concurrency: int = 4

    def __post_init__(self) -> None:
        self.folder = OutputFolder(self.out)
        (self.folder.private / "incoming").mkdir(parents=True, exist_ok=True)
        recover(self.folder)
        self.rows = ResultsFile(self.out)
        self.in_flight_log = InFlightLog(self.folder.private, self.rows.end_bytes)
        self.ledger = SharedLedger(MemoryStorage(), self.limits)
        self.transport = ScriptedTransport(self.clock, self.script)
        clock, observe = self.clock, self.observe
        self.committer = Committer(
            self.folder,
            self.rows,
            self.in_flight_log,
            prices.built_in(),
            ENDPOINT,
            clock,
            observe,
        )
        remote = RemoteReplies(self.fetcher, self.committer, clock)
        lanes = (
            self.calls if isinstance(self.calls, Mapping) else by_model(self.calls, *self.models)
        )
        self.dispatcher = make_dispatcher(
            queue=CallQueue(
                lanes, AdaptiveConcurrency(self.concurrency), server_breaker(random.random), clock
            ),
            admission=AdmissionControl(
                RateLimiter(self.ledger, self.limits, clock),
                DiskReservations(self.out, clock.steady_s),
                clock,
                observe,
                budget=Budget(self.max_cost_usd),
                waits_for_reset=self.waits_for_reset,
            ),
            preprocess=Preprocessor(
                self.folder,
                self.committer,
                clock,
                observe,
                interrupted=Interrupted({}),
                remote=remote,
            ),
            transport=cast(Transport, self.transport),
            committer=self.committer,
            remote=remote,
            rules=RetryRules(self.max_attempts, keeps_going=self.keeps_going),
            observe=observe,
        )

    def observe(self, event: Event) -> None:
        """Keep what is told."""
        self.events.append(event)
        self.also(event)

    async def send(self) -> None:
        """Send all calls."""
        try:
            with self.folder.locked():
                await self.dispatcher.run(self.concurrency)
        finally:
            self.on_end = self.clock.steady_s()
            self.rows.close()
            self.in_flight_log.close()

    @property
    def statuses(self) -> dict[str, str]:
        """The newest row of each call."""
        return {row["id"]: row["status"] for row in newest_rows(self.out)}

    @property
    def unanswered(self) -> set[str]:
        """The calls of which an attempt may have been billed."""
        return {event.call_id for event in self.of(CallUnanswered)}

    @property
    def reasons(self) -> list[StopReason]:
        """Why it stopped."""
        return [stop.reason for stop in self.dispatcher.stops]

    def of(self, kind: type[T]) -> list[T]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def finished(self) -> list[str]:
        """The calls that were reported as finished."""
        return [event.row.id for event in self.of(CallFinished)]


During = Callable[[World], Awaitable[None]]


def play(
    out: Path,
    calls: Iterable[Call | Stop | str],
    script: Script | None = None,
    *,
    concurrency: int = 4,
    during: During | None = None,
    prepare: Callable[[World], None] | None = None,
    **settings: Any,
) -> World:
    """Run calls on a virtual clock, with something else going on meanwhile; return what came of it."""
    worlds: list[World] = []

    async def scenario(clock: Clock) -> None:
        made = (make_call(call) if isinstance(call, str) else call for call in calls)
        world = World(out, clock, script or {}, calls=made, concurrency=concurrency, **settings)
        worlds.append(world)
        if prepare:
            prepare(world)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(world.send())
            if during:
                meanwhile = group.create_task(cast(Any, during(world)))
                await asyncio.wait([sending])
                meanwhile.cancel()

    run(scenario)
    return worlds[0]
