"""The sentences about a run's events and its end. Pure."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from gemini_batch.engine.summary import UNFINISHED, Summary
from gemini_batch.errors import ExitCode
from gemini_batch.events import (
    BatchNotice,
    BatchSeen,
    CallHeld,
    CallNotReused,
    LedgerNotice,
    LittleRoom,
    ManifestWarning,
    ModelReplaced,
    Repaired,
    RunStarted,
    Stopping,
)
from gemini_batch.progress.forecast import Forecast
from gemini_batch.progress.formatting import (
    BATCH_TIME,
    about,
    budget,
    clock,
    count,
    edited,
    held,
    least_time,
    list_price,
    span,
    stale,
    tier_label,
)
from gemini_batch.records import Status, StopReason, resolved_by_waiting
from gemini_batch.wording import local_time, usd

# Failed and rejected calls that the end names; the others are only counted.
_MAX_REASONS = 5
_ADVICE = {
    Status.FAILED: "run again to retry the failed calls",
    Status.REJECTED: "edit the rejected lines, then run again",
    Status.UNCERTAIN: "check what may have been billed; to send it again, add --retry uncertain",
}

_HELD_ADVICE = (
    "edit the calls whose pictures are missing, or send them again (--retry, --redo), then run "
    "again"
)
_LATER_ADVICE = "add the calls whose pictures they use to --only, or leave --only out, then run"


def started(name: str, event: RunStarted) -> tuple[str, ...]:
    """Return the work and its price; the shortest duration and the output folder; notices."""
    parts = [f"{name}: {count(event.todo, 'call')} to send"]
    if event.reused:
        parts.append(f"{event.reused:,} reused at no cost")
    if event.done:
        parts.append(f"{event.done:,} already done")
    if event.edited:
        parts.append(edited(event.edited))
    if event.waiting:
        parts.append(f"{event.waiting:,} waiting in batches")
    if event.later:
        parts.append(f"{event.later:,} left for other runs")
    if event.held:
        parts.append(held(event.held))
    if event.stale:
        parts.append(stale(event.stale))
    cost = list_price(event.cost_usd, event.tier, event.route, is_simulated=event.is_simulated)
    if event.max_cost_usd is not None:
        most = budget(event.max_cost_usd, event.cost_usd, event.todo, event.submitted_at_first)
        cost += f" · budget {most}"
    time = least_time(event.duration_s, event.days, event.bound_by)
    if event.route == "batch":
        time = f"in batches: {BATCH_TIME}"
    where = f"{tier_label(event.tier)}: {time} · output in {event.out}"
    return " · ".join([*parts, cost]), where, *event.notices


def notice(
    event: Repaired
    | LedgerNotice
    | ManifestWarning
    | CallHeld
    | CallNotReused
    | ModelReplaced
    | BatchNotice
    | LittleRoom
    | Stopping,
) -> str:
    """Return the text of an event that the user should see."""
    match event:
        case Repaired() | LedgerNotice() | ManifestWarning() | BatchNotice() | CallHeld():
            return event.message
        case CallNotReused(call_id, message):
            return f"{call_id}: can't be reused, so it is sent: {message}"
        case ModelReplaced(model, _, message):
            return f"{model}: {message}"
        case LittleRoom(out):
            return f"{out}: little disk space left, so fewer calls are in flight"
        case Stopping(stop, _, model) if model:
            return f"{stop.message}; other models continue"
        case Stopping(stop, in_flight):
            parts = [f"stopping: {stop.message}"]
            if in_flight:
                parts.append(finishing(event))
            return "; ".join(parts)


def batch(event: BatchSeen) -> str | None:
    """Return that a batch was created or collected; None for another look at it."""
    calls = count(event.calls, "call")
    if event.is_new:
        return f"{calls} submitted as {event.batch}"
    return f"{event.batch}: {calls} collected" if event.is_over else None


def finishing(event: Stopping) -> str:
    """Return what a run does with the calls in flight after a stop."""
    text = f"finishing {count(event.in_flight, 'call')} already paid for"
    if event.stop.reason is not StopReason.INTERRUPTED:
        return text
    return f"{text}; Ctrl-C again to abandon {'it' if event.in_flight == 1 else 'them'}"


def eta(expected: Forecast, left: int, now: datetime) -> str:
    """Return when a run will be done, as `about 19 min, until 12:19`.

    If the day's quota does not suffice: `today until 09:00, then 320 left tomorrow · from 10:00`.
    """

    def moment(in_s: float) -> str:
        return clock(now + timedelta(seconds=in_s), now)

    if not left:
        return "all calls are done"
    if expected.closes_in_s is None:
        ends_in_s = expected.ends_in_s or 0.0
        if expected.is_least:
            return f"at least {about(ends_in_s)}"
        until = f", until {moment(ends_in_s)}" if ends_in_s >= 60 else ""
        return f"about {about(ends_in_s)}{until}"
    closes_in_s = expected.closes_in_s
    today = f"today until {moment(closes_in_s)}" if closes_in_s else "today's quota is used up"
    more = "tomorrow" if expected.days_more == 1 else f"over {expected.days_more} days"
    text = f"{today}, then {expected.left_over:,} left {more} · from {moment(expected.resets_in_s)}"
    return text if expected.ends_in_s is None else f"{text} to about {moment(expected.ends_in_s)}"


def counts(by_status: Mapping[Status, int] | Mapping[str, int]) -> str:
    """Return `148 succeeded, 2 blocked`."""
    parts = [f"{number:,} {status}" for status, number in by_status.items() if number]
    return ", ".join(parts) or "nothing finished"


def submitted(summary: Summary) -> str:
    """Return how many calls a run sent in batches; "" for none."""
    number = summary.this_run.submitted
    return f"{number:,} submitted in batches" if number else ""


def nothing_to_do(name: str, summary: Summary) -> str | None:
    """Return that all calls were done before; None if not."""
    if summary.this_run.finished or summary.exit_code != ExitCode.DONE:
        return None
    if summary.left:
        left = f"{summary.left:,} of {count(summary.calls, 'call')} left for other runs"
        return f"{name}: nothing to do: this part is done, in {summary.out} · {left}"
    done = "its one call is done" if summary.calls == 1 else f"all {summary.calls:,} calls are done"
    of_stale = f" · {stale(summary.stale)}" if summary.stale else ""
    return f"{name}: nothing to do: {done}, in {summary.out}{of_stale}"


def cost(summary: Summary) -> str:
    """Return the cost of the run, and the estimate for the calls that were answered."""
    run = summary.this_run
    parts = [f"{usd(run.cost_usd)} at list price"]
    if run.estimated_answered_usd:
        parts.append(f"estimated {usd(run.estimated_answered_usd)}")
    if run.unpriced:
        parts.append(f"and {run.unpriced:,} of unknown cost")
    return ", ".join(parts)


def possibly_billed(summary: Summary) -> str:
    """Return how many requests may have been billed without an answer; "" for none."""
    if not (number := summary.this_run.possibly_billed):
        return ""
    return f"{count(number, 'request')} failed without an answer and may have been billed"


def ended(summary: Summary) -> str:
    """Return the result of a run."""
    by_status = summary.this_run.by_status
    parts = [
        counts(by_status) if by_status or not summary.this_run.submitted else "",
        submitted(summary),
        f"{summary.left:,} of {summary.calls:,} left" if summary.left else "",
        held(summary.held) if summary.held else "",
        stale(summary.stale) if summary.stale else "",
        f"{summary.waiting:,} waiting in batches" if summary.waiting else "",
        cost(summary),
        possibly_billed(summary),
        span(summary.duration_s),
        f"results in {summary.out}",
    ]
    return " · ".join(part for part in parts if part)


def advice(summary: Summary) -> str | None:
    """Return why and when to run the command again; None if there is no need."""
    match summary.exit_code:
        case ExitCode.DONE:
            return None
        case ExitCode.INCOMPLETE:
            found = (text for status, text in _ADVICE.items() if summary.by_status.get(status))
            held_advice = _LATER_ADVICE if set(summary.held or ()) == {"later"} else _HELD_ADVICE
            return next(found, held_advice if summary.held else "run again")
        case ExitCode.STOPPED | ExitCode.INTERRUPTED | ExitCode.TERMINATED if waiting := _waiting(
            summary
        ):
            return waiting
        case ExitCode.REFUSED | ExitCode.STOPPED if _needs_fixing(summary):
            return "fix the problem above, then run"
        case _ if summary.run_again_at is not None:
            return f"run again after {local_time(summary.run_again_at)}"
    return "run again to continue"


def reasons(summary: Summary) -> Iterator[str]:
    """Yield why calls failed or were rejected; of many, the first ones."""
    run = summary.this_run
    for row in run.unfinished[:_MAX_REASONS]:
        yield f"{row['id']} (line {row['line']:,}): {row['status']}: {row['message']}"
    more = sum(run.by_status.get(status, 0) for status in UNFINISHED) - _MAX_REASONS
    if more > 0:
        yield f"and {more:,} more: see their rows in results.jsonl"


def _waiting(summary: Summary) -> str:
    """Return how many calls wait in batches since when, and when to run again; "" for none."""
    reasons = {stop["reason"]: stop.get("message", "") for stop in summary.stops}
    message = reasons.get(StopReason.WAITING.value, "")
    if not message or summary.run_again_at is None:
        return ""
    others = summary.left - summary.waiting
    then = f" to collect them and to send the other {others:,}" if others > 0 else ""
    return f"{message}; run again from {local_time(summary.run_again_at)}{then}"


def _needs_fixing(summary: Summary) -> bool:
    """Return whether the first stop persists in the next run; after an outage it may not."""
    resolved = resolved_by_waiting(made_progress=summary.this_run.sent > 0)
    again = resolved | {StopReason.OUTAGE, StopReason.MANIFEST_CHANGED}
    return any(stop["reason"] not in again for stop in summary.stops[:1])
