# ruff: noqa: T201 # a command that prints its numbers
"""`python -m tests.torture.shards resume|budget|server|reset`: kills the workers of one run, or their ledger; exit 1 when a promise was broken."""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import orjson

from gemini_batch.cli import main as gemini_batch
from gemini_batch.output.inflight import unacknowledged
from gemini_batch.output.paths import PRIVATE
from gemini_batch.output.rows import newest_rows, read_rows
from gemini_batch.output.shards import generations, parts
from gemini_batch.simulator import Simulator, SimulatorConfig
from tests.postgres import Server as Postgres
from tests.postgres import serving
from tests.simulated import simulator

ROOT = Path(__file__).parents[2]
LATENCY_S, CONCURRENCY = 0.4, 16
# At list price, with the tokens of the simulator: more than any of its answers costs.
MOST_USD = 0.16


@dataclass
class Measured:
    """Counted over one run.

    Attributes:
        faults: Broken promises, in words.
    """

    calls: int
    kills: int = 0
    requests: int = 0
    in_flight: int = 0
    repeated: int = 0
    finished_again: int = 0
    cost_usd: float = 0.0
    budget_usd: float | None = None
    faults: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Return the numbers, a line each."""
        lines = [
            f"{'calls':<44}{self.calls:>8,}",
            f"{'workers killed':<44}{self.kills:>8,}",
            f"{'requests':<44}{self.requests:>8,}",
            f"{'in flight at the kills':<44}{self.in_flight:>8,}",
            f"{'requests repeated':<44}{self.repeated:>8,}",
            f"{'finished calls sent again':<44}{self.finished_again:>8,}",
        ]
        if self.budget_usd is not None:
            lines.append(
                f"{'budget, and cost of all requests at most':<44}"
                f"{self.budget_usd:>8.2f}{self.cost_usd:>8.2f}"
            )
        return "\n".join(lines + self.faults)


class Workers:
    """The workers of one run against a simulator, in processes of their own."""

    def __init__(self, folder: Path, server: Simulator, calls: int) -> None:
        self.path, self.out = folder / "jobs.jsonl", folder / "jobs.out"
        self._server, self._folder = server, folder
        jobs = ({"id": f"call-{number}", "prompt": f"call-{number}"} for number in range(calls))
        self.path.write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in jobs))

    def start(self, shard: str, *flags: str) -> subprocess.Popen[bytes]:
        """Start one worker."""
        command = [sys.executable, "-m", "gemini_batch", "run", str(self.path), "--quiet"]
        command += ["--base-url", self._server.base_url, "--rpm", "60000", "--rpd", "1000000"]
        command += ["--concurrency", str(CONCURRENCY), "--shard", shard, *flags]
        state = {"GEMINI_BATCH_STATE_DIR": str(self._folder / "state"), "GEMINI_API_KEY": "a-key"}
        return subprocess.Popen(command, cwd=ROOT, env=os.environ | state)

    def start_all(self, count: int, *flags: str) -> list[subprocess.Popen[bytes]]:
        """Start all workers of a generation."""
        return [self.start(f"{index}/{count}", *flags) for index in range(1, count + 1)]

    def wait_for(
        self,
        is_there: Callable[[], bool],
        workers: Iterable[subprocess.Popen[bytes]],
        within_s: float = 120.0,
    ) -> None:
        """Wait until something is there, or all workers have ended."""
        ends_s, workers = time.monotonic() + within_s, [*workers]
        while not is_there() and any(worker.poll() is None for worker in workers):
            assert time.monotonic() < ends_s, "the workers do not send"
            time.sleep(0.01)

    def requests(self) -> list[str]:
        """Return the ids of the calls that the server was asked for."""
        return [entry.prompt for entry in [*self._server.audit.entries]]

    def finished(self) -> set[str]:
        """Return the ids of the calls that have an answer."""
        return {row["id"] for row in newest_rows(self.out) if row["status"] == "succeeded"}

    def in_flight(self) -> set[str]:
        """Return the ids of the calls that were in flight when their worker was killed."""
        found: set[str] = set()
        for part in parts(self.out):
            found.update(unacknowledged(part.path / PRIVATE).calls)
        return found - self.finished()


def kill(workers: Sequence[subprocess.Popen[bytes]]) -> int:
    """Kill workers; return how many had not ended."""
    running = [worker for worker in workers if worker.poll() is None]
    for worker in running:
        worker.kill()
    for worker in workers:
        worker.wait()
    return len(running)


def resume(
    folder: Path, server: Simulator, calls: int, counts: Sequence[int], seed: int
) -> Measured:
    """Kill all workers of each generation but the last one; nothing that was finished is sent again."""
    run, found, chance = Workers(folder, server, calls), Measured(calls), random.Random(seed)
    with ExitStack() as stack:
        for number, count in enumerate(counts):
            before, done = len(run.requests()), run.finished() if run.out.exists() else set[str]()
            workers = run.start_all(count)
            stack.callback(kill, workers)
            if number < len(counts) - 1:
                share = (number + 1) / len(counts) * calls
                wanted = before + max(1.0, (share - len(done)) * chance.uniform(0.5, 1.0))
                run.wait_for(lambda wanted=wanted: len(run.requests()) >= wanted, workers)  # type: ignore[misc]
                time.sleep(chance.uniform(0.0, LATENCY_S))
                found.kills += kill(workers)
                found.in_flight += len(run.in_flight())
            codes = [worker.wait(120) for worker in workers]
            found.finished_again += len(done.intersection(run.requests()[before:]))
    found.requests = len(run.requests())
    found.repeated = found.requests - len({*run.requests()})
    found.faults += _faults(run, found)
    if set(codes) != {0}:
        found.faults.append(f"exit codes of the last workers: {codes}")
    if len(generations(run.out)) != len(counts):
        found.faults.append("a generation is missing")
    return found


def _faults(run: Workers, found: Measured) -> list[str]:
    faults = []
    if found.finished_again:
        faults.append("finished calls were sent again")
    if found.repeated > found.in_flight:
        faults.append("more was repeated than was in flight")
    answered = Counter(row["id"] for row in read_rows(run.out) if row["status"] == "succeeded")
    if len(answered) != found.calls or set(answered.values()) != {1}:
        faults.append("a call has no answer, or two")
    if gemini_batch(["verify", str(run.out)]):
        faults.append("verify found problems")
    return faults


def killed(ledger: Postgres, _turn: int) -> None:
    """Kill the server of the ledger while calls are in flight; it recovers when it starts."""
    ledger.kill()
    ledger.start()


def deleted(ledger: Postgres, turn: int) -> None:
    """Delete all that the ledger knows, once."""
    if turn == 1:
        ledger.execute("DELETE FROM gemini_batch_ledger")


HURTS: dict[str, Callable[[Postgres, int], None]] = {"server": killed, "reset": deleted}


def budget(
    folder: Path,
    server: Simulator,
    calls: int,
    *,
    kills: int,
    seed: int,
    hurt: Callable[[int], None] = lambda _turn: None,
    ledger: Sequence[str] = (),
) -> Measured:
    """Kill one of two workers again and again under `--max-cost`: the cost of all requests stays below it.

    The flags `ledger` name another one than that of this machine, which `hurt` harms before each kill.
    """
    run, chance = Workers(folder, server, calls), random.Random(seed)
    usd = round(calls * MOST_USD * 0.8, 2)
    flags = ("--max-cost", str(usd), "--run-id", "torture", *ledger)
    found = Measured(calls, budget_usd=usd)
    other = run.start("2/2", *flags)
    with ExitStack() as stack:
        stack.callback(kill, [other])
        for turn in range(kills):
            worker, before = run.start("1/2", *flags), len(run.requests())
            stack.callback(kill, [worker])
            run.wait_for(lambda before=before: len(run.requests()) > before + 3, [worker])  # type: ignore[misc]
            time.sleep(chance.uniform(0.0, LATENCY_S))
            hurt(turn)
            found.kills += kill([worker])
            found.in_flight += len(run.in_flight())
        codes = [run.start("1/2", *flags).wait(120), other.wait(600)]
    found.requests = len(run.requests())
    found.repeated = found.requests - len({*run.requests()})
    found.cost_usd = max(
        found.requests * 0.134,
        sum(row["cost_usd"] or 0.0 for row in read_rows(run.out)),
    )
    if found.cost_usd > usd:
        found.faults.append("the budget was exceeded")
    if not set(codes) <= {0, 5}:
        found.faults.append(f"exit codes: {codes}")
    return found


def hurt_budget(
    what: str, folder: Path, server: Simulator, calls: int, *, kills: int, seed: int
) -> Measured:
    """Do the same on a ledger in PostgreSQL that is hurt as well."""
    with serving() as ledger:
        flags = ("--ledger", ledger.url)
        hurt = partial(HURTS[what], ledger)
        return budget(folder, server, calls, kills=kills, seed=seed, hurt=hurt, ledger=flags)


def main() -> int:
    """Kill, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.shards", description=__doc__)
    parser.add_argument("what", choices=("resume", "budget", *HURTS))
    parser.add_argument("--calls", type=int, default=400, metavar="N")
    parser.add_argument("--kills", type=int, default=10, metavar="N", help="of budget")
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 7, 3], metavar="N")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, served() as server:
        if options.what == "resume":
            found = resume(Path(folder), server, options.calls, options.workers, options.seed)
        elif options.what == "budget":
            found = budget(
                Path(folder), server, options.calls, kills=options.kills, seed=options.seed
            )
        else:
            found = hurt_budget(
                options.what,
                Path(folder),
                server,
                options.calls,
                kills=options.kills,
                seed=options.seed,
            )
    print(f"{'seed':<44}{options.seed:>8}\n{found.table()}")
    return 1 if found.faults else 0


def served() -> AbstractContextManager[Simulator]:
    """Serve a simulator whose answers take a while."""
    return simulator(SimulatorConfig(tier="unlimited", pixels=16, latency_s=LATENCY_S))


if __name__ == "__main__":
    sys.exit(main())
