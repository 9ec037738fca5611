"""Events, snapshots, summaries and a terminal for the tests of this folder."""

import math
import re
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from gemini_batch.clock import Clock
from gemini_batch.engine.summary import RunTotals, Summary
from gemini_batch.errors import ExitCode
from gemini_batch.events import CallFinished, RunStarted
from gemini_batch.progress.forecast import Forecast
from gemini_batch.progress.run_state import RunSnapshot
from gemini_batch.progress.view import RunInfo
from gemini_batch.quota.limits import LimitSet
from gemini_batch.quota.results import Used
from gemini_batch.records import Limits, Load, ResultRow, RowError, Status
from tests.builders import MODEL, make_row

T = TypeVar("T")

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
AGAIN = "python -m gemini_batch run jobs.jsonl"


class Times:
    """Clocks that a test advances."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.clock = Clock(
            steady_s=lambda: self.now_s, utc=lambda: NOON + timedelta(seconds=self.now_s - 1000.0)
        )

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


class Paper(Generic[T]):
    """A sink that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[T] = []

    def write(self, line: T) -> None:
        """Keep a line."""
        self.lines.append(line)

    def flush(self) -> None:
        """Do nothing: lines are kept at once."""


def run_info(times: Times, *, is_quiet: bool = False, name: str = "jobs.jsonl") -> RunInfo:
    """Return facts about a run."""
    return RunInfo(name, AGAIN, is_quiet=is_quiet, clock=times.clock)


def started(calls: int = 300, **changes: Any) -> RunStarted:
    """Return the start of a run."""
    event = RunStarted(
        todo=calls,
        done=0,
        reused=0,
        edited=0,
        cost_usd=calls * 0.134,
        duration_s=1200.0,
        days=1,
        bound_by="15 requests a minute",
        out="jobs.out",
        tier="free",
        loads={MODEL: Load(calls, calls * 10, calls * 0.134)},
    )
    return replace(event, **changes)


def ended(call_id: str, status: Status = Status.SUCCEEDED, message: str = "") -> ResultRow:
    """Return the row of a call."""
    error = RowError(503, "UNAVAILABLE", None, message) if message else None
    return make_row(call_id, status, cost_usd=0.134, error=error, model=MODEL, reused_from=None)


def finished(call_id: str, status: Status = Status.SUCCEEDED, message: str = "") -> CallFinished:
    """Return the end of a call."""
    return CallFinished(ended(call_id, status, message), 0)


def used(limits: Limits, *numbers: int, resets_in_s: float = 3600.0) -> tuple[Used, ...]:
    """Return the usage of the limits that are set, in their order."""
    bounds = LimitSet.of(limits)
    every = [*bounds.minute, *bounds.ten_minutes, *bounds.day]
    limited = [bound for bound in every if bound.limit is not None]
    return tuple(
        Used(bound, number, resets_in_s if bound.span == "a day" else 10.0)
        for bound, number in zip(limited, numbers, strict=True)
    )


def snapshot(**changes: Any) -> RunSnapshot:
    """Return a run that is half done."""
    return replace(
        RunSnapshot(
            todo=300,
            by_status={Status.SUCCEEDED: 145, Status.BLOCKED: 2, Status.FAILED: 1},
            left=152,
            elapsed_s=192.0,
            images_per_min=58.0,
            forecast=Forecast(160.0),
            in_flight=8,
            to_retry=2,
            waiting=None,
            models=1,
            cost_usd=19.83,
            unpriced=0,
            projected_usd=40.2,
            max_cost_usd=None,
            used={MODEL: used(Limits(requests_per_min=60, requests_per_day=1500), 60, 1240)},
            errors=(),
            batches=(),
            stopping=None,
            now=NOON,
            now_s=1000.0,
        ),
        **changes,
    )


def summary(
    exit_code: ExitCode = ExitCode.DONE, *, this_run: dict[str, Any] | None = None, **changes: Any
) -> Summary:
    """Return the end of a run; fields of no interest here are None."""
    run: dict[str, Any] = {field.name: None for field in fields(RunTotals)}
    run |= {
        "finished": 300,
        "by_status": {"succeeded": 300},
        "possibly_billed": 0,
        "cost_usd": 39.8,
        "unpriced": 0,
    }
    run |= {
        "sent": 300,
        "retries": 0,
        "estimated_cost_usd": 40.2,
        "estimated_answered_usd": 40.2,
        "unfinished": [],
    } | (this_run or {})
    whole: dict[str, Any] = {field.name: None for field in fields(Summary)}
    whole |= {
        "manifest": "jobs.jsonl",
        "out": "jobs.out",
        "exit_code": exit_code,
        "stops": [],
        "calls": 300,
        "left": 0,
    }
    whole |= {
        "by_status": run["by_status"],
        "this_run": RunTotals(**run),
        "duration_s": 724.0,
        "started_at": NOON,
    }
    return Summary(**(whole | {"ended_at": NOON} | changes))


class Screen:
    """A terminal with what the live view uses: wrapping, moving up, erasing below, resizing."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self._lines = [""]  # as they were written, without the breaks that the terminal makes
        self._at, self._column = 0, 0

    def feed(self, text: str) -> None:
        """Show what a program writes."""
        for part in re.findall(r"\x1b\[[\d;]*[A-Za-z]|\n|\r|[^\x1b\n\r]+", text):
            if part in "\n\r":
                self._column = 0
                self._at += part == "\n"
                if self._at == len(self._lines):
                    self._lines.append("")
            elif not part.startswith("\x1b"):
                assert self._column == len(self._lines[self._at]), "written over existing text"
                self._lines[self._at] += part
                self._column += len(part)
            elif part.endswith("A"):
                self._up(int(part[2:-1]))
            elif part == "\x1b[J":
                del self._lines[self._at + 1 :]
                self._lines[self._at] = self._lines[self._at][: self._column]
            else:
                assert part.endswith("m"), f"{part!r} is unknown to this terminal"

    def _up(self, rows: int) -> None:
        while rows > 0:
            self._at -= 1
            rows -= max(1, math.ceil(len(self._lines[self._at]) / self.columns))
        assert rows == 0, "the cursor is in the middle of a line"

    @property
    def lines(self) -> list[str]:
        """The visible lines."""
        return [line.rstrip() for line in self._lines]
