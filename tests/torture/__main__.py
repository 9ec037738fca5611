# ruff: noqa: T201 # a command that prints its numbers
"""`python -m tests.torture --kills 300 --seed 1`: prints a table; exit 1 when a promise was broken."""

import argparse
import gc
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from tests.torture import commands, fuzz, fuzz_ledger
from tests.torture.batches import Measured as MeasuredBatches
from tests.torture.batches import torture_batches
from tests.torture.harness import Measured, torture


def main() -> int:
    """Torture, and say what came of it."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture", description="Kill runs, and check what they leave."
    )
    parser.add_argument(
        "--kills", type=int, default=300, metavar="N", help="how many runs to kill (default: 300)"
    )
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="of the moments and the pictures"
    )
    parser.add_argument(
        "--syscalls", action="store_true", help="kill at calls of the system, in place of moments"
    )
    parser.add_argument(
        "--renames", action="store_true", help="rename and restore results.jsonl meanwhile"
    )
    parser.add_argument(
        "--by-uri",
        action="store_true",
        help="the answers name where their pictures are; kill while these are fetched",
    )
    parser.add_argument(
        "--chains", action="store_true", help="calls in chains of six, each with the picture before"
    )
    parser.add_argument(
        "--batches", action="store_true", help="runs of the batch route, on manifests of 400 calls"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="a new folder to leave all files in"
    )
    parser.add_argument("--only", choices=KINDS, help="of --fuzz")
    parser.add_argument(
        "--fuzz", type=int, metavar="N", help="in place of kills: N damaged ones of each kind"
    )
    options = parser.parse_args()
    if options.fuzz:
        return fuzz_all(options.fuzz, options.seed, options.only)
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(exist_ok=True, parents=True)
        measured = _tortured(folder, options)
    print(measured.table(options.seed))
    print(f"{'seconds':<48}{time.monotonic() - started_s:>8,.0f}")
    return 1 if measured.faults else 0


def _tortured(folder: Path, options: argparse.Namespace) -> Measured | MeasuredBatches:
    """Kill as many runs as asked for, of the route that was asked for."""

    def say(words: str) -> None:
        print(words, file=sys.stderr)

    if options.batches:
        return torture_batches(folder, options.kills, options.seed, say=say)
    return torture(
        folder,
        options.kills,
        options.seed,
        at_syscalls=options.syscalls,
        renames=options.renames,
        by_uri=options.by_uri,
        chained=6 if options.chains else 1,
        say=say,
    )


@dataclass
class Tried:
    """How many were tried, and the most memory that this process took until the end of each batch, in MB."""

    number: int = 0
    memory_mb: list[float] = field(default_factory=list)

    def words(self, seconds: float) -> str:
        """Return a line for a person."""
        start, end = self.memory_mb[0], self.memory_mb[-1]
        return f"{self.number:,} tried, 0 crashes, {seconds:,.0f} s, peak RSS {start:,.0f} MB after a tenth, {end:,.0f} MB at the end"


def fuzz_all(number: int, seed: int, only: str | None) -> int:
    """Try so many of each, and say how many were tried, how long that took and what memory it came to; 1 when that grew."""
    os.environ["GEMINI_API_KEY"] = commands.KEY
    print(f"{'seed':<20}{seed:,}")
    grew = False
    for name in [only] if only else KINDS:
        started_s = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="torture-") as state:
            os.environ["GEMINI_BATCH_STATE_DIR"] = state
            tried = _tried(KINDS[name], number, seed)
        print(f"{name:<20}{tried.words(time.monotonic() - started_s)}", flush=True)
        grew = grew or tried.memory_mb[-1] > MOST_GROWTH * tried.memory_mb[0]
    return int(grew)


def _tried(kind: "Kind", number: int, seed: int) -> Tried:
    """Try so many in batches, each with a memory of its own for what hypothesis has tried: that grows, and is not ours."""
    tried = Tried()

    def check(value: Any) -> None:
        tried.number += kind.weight
        kind.check(value)

    runs = max(1, -(-number // kind.weight // BATCHES))
    long = settings(
        deadline=None, database=None, max_examples=runs, suppress_health_check=list(HealthCheck)
    )
    for batch in range(BATCHES):
        seeded(seed * BATCHES + batch)(long(given(kind.strategy)(check)))()
        gc.collect()
        tried.memory_mb.append(_memory_mb())
    return tried


def _memory_mb() -> float:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@dataclass(frozen=True)
class Kind:
    """One kind of damaged file: how it is made, and what has to hold; `weight` is how many there are in one."""

    strategy: st.SearchStrategy[Any]
    check: Callable[[Any], None]
    weight: int = 1


BATCHES = 10
MOST_GROWTH = 1.2
KINDS = {
    "manifests": Kind(fuzz.MANIFEST, fuzz.check_manifest),
    "answers": Kind(fuzz.RUN_OF_ANSWERS, fuzz.check_answers, fuzz.ANSWERS_OF_A_RUN),
    "dresses": Kind(fuzz.RUN_OF_DRESSES, fuzz.check_dresses, fuzz.ANSWERS_OF_A_RUN),
    "results": Kind(fuzz.RESULTS, fuzz.check_results),
    "ledgers": Kind(fuzz_ledger.LEDGER, fuzz_ledger.check_ledger),
}


if __name__ == "__main__":
    sys.exit(main())
