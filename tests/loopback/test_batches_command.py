"""`batches`, `status` and `plan` with open batches, against the simulator over real sockets."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.simulator import Simulator, SimulatorConfig
from tests.loopback.commands import KEY, manifest, rows, run, use_key_and_state
from tests.simulated import simulator

pytestmark = pytest.mark.loopback

SLOW = SimulatorConfig(tier="unlimited", pixels=16, latency_s=0.0, batch_turnaround_s=3600.0)
JOBS: tuple[dict[str, Any], ...] = tuple(
    {"id": f"robot-{number}", "prompt": f"A robot number {number}"} for number in range(5)
)
BATCH = ("--route", "batch", "--batch-lines", "3", "--quiet")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_key_and_state(monkeypatch, tmp_path)


def asked(capsys: pytest.CaptureFixture[str], *command: str) -> dict[str, Any]:
    """Run a command with `--json`, and return what it prints."""
    capsys.readouterr()
    assert main([*command, "--json"]) in {0, 5, 6}
    found: dict[str, Any] = orjson.loads(capsys.readouterr().out)
    return found


def paid(server: Simulator) -> set[tuple[int, int]]:
    """Return how often calls were paid for: by single requests, in batches."""
    return {(each["interactive"], each["batch"]) for each in server.report()["paid"]}


def test_open_batches_are_listed_without_a_server_or_a_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`batches` and `status` show what the last run saw; a folder without batches has none."""
    path, out = manifest(tmp_path, *JOBS), str(tmp_path / "jobs.out")
    with simulator(SLOW) as server:
        assert run(path, server, *BATCH) == 5
        assert run(path, server, *BATCH) == 5  # its first look at them
    monkeypatch.delenv("GEMINI_API_KEY")
    found = asked(capsys, "batches", out)
    assert (found["waiting"], len(found["batches"])) == (5, 2)
    assert [(each["calls"], each["waiting"]) for each in found["batches"]] == [(3, 3), (2, 2)]
    for each in found["batches"]:
        assert each["name"].startswith("batches/")
        assert each["state"] in {"PENDING", "RUNNING"}
        assert (each["model"], each["step"]) == ("gemini-3-pro-image-preview", "created")
        assert each["endpoint"] == server.base_url
    assert found["committed_usd"] == pytest.approx(
        sum(e["committed_usd"] for e in found["batches"])
    )
    assert asked(capsys, "status", out)["batches"] == found["batches"]
    assert main(["batches", out]) == main(["status", out]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{out}: 5 calls wait in 2 batches, about $0.3")
    name = found["batches"][0]["name"]
    assert said[1].startswith(f"  {name}  ")
    assert "3 of 3 calls wait" in said[1]
    assert [line for line in said if line.startswith("  waiting: batches/")]


def test_a_folder_without_batches(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is open in it, and there is nothing to cancel."""
    path, out = manifest(tmp_path, JOBS[0]), str(tmp_path / "jobs.out")
    assert run(path, server, "--quiet") == 0
    assert main(["batches", out]) == 0
    assert main(["batches", out, "--cancel", "--base-url", server.base_url]) == 0
    assert capsys.readouterr().out.count("no open batches") == 2
    assert asked(capsys, "status", out)["batches"] == []
    assert main(["batches", str(tmp_path / "nowhere")]) == 3
    assert "is not a folder" in capsys.readouterr().err


def test_a_cancelled_batch_is_collected_and_its_rest_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server is asked once; the next run takes what there is, and sends what is left."""
    path, out = manifest(tmp_path, *JOBS), str(tmp_path / "jobs.out")
    with simulator(SLOW) as server:
        assert run(path, server, *BATCH) == 5
        found = asked(capsys, "batches", out, "--cancel", "--base-url", server.base_url)
        assert [each["ending"] for each in found["batches"]] == ["asked", "asked"]
        assert all(each["cancelled_at"] for each in found["batches"])
        assert all(each["cancelled_at"] for each in asked(capsys, "batches", out)["batches"])
        assert run(path, server, "--quiet") == 0
        assert paid(server) == {(1, 0)}
        assert {row["status"] for row in rows(tmp_path / "jobs.out")} == {"failed", "succeeded"}
    assert asked(capsys, "batches", out)["batches"] == []


def test_a_batch_that_has_ended_is_not_cancelled(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says so, and the next run collects it."""
    path, out = manifest(tmp_path, *JOBS[:2]), str(tmp_path / "jobs.out")
    assert run(path, server, *BATCH) == 5
    assert main(["batches", out, "--cancel", "--base-url", server.base_url]) == 0
    assert "has ended already" in capsys.readouterr().out
    assert run(path, server, "--quiet") == 0
    assert paid(server) == {(0, 1)}


def test_a_batch_of_another_key_is_given_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calls are sent again by the next run, which says that it may have been billed."""
    path, out = manifest(tmp_path, *JOBS[:2]), str(tmp_path / "jobs.out")
    with simulator(SLOW) as server:
        assert run(path, server, *BATCH) == 5
        monkeypatch.setenv("GEMINI_API_KEY", f"{KEY}-of-another-project")
        assert run(path, server, *BATCH) == 6
        said = capsys.readouterr().err
        assert "was made with another key" in said
        assert f"batches {out} --cancel" in said or "batches OUT --cancel" in said
        assert main(["batches", out, "--cancel", "--base-url", server.base_url]) == 0
        assert "is given up" in capsys.readouterr().out
        assert run(path, server) == 0
        assert "may have been billed" in capsys.readouterr().err
        assert run(path, server, "--quiet") == 0
    assert asked(capsys, "batches", out)["batches"] == []


def test_a_batch_elsewhere_is_left_alone(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the server that made a batch can end it."""
    path, out = manifest(tmp_path, *JOBS[:2]), str(tmp_path / "jobs.out")
    assert run(path, server, *BATCH) == 5
    assert main(["batches", out, "--cancel", "--base-url", "http://127.0.0.1:9"]) == 5
    assert f"was made at {server.base_url}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fault", "ending"), [("create-503-after,list-lag", "not found"), ("create-503-after", "asked")]
)
def test_a_batch_whose_creation_was_not_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str, ending: str
) -> None:
    """It is cancelled once the list shows it; until then it is not given up."""
    names = [f'[[rules]]\nfault = "{each}"\n' for each in fault.split(",")]
    (tmp_path / "faults.toml").write_text("".join(names))
    path, out = manifest(tmp_path, *JOBS[:2]), str(tmp_path / "jobs.out")
    config = SimulatorConfig(
        tier="unlimited", pixels=16, batch_turnaround_s=3600.0, faults=tmp_path / "faults.toml"
    )
    with simulator(config) as server:
        assert run(path, server, *BATCH) == 5
        command = ["batches", out, "--cancel", "--base-url", server.base_url]
        found = asked(capsys, *command)
        assert [each["ending"] for each in found["batches"]] == [ending]
        assert main(command) == (5 if ending == "not found" else 0)
        assert paid(server) <= {(0, 0)}


def test_plan_shows_both_routes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`cost_usd` is the price of the route asked for; the other one stands next to it."""
    jobs = [
        {"id": f"robot-{number}", "prompt": "A robot", "image_size": "4K"} for number in range(65)
    ]
    path = manifest(tmp_path, *jobs)
    command = ("plan", str(path), "--tier", "tier-1")
    single, batch = asked(capsys, *command), asked(capsys, *command, "--route", "batch")
    for found in (single, batch):
        assert found["routes"]["batch"]["cost_usd"] == batch["cost_usd"]
        assert found["routes"]["interactive"]["cost_usd"] == single["cost_usd"]
    assert batch["cost_usd"] == pytest.approx(single["cost_usd"] / 2)
    assert single["routes"]["interactive"]["sending_s"] == single["sending_s"]
    assert asked(capsys, *command, "--route", "auto")["cost_usd"] == single["cost_usd"]
    (model,) = batch["routes"]["batch"]["models"]
    assert model == {
        "model": "gemini-3-pro-image-preview",
        "batches": 3,  # of 30 images of 4K, for a file of results has about 1 GB
        "input_tokens": single["input_tokens"],
        "enqueued_tokens": 2_000_000,
    }
    assert main([*command, "--batch-lines", "5"]) == 0
    said = capsys.readouterr().out
    assert f"  batch   ${batch['cost_usd']:.2f}, 13 batches, within 24 hours" in said
    assert main([*command, "--route", "batch"]) == 0
    said = capsys.readouterr().out
    assert f"  cost    ${batch['cost_usd']:.2f} at list price of batches" in said
    assert f"  single  ${single['cost_usd']:.2f}, as fast as the quota" in said


def test_plan_names_no_price_that_there_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model without a price for batches has one route in the plan."""
    path = manifest(tmp_path, *JOBS[:1])
    for flags in (["--model", "other"], []):
        assert main(["plan", str(path), *flags]) == 0
        assert ("(--route batch)" in capsys.readouterr().out) == (not flags)
    found = asked(capsys, "plan", str(path), "--model", "other")
    assert found["routes"]["batch"]["cost_usd"] is None
