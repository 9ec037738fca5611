# ruff: noqa: T201 # a command that prints its numbers
"""`python -m tests.torture --kills 300 --seed 1`: prints a table; exit 1 when a promise was broken."""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from tests.torture import commands, fuzz
from tests.torture.harness import torture


def main() -> int:
    """Torture, and say what came of it."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture", description="Kill runs, and check what they leave."
    )
    parser.add_argument("--kills", type=int, default=300, metavar="N", help="how many runs to kill (default: 300)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the moments and the pictures")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a new folder to leave all files in")
    parser.add_argument("--only", choices=("manifests", "answers", "results"), help="of --fuzz")
    parser.add_argument(
        "--fuzz", type=int, metavar="N", help="in place of kills: N damaged manifests, answers and results"
    )
    options = parser.parse_args()
    if options.fuzz:
        return fuzz_all(options.fuzz, options.seed, options.only)
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(exist_ok=True, parents=True)
        measured = torture(folder, options.kills, options.seed, say=lambda words: print(words, file=sys.stderr))
    print(measured.table(options.seed))
    print(f"{'seconds':<48}{time.monotonic() - started_s:>8,.0f}")
    return 1 if measured.faults else 0


def _counting(check: Callable[[Any], None], tried: Counter[str]) -> Callable[[Any], None]:
    """Return a check that counts what it is given."""

    def counted(value: Any) -> None:
        tried["all"] += 1
        check(value)

    return counted


def fuzz_all(number: int, seed: int, only: str | None) -> int:
    """Try so many of each, and say how many were tried, how long that took and what memory it came to."""
    os.environ["GEMINI_API_KEY"] = commands.KEY
    long = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
    runs = -(-number // fuzz.ANSWERS_OF_A_RUN)
    many = st.lists(fuzz.ANSWER, min_size=fuzz.ANSWERS_OF_A_RUN, max_size=fuzz.ANSWERS_OF_A_RUN)
    kinds: list[tuple[str, st.SearchStrategy[Any], Callable[[Any], None], int, int]] = [
        ("manifests", fuzz.MANIFEST, fuzz.check_manifest, number, 1),
        ("answers", many, fuzz.check_answers, runs, fuzz.ANSWERS_OF_A_RUN),
        ("results", fuzz.RESULTS, fuzz.check_results, number, 1),
    ]
    print(f"{'seed':<48}{seed:>8,}")
    for name, strategy, check, examples, weight in kinds:
        if only not in {None, name}:
            continue
        started_s, tried = time.monotonic(), Counter[str]()

        with tempfile.TemporaryDirectory(prefix="torture-") as state:
            os.environ["GEMINI_BATCH_STATE_DIR"] = state
            seeded(seed)(settings(long, max_examples=examples)(given(strategy)(_counting(check, tried))))()
        most_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        words = f"{tried['all'] * weight:,} tried, 0 crashes, {time.monotonic() - started_s:,.0f} s, {most_mb:,.0f} MB at most"
        print(f"{name:<20}{words}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
