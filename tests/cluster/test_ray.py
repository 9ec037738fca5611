"""`ray`: workers on a real Ray cluster of several nodes, all on this machine."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.simulator import SimulatorConfig
from gemini_batch.store.address import BucketAddress
from gemini_batch.store.opening import open_store
from tests.buckets import AWS_SECRET
from tests.cluster.nodes import KEY, RayNodes, bucket_and_ledger, measure
from tests.simulated import simulator

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNodes]:
    """Start a cluster of four nodes and a head."""
    if not os.environ.get("GEMINI_BATCH_NEEDS_CLUSTER"):
        pytest.importorskip("ray")
    found = RayNodes(tmp_path_factory.mktemp("state"))
    try:
        yield found
    finally:
        found.close()


def wait_until(is_true: Callable[[], bool]) -> None:
    """Wait for other processes."""
    ends_s = time.monotonic() + 120
    while not is_true():
        assert time.monotonic() < ends_s
        time.sleep(0.02)


def test_a_node_that_is_killed_costs_what_was_in_flight(tmp_path: Path, nodes: RayNodes) -> None:
    """Eight workers on four nodes, one killed: nothing finished is sent again, no 429, all ends with 0 and one summary."""
    found = measure(
        tmp_path, nodes, calls=200, per_minute=60, minute_s=6.0, latency_s=1.0, shards=8
    )
    assert found.faults == []
    written = orjson.loads((tmp_path / "jobs.out/summary.json").read_bytes())
    for name in ("calls", "by_status", "this_run", "exit_code", "left"):
        assert written[name] == found.summary[name]
    assert (written["calls"], written["left"], written["exit_code"]) == (200, 0, 0)
    run = written["this_run"]
    assert (run["finished"], run["by_status"]) == (200, {"succeeded": 200})
    assert found.requests - found.in_flight <= run["sent"] <= found.requests
    assert KEY not in found.said
    assert "200 succeeded" in found.said


def test_the_exit_code_is_that_of_the_worst_worker(tmp_path: Path, nodes: RayNodes) -> None:
    """A budget of all workers together ends them with 5; the last lines say why."""
    with simulator() as server:
        limits = ("--rpm", "6000", "--rpd", "100000", "--max-cost", "0.5")
        run = nodes.start(tmp_path, 40, server, "--shards", "3", *limits)
        _, err = run.communicate(timeout=100)
        assert run.returncode == 5, err
        assert "the budget of $0.500 of all workers has" in err
        assert 0 < len(server.audit.entries) <= 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_drains_all_workers(
    tmp_path: Path, nodes: RayNodes, number: signal.Signals
) -> None:
    """Ctrl-C, or a closed terminal: nothing more is sent, what is in flight is written, one summary, 130 or 143; the next run does the rest."""
    config = SimulatorConfig(tier="unlimited", pixels=16, latency_s=3.0)
    with simulator(config) as server:
        limits = ("--shards", "3", "--rpm", "60", "--rpd", "100000", "--minute", "6")
        run = nodes.start(tmp_path, 300, server, *limits)
        wait_until(lambda: len(server.audit.entries) > 30 or run.poll() is not None)
        run.send_signal(number)
        _, err = run.communicate(timeout=100)
        assert run.returncode == (130 if number is signal.SIGINT else 143), err
        assert "stopping: " in err
        assert "run again to continue" in err
        written = orjson.loads((tmp_path / "jobs.out/summary.json").read_bytes())
        sent = len(server.audit.entries)
        assert written["exit_code"] == run.returncode
        assert 30 < written["this_run"]["finished"] == sent < 300
        assert (written["this_run"]["sent"], written["left"]) == (sent, 300 - sent)
        assert not written["needs_person"]


def test_without_ray_its_installation_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without Ray the command ends with 3, says what to install, and sends nothing."""
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    (tmp_path / "jobs.jsonl").write_text('{"prompt": "x"}\n')
    assert main(["ray", str(tmp_path / "jobs.jsonl"), "--simulate"]) == 3
    assert "pip install 'gemini_batch[ray]'" in capsys.readouterr().err


def test_a_node_that_is_killed_with_its_disk_leaves_a_whole_run_in_the_bucket(
    tmp_path: Path,
) -> None:
    """Four nodes that share a bucket and a ledger, and no disk: what had a row in the bucket is not sent again, no 429."""
    with bucket_and_ledger(tmp_path) as variables:
        own = RayNodes(tmp_path / "state", variables, own_disks=True)
        try:
            found = measure(
                tmp_path,
                own,
                calls=160,
                per_minute=60,
                minute_s=6.0,
                latency_s=1.0,
                shards=8,
                out="s3://pictures/ray",
            )
        finally:
            own.close()
        written = open_store(BucketAddress.parse("s3://pictures/ray")).get("summary.json").data
    assert found.faults == []
    assert orjson.loads(written)["by_status"] == {"succeeded": 160}
    assert KEY not in found.said
    assert AWS_SECRET not in found.said
