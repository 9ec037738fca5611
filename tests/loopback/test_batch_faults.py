"""Runs by batch under each fault of files and batches: what they end with, and what was paid for."""

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.client import files, results, uploading
from gemini_batch.engine.batch import steps
from gemini_batch.simulator import SimulatorConfig
from gemini_batch.simulator.batch_faults import BATCH_FAULTS, At
from tests.loopback.commands import manifest, rows, run, use_key_and_state
from tests.simulated import simulator

pytestmark = [pytest.mark.loopback, pytest.mark.slow]

JOBS: tuple[dict[str, Any], ...] = tuple(
    {"id": f"robot-{number}", "prompt": f"A robot number {number}"} for number in range(4)
)
BATCH = ("--route", "batch", "--quiet", "--timeout", "1")
MOST_RUNS = 12
NOTES = ".gemini_batch/batches/*/batch.json"
NEVER: dict[str, str] = {
    "inlined-503": "answers are never asked for inline",
    "delete-cancels": "no batch is deleted",
    "swapped-keys": "no client can see it",
}
# Faults that need another one, at first.
WITH = {"no-range": "download-cut", "bad-range": "download-cut", "lying-range": "download-cut"}
WITH |= dict.fromkeys(("list-lag", "list-429", "list-503", "list-cut"), "create-503-after")
CANCELLED = {"cancelled-partial", "cancel-late", "cancel-ignored"}
# Calls whose answers the server has made and does not give: these are paid for again.
AGAIN = {
    "vanished": 4,
    "no-output": 4,
    "lost-key": 1,
    "unknown-key": 1,
    "no-key": 1,
    "torn-line": 1,
}
ENDS = {"create-400": 4}  # its line ends rejected
TURNAROUND_S, BETWEEN_RUNS_S, A_DAY_S = 30.0, 31.0, 86_400.0


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_key_and_state(monkeypatch, tmp_path)
    monkeypatch.setattr(uploading, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(results, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(files, "PROCESSING_PAUSE_S", 1e-3)
    monkeypatch.setattr(steps, "MISSING_FOR", timedelta(0))


def rules(fault: str) -> str:
    """Return a file that has the fault once, or for one line; and before it the one that it needs."""
    found = ""
    for name in filter(None, (WITH.get(fault), fault)):
        is_line = BATCH_FAULTS[name].at is At.LINE
        value = f"{name}=0.05" if name == "file-processing" else name
        match = 'match = "number 1"\n' if is_line else ""
        found += f'[[rules]]\nfault = "{value}"\n{match}times = 1\n'
    return found


def test_each_fault_is_in_a_table() -> None:
    """A fault that is added is tried by a run, unless no run meets it."""
    assert {*NEVER, *WITH, *CANCELLED, *AGAIN, *ENDS} <= {*BATCH_FAULTS}


@pytest.mark.parametrize("fault", sorted({*BATCH_FAULTS} - {*NEVER}))
def test_each_call_is_answered_under_each_fault(fault: str, tmp_path: Path) -> None:
    """Run again until nothing waits, each call has its picture, and is paid for once, unless no client could get its answer."""
    faults, out = tmp_path / "faults.toml", tmp_path / "jobs.out"
    faults.write_text(rules(fault))
    config = SimulatorConfig(
        tier="unlimited",
        pixels=16,
        latency_s=0.0,
        batch_turnaround_s=TURNAROUND_S,
        faults=faults,
    )
    path, code, ends = manifest(tmp_path, *JOBS), -1, ENDS.get(fault, 0)
    with simulator(config) as server:
        for number in range(MOST_RUNS):
            code = run(path, server, *BATCH)
            if number == 0 and fault in CANCELLED:
                cancel = ("--cancel", "--base-url", server.base_url)
                assert main(["batches", str(out), *cancel]) == 0
            if code == ends:
                break
            server.clock.advance(2 * A_DAY_S if fault == "stuck" else BETWEEN_RUNS_S)
        report = server.report()
    assert code == ends
    assert {*report["faults"]} == {*filter(None, (fault, WITH.get(fault)))}
    newest = {row["id"]: row["status"] for row in rows(out)}
    rejected = sum(status == "rejected" for status in newest.values())
    assert newest.keys() == {job["id"] for job in JOBS}
    assert (rejected, {*newest.values()} - {"rejected"}) == (fault in ENDS, {"succeeded"})
    assert Counter(each["batch"] for each in report["paid"]) == +Counter(
        {1: len(JOBS) - rejected - AGAIN.get(fault, 0), 2: AGAIN.get(fault, 0)}
    )
    left = {orjson.loads(note.read_bytes())["step"] for note in out.glob(NOTES)}
    assert left == ({"lost"} if fault in {"create-503", "vanished"} else set())


def test_a_picture_that_is_smaller_is_marked_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A picture of half the size that was asked for is kept, its row says so, and the run as well."""
    faults = tmp_path / "faults.toml"
    faults.write_text(rules("smaller"))
    path = manifest(tmp_path, *JOBS[:2])
    with simulator(SimulatorConfig(tier="unlimited", latency_s=0.0, faults=faults)) as server:
        assert run(path, server, "--route", "batch") == 5
        assert run(path, server) == 0
    assert {row["id"]: row["is_smaller"] for row in rows(tmp_path / "jobs.out")} == {
        "robot-0": False,
        "robot-1": True,
    }
    assert "1 picture is smaller than was asked for" in capsys.readouterr().err
