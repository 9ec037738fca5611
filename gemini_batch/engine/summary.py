"""What a run came to, as `summary.json` has it."""

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import orjson

from gemini_batch.errors import ExitCode
from gemini_batch.output.files import write_atomically
from gemini_batch.output.paths import PRIVATE, SUMMARY
from gemini_batch.quota.utilization import WindowUse
from gemini_batch.records import Status

UNFINISHED = frozenset({Status.FAILED, Status.REJECTED, Status.UNCERTAIN})
"""A newest row with one of these ends a run with `ExitCode.INCOMPLETE`."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What this run itself did.

    Attributes:
        finished: Rows written.
        by_status: These rows by status.
        by_reason: Of the rows without an image, by status, how many for which reason: `{"blocked": {"IMAGE_SAFETY": 2}, "failed":
            {"503 UNAVAILABLE": 1, "TIMEOUT": 1}}`. What is past fifty different reasons is counted as `other`.
        unfinished: The first ten of the rows that are `failed`, `rejected` or `uncertain`: `id`, `line`, `status` and `message`.
        reused: Of these rows, those whose answer was copied from another folder, at no cost.
        sent: Requests sent, retries included.
        retries: Requests that were sent again.
        retries_by_reason: Why calls were to be sent again: `{"503 UNAVAILABLE": 3, "UNREACHABLE": 1}`. Where nothing had left, as with
            `UNREACHABLE`, it is no retry by the count above.
        possibly_billed: Requests of this run, and of one that was killed before it, that were sent and gave nothing.
        prompt_tokens: As the server counted.
        output_tokens: As the server counted, thinking included.
        cost_usd: Of the rows, at list price; those of unknown price are counted in `unpriced`.
        unpriced: Rows whose cost is unknown.
        estimated_cost_usd: What the plan said that all calls to be made would cost; null when a price is unknown.
        estimated_answered_usd: What the plan said that the calls with an answer would cost, so that `cost_usd` can be held against it.
        latency_p50_s: Median from sending to the last byte; null without rows.
        latency_p95_s: The same for 19 of 20.
    """

    finished: int
    by_status: dict[str, int]
    by_reason: dict[str, dict[str, int]]
    unfinished: list[dict[str, str | int]]
    reused: int
    sent: int
    retries: int
    retries_by_reason: dict[str, int]
    possibly_billed: int
    prompt_tokens: int
    output_tokens: int
    cost_usd: float
    unpriced: int
    estimated_cost_usd: float | None
    estimated_answered_usd: float
    latency_p50_s: float | None
    latency_p95_s: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The end of a run, for a person and for a monitor.

    `summary.json` is of the last run that began to send. While it goes on, `exit_code` and `ended_at` are null, and so they stay when
    it was killed. A run that ends before it sends (wrong usage, manifest or key, or a folder that another one holds) writes none: its
    exit code and its last line say why. So a monitor looks first at `started_at`: is it of the run that was due?

    Attributes:
        manifest: Its path, as it was given; `jobs` for jobs from Python.
        out: The output folder.
        tier: The tier's name.
        endpoint: Where requests went.
        exit_code: What the process says.
        needs_person: Whether somebody should look: some call of this run is `failed`, `rejected` or `uncertain`, or the run was stopped
            by what waiting does not mend. A day's quota that is used up, a budget, a deadline and a signal are no reason, but for a
            budget that did not pay for a single call.
        stops: Why the run ended early, `reason` and `message`, the gravest first; empty when it did not.
        calls: All calls of the manifest.
        by_status: Their newest rows by status, earlier runs included.
        left: Calls that are not done; running again sends them. Of a run without an end, those that it began with.
        run_again_at: When running again makes sense, UTC; null for at once.
        this_run: What this run itself did.
        windows: What it used of each limit of each model.
        started_at: UTC.
        ended_at: UTC.
        duration_s: Between the two.
    """

    manifest: str
    out: str
    tier: str
    endpoint: str
    exit_code: ExitCode
    needs_person: bool
    stops: list[dict[str, str]]
    calls: int
    by_status: dict[str, int]
    left: int
    run_again_at: datetime | None
    this_run: Totals
    windows: list[WindowUse]
    started_at: datetime
    ended_at: datetime
    duration_s: float

    def write(self, out: Path, *, is_over: bool = True) -> None:
        """Write `summary.json` whole or not at all; `is_over` as for `json`.

        Raises:
            OSError: The disk would not.
        """
        data, via = self.json(is_over=is_over), out / PRIVATE / SUMMARY
        write_atomically(out / SUMMARY, data, durable=True, via=via)

    def json(self, *, is_over: bool = True) -> bytes:
        """Return the summary as indented JSON; of a run that is not over it has no end."""
        end = {} if is_over else {"exit_code": None, "ended_at": None}
        options = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
        return orjson.dumps(asdict(self) | end, option=options)
