"""`ray`: workers on a real Ray cluster of several nodes, all on this machine."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.output.rows import read_rows
from gemini_batch.simulator import Simulator, SimulatorConfig
from tests.simulated import simulator

pytestmark = pytest.mark.cluster
KEY = "AIzaSy-a-key-that-must-never-be-seen-000"


class RayNodes:
    """A head and four nodes of one core each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self.nodes = [self.cluster.add_node(num_cpus=1, wait=False) for _ in range(4)]
        self.cluster.wait_for_nodes()

    def kill_one(self) -> None:
        """Kill a node without a word: its raylet, and with it the workers."""
        node = self.nodes.pop()
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNodes]:
    """Start a cluster whose nodes have the key in their environment."""
    if os.environ.get("GEMINI_BATCH_NEEDS_CLUSTER"):
        import ray  # noqa: F401
    else:
        pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEMINI_API_KEY", KEY)
        patch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("RAY_health_check_failure_threshold", "3")
        found = RayNodes()
        try:
            yield found
        finally:
            found.cluster.shutdown()


def started(
    folder: Path, calls: int, server: Simulator, nodes: RayNodes, *flags: str
) -> subprocess.Popen[str]:
    """Start `ray` without the key, in a process of its own."""
    (folder / "jobs.jsonl").write_bytes(
        b"".join(
            orjson.dumps({"id": f"c{number}", "prompt": f"c{number}"}) + b"\n"
            for number in range(calls)
        )
    )
    command = [sys.executable, "-m", "gemini_batch", "ray", "jobs.jsonl"]
    command += ["--address", nodes.cluster.address, "--base-url", server.base_url]
    return subprocess.Popen(
        [*command, *flags],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "GEMINI_API_KEY"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def requests(server: Simulator) -> Counter[str]:
    """Return how often each call was sent."""
    return Counter(entry.prompt for entry in [*server.audit.entries])


def test_a_node_that_is_killed_costs_what_was_in_flight(tmp_path: Path, nodes: RayNodes) -> None:
    """Eight workers on four nodes, one killed: nothing finished is sent again, no 429, all ends with 0 and one summary."""
    calls, minute_s, rpm = 240, 6.0, 60
    config = SimulatorConfig(
        tier="unlimited", pixels=16, latency_s=1.0, requests_per_min=rpm, minute_s=minute_s
    )
    with simulator(config) as server:
        limits = ("--rpm", str(rpm), "--rpd", "100000", "--minute", str(minute_s))
        run = started(tmp_path, calls, server, nodes, "--shards", "8", "--json", *limits)
        pause = threading.Event()
        ends_s = time.monotonic() + 100
        while len(server.audit.entries) < calls / 3 and run.poll() is None:
            assert time.monotonic() < ends_s
            pause.wait(0.05)
        nodes.kill_one()
        done = {row["id"] for row in read_rows(tmp_path / "jobs.out")}
        before = requests(server)
        out, err = run.communicate(timeout=120)
        assert run.returncode == 0, err
        again = requests(server) - before
        assert not done & again.keys()
        assert set(requests(server)) == {f"c{number}" for number in range(calls)}
        statuses = Counter(entry.http_status for entry in server.audit.entries)
        assert statuses[429] == 0
    assert out.startswith("{"), out + err
    summary = orjson.loads(out)
    written = orjson.loads((tmp_path / "jobs.out/summary.json").read_bytes())
    for name in ("calls", "by_status", "this_run", "exit_code", "left"):
        assert written[name] == summary[name]
    assert (summary["calls"], summary["left"], summary["exit_code"]) == (calls, 0, 0)
    assert summary["by_status"] == {"succeeded": calls}
    answered = Counter(row["id"] for row in read_rows(tmp_path / "jobs.out"))
    assert set(answered.values()) == {1}
    assert main(["verify", str(tmp_path / "jobs.out")]) == 0
    assert KEY not in out + err
    assert f"{calls} succeeded" in err


def test_the_exit_code_is_that_of_the_worst_worker(tmp_path: Path, nodes: RayNodes) -> None:
    """A budget of all workers together ends them with 5; the last lines say why."""
    with simulator() as server:
        limits = ("--rpm", "6000", "--rpd", "100000", "--max-cost", "0.5")
        run = started(tmp_path, 40, server, nodes, "--shards", "3", *limits)
        _, err = run.communicate(timeout=100)
        assert run.returncode == 5, err
        assert "the budget of $0.50 of all workers has" in err
        assert 0 < len(server.audit.entries) <= 3
