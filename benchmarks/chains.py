"""Memory of a run while its calls end, on a virtual clock: jobs without pictures, and in chains of ten.

Nothing is sent. Memory is that of the process between a quarter of the calls and their end, so that the
plan and the imports do not count; `--jobs 100000` takes some minutes.
"""

import argparse
import asyncio
import gc
import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from measure import FOLDER, Goal, Report, Round, arguments, median, workplace

ROOT = FOLDER.parent
sys.path.insert(0, str(ROOT))

from gemini_batch.client import interactive, remote_images  # noqa: E402
from gemini_batch.clock import Clock  # noqa: E402
from gemini_batch.engine import setup  # noqa: E402
from gemini_batch.events import CallFinished, Event  # noqa: E402
from gemini_batch.quota.shared import SharedLedger  # noqa: E402
from gemini_batch.quota.storage import MemoryStorage  # noqa: E402
from tests.builders import ENDPOINT, Exchange, ScriptedFetcher, Timing, picture  # noqa: E402
from tests.virtual.clock import run  # noqa: E402
from tests.virtual.desk import CONFIG  # noqa: E402

JOBS, QUICK, CHAIN = 10_000, 5_000, 10
KINDS = {"without pictures": 1, "in chains of ten": CHAIN}


@dataclass
class Transport:
    """Answers each call with a picture, and remembers none."""

    clock: Clock

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    async def send(self, call: Any, incoming: Any, on_connected: Any) -> Exchange:
        step, sent_at = picture(), self.clock.utc()
        on_connected()
        await asyncio.sleep(step.latency_s)
        return Exchange(
            step.answer(call, incoming), Timing(sent_at, self.clock.utc(), step.latency_s)
        )


def write(path: Path, jobs: int, chain: int) -> None:
    with path.open("w", encoding="utf-8") as lines:
        for number in range(jobs):
            job: dict[str, Any] = {"id": f"n{number}", "prompt": f"scene {number % 10} of a walk"}
            if number % chain:
                job["images"] = [f"job:n{number - 1}"]
            lines.write(json.dumps(job) + "\n")


def rss_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def measured(folder: Path, jobs: int) -> Round:
    """Run the manifest in a folder; return the memory before it, and by how much it grew."""
    ended, at_quarter = 0, 0

    def observe(event: Event) -> None:
        nonlocal ended, at_quarter
        if isinstance(event, CallFinished):
            ended += 1
            if ended == jobs // 4:
                at_quarter = rss_bytes()

    async def scenario(clock: Clock) -> None:
        interactive.InteractiveTransport = lambda *_: Transport(clock)  # type: ignore[assignment,misc]
        remote_images.RemoteImages = lambda *_: ScriptedFetcher()  # type: ignore[assignment,misc]
        await going.send(ENDPOINT, clock)

    os.environ["GEMINI_BATCH_STATE_DIR"] = str(folder / "state")
    os.fsync = os.fdatasync = lambda _: None  # memory is measured, not the disk
    config = replace(CONFIG, concurrency=16)
    ledger = SharedLedger(MemoryStorage(), config.limits)
    manifest = folder / "jobs.jsonl"
    with setup.open_run(manifest, folder / "jobs.out", config, observe, ledger) as going:
        planned = rss_bytes()
        run(scenario)
        grown = rss_bytes() - at_quarter
    assert going.summary is not None
    assert going.summary.by_status == {"succeeded": jobs}
    return {
        "planned_mb": planned / 1e6,
        "growth_mb": grown / 1e6,
        "growth_per_100000_mb": grown / (jobs - jobs // 4) * 100_000 / 1e6,
    }


def one(folder: Path, jobs: int, chain: int) -> Round:
    """Return the figures of a run in a process of its own."""
    write(folder / "jobs.jsonl", jobs, chain)
    command = [sys.executable, __file__, "--folder", str(folder), "--jobs", str(jobs), "--inside"]
    found: Round = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--inside", action="store_true")
    own, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    options = arguments(__doc__, repeats=1)
    jobs = own.jobs or (QUICK if options.quick else JOBS)
    if own.inside:
        print(json.dumps(measured(options.folder, jobs)))
        return
    report = Report("Chains", options)
    rounds: dict[str, list[Round]] = {kind: [] for kind in KINDS}
    for _ in range(options.repeats):
        for kind, chain in KINDS.items():
            with workplace(options.folder) as folder:
                rounds[kind].append(one(folder, jobs, chain))
    report.compared(
        f"{jobs:,} jobs",
        rounds,
        {
            name: (lambda of, figure=figure: f"{median(of, figure):.1f}")  # type: ignore[misc]
            for name, figure in (
                ("MB when planned", "planned_mb"),
                ("MB more at the end", "growth_mb"),
                ("MB more in 10⁵ calls", "growth_per_100000_mb"),
            )
        },
    )
    for kind in KINDS:
        of = f"Growth of memory in 10⁵ calls, jobs {kind}"
        report.goals.append(Goal(of, median(rounds[kind], "growth_per_100000_mb"), "MB", most=15))
    report.write()


if __name__ == "__main__":
    main()
