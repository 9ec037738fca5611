"""What a person reads on stderr while a run goes on, and at its end."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime

from gemini_batch.errors import ExitCode
from gemini_batch.events import (
    CallFinished,
    CallNotReused,
    CallRetrying,
    Event,
    LittleRoom,
    Repaired,
    RunStarted,
    Stopping,
    Waiting,
)
from gemini_batch.meter import MENDED_BY_TIME
from gemini_batch.records import ResultRow, Status, StopReason
from gemini_batch.summary import UNFINISHED, Summary

# Without a terminal: cron mails what is said, so one line a minute at the most.
REPORT_EVERY_S = 60.0
# Of calls that failed or were rejected, so many are named at the end, where nobody saw them come by.
SHOWN_REASONS = 5
# Shorter waits are the pace of every run.
WORTH_SAYING_S = 5.0


class Lines:
    """Says what happens, a line at a time: each call on a terminal, a count a minute elsewhere, nothing when quiet."""

    def __init__(
        self,
        name: str,
        *,
        is_terminal: bool,
        is_quiet: bool,
        again: str,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._is_terminal = is_terminal
        self._is_quiet = is_quiet
        self._again = again
        self._steady_s = steady_s
        self._said_s = steady_s()
        self._waited_for = ""
        self._todo = 0
        self._by_status: Counter[Status] = Counter()
        self._cost_usd = 0.0

    def observe(self, event: Event) -> None:
        """Say what is worth saying of an event."""
        match event:
            case RunStarted():
                self._todo = event.todo + event.reused
                if self._todo:
                    self._say(_start(self._name, event))
            case Repaired(message):
                self._say(message, always=True)
            case CallFinished(row):
                self._finished(row)
            case CallNotReused():
                self._say(f"{event.call_id}: can't be reused, and is sent: {event.message}", always=True)
            case CallRetrying() if self._is_terminal:
                self._say(f"{event.call_id}: attempt {event.attempt}: {event.message}; again in {span(event.wait_s)}")
            case Waiting() if self._is_terminal and event.wait_s >= WORTH_SAYING_S:
                self._say(f"waiting {span(event.wait_s)}: {event.why}")
            case LittleRoom(out):
                self._say(f"{out}: the disk has little room: fewer calls are in flight, so that each answer fits")
            case Stopping():
                self._say(_stopping(event), always=True)
            case _:
                pass

    def end(self, summary: Summary) -> None:
        """Say what the run came to, and last what to run next and when, if anything."""
        is_worry = summary.exit_code != ExitCode.DONE
        if not summary.this_run.finished and not summary.left and not is_worry:
            self._say(f"{self._name}: nothing to do: all {summary.calls:,} calls are done, in {summary.out}")
            return
        self._say(_end(summary), always=is_worry)
        if is_worry:
            if not self._is_terminal:
                for words in _reasons(summary):
                    self._say(words, always=True)
            self._say(_advice(summary, self._again), always=True)

    def _finished(self, row: ResultRow) -> None:
        self._by_status[row.status] += 1
        self._cost_usd += row.cost_usd or 0.0
        done = sum(self._by_status.values())
        if self._is_terminal:
            self._say(f"{done:,} of {self._todo:,}  {row.id}  {_outcome(row)}")
        elif self._steady_s() - self._said_s >= REPORT_EVERY_S:
            self._say(f"{done:,} of {self._todo:,}: {_counts(self._by_status)}; {usd(self._cost_usd)}")

    def _say(self, words: str, *, always: bool = False) -> None:
        if self._is_quiet and not always:
            return
        self._said_s = self._steady_s()
        print(words, file=sys.stderr, flush=True)  # noqa: T201 # words for the person


def span(seconds: float) -> str:
    """Return a time as a person says it: `23 s`, `6 min 40 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def usd(amount: float | None) -> str:
    """Return `$13.40`, `$0.1344` below a dollar, or `cost unknown`."""
    if amount is None:
        return "cost unknown"
    return f"${amount:,.2f}" if amount >= 1 or amount == 0 else f"${amount:.4f}"


def least_time(duration_s: float, days: int, bound_by: str) -> str:
    """Return how long the quota takes at the least, and which limit is the reason."""
    words = f"at least {span(duration_s)} of sending" + (f" over {days} days" if days > 1 else "")
    return f"{words}, by {bound_by}" if bound_by else words


def at(moment: datetime) -> str:
    """Return a moment in UTC and, where that is another one, in local time."""
    utc, local = f"{moment:%Y-%m-%d %H:%M} UTC", moment.astimezone()
    return utc if local.tzname() == "UTC" else f"{utc} ({local:%Y-%m-%d %H:%M} {local:%Z})"


def _start(name: str, event: RunStarted) -> str:
    parts = [f"{name}: {event.todo:,} calls to send"]
    if event.reused:
        parts.append(f"{event.reused:,} reused from another folder, $0")
    if event.done:
        parts.append(f"{event.done:,} done before")
    if event.edited:
        parts.append(f"{event.edited:,} edited since they were done: they are paid for again")
    cost = usd(event.cost_usd) + (" at list price" if event.cost_usd is not None else "")
    if event.tier == "free":
        cost += " ($0 if the project has no billing)"
    parts += [
        cost,
        f"tier {event.tier}: {least_time(event.duration_s, event.days, event.bound_by)}",
        f"into {event.out}",
    ]
    return " · ".join(parts)


def _outcome(row: ResultRow) -> str:
    if row.status is Status.SUCCEEDED:
        how = f"reused from {row.reused_from.out}" if row.reused_from else span(row.latency_s)
        return f"succeeded  {row.images[0].path}  {how}  {usd(row.cost_usd)}"
    if row.error is not None:
        return f"{row.status}  {row.error.message}"
    return f"{row.status}  {row.block_reason or row.finish_reason}"


def _stopping(event: Stopping) -> str:
    if event.model:
        return f"{event.stop.message}; other models go on"
    words = f"stopping: {event.stop.message}"
    if event.in_flight:
        words += f"; finishing {event.in_flight:,} calls already paid for"
        if event.stop.reason in {StopReason.INTERRUPTED, StopReason.TERMINATED}:
            words += "; press again to abandon them"
    return words


def _counts(by_status: Counter[Status] | dict[str, int]) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in by_status.items()) or "nothing finished"


def _end(summary: Summary) -> str:
    run = summary.this_run
    parts = [_counts(run.by_status)]
    if summary.left:
        parts.append(f"{summary.left:,} of {summary.calls:,} left")
    parts.append(
        f"{usd(run.cost_usd)} at list price" + (f" and {run.unpriced:,} of unknown cost" if run.unpriced else "")
    )
    if run.possibly_billed:
        parts.append(f"{run.possibly_billed:,} more requests gave nothing and may have been billed")
    parts += [span(summary.duration_s), f"results in {summary.out}"]
    return " · ".join(parts)


def _reasons(summary: Summary) -> Iterator[str]:
    """Yield why calls failed or were rejected: a mail from cron is to say what is wrong, and not only how often."""
    run = summary.this_run
    for row in run.unfinished[:SHOWN_REASONS]:
        yield f"  {row['id']} (line {row['line']:,}): {row['status']}: {row['message']}"
    more = sum(run.by_status.get(status, 0) for status in UNFINISHED) - SHOWN_REASONS
    if more > 0:
        yield f"  and {more:,} more: why is in their rows, in results.jsonl"


def _needs_mending(summary: Summary) -> bool:
    """Tell whether running it again is in vain as things are; after an outage nobody knows."""
    again = MENDED_BY_TIME | {StopReason.OUTAGE, StopReason.MANIFEST_CHANGED}
    return any(stop["reason"] not in again for stop in summary.stops[:1])


def _advice(summary: Summary, again: str) -> str:
    match summary.exit_code:
        case ExitCode.INCOMPLETE:
            by_status = summary.by_status
            if by_status.get(Status.FAILED):
                return f"run again to send what failed: {again}"
            return f"edit the rejected lines and run again: {again}"
        case ExitCode.REFUSED | ExitCode.STOPPED if _needs_mending(summary):
            return f"mend that, then run: {again}"
        case _ if summary.run_again_at is not None:
            return f"run again after {at(summary.run_again_at)}: {again}"
        case _:
            return f"run again to go on: {again}"
