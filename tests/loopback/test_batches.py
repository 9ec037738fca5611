"""Batches by the command line, against the simulator over real sockets."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.simulator import Simulator, SimulatorConfig
from tests.loopback.commands import manifest, run, use_key_and_state
from tests.simulated import simulator

pytestmark = pytest.mark.loopback

JOBS: tuple[dict[str, Any], ...] = tuple(
    {"id": f"robot-{number}", "prompt": f"A robot number {number}"} for number in range(5)
)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_key_and_state(monkeypatch, tmp_path)


def paid(server: Simulator) -> set[tuple[int, int]]:
    """Return how often calls were paid for: by single requests, in batches."""
    return {(each["interactive"], each["batch"]) for each in server.report()["paid"]}


def summary(path: Path) -> dict[str, Any]:
    """Return the summary of the last run."""
    found: dict[str, Any] = orjson.loads((path.parent / "jobs.out" / "summary.json").read_bytes())
    return found


def test_a_manifest_at_half_price(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Submitted, it ends with 5 and says when to come back; run again it collects; all commands know it."""
    path, out = manifest(tmp_path, *JOBS), str(tmp_path / "jobs.out")
    assert run(path, server, "--route", "batch", "--batch-lines", "3") == 5
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("5 calls wait in 2 batches since ")
    assert "run again from " in said[-1]
    found = summary(path)
    assert (found["waiting"], found["left"], found["needs_person"]) == (5, 5, False)
    assert [stop["reason"] for stop in found["stops"]] == ["waiting"]
    assert found["run_again_at"] > found["ended_at"]
    assert run(path, server) == 0
    assert paid(server) == {(0, 1)}
    assert main(["verify", out]) == 0
    assert main(["status", out]) == 0
    assert main(["gallery", out]) == 0
    assert run(path, server) == 0
    assert "nothing to do" in capsys.readouterr().err


def test_the_simulator_in_this_process_is_waited_for(tmp_path: Path) -> None:
    """`run --simulate --route batch` needs no key, and ends when all is collected."""
    path = manifest(tmp_path, *JOBS)
    assert main(["run", str(path), "--simulate", "--route", "batch", "--quiet"]) == 0
    rows = (tmp_path / "jobs.simulated" / "results.jsonl").read_bytes().splitlines()
    assert [orjson.loads(row)["route"] for row in rows] == ["batch"] * 5


def test_a_wait_polls_until_the_end(tmp_path: Path) -> None:
    """`--wait` ends with 0 once the batch has ended."""
    path = manifest(tmp_path, *JOBS[:2])
    with simulator(SimulatorConfig(tier="unlimited", pixels=16, batch_turnaround_s=0.5)) as server:
        assert run(path, server, "--route", "batch", "--wait", "--minute", "0.2", "--quiet") == 0
        assert paid(server) == {(0, 1)}


def test_a_service_tier_in_a_batched_line_is_a_problem(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line is named, and nothing is sent."""
    request = {"contents": [{"parts": [{"text": "A cat"}]}], "serviceTier": "flex"}
    path = manifest(tmp_path, {"id": "cat", "request": request})
    assert run(path, server, "--route", "batch") == 3
    assert "jobs.jsonl:1: request.serviceTier: a batch has no service tier" in (
        capsys.readouterr().err
    )
    assert server.report()["paid"] == []


@pytest.mark.parametrize("route", ["batch", "auto"])
@pytest.mark.parametrize(
    ("flag", "said"),
    [
        (("--service-tier", "flex"), "a batch has no service tier"),
        (("--vertex", "my-project"), "batches of Vertex AI are another product"),
    ],
)
def test_flags_that_have_no_batch_are_wrong_usage(
    route: str, flag: tuple[str, str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A service tier, or Vertex AI, and batches exclude each other."""
    path = manifest(tmp_path, JOBS[0])
    assert main(["run", str(path), "--route", route, *flag]) == 2
    assert said in capsys.readouterr().err


def test_a_project_of_the_environment_has_no_batch_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vertex AI may be chosen by a variable."""
    monkeypatch.setenv("GEMINI_BATCH_VERTEX", "my-project")
    path = manifest(tmp_path, JOBS[0])
    assert main(["run", str(path), "--route", "batch"]) == 2


@pytest.mark.parametrize(
    "flag", ["--route batches", "--batch-lines 0", "--batch-patience soon", "--batch-patience 169h"]
)
def test_a_wrong_flag_is_answered_with_what_is_allowed(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong usage ends with 2."""
    with pytest.raises(SystemExit, match="2"):
        main(["run", "jobs.jsonl", *flag.split()])
    said = capsys.readouterr().err
    assert "allowed" in said or "did you mean" in said
