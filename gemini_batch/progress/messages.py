"""What is said of a run's events and of its end, each in one sentence. Pure."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from gemini_batch.engine.summary import UNFINISHED, Summary
from gemini_batch.errors import ExitCode
from gemini_batch.events import CallNotReused, CallRetrying, LittleRoom, RunStarted, Stopping
from gemini_batch.progress.forecast import Forecast
from gemini_batch.progress.formatting import (
    about,
    at,
    clock,
    count,
    least_time,
    list_price,
    span,
    usd,
)
from gemini_batch.records import ResultRow, Status, StopReason, resolved_by_waiting

# Of calls that failed or were rejected, so many are named at the end, where nobody saw them come by.
_SHOWN_REASONS = 5
_ADVICE = {
    Status.FAILED: "run again to send what failed",
    Status.REJECTED: "edit the rejected lines and run again",
    Status.UNCERTAIN: "look at what may have been billed, and to send it again add --retry uncertain",
}


def started(name: str, event: RunStarted) -> tuple[str, str]:
    """Return what a run is about to do at what price, and how long it takes and where it goes."""
    parts = [f"{name}: {count(event.todo, 'call')} to send"]
    if event.reused:
        parts.append(f"{event.reused:,} reused from another folder, $0")
    if event.done:
        parts.append(f"{event.done:,} done before")
    if event.edited:
        parts.append(edited(event.edited))
    cost = list_price(event.cost_usd, event.tier, is_simulated=event.is_simulated)
    time = least_time(event.duration_s, event.days, event.bound_by)
    return " · ".join([*parts, cost]), f"tier {event.tier}: {time} · into {event.out}"


def edited(number: int) -> str:
    """Return how many calls were answered once, but not as they are asked for now: their request was another, or their endpoint."""
    return f"{number:,} edited since done, or done at another endpoint: paid for again"


def reason(row: ResultRow) -> str:
    """Return why a call has no image."""
    if row.error is not None:
        return row.error.message
    return row.block_reason or row.finish_reason or "no reason was given"


def retrying(event: CallRetrying) -> str:
    """Return why a call is sent again."""
    return f"{event.reason}: {event.message}"


def not_reused(event: CallNotReused) -> str:
    """Return why a call is paid for after all."""
    return f"{event.call_id}: can't be reused, and is sent: {event.message}"


def little_room(event: LittleRoom) -> str:
    """Return why fewer calls are in flight."""
    return f"{event.out}: the disk has little room: fewer calls are in flight, so that each answer fits"


def finishing(in_flight: int, *, by_key: bool) -> str:
    """Return what a run does after a signal; `by_key` when the person who sent it can press again."""
    it = "it" if in_flight == 1 else "them"
    words = f"finishing {count(in_flight, 'call')} already paid for"
    return f"{words}; press again to abandon {it}" if by_key else words


def stopping(event: Stopping) -> str:
    """Return why no more calls are taken in, and what is still waited for."""
    if event.model:
        return f"{event.stop.message}; other models go on"
    words = f"stopping: {event.stop.message}"
    if event.in_flight:
        words += (
            f"; {finishing(event.in_flight, by_key=event.stop.reason is StopReason.INTERRUPTED)}"
        )
    return words


def eta(expected: Forecast, left: int, now: datetime) -> str:
    """Return when a run will be done: `today until 09:00, then 320 left tomorrow · from 10:00` when today's quota does not suffice.

    Args:
        expected: What is to be expected.
        left: Calls that have not ended.
        now: The wall clock.
    """

    def moment(in_s: float) -> str:
        return clock(now + timedelta(seconds=in_s), now)

    if not left:
        return "all are done"
    if expected.closes_in_s is None:
        ends_in_s = expected.ends_in_s or 0.0
        if expected.is_least:
            return f"at least {about(ends_in_s)}"
        return f"about {about(ends_in_s)}" + (
            f", until {moment(ends_in_s)}" if ends_in_s >= 60 else ""
        )
    words = (
        f"today until {moment(expected.closes_in_s)}"
        if expected.closes_in_s
        else "today's quota is used up"
    )
    more = "tomorrow" if expected.days_more == 1 else f"over {expected.days_more} days"
    words += f", then {expected.left_over:,} left {more} · from {moment(expected.resets_in_s)}"
    return words if expected.ends_in_s is None else f"{words} to about {moment(expected.ends_in_s)}"


def counts(by_status: Mapping[Status, int] | Mapping[str, int]) -> str:
    """Return `148 succeeded, 2 blocked`."""
    return (
        ", ".join(f"{number:,} {status}" for status, number in by_status.items() if number)
        or "nothing finished"
    )


def nothing_to_do(name: str, summary: Summary) -> str | None:
    """Return that all was done before, if it was."""
    if summary.this_run.finished or summary.left or summary.exit_code != ExitCode.DONE:
        return None
    done = "its one call is done" if summary.calls == 1 else f"all {summary.calls:,} calls are done"
    return f"{name}: nothing to do: {done}, in {summary.out}"


def cost(summary: Summary) -> str:
    """Return what the run cost, beside what the plan said that the calls with an answer would."""
    run = summary.this_run
    words = f"{usd(run.cost_usd)} at list price"
    if run.estimated_answered_usd:
        words += f", estimated {usd(run.estimated_answered_usd)}"
    return words + (f", and {run.unpriced:,} of unknown cost" if run.unpriced else "")


def possibly_billed(summary: Summary) -> str | None:
    """Return what may have been paid for nothing, if anything."""
    number = summary.this_run.possibly_billed
    return (
        f"{count(number, 'more request')} gave nothing and may have been billed" if number else None
    )


def ended(summary: Summary) -> str:
    """Return what a run came to."""
    parts = [counts(summary.this_run.by_status)]
    if summary.left:
        parts.append(f"{summary.left:,} of {summary.calls:,} left")
    parts += [
        cost(summary),
        possibly_billed(summary) or "",
        span(summary.duration_s),
        f"results in {summary.out}",
    ]
    return " · ".join(part for part in parts if part)


def advice(summary: Summary) -> str | None:
    """Return why to run the command again, and when; None when there is no need."""
    match summary.exit_code:
        case ExitCode.DONE:
            words = None
        case ExitCode.INCOMPLETE:
            words = next(
                (_ADVICE[each] for each in _ADVICE if summary.by_status.get(each)), "run again"
            )
        case ExitCode.REFUSED | ExitCode.STOPPED if _needs_mending(summary):
            words = "mend that, then run"
        case _ if summary.run_again_at is not None:
            words = f"run again after {at(summary.run_again_at)}"
        case _:
            words = "run again to go on"
    return words


def reasons(summary: Summary) -> Iterator[str]:
    """Yield why calls failed or were rejected: a mail from cron is to say what is wrong, and not only how often."""
    run = summary.this_run
    for row in run.unfinished[:_SHOWN_REASONS]:
        yield f"{row['id']} (line {row['line']:,}): {row['status']}: {row['message']}"
    more = sum(run.by_status.get(status, 0) for status in UNFINISHED) - _SHOWN_REASONS
    if more > 0:
        yield f"and {more:,} more: why is in their rows, in results.jsonl"


def _needs_mending(summary: Summary) -> bool:
    """Tell whether running it again is in vain as things are; after an outage nobody knows."""
    resolved = resolved_by_waiting(made_progress=summary.this_run.sent > 0)
    again = resolved | {StopReason.OUTAGE, StopReason.MANIFEST_CHANGED}
    return any(stop["reason"] not in again for stop in summary.stops[:1])
