# ruff: noqa: T201 # a command that prints its numbers
"""`python -m tests.cluster.nodes`: a run on four Ray nodes, one of them killed in the middle; exit 1 when a promise was broken."""

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.cli import main as gemini_batch
from gemini_batch.output.bucket.viewed import BucketFolder
from gemini_batch.output.inflight import unacknowledged
from gemini_batch.output.lock import holder
from gemini_batch.output.paths import PRIVATE
from gemini_batch.output.rows import read_rows
from gemini_batch.output.shards import parts
from gemini_batch.simulator import Simulator, SimulatorConfig
from gemini_batch.store.address import BucketAddress
from gemini_batch.store.opening import open_store
from tests.buckets import moto
from tests.postgres import Server, needs_postgres
from tests.simulated import simulator

KEY = "AIzaSy-a-key-that-must-never-be-seen-000"


class RayNodes:
    """A head and four nodes of one core each, with the key in their environment.

    With `own_disks` each node has a state folder of its own, as a machine has, which is lost with it.
    """

    def __init__(
        self, state: Path, variables: Mapping[str, str] | None = None, *, own_disks: bool = False
    ) -> None:
        from ray.cluster_utils import Cluster

        self._patch = pytest.MonkeyPatch()
        for name, value in {
            "GEMINI_API_KEY": KEY,
            "GEMINI_BATCH_STATE_DIR": str(state),
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_failure_threshold": "3",
            **(variables or {}),
        }.items():
            self._patch.setenv(name, value)
        self.cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self.nodes: list[Any] = []
        self._disks: list[Path] = []
        for number in range(4):
            if own_disks:
                self._disks.append(state / str(number))
                self._patch.setenv("GEMINI_BATCH_STATE_DIR", str(self._disks[-1]))
            self.nodes.append(self.cluster.add_node(num_cpus=1, wait=False))
        self.cluster.wait_for_nodes()

    def kill_one(self) -> None:
        """Kill a node without a word: its raylet, and with it the workers."""
        self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)
        if self._disks:
            disk = self._disks.pop()
            for lock in disk.glob("scratch/*/shards/*/*/.gemini_batch"):
                while holder(lock.parent) is not None:  # its processes end with it
                    time.sleep(0.05)
            shutil.rmtree(disk)

    def close(self) -> None:
        """End all nodes."""
        self.cluster.shutdown()
        self._patch.undo()

    def start(
        self, folder: Path, calls: int, server: Simulator, *flags: str
    ) -> subprocess.Popen[str]:
        """Start `ray` without the key, in a process of its own."""
        jobs = ({"id": f"c{number}", "prompt": f"c{number}"} for number in range(calls))
        (folder / "jobs.jsonl").write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in jobs))
        command = [sys.executable, "-m", "gemini_batch", "ray", "jobs.jsonl"]
        command += ["--address", self.cluster.address, "--base-url", server.base_url]
        return subprocess.Popen(
            [*command, *flags],
            cwd=folder,
            env={name: value for name, value in os.environ.items() if name != "GEMINI_API_KEY"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@contextmanager
def bucket_and_ledger(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the environment for a new bucket and a new ledger, which is set here as well."""
    needs_postgres()
    server = Server()
    try:
        server.create()
        with moto(folder) as found, pytest.MonkeyPatch.context() as patch:
            variables = found | {"GEMINI_BATCH_LEDGER": server.url}
            for each, value in variables.items():
                patch.setenv(each, value)
            yield variables
    finally:
        server.remove()


@dataclass
class Measured:
    """Counted over one run.

    Attributes:
        windows: Requests in each whole minute of the quota, from the first request on.
        faults: Broken promises, in words.
    """

    calls: int
    per_minute: int
    requests: int = 0
    rows_at_kill: int = 0
    in_flight: int = 0
    finished_again: int = 0
    repeated: int = 0
    refused: int = 0
    windows: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    said: str = ""

    @property
    def used(self) -> float:
        """The share of the quota that was used, in the whole minutes."""
        return sum(self.windows) / (self.per_minute * max(1, len(self.windows)))


def measure(
    folder: Path,
    nodes: RayNodes,
    *,
    calls: int,
    per_minute: int,
    minute_s: float,
    latency_s: float,
    shards: int,
    out: str = "jobs.out",
) -> Measured:
    """Run, kill a node in the middle, and count; `out` may be a bucket."""
    found = Measured(calls, per_minute)
    config = SimulatorConfig(
        tier="unlimited",
        pixels=16,
        latency_s=latency_s,
        requests_per_min=per_minute,
        minute_s=minute_s,
    )
    with simulator(config) as server:
        limits = ["--rpm", str(per_minute), "--rpd", "1000000", "--minute", str(minute_s)]
        limits += ["--out", out]
        run = nodes.start(folder, calls, server, "--shards", str(shards), "--json", *limits)
        ends_s = time.monotonic() + 200
        while len(server.audit.entries) < calls / 2 and run.poll() is None:
            assert time.monotonic() < ends_s, "the workers do not send"
            time.sleep(0.02)
        nodes.kill_one()
        done = {row["id"] for row in read_rows(_folder_of(out, folder))}
        before = Counter(entry.prompt for entry in [*server.audit.entries])
        for part in parts(folder / "jobs.out"):
            found.in_flight += len(unacknowledged(part.path / PRIVATE).calls)
        if "://" in out:  # the log of what was in flight is lost with its node
            found.in_flight = len(before.keys() - done)
        text, found.said = run.communicate(timeout=400)
        entries = [*server.audit.entries]
    sent = Counter(entry.prompt for entry in entries)
    found.requests, found.rows_at_kill = len(entries), len(done)
    found.finished_again = len(done & (sent - before).keys())
    found.repeated = found.requests - len(sent)
    found.refused = sum(entry.http_status == 429 for entry in entries)
    first_s = entries[0].offset_s
    whole = math.floor((entries[-1].offset_s - first_s) / minute_s)
    of_minute = Counter(int((entry.offset_s - first_s) / minute_s) for entry in entries)
    found.windows = [of_minute[number] for number in range(whole)]
    found.summary = orjson.loads(text) if text.startswith("{") else {}
    answered = Counter(
        row["id"] for row in read_rows(_folder_of(out, folder)) if row["status"] == "succeeded"
    )
    if found.finished_again:
        found.faults.append("finished calls were sent again")
    if found.repeated > found.in_flight:
        found.faults.append("more was repeated than was in flight")
    if found.refused:
        found.faults.append("the quota was overrun: 429")
    if run.returncode or found.summary.get("by_status") != {"succeeded": calls}:
        found.faults.append(f"ended with {run.returncode}: {text}{found.said}")
    if len(answered) != calls or set(answered.values()) != {1}:
        found.faults.append("a call has no answer, or two")
    if gemini_batch(["verify", out if "://" in out else str(folder / out)]):
        found.faults.append("verify found problems")
    return found


def _folder_of(out: str, folder: Path) -> Path:
    """Return the output folder, or a new copy of the rows of the bucket."""
    if "://" not in out:
        return folder / out
    copy = folder / f"copy-{len([*folder.glob('copy-*')])}"
    BucketFolder(open_store(BucketAddress.parse(out)), copy, may_be_new=True)
    return copy


def main() -> int:
    """Measure, and print the numbers."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.nodes", description=__doc__)
    parser.add_argument("--calls", type=int, default=2000, metavar="N")
    parser.add_argument("--shards", type=int, default=8, metavar="N")
    text = "bucket: moto, on nodes with own disks that share a PostgreSQL ledger"
    parser.add_argument(
        "where", nargs="?", choices=("folder", "bucket"), default="folder", help=text
    )
    options = parser.parse_args()
    is_bucket = options.where == "bucket"
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory())
        variables = stack.enter_context(bucket_and_ledger(Path(name))) if is_bucket else {}
        nodes = RayNodes(Path(name) / "state", variables, own_disks=is_bucket)
        try:
            found = measure(
                Path(name),
                nodes,
                calls=options.calls,
                per_minute=500,
                minute_s=20.0,
                latency_s=2.0,
                shards=options.shards,
                out="s3://pictures/ray" if is_bucket else "jobs.out",
            )
        finally:
            nodes.close()
    print(f"requests {found.requests:,}, rows at the kill {found.rows_at_kill:,}")
    print(f"in flight at the kill {found.in_flight:,}")
    print(f"finished sent again {found.finished_again}, in flight sent again {found.repeated}")
    print(f"429: {found.refused}")
    print(f"requests in each whole minute: {found.windows}: {found.used:.1%} of the quota")
    print("\n".join(found.faults))
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
