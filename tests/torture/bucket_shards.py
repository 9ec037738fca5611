# ruff: noqa: T201 # a command that prints its numbers
"""`python -m tests.torture.bucket_shards`: kills workers that write chains into a bucket; exit 1 when a promise was broken."""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from gemini_batch.cli import main as gemini_batch
from gemini_batch.output.bucket.generations import begun, store_of
from gemini_batch.output.bucket.lease import after, json_of, read
from gemini_batch.output.bucket.viewed import BucketFolder
from gemini_batch.output.rows import newest_rows, read_rows
from gemini_batch.records.shard import Shard
from gemini_batch.simulator import Simulator
from gemini_batch.store.address import BucketAddress
from gemini_batch.store.base import ImageStore
from gemini_batch.store.opening import open_store
from tests.buckets import moto
from tests.loopback.commands import ROOT
from tests.torture.shards import LATENCY_S, served

STEPS = 3
CONCURRENCY = 8  # of each worker
_PATIENCE_S = 120.0


@dataclass
class Measured:
    """Counted over one run.

    Attributes:
        in_flight: Calls that were sent and had no row in the bucket, at the kills.
        repeated: Requests for calls that had one before.
    """

    calls: int
    kills: int = 0
    rounds: int = 0
    requests: int = 0
    in_flight: int = 0
    repeated: int = 0
    mirrored_again: int = 0
    faults: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Return the numbers, a line each."""
        rows = (
            ("calls, in chains of three", self.calls),
            ("workers killed", self.kills),
            ("rounds of all workers until each ended with 0", self.rounds),
            ("requests", self.requests),
            ("requests repeated", self.repeated),
            ("sent without a row in the bucket, at the kills", self.in_flight),
            ("rows in the bucket sent again (0)", self.mirrored_again),
        )
        lines = [f"{name:<48}{value:>8,}" for name, value in rows]
        return "\n".join([*lines, *(f"FAULT: {fault}" for fault in self.faults)])


class BucketWorkers:
    """Workers of one run, each with a disk of its own, and one bucket."""

    def __init__(self, folder: Path, server: Simulator, environment: Mapping[str, str]) -> None:
        self.out = f"s3://pictures/{folder.name}"
        self.folder = folder
        self._server = server
        self._environment = environment
        self._copies = 0

    @property
    def store(self) -> ImageStore:
        """The bucket."""
        return open_store(BucketAddress.parse(self.out))

    def write_chains(self, number: int) -> int:
        """Write a manifest of chains; return the number of its calls."""
        jobs = [
            {"id": f"n{chain}-{step}", "prompt": f"n{chain}-{step}"}
            | ({"images": [f"job:n{chain}-{step - 1}"]} if step else {})
            for chain in range(number)
            for step in range(STEPS)
        ]
        lines = b"".join(orjson.dumps(job) + b"\n" for job in jobs)
        (self.folder / "jobs.jsonl").write_bytes(lines)
        return len(jobs)

    def start(self, index: int, count: int) -> subprocess.Popen[bytes]:
        """Start a worker."""
        command = [sys.executable, "-m", "gemini_batch", "run", "jobs.jsonl", "--quiet"]
        command += ["--base-url", self._server.base_url, "--rpm", "60000", "--rpd", "1000000"]
        command += ["--concurrency", str(CONCURRENCY * count), "--out", self.out]
        command += ["--scratch", f"disk-{index}", "--shard", f"{index}/{count}"]
        with (self.folder / "words").open("ab") as words:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                stderr=words,
                env=os.environ
                | dict(self._environment)
                | {
                    "PYTHONPATH": str(ROOT),
                    "GEMINI_API_KEY": "AIzaSy-a-key-of-the-torture-00000000000",
                    "GEMINI_BATCH_STATE_DIR": str(self.folder / "state"),
                },
            )

    def requests(self) -> list[str]:
        """Return the ids of the calls that the server was asked for."""
        return [entry.prompt for entry in [*self._server.audit.entries]]

    def read(self) -> Path:
        """Return a new copy of the rows of the bucket."""
        self._copies += 1
        copy = self.folder / f"copy-{self._copies}"
        BucketFolder(self.store, copy, may_be_new=True)
        return copy

    def expire_leases(self) -> None:
        """Let the leases of killed workers be over at once, which takes half a minute else."""
        for part in begun(self.store, Path()).parts:
            store = store_of(self.store, part)
            if (found := read(store)) is not None and not found[0].is_over:
                store.replace("lock", json_of(after(found[0], is_over=True)), found[1])


def torture(
    folder: Path,
    server: Simulator,
    environment: Mapping[str, str],
    *,
    chains: int,
    counts: list[int],
    seed: int,
    waits: bool = False,
) -> Measured:
    """Run rounds of so many workers each, and kill one of each but the last; then rounds until all is done.

    Every second killed worker loses its disk. With `waits` their leases are left to expire.
    """
    run, chance = BucketWorkers(folder, server, environment), random.Random(seed)
    found = Measured(run.write_chains(chains))
    for number, count in enumerate(counts):
        index = chance.randint(1, count)
        before = len(run.requests())
        mirrored = {row["id"] for row in read_rows(run.read())}
        with ExitStack() as stack:
            workers = {each: run.start(each, count) for each in range(1, count + 1)}
            for worker in workers.values():
                stack.callback(worker.wait)
                stack.callback(worker.kill)
            _kill_in_time(run, workers[index], Shard(index, count), before, chance)
            found.kills += workers[index].wait() < 0
            for worker in workers.values():
                worker.wait(_PATIENCE_S)
        if number % 2 == 0:
            shutil.rmtree(folder / f"disk-{index}", ignore_errors=True)
        if not waits:
            run.expire_leases()
        time.sleep(0.2)  # what was sent to the bucket arrives there
        now = {row["id"] for row in read_rows(run.read())}
        found.in_flight += len({*run.requests()[before:]} - now)
        found.mirrored_again += len(mirrored & {*run.requests()[before:]})
    codes = [5]
    while any(codes) and found.rounds < STEPS + 1:
        found.rounds += 1
        workers = {each: run.start(each, counts[-1]) for each in range(1, counts[-1] + 1)}
        codes = [worker.wait(_PATIENCE_S) for worker in workers.values()]
    if any(codes):
        words = (folder / "words").read_text()[-800:]
        found.faults.append(f"exit codes of the last workers: {codes}: {words}")
    _check(run, found)
    return found


def _kill_in_time(
    run: BucketWorkers,
    worker: subprocess.Popen[bytes],
    shard: Shard,
    before: int,
    chance: random.Random,
) -> None:
    """Kill a worker while its first calls are in flight, or soon after."""
    ends_s = time.monotonic() + _PATIENCE_S
    while not any(map(shard.owns, run.requests()[before:])) and worker.poll() is None:
        assert time.monotonic() < ends_s, "the workers do not send"
        time.sleep(0.01)
    time.sleep(chance.uniform(0.0, 1.5 * LATENCY_S))
    worker.kill()


def _check(run: BucketWorkers, found: Measured) -> None:
    copy = run.read()
    requests = run.requests()
    found.requests, found.repeated = len(requests), len(requests) - len({*requests})
    if found.mirrored_again:
        found.faults.append("calls with a row in the bucket were sent again")
    if found.repeated > found.in_flight:
        found.faults.append("more was repeated than was in flight, or not uploaded")
    answered = Counter(row["id"] for row in read_rows(copy) if row["status"] == "succeeded")
    if len(answered) != found.calls or set(answered.values()) != {1}:
        found.faults.append("a call has no answer, or two")
    rows = {row["id"]: row for row in newest_rows(copy)}
    for call_id, row in rows.items():
        chain, _, step = call_id.partition("-")
        if int(step):
            parent = rows[f"{chain}-{int(step) - 1}"]["images"][0]["sha256"]
            if [each["sha256"] for each in row["inputs"]] != [parent]:
                found.faults.append(f"{call_id} is made of another picture than its parent's")
    if gemini_batch(["verify", run.out]):
        found.faults.append("verify found problems")


def main() -> int:
    """Kill, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.bucket_shards")
    parser.add_argument("--chains", type=int, default=40, metavar="N")
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 4, 7, 3], metavar="N")
    parser.add_argument("--wait", action="store_true", help="wait for leases of killed workers")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        environment = stack.enter_context(moto(Path(name)))
        os.environ.update(environment)
        server = stack.enter_context(served())
        folder = Path(name) / "run"
        folder.mkdir()
        found = torture(
            folder,
            server,
            environment,
            chains=options.chains,
            counts=options.workers,
            seed=options.seed,
            waits=options.wait,
        )
    print(f"{'seed':<44}{options.seed:>12}\n{found.table()}")
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
