"""What a run came to: counted while it goes on, written to `summary.json` at its end."""

import os
from array import array
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import orjson

from gemini_batch.config import Settings
from gemini_batch.errors import ExitCode
from gemini_batch.events import CallAbandoned, CallFinished, CallSent, CallUnanswered, Event
from gemini_batch.plan import Plan
from gemini_batch.records import Status, Stop, StopReason

FILE_NAME = "summary.json"
UNFINISHED = frozenset({Status.FAILED, Status.REJECTED, Status.UNCERTAIN})
"""A newest row with one of these ends a run with `ExitCode.INCOMPLETE`."""

_EXIT_ORDER = (
    ExitCode.INTERRUPTED,
    ExitCode.TERMINATED,
    ExitCode.STORAGE,
    ExitCode.REFUSED,
    ExitCode.STOPPED,
)


@dataclass(frozen=True, slots=True)
class Totals:
    """What this run itself did.

    Attributes:
        finished: Rows written.
        by_status: These rows by status.
        reused: Of these, those whose answer was copied from another folder, at no cost.
        sent: Requests sent, retries included.
        retries: Requests that were sent again.
        possibly_billed: Requests of this run, and of one that was killed before it, that were sent and gave nothing.
        prompt_tokens: As the server counted.
        output_tokens: As the server counted, thinking included.
        cost_usd: Of the rows, at list price; those of unknown price are counted in `unpriced`.
        unpriced: Rows whose cost is unknown.
        estimated_cost_usd: What the plan said that all calls to be made would cost; None when a price is unknown.
        latency_p50_s: Median from sending to the last byte; None without rows.
        latency_p95_s: The same for 19 of 20.
    """

    finished: int
    by_status: dict[str, int]
    reused: int
    sent: int
    retries: int
    possibly_billed: int
    prompt_tokens: int
    output_tokens: int
    cost_usd: float
    unpriced: int
    estimated_cost_usd: float | None
    latency_p50_s: float | None
    latency_p95_s: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The end of a run, for a person and for a monitor.

    Attributes:
        manifest: Its path, as it was given; `jobs` for jobs from Python.
        out: The output folder.
        tier: The tier's name.
        endpoint: Where requests went.
        exit_code: What the process says.
        stops: Why the run ended early, the reason first; empty when it did not.
        calls: All calls of the manifest.
        by_status: Their newest rows by status, earlier runs included.
        left: Calls that are not done; running again sends them.
        run_again_at: When running again makes sense, UTC; None for at once.
        this_run: What this run itself did.
        started_at: UTC.
        ended_at: UTC.
        duration_s: Between the two.
    """

    manifest: str
    out: str
    tier: str
    endpoint: str
    exit_code: ExitCode
    stops: list[dict[str, str]]
    calls: int
    by_status: dict[str, int]
    left: int
    run_again_at: datetime | None
    this_run: Totals
    started_at: datetime
    ended_at: datetime
    duration_s: float

    def write(self, out: Path) -> None:
        """Write `summary.json` whole or not at all.

        Raises:
            OSError: The disk would not.
        """
        incoming = out / ".gemini_batch" / FILE_NAME
        with incoming.open("wb") as file:
            file.write(self.json())
            file.flush()
            os.fsync(file.fileno())
        incoming.replace(out / FILE_NAME)

    def json(self) -> bytes:
        """Return the summary as indented JSON."""
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)


class Meter:
    """Counts what a run does, event by event."""

    def __init__(self, possibly_billed: int = 0) -> None:
        self._by_status: Counter[Status] = Counter()
        self._reused = 0
        self._sent = 0
        self._retries = 0
        self._possibly_billed = possibly_billed
        self._prompt_tokens = 0
        self._output_tokens = 0
        self._cost_usd = 0.0
        self._unpriced = 0
        self._latencies_s = array("d")

    def observe(self, event: Event) -> None:
        """Take in what happened."""
        match event:
            case CallSent():
                self._sent += 1
                self._retries += event.attempt > 1
            case CallUnanswered() | CallAbandoned():
                self._possibly_billed += 1
            case CallFinished(row):
                self._by_status[row.status] += 1
                self._reused += row.reused_from is not None
                if row.attempts:
                    self._latencies_s.append(row.latency_s)
                if row.cost_usd is None:
                    self._unpriced += 1
                else:
                    self._cost_usd += row.cost_usd
                if row.usage is not None:
                    prompt = row.usage.prompt_tokens or 0
                    self._prompt_tokens += prompt
                    self._output_tokens += max(0, (row.usage.total_tokens or 0) - prompt)
            case _:
                pass

    def summary(
        self,
        *,
        manifest: str,
        out: Path,
        config: Settings,
        plan: Plan,
        before: Counter[Status],
        stops: list[Stop],
        started_at: datetime,
        ended_at: datetime,
    ) -> Summary:
        """Return what the run came to.

        Args:
            manifest: Its path, or what names it.
            out: The output folder.
            config: The run's settings.
            plan: What was to be done.
            before: The newest rows of calls that were not finished in this run, by status.
            stops: Why the run ended early.
            started_at: UTC.
            ended_at: UTC.
        """
        by_status = before + self._by_status
        left = plan.todo - sum(self._by_status.values()) + self._by_status[Status.FAILED]
        # A deadline that struck when all had been sent has stopped nothing.
        stops = [stop for stop in stops if left or stop.reason is not StopReason.DEADLINE]
        stops.sort(key=lambda stop: _EXIT_ORDER.index(stop.exit_code))
        times = [stop.run_again_at for stop in stops if stop.run_again_at is not None]
        return Summary(
            manifest=manifest,
            out=str(out),
            tier=config.tier,
            endpoint=config.endpoint,
            exit_code=_exit_code(stops, by_status),
            stops=[{"reason": stop.reason.value, "message": stop.message} for stop in stops],
            calls=len(plan),
            by_status=_named(by_status),
            left=left,
            run_again_at=max(times, default=None),
            this_run=self._totals(plan),
            started_at=started_at,
            ended_at=ended_at,
            duration_s=round((ended_at - started_at).total_seconds(), 3),
        )

    def _totals(self, plan: Plan) -> Totals:
        return Totals(
            finished=sum(self._by_status.values()),
            by_status=_named(self._by_status),
            reused=self._reused,
            sent=self._sent,
            retries=self._retries,
            possibly_billed=self._possibly_billed,
            prompt_tokens=self._prompt_tokens,
            output_tokens=self._output_tokens,
            cost_usd=round(self._cost_usd, 6),
            unpriced=self._unpriced,
            estimated_cost_usd=None if plan.total.cost_usd is None else round(plan.total.cost_usd, 6),
            latency_p50_s=self._latency_s(0.5),
            latency_p95_s=self._latency_s(0.95),
        )

    def _latency_s(self, share: float) -> float | None:
        ordered = sorted(self._latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def _exit_code(stops: list[Stop], by_status: Counter[Status]) -> ExitCode:
    if stops:
        return stops[0].exit_code
    return ExitCode.INCOMPLETE if any(by_status[status] for status in UNFINISHED) else ExitCode.DONE


def _named(counts: Counter[Status]) -> dict[str, int]:
    return {status.value: counts[status] for status in Status if counts[status]}
