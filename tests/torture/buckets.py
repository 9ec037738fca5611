# ruff: noqa: T201 # a command that prints its numbers
"""Kills runs whose disk is gone with them, and checks what the bucket has: `python -m tests.torture.buckets --kills 20`."""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.output.bucket import layout, segments
from gemini_batch.output.bucket.lease import read
from gemini_batch.output.bucket.pictures import row_of_notes
from gemini_batch.store.address import BucketAddress
from gemini_batch.store.base import ImageStore
from gemini_batch.store.opening import open_store
from tests.buckets import moto
from tests.loopback.commands import ROOT
from tests.torture.server import TorturedServer, tortured_server

CONCURRENCY = 16
# Uploads that the product has under way at once, each of them one PUT.
UPLOADS = 12
CALLS = 120
_PATIENCE_S = 120.0
_MOST = f"{CONCURRENCY} in flight + {UPLOADS} within one PUT"


@dataclass
class Measured:
    """What was counted.

    Attributes:
        repeats: Requests whose answers are in no row, of each kill.
    """

    kills: int = 0
    committed: int = 0
    committed_again: int = 0
    repeats: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Return the numbers, a line each."""
        lines = [
            f"kills, the disk gone each time {self.kills:>6}",
            f"rows in the bucket at the kills {self.committed:>5}",
            f"  of them sent again            {self.committed_again:>6} (0)",
            f"requests repeated a kill, most  {max(self.repeats, default=0):>6} ({_MOST})",
        ]
        return "\n".join([*lines, *(f"FAULT: {fault}" for fault in self.faults)])


@dataclass(frozen=True)
class BucketDesk:
    """A manifest whose output is a bucket."""

    folder: Path
    server: TorturedServer
    environment: dict[str, str]
    out: str

    @property
    def store(self) -> ImageStore:
        """The bucket."""
        return open_store(BucketAddress.parse(self.out))

    def write_manifest(self, calls: int) -> None:
        """Write the jobs."""
        jobs = ({"id": f"n{number}", "prompt": f"Number n{number}"} for number in range(calls))
        (self.folder / "jobs.jsonl").write_bytes(
            b"".join(orjson.dumps(job) + b"\n" for job in jobs)
        )

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Start a run, on an empty disk; kill it at the end of the block."""
        self.server.process += 1
        shutil.rmtree(self.folder / "scratch", ignore_errors=True)
        pace = ("--rpm", "60000", "--rpd", "1000000", "--concurrency", str(CONCURRENCY), "--quiet")
        command = [sys.executable, "-m", "gemini_batch", "run", "jobs.jsonl", *pace]
        command += ["--base-url", self.server.base_url, "--out", self.out, "--scratch", "scratch"]
        with (self.folder / "words").open("ab") as words:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                stderr=words,
                env=os.environ
                | self.environment
                | {
                    "PYTHONPATH": str(ROOT),
                    "GEMINI_API_KEY": "AIzaSy-a-key-of-the-torture-00000000000",
                    "GEMINI_BATCH_STATE_DIR": str(self.folder / "state"),
                },
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def committed(self) -> set[str]:
        """Return the ids that have a row in the bucket, in a segment or with their image."""
        store = self.store
        data = b"".join(segments.rows_of(store, segments.listing(store)))
        found = {orjson.loads(line)["id"] for line in data.splitlines()}
        for entry in store.list("images"):
            if (noted := row_of_notes(store.head(entry.name).notes)) is not None:
                found.add(noted[0]["id"])
        return found

    def expire_lease(self) -> None:
        """Let the lease of a killed run be over at once, which takes half a minute else."""
        if (found := read(self.store)) is not None:
            held, version = found
            fields = {name: getattr(held, name) for name in held.__slots__}
            data = orjson.dumps(fields | {"is_over": True})
            self.store.replace(layout.LOCK, data, version)


def torture_bucket(
    folder: Path, kills: int, seed: int, environment: dict[str, str], *, waits: int = 1
) -> Measured:
    """Kill so many runs, each with its disk; `waits` of them are waited for as a user would."""
    measured, source = Measured(), random.Random(seed)
    os.environ.update(environment)
    while measured.kills < kills:
        place = folder / str(measured.kills)
        place.mkdir()
        with tortured_server(source.randrange(1 << 30)) as server:
            out = f"s3://pictures/{source.randrange(1 << 40):x}"
            desk = BucketDesk(place, server, environment, out)
            desk.write_manifest(CALLS)
            committed: list[set[str]] = []
            for _ in range(min(4, kills - measured.kills)):
                if not _kill(desk, source):
                    break
                measured.kills += 1
                committed.append(desk.committed())
                if measured.kills > waits:
                    desk.expire_lease()
            with desk.running() as process:
                code = process.wait(_PATIENCE_S)
            if code:
                words = (place / "words").read_text()[-800:]
                measured.faults.append(f"{place}: the last run ended with {code}: {words}")
            _check(desk, committed, measured)
    return measured


def _kill(desk: BucketDesk, source: random.Random) -> bool:
    """Kill a run when some answers are there; return False if it has ended before."""
    with desk.running() as process:
        wanted = desk.server.whole + source.randint(8, 40)
        ends_s = time.monotonic() + _PATIENCE_S
        while desk.server.whole < wanted and process.poll() is None:
            assert time.monotonic() < ends_s
            time.sleep(0.001)
        time.sleep(source.uniform(0, 0.2))
        is_alive = process.poll() is None
    time.sleep(0.2)  # what was sent to the bucket arrives there
    return is_alive


def _check(desk: BucketDesk, committed: list[set[str]], measured: Measured) -> None:
    store = desk.store
    data = b"".join(segments.rows_of(store, segments.listing(store)))
    rows: list[dict[str, Any]] = [orjson.loads(line) for line in data.splitlines()]
    for call_id, count in Counter(row["id"] for row in rows).items():
        if count > 1:
            measured.faults.append(f"{call_id} has {count} rows")
    if len(rows) != CALLS:
        measured.faults.append(f"{len(rows)} rows of {CALLS} calls")
    for row in rows:
        for image in row["images"]:
            if sha256(store.get(image["path"]).data).hexdigest() != image["sha256"]:
                measured.faults.append(f"{row['id']}: its image is another one")
    _check_repeats(desk, committed, {row["response_id"] for row in rows}, measured)


def _check_repeats(
    desk: BucketDesk, committed: list[set[str]], in_rows: set[str], measured: Measured
) -> None:
    for number, ids in enumerate(committed, start=1):
        measured.committed += len(ids)
        later = {each.call_id for each in desk.server.sendings if each.process > number}
        if again := ids & later:
            measured.committed_again += len(again)
            measured.faults.append(f"sent again after kill {number}: {sorted(again)}")
    repeats = Counter(
        each.process for each in desk.server.sendings if each.response_id not in in_rows
    )
    measured.repeats += repeats.values()
    for process, count in repeats.items():
        if count > CONCURRENCY + UPLOADS:
            measured.faults.append(f"run {process} left {count} requests to be repeated")


def main() -> int:
    """Kill, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.buckets", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, metavar="N")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, moto(Path(name)) as environment:
        measured = torture_bucket(Path(name), options.kills, options.seed, environment)
    print(f"seed {options.seed}\n{measured.table()}")
    return bool(measured.faults)


if __name__ == "__main__":
    sys.exit(main())
