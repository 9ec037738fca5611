"""`ray`: workers on a real Ray cluster of several nodes, all on this machine."""

import os
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from gemini_batch.cli import main
from tests.cluster.nodes import KEY, RayNodes, measure
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


def test_without_ray_its_installation_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without Ray the command ends with 3, says what to install, and sends nothing."""
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    (tmp_path / "jobs.jsonl").write_text('{"prompt": "x"}\n')
    assert main(["ray", str(tmp_path / "jobs.jsonl"), "--simulate"]) == 3
    assert "pip install 'gemini_batch[ray]'" in capsys.readouterr().err
