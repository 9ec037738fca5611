"""Statistics of a run, from its events."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.engine.summary import UNFINISHED, RunTotals, Summary
from gemini_batch.errors import ExitCode
from gemini_batch.events import (
    BatchSeen,
    CallAbandoned,
    CallFinished,
    CallRetrying,
    CallSent,
    CallUnanswered,
    Event,
)
from gemini_batch.output.waiting import OpenBatch, Waiting
from gemini_batch.plan import CallState
from gemini_batch.plan.built import BuiltPlan
from gemini_batch.plan.chaining import SOON
from gemini_batch.quota.limits import micros
from gemini_batch.quota.utilization import UsageLookup, Utilization
from gemini_batch.records import Limits, Status, Stop, StopReason, resolved_by_waiting

if TYPE_CHECKING:
    from gemini_batch.records import ResultRow

_MOST_REASONS, _REASON_CHARS, _OTHER = 50, 80, "other"
_UNNAMED = "unnamed"
_MOST_NAMED = 10
_EXIT_ORDER = (
    ExitCode.INTERRUPTED,
    ExitCode.TERMINATED,
    ExitCode.STORAGE,
    ExitCode.REFUSED,
    ExitCode.BAD_INPUT,
    ExitCode.STOPPED,
    ExitCode.INCOMPLETE,
)


class RunStats:
    """Counts events, in memory that does not grow with the number of calls.

    `is_of_other` returns whether a row is of a call that the manifest does not ask for.
    """

    def __init__(
        self,
        limits: Limits,
        clock: Clock,
        possibly_billed: int = 0,
        is_of_other: "Callable[[ResultRow], bool]" = lambda _row: False,
    ) -> None:
        self._clock = clock
        self._started_at = clock.utc()
        self._totals = RunTotals(possibly_billed=possibly_billed)
        self._utilisation = Utilization(limits)
        self._by_status: Counter[Status] = Counter()
        self._is_of_other = is_of_other
        self._of_others = 0
        # Calls that batches gave back, and that have no other row since: id → request_sha256.
        self._given_back: dict[str, str] = {}
        self._returned = 0
        self._by_reason: dict[str, Counter[str]] = {}
        self._retried: Counter[str] = Counter()
        self._service_tiers: Counter[str] = Counter()
        # Rows have milliseconds: there are no more keys than a timeout has.
        self._latencies_ms: Counter[int] = Counter()

    def observe(self, event: Event) -> None:
        """Count an event."""
        match event:
            case CallSent():
                self._totals.sent += 1
                self._totals.retries += event.attempt > 1
                self._utilisation.sent(event.model, self._clock.steady_s(), self._clock.utc())
            case CallRetrying():
                _count(self._retried, event.reason)
            case CallUnanswered() | CallAbandoned():
                self._totals.possibly_billed += 1
            case CallFinished():
                self._finished(event)
            case BatchSeen(is_new=True):
                self._totals.submitted += event.calls
            case _:
                pass

    def _finished(self, event: CallFinished) -> None:
        totals, row = self._totals, event.row
        self._by_status[row.status] += 1
        self._given_back.pop(row.id, None)
        if row.is_given_back:
            self._given_back[row.id] = row.request_sha256
            self._returned += 1
        # A late answer, and one that the manifest does not ask for, leaves as many calls to do.
        self._of_others += row.status is not Status.FAILED and (
            row.status is Status.LATE or self._is_of_other(row)
        )
        if row.status is not Status.SUCCEEDED:
            reason = row.error.name if row.error else row.block_reason or row.finish_reason
            _count(self._by_reason.setdefault(row.status.value, Counter()), reason or _OTHER)
        if row.status in UNFINISHED and len(totals.unfinished) < _MOST_NAMED:
            message = row.error.message if row.error else ""
            totals.unfinished.append(
                {"id": row.id, "line": row.line, "status": row.status.value, "message": message}
            )
        totals.reused += row.reused_from is not None
        if row.attempts and row.route == "interactive":
            self._latencies_ms[round(row.latency_s * 1000)] += 1
        if row.error is None or row.remote_images:
            totals.estimated_answered_usd += event.estimated_usd or 0.0
            if row.reused_from is None:
                self._service_tiers[(row.service_tier or _UNNAMED)[:_REASON_CHARS]] += 1
        totals.unpriced += row.cost_usd is None
        totals.cost_usd += row.cost_usd or 0.0
        usage = row.usage if row.attempts else None  # otherwise an earlier run has counted it
        prompt_tokens = (usage.prompt_tokens or 0) if usage else 0
        if usage is not None:
            totals.prompt_tokens += prompt_tokens
            totals.output_tokens += max(0, (usage.total_tokens or 0) - prompt_tokens)
        if row.reused_from is None and row.route == "interactive":
            self._utilisation.answered(
                event.lane or row.model,
                tokens=prompt_tokens,
                usd_micros=micros(row.cost_usd or 0.0),
            )

    def summary(
        self,
        manifest: str,
        out: str,
        config: Settings,
        planned: BuiltPlan,
        *,
        stops: Iterable[Stop],
        used: UsageLookup,
    ) -> Summary:
        """Return the summary of the run until now.

        `stops` say why it ended early; `used` returns what counts against each limit of a model.
        """
        plan, ended_at = planned.plan, self._clock.utc()
        by_status = planned.history.statuses + self._by_status
        del by_status[Status.LATE]  # never the newest row
        ended = self._by_status.total() - self._by_status[Status.FAILED]
        left = plan.todo + plan.count(CallState.WAITING) - ended + self._of_others
        left += plan.count(CallState.HELD)
        held = dict(planned.held())
        in_vain = not SOON.issuperset(held)
        # A deadline that passed when all had been sent has stopped nothing.
        counted = [stop for stop in stops if left or stop.reason is not StopReason.DEADLINE]
        counted.sort(key=lambda stop: _EXIT_ORDER.index(stop.exit_code))
        waiting = planned.history.waiting.open_at(config.endpoint)
        totals = self._totals
        made_progress = bool(totals.sent or totals.reused or totals.submitted)
        resolved = resolved_by_waiting(made_progress=made_progress)
        if counted:
            exit_code = counted[0].exit_code
        else:
            judged = self._by_status if config.is_part else by_status
            is_incomplete = _is_unfinished(judged) or in_vain
            exit_code = ExitCode.INCOMPLETE if is_incomplete else ExitCode.DONE
        return Summary(
            manifest=manifest,
            out=out,
            tier=config.tier,
            endpoint=config.endpoint,
            exit_code=exit_code,
            needs_person=in_vain
            or self._needs_person(planned.history.waiting, config.endpoint)
            or any(stop.needs_person or stop.reason not in resolved for stop in counted),
            stops=[{"reason": stop.reason.value, "message": stop.message} for stop in counted],
            calls=plan.own,
            by_status=_named(by_status),
            left=left + plan.count(CallState.LATER),
            held=held,
            stale=planned.stale,
            run_again_at=_run_again_at(counted),
            waiting=sum(batch.waiting for batch in waiting),
            committed_usd=round(sum(batch.committed_usd for batch in waiting), 6),
            batches=[_described(batch) for batch in waiting],
            this_run=self.totals(plan.total.cost_usd),
            windows=self._utilisation.windows(used),
            started_at=self._started_at,
            ended_at=ended_at,
            duration_s=round((ended_at - self._started_at).total_seconds(), 3),
        )

    def _needs_person(self, waiting: Waiting, endpoint: str) -> bool:
        """Return whether calls of this run ended badly, and are not on their way again."""
        back = self._given_back.items()
        still_failed = sum(not waiting.holds(*call, endpoint) for call in back)
        failed = self._by_status[Status.FAILED] - self._returned + still_failed
        others = UNFINISHED - {Status.FAILED}
        return failed > 0 or any(self._by_status[status] for status in others)

    def totals(self, estimated_cost_usd: float | None) -> RunTotals:
        """Return the totals until now; the estimate is that of the plan."""
        return replace(
            self._totals,
            finished=self._by_status.total(),
            by_status=_named(self._by_status),
            by_reason={
                status: dict(reasons.most_common()) for status, reasons in self._by_reason.items()
            },
            retries_by_reason=dict(self._retried.most_common()),
            service_tiers=dict(self._service_tiers.most_common()),
            cost_usd=round(self._totals.cost_usd, 6),
            estimated_cost_usd=None if estimated_cost_usd is None else round(estimated_cost_usd, 6),
            estimated_answered_usd=round(self._totals.estimated_answered_usd, 6),
            latency_p50_s=self._latency_s(0.5),
            latency_p95_s=self._latency_s(0.95),
        )

    def _latency_s(self, share: float) -> float | None:
        rows = self._latencies_ms.total()
        rank = min(rows - 1, int(share * rows))
        for latency_ms, count in sorted(self._latencies_ms.items()):
            rank -= count
            if rank < 0:
                return latency_ms / 1000
        return None


def _count(counts: Counter[str], reason: str) -> None:
    """Count a reason; a server can send any text, so there may be any number of reasons."""
    name = reason[:_REASON_CHARS]
    counts[name if name in counts or len(counts) < _MOST_REASONS else _OTHER] += 1


def _run_again_at(stops: list[Stop]) -> datetime | None:
    """Return the time when the last reason is over, but as soon as a batch may have ended."""
    times: dict[bool, list[datetime]] = {True: [], False: []}
    for stop in stops:
        if stop.run_again_at is not None:
            times[stop.reason is StopReason.WAITING].append(stop.run_again_at)
    last = [max(times[False])] if times[False] else []
    return min((*times[True], *last), default=None)


def _described(batch: OpenBatch) -> dict[str, Any]:
    note = batch.note
    return {
        "name": note.name or None,
        "model": note.model,
        "calls": note.calls,
        "waiting": batch.waiting,
        "state": note.state or None,
        "created_at": note.since,
        "committed_usd": round(batch.committed_usd, 6),
    }


def _is_unfinished(by_status: Counter[Status]) -> bool:
    return any(by_status[status] for status in UNFINISHED)


def _named(counts: Counter[Status]) -> dict[str, int]:
    return {status.value: counts[status] for status in Status if counts[status]}
