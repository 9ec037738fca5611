"""What the live view costs: of a core at four frames a second, and of an event on the loop beside the meter that every run has.

::

    python -m benchmarks.progress
"""

import io
import time
from datetime import UTC, datetime

from gemini_batch.clock import Clock
from gemini_batch.engine.stats import RunStats
from gemini_batch.events import CallFinished, CallSent, Event, RunStarted, Waiting
from gemini_batch.progress.live import FRAME_S, LiveView
from gemini_batch.progress.run_state import RunState, Sample
from gemini_batch.progress.view import RunInfo
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import MemoryStorage
from gemini_batch.records import Limits, Load, ResultRow, Status

MODEL = "gemini-3-pro-image-preview"
LIMITS = Limits(
    requests_per_min=6_000, tokens_per_min=1_000_000, requests_per_day=100_000, usd_per_10min=200.0
)
CALLS, FRAMES = 10_000, 400


def row(number: int) -> ResultRow:
    """Return a row as a run writes it, without what nobody here looks at."""
    now = datetime.now(UTC)
    return ResultRow(
        id=f"n{number}", line=number, status=Status.SUCCEEDED, images=[], drafts=[], text=None, prompt=None, inputs=[],
        finish_reason="STOP", finish_message=None, block_reason=None, safety_ratings=[], usage=None, cost_usd=0.134,
        model=MODEL, model_version=None, response_id=None, endpoint="", request_sha256="", attempts=1, latency_s=1.0,
        sent_at=now, finished_at=now, error=None, metadata=None,
    )  # fmt: skip


def events() -> list[Event]:
    """Return what a run of so many calls tells."""
    found: list[Event] = []
    for number in range(CALLS):
        found += [
            CallSent(f"n{number}", 1, MODEL),
            CallFinished(row(number), 0),
            Waiting(MODEL, 0.2, "a limit"),
        ]
    return found


def main() -> None:
    """Print the numbers."""
    clock = Clock()
    live = LiveView(
        RunInfo("jobs.jsonl", "again"), RunState(LIMITS), io.StringIO().write, lambda: (100, 30)
    )
    live.observe(
        RunStarted(2 * CALLS, 0, 0, 0, 2_688.0, 3_600.0, 1, "6,000 requests a minute", "jobs.out", "tier", {MODEL: Load(2 * CALLS, 9_999, 2_688.0)})
    )  # fmt: skip
    told, meter = events(), RunStats(LIMITS, clock)
    began_s = time.perf_counter()
    for event in told:
        meter.observe(event)
    metered_s = time.perf_counter() - began_s
    began_s = time.perf_counter()
    for event in told:
        live.observe(event)
    watched_s = time.perf_counter() - began_s

    ledger = SharedLedger(MemoryStorage(), LIMITS)
    live.update(Sample(0, {MODEL: ledger.used(MODEL, clock.steady_s(), clock.utc())}))
    began_s = time.process_time()
    for number in range(FRAMES):  # each one differs, as in a run
        live.observe(CallFinished(row(number), 0))
        if number % 4 == 0:
            live.update(Sample(number, {MODEL: ledger.used(MODEL, clock.steady_s(), clock.utc())}))
        live.show([])
    frame_s = (time.process_time() - began_s) / FRAMES
    print(
        f"a frame: {frame_s * 1e3:.2f} ms, at {1 / FRAME_S:g} a second {frame_s / FRAME_S:.2%} of a core"
    )
    print(
        f"an event: {watched_s / len(told) * 1e6:.2f} µs, {watched_s / metered_s:.1f} times the meter's"
    )


if __name__ == "__main__":
    main()
