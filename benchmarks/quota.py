"""How much of a quota each way of pacing uses, and whether it overruns it; and what the ledger on disk costs.

python -m benchmarks.quota --json quota.json --markdown quota.md
"""

import argparse
import asyncio
import json
import multiprocessing
import platform
import random
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from aiolimiter import AsyncLimiter

from gemini_batch.clock import Clock, boot_time_s, utc_now
from gemini_batch.quota.limiter import RateLimiter
from gemini_batch.quota.limits import Weights
from gemini_batch.quota.results import Grant, Granted
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import SqliteStorage
from gemini_batch.records import Limits
from tests.ledgers import open_storage
from tests.virtual.clock import run
from tests.virtual.servers import BucketServer, FixedMinuteServer, Server, SlidingServer

MODEL = "model"
SERVERS: dict[str, Callable[[int], list[Server]]] = {
    "fixed minute": lambda rpm: [
        FixedMinuteServer(rpm, phase_s=phase_s) for phase_s in range(0, 60, 5)
    ],
    "sliding minute": lambda rpm: [SlidingServer(rpm)],
    "bucket": lambda rpm: [BucketServer(rpm)],
}
MARGIN_S = 600.0  # the first and the last ten minutes are no steady state
Wait = Callable[[], Awaitable[object]]


# --- on the virtual clock ---------------------------------------------------------------------------------------------


@contextmanager
def ours(rpm: int, clock: Clock, folder: str) -> Iterator[Wait]:
    """The gate and the ledger on disk, of this package."""
    limits = Limits(requests_per_min=rpm)
    path = Path(folder) / f"{rpm}.sqlite"
    storage = SqliteStorage(path, steady_s=clock.steady_s, boot="virtual")
    storage.open()
    with SharedLedger(storage, limits, steady_s=clock.steady_s) as ledger:
        gate, never = RateLimiter(ledger, limits, clock), asyncio.Event()
        yield partial(gate.acquire, MODEL, Weights(), never)


@contextmanager
def burst(rpm: int, _clock: Clock, _folder: str) -> Iterator[Wait]:
    """The usual use of aiolimiter."""
    yield AsyncLimiter(rpm, 60).acquire


@contextmanager
def even(rpm: int, _clock: Clock, _folder: str) -> Iterator[Wait]:
    """The careful use of aiolimiter."""
    yield AsyncLimiter(1, 60 / rpm).acquire


@contextmanager
def semaphore(rpm: int, _clock: Clock, _folder: str) -> Iterator[Wait]:
    """As many in flight as fit a minute at the usual latency, which is how most scripts do it."""
    gate = asyncio.Semaphore(max(1, round(rpm * 10 / 60)))

    async def wait() -> None:
        await gate.acquire()
        asyncio.get_running_loop().call_later(5 + 10 * random.random(), gate.release)

    yield wait


WAYS = {
    "gemini_batch": ours,
    "AsyncLimiter(RPM, 60)": burst,
    "AsyncLimiter(1, 60/RPM)": even,
    "semaphore(RPM/6), answers in 5 to 15 s": semaphore,
}


async def send(way: Any, rpm: int, length_s: float, folder: str, clock: Clock) -> list[float]:
    sent = list[float]()
    with way(rpm, clock, folder) as wait:

        async def caller() -> None:
            while True:
                await wait()
                sent.append(clock.steady_s())

        async with asyncio.TaskGroup() as group:
            callers = [group.create_task(caller()) for _ in range(8)]
            await asyncio.sleep(length_s)
            for each in callers:
                each.cancel()
    return sent


def fullest(moments: list[float], span_s: float = 60.0) -> int:
    most = first = 0
    for index, at_s in enumerate(moments):
        while moments[first] <= at_s - span_s:
            first += 1
        most = max(most, index - first + 1)
    return most


def paced(rpms: list[int], hours: float, seed: int) -> list[dict[str, Any]]:
    rows, length_s = [], hours * 3600
    for rpm in rpms:
        for name, way in WAYS.items():
            random.seed(seed)
            with tempfile.TemporaryDirectory(
                dir="/dev/shm" if Path("/dev/shm").is_dir() else None
            ) as folder:
                sent = run(partial(send, way, rpm, length_s, folder))
            dice = random.Random(seed)
            arrivals = sorted(at_s + dice.random() for at_s in sent)
            steady = sum(MARGIN_S <= at_s < length_s - MARGIN_S for at_s in sent)
            rows.append(
                {
                    "rpm": rpm,
                    "way": name,
                    "utilisation": round(steady / (rpm * (length_s - 2 * MARGIN_S) / 60), 4),
                    "worst_window_ratio": round(fullest(arrivals) / rpm, 4),
                    "refused": {
                        kind: max(
                            sum(not server.accepts(at_s) for at_s in arrivals)
                            for server in servers(rpm)
                        )
                        for kind, servers in SERVERS.items()
                    },
                    "sent": len(sent),
                }
            )
            print(f"{rpm} RPM, {name}: done", file=sys.stderr)
    return rows


# --- on a real file -----------------------------------------------------------------------------------------------------


def hammer(path: str, start_s: float, length_s: float) -> int:
    """Reserve without pause, and return how often."""
    count, weights = 0, Weights()
    with SharedLedger(open_storage(Path(path)), Limits()) as ledger:
        time.sleep(max(0.0, start_s - boot_time_s()))
        while boot_time_s() < start_s + length_s:
            assert isinstance(ledger.reserve(MODEL, weights, 1, boot_time_s(), utc_now()), Granted)
            count += 1
    return count


def reservations(folder: Path, length_s: float) -> list[dict[str, Any]]:
    rows, context = [], multiprocessing.get_context("spawn")
    for processes in (1, 2, 4, 8):
        path = folder / f"{processes}.sqlite"
        with context.Pool(processes) as pool:
            start_s = boot_time_s() + 2.0  # all are there by then
            counts = pool.starmap(hammer, [(str(path), start_s, length_s)] * processes, chunksize=1)
        rows.append(
            {
                "processes": processes,
                "reservations_per_s": round(sum(counts) / length_s),
                "least_per_s": round(min(counts) / length_s),
                "most_per_s": round(max(counts) / length_s),
            }
        )
        print(f"{processes} processes: done", file=sys.stderr)
    return rows


async def live(ledger: SharedLedger, limits: Limits, length_s: float) -> tuple[int, int]:
    """Send at the pace of the quota, each call taking a second, and return how many went and how many late."""
    clock, stop, late, sent = Clock(), asyncio.Event(), 0, 0
    gate = RateLimiter(ledger, limits, clock)

    async def caller() -> None:
        nonlocal sent, late
        while (grant := await gate.acquire(MODEL, Weights(), stop)) is not None:
            assert isinstance(grant, Grant)
            sent, late = sent + 1, late + (clock.steady_s() > grant.expires_at_s)
            await asyncio.sleep(1.0)

    async with asyncio.TaskGroup() as group:
        for _ in range(128):
            group.create_task(caller())
        await asyncio.sleep(length_s)
        stop.set()
    return sent, late


def gate_cost(folder: Path, rpm: int, length_s: float) -> dict[str, Any]:
    limits = Limits(requests_per_min=rpm)
    with SharedLedger(open_storage(folder / "gate.sqlite"), limits) as ledger:
        before, before_s = resource.getrusage(resource.RUSAGE_SELF), boot_time_s()
        sent, late = asyncio.run(live(ledger, limits, length_s))
        after, took_s = resource.getrusage(resource.RUSAGE_SELF), boot_time_s() - before_s
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "rpm": rpm,
        "seconds": round(took_s, 1),
        "sent": sent,
        "used_late": late,
        "cpu_share_of_a_core": round(cpu_s / took_s, 4),
        "cpu_us_a_call": round(cpu_s / sent * 1e6),
    }


# --- out ------------------------------------------------------------------------------------------------------------------


def markdown(found: dict[str, Any]) -> str:
    lines = [
        f"{found['hours']:g} virtual hours, arrival delayed by up to 1 s, seed {found['seed']}; `{found['command']}`",
        f"(Python {found['python']}, SQLite {found['sqlite']}, {found['machine']})",
        "",
        f"| RPM | way | quota used | fullest minute ÷ limit | {' | '.join(f'429: {kind}' for kind in SERVERS)} |",
        f"| ---: | --- | ---: | ---: |{' ---: |' * len(SERVERS)}",
    ]
    for row in found["paced"]:
        refused = " | ".join(f"{row['refused'][kind]:,}" for kind in SERVERS)
        lines.append(
            f"| {row['rpm']:,} | {row['way']} | {row['utilisation']:.1%} | {row['worst_window_ratio']:.2f} | {refused} |"
        )
    lines += [
        "",
        "| processes on one file | reservations/s | least | most |",
        "| ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row['processes']} | {row['reservations_per_s']:,} | {row['least_per_s']:,} | {row['most_per_s']:,} |"
        for row in found["reservations"]
    ]
    gate = found["gate"]
    words = (
        f"Gate and ledger at {gate['rpm']:,} RPM, 128 in flight, {gate['seconds']:g} s: "
        f"{gate['cpu_share_of_a_core']:.1%} of one core, {gate['cpu_us_a_call']} µs a call; "
        f"{gate['sent']:,} grants, {gate['used_late']} used late."
    )
    lines += ["", words]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rpm", type=int, nargs="+", default=[15, 60, 1000])
    parser.add_argument("--hours", type=float, default=6.0, help="virtual hours of each scenario")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="real seconds of each measurement on a file"
    )
    parser.add_argument(
        "--gate-seconds", type=float, default=30.0, help="real seconds at 6,000 RPM"
    )
    parser.add_argument(
        "--folder", type=Path, help="where the file is (default: a temporary folder)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    options = parser.parse_args()
    print(f"seed {options.seed}", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = {
            "command": "python -m benchmarks.quota " + " ".join(sys.argv[1:]),
            "seed": options.seed,
            "hours": options.hours,
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "machine": f"{platform.system()} {platform.machine()}, {multiprocessing.cpu_count()} cores",
            "paced": paced(options.rpm, options.hours, options.seed),
            "reservations": reservations(Path(folder), options.seconds),
            "gate": gate_cost(Path(folder), 6000, options.gate_seconds),
        }
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    text = markdown(found)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    print(text)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
