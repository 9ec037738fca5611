"""Models from the command line: states, successors, what they refuse, and levels of thinking."""

from pathlib import Path

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.simulator import Simulator, SimulatorConfig
from tests.loopback.commands import manifest, rows, run, use_key_and_state
from tests.simulated import simulator

pytestmark = pytest.mark.loopback

PREVIEW, PRO, NANO = "gemini-3-pro-image-preview", "gemini-3-pro-image", "gemini-nano-banana-2.1"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_key_and_state(monkeypatch, tmp_path)


def test_a_default_model_that_is_gone_costs_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All images are there, the run says once why another model drew them, and nothing is left."""
    path = manifest(tmp_path, *({"id": f"r{number}", "prompt": "A robot"} for number in range(6)))
    config = SimulatorConfig(tier="unlimited", latency_s=0, pixels=32, rates={"404-gone": 1.0})
    with simulator(config) as server:
        assert run(path, server) == 0
        said = capsys.readouterr().err
        assert said.count(f"The run continues with its successor {PRO}\n") == 1
        assert {row["model"] for row in rows(tmp_path / "jobs.out")} == {PRO}
        sent = len(server.audit.entries)
        assert run(path, server, "--model", PRO) == 0
        assert len(server.audit.entries) == sent
        assert main(["plan", str(path), "--base-url", server.base_url, "--model", PRO]) == 0
        done = "6 calls were done by another id of the same model, and will not be sent again"
        assert f"  model   {done}\n" in capsys.readouterr().out
        path.write_bytes(b'{"id": "new", "prompt": "A robot"}\n')
        assert run(path, server, "--model", PREVIEW) == 6
        assert f"--model {PRO}" in capsys.readouterr().err


def test_state_and_successor_are_named_before_anything_is_sent(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once for each model that will not stay, by plan and by run; when all is done, nothing is said."""
    models = [PREVIEW, PREVIEW, "gemini-2.5-flash-image", NANO]
    jobs = ({"id": f"r{n}", "prompt": "A robot", "model": m} for n, m in enumerate(models))
    path = manifest(tmp_path, *jobs)
    words = [
        f"{PREVIEW} was shut down on 2026-06-25 (it may still be answered); its successor is {PRO}",
        "gemini-2.5-flash-image has been deprecated since 2026-09-18 ",
    ]
    assert main(["plan", str(path), "--base-url", server.base_url]) == 0
    planned = capsys.readouterr().out
    assert run(path, server) == 0
    told = capsys.readouterr().err
    for text in (planned, told):
        assert [text.count(each) for each in words] == [1, 1]
    assert all(each in told.splitlines()[0] for each in ("4 calls to send", *words))
    assert main(["plan", str(path), "--base-url", server.base_url, "--json"]) == 0
    assert orjson.loads(capsys.readouterr().out)["models"] == []
    assert run(path, server) == 0
    assert "successor" not in capsys.readouterr().err


def test_the_plan_says_state_and_successor_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each entry has both; null for a model that is not known."""
    jobs = ({"prompt": "A robot", "model": model} for model in (PREVIEW, NANO, "gemini-9-image"))
    assert main(["plan", str(manifest(tmp_path, *jobs)), "--json"]) == 0
    found = orjson.loads(capsys.readouterr().out)["models"]
    assert {each["model"]: (each["state"], each["successor"]) for each in found} == {
        PREVIEW: ("shut_down", PRO),
        NANO: ("stable", None),
        "gemini-9-image": (None, None),
    }


@pytest.mark.parametrize("command", ["plan", "run"])
def test_what_a_model_refuses_ends_with_3(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Every line is named, and nothing is sent."""
    path = manifest(
        tmp_path,
        {"prompt": "A robot", "model": NANO, "seed": 1},
        {"prompt": "A robot", "model": NANO, "thinking": "high"},
        {"prompt": "A robot", "thinking": "low"},
    )
    assert main([command, str(path), "--base-url", server.base_url]) == 3
    assert capsys.readouterr().err.splitlines()[:2] == [
        f"gemini-batch: {path}:1: seed: {NANO} refuses it: leave it out",
        f'gemini-batch: {path}:3: thinking: got "low"; {PREVIEW} offers no level: leave it out for the model\'s own',
    ]
    assert not server.audit.entries


def test_every_level_and_size_of_the_newest_model_is_taken(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a budget; the row says the level, and the bill is near the plan, which learns from it."""
    jobs = [
        {"prompt": "A robot", "model": NANO, "thinking": level, "image_size": size}
        for level in ("minimal", "medium", "high", None)
        for size in ("1K", "2K", "4K")
    ]
    path = manifest(tmp_path, *jobs)
    assert run(path, server, "--max-cost", "20", "--json") == 0
    summary = orjson.loads(capsys.readouterr().out)["this_run"]
    assert summary["cost_usd"] == pytest.approx(summary["estimated_cost_usd"], rel=0.10)
    assert sorted(str(row["thinking"]) for row in rows(tmp_path / "jobs.out")) == sorted(
        3 * ["minimal", "medium", "high", "None"]
    )
    assert {row["status"] for row in rows(tmp_path / "jobs.out")} == {"succeeded"}


def test_the_free_tier_is_said_to_have_no_images(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plan, run and the error of a project without quota say what is true, and the run ends with 6."""
    path = manifest(tmp_path, {"prompt": "A robot [[fault:429-zero]]"})
    assert main(["plan", str(path), "--tier", "free"]) == 0
    assert "(image models have no free quota: the project needs billing)" in capsys.readouterr().out
    assert run(path, server, "--tier", "free") == 6
    said = capsys.readouterr().err
    assert "(image models have no free quota: the project needs billing)" in said
    assert "image models have no free quota: set up billing at https://aistudio" in said
    assert orjson.loads((tmp_path / "jobs.out/summary.json").read_bytes())["needs_person"] is True
