"""Summary of a run, as written to `summary.json`."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from gemini_batch.errors import ExitCode, GeminiBatchError
from gemini_batch.quota.utilization import WindowUse
from gemini_batch.records import Status

UNFINISHED = frozenset({Status.FAILED, Status.REJECTED, Status.UNCERTAIN})
"""A run ends with `ExitCode.INCOMPLETE` if the newest row of any call has one of these."""


@dataclass(slots=True)
class RunTotals:
    """Totals of this run alone.

    Attributes:
        finished: Rows written.
        by_status: These rows by status.
        by_reason: The reasons of rows without an image, by status: `{"blocked": {"IMAGE_SAFETY":
            2}, "failed": {"503 UNAVAILABLE": 1, "TIMEOUT": 1}}`. Past fifty different reasons,
            rows are counted as `other`.
        unfinished: The first ten rows that are `failed`, `rejected` or `uncertain`: `id`, `line`,
            `status` and `message`.
        reused: Rows whose answer was copied from another folder, at no cost.
        sent: Requests sent, retries included.
        submitted: Calls sent in batches.
        retries: Requests that were sent again.
        retries_by_reason: Why calls had to be sent again: `{"503 UNAVAILABLE": 3, "UNREACHABLE":
            1}`. Where no byte was sent, as with `UNREACHABLE`, it does not count as a retry above.
        service_tiers: Its answers by the service tier that was served: `{"flex": 90, "standard":
            10}`; `unnamed` where the answer does not say.
        possibly_billed: Requests of this run, and of one that was killed before it, that were sent
            and got no usable answer.
        prompt_tokens: As the server counted.
        output_tokens: As the server counted, thinking included.
        cost_usd: Of the rows, at list price; rows of unknown price are counted in `unpriced`.
        unpriced: Rows whose cost is unknown.
        estimated_cost_usd: Estimate of the plan for all calls to be sent; null when a price is
            unknown.
        estimated_answered_usd: Estimate of the plan for the calls with an answer; compare it with
            `cost_usd`.
        latency_p50_s: Median time from sending to the last byte; null without rows.
        latency_p95_s: 95th percentile of the same.
    """

    finished: int = 0
    by_status: dict[str, int] = field(default_factory=dict)
    by_reason: dict[str, dict[str, int]] = field(default_factory=dict)
    unfinished: list[dict[str, str | int]] = field(default_factory=list)
    reused: int = 0
    sent: int = 0
    submitted: int = 0
    retries: int = 0
    retries_by_reason: dict[str, int] = field(default_factory=dict)
    service_tiers: dict[str, int] = field(default_factory=dict)
    possibly_billed: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    estimated_cost_usd: float | None = None
    estimated_answered_usd: float = 0.0
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """Result of a run.

    `summary.json` is of the last run that began to send. While the run is in progress, `exit_code`
    and `ended_at` are null; after a kill they stay null. A run with nothing to send renews
    `exit_code`, `needs_person`, `stops`, `left`, `by_status`, `run_again_at` and `ended_at`, and
    keeps the numbers of the last run that sent. A run that ends before it sends (wrong usage,
    manifest or key, or a busy folder) writes none: its exit code and its last line say why. A
    monitor should look at `ended_at` first, to see whether the run that was due has ended.

    Attributes:
        manifest: Its path, as it was given; `jobs` for jobs from Python.
        out: The output folder.
        tier: The tier's name.
        endpoint: Where requests went.
        exit_code: The exit code of the process.
        needs_person: True if user action is required: some call of this run is `failed`,
            `rejected` or `uncertain`, a call is held for any reason but `waiting`, or the run was
            stopped by a reason that waiting does not resolve. A day's quota that is used up, a
            budget, a deadline and a signal need none, unless the budget did not pay for a single
            call.
        stops: Why the run ended early, `reason` and `message`, the gravest first; else empty.
        calls: All calls of the manifest.
        by_status: Their newest rows by status, earlier runs included.
        left: Calls that are not done, those outside of `--only` and `--limit` included; running
            again sends them. In progress: as of the start.
        held: Calls among these that use a picture which is not there, by the reason: the parent is
            `waiting` in a batch, `later` (outside of `--only` and `--limit`), `missing` (its
            picture is gone), or `blocked`, `rejected`, `failed`, `uncertain` or `lost`. All but
            the first require user action.
        stale: Calls that are done with a picture of another call that was made again since;
            `--redo stale` sends them.
        waiting: Calls that wait in batches, which a later run collects.
        committed_usd: Their estimated cost, at the price of a batch.
        batches: These batches: `name`, null while it is unknown; `model`; `calls`; how many of
            them are `waiting`; the server's last `state`; `created_at`; `committed_usd`.
        run_again_at: When running again makes sense, UTC; null for at once.
        this_run: RunTotals of this run alone.
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
    this_run: RunTotals
    windows: list[WindowUse]
    started_at: datetime
    ended_at: datetime
    duration_s: float
    held: dict[str, int] = field(default_factory=dict)
    stale: int = 0
    waiting: int = 0
    committed_usd: float = 0.0
    batches: list[dict[str, Any]] = field(default_factory=list)

    def json(self) -> bytes:
        """Return indented JSON."""
        options = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
        return orjson.dumps(self, option=options)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from gemini_batch.output import html

        status = ", ".join(f"{number:,} {name}" for name, number in self.by_status.items())
        stops = "; ".join(stop["message"] for stop in self.stops)
        values = [
            ("exit code", f"{self.exit_code.value}, {self.exit_code.name.lower()}"),
            ("calls", f"{self.calls:,}"),
            ("by status", status or "none has ended"),
            ("left", f"{self.left:,}"),
            ("this run", f"{self.this_run.finished:,} finished in {self.duration_s:,.1f} s"),
            ("output folder", self.out),
        ]
        return html.facts([*values, ("stopped", stops)] if stops else values)


class StoppedError(GeminiBatchError):
    """A run was stopped by what waiting does not fix: key, permission, model, billing, disk ….

    Attributes:
        summary: The result of the run; what it did until then is kept.
        stops: Why it ended, as in the summary, the gravest first.
    """

    exit_code = ExitCode.REFUSED

    def __init__(self, summary: Summary) -> None:
        self.summary = summary
        self.stops = summary.stops
        super().__init__("; ".join(stop["message"] for stop in summary.stops))


def raise_for_stop(summary: Summary) -> None:
    """Raise `StoppedError` if a run was stopped by what waiting does not fix."""
    if summary.stops and summary.exit_code in {ExitCode.REFUSED, ExitCode.STORAGE}:
        raise StoppedError(summary)
