"""Chains as a user meets them: plan, run, status, a question on a terminal, with a server that checks requests."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.simulator import Simulator
from tests.loopback.test_money import Terminal

KEY = "AIzaSy-a-key-that-must-never-be-seen-000"


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sheet, a scene of it, and a correction of that."""
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path / "state"))
    path = tmp_path / "jobs.jsonl"
    write(path)
    return path


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal for commands."""
    return Terminal(monkeypatch)


def write(path: Path, sheet: str = "A sheet") -> None:
    """Write the manifest."""
    jobs = (
        {"id": "sheet", "prompt": sheet},
        {"id": "scene", "prompt": "A scene", "images": ["job:sheet"]},
        {"id": "fix", "prompt": "By night", "images": ["job:scene"]},
    )
    path.write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in jobs))


def planned(path: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    """Return the plan as JSON."""
    capsys.readouterr()
    assert main(["plan", str(path), "--tier", "tier-1", "--json", *flags]) == 0
    found: dict[str, Any] = orjson.loads(capsys.readouterr().out)
    return found


def test_a_run_on_a_terminal_asks_about_stale_calls(
    manifest: Path,
    server: Simulator,
    terminal: Terminal,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """After a no they stay; after a yes they follow their parents; without a terminal there is no question."""
    command = ["run", str(manifest), "--base-url", server.base_url, "--rpm", "6000"]
    assert main(command) == 0
    write(manifest, "Another sheet")
    url = ("--base-url", server.base_url)
    found = planned(manifest, capsys, *url)
    assert (found["to_send"], found["stale"], found["depth"], found["held"]) == (1, 2, 3, {})
    code, shown = terminal.run(command, "n\n")
    assert (code, len(server.audit.entries)) == (0, 4)
    question = (
        "2 calls are stale: made with pictures that have been replaced since. Send again too? [y/N]"
    )
    assert question in shown
    code, shown = terminal.run([*command, "--yes"], "y\n")
    assert (code, len(server.audit.entries)) == (0, 4)
    assert question not in shown
    code, shown = terminal.run(command, "y\n")
    assert (code, len(server.audit.entries)) == (0, 6)
    assert planned(manifest, capsys, *url)["stale"] == 0


def test_plan_says_what_is_held(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In words and in numbers, before anything is sent: a part without its parents holds all below them."""
    found = planned(manifest, capsys, "--simulate", "--only", "fix")
    assert (found["to_send"], found["held"]) == (0, {"later": 1})
    assert main(["plan", str(manifest), "--tier", "tier-1", "--simulate", "--only", "fix"]) == 0
    words = capsys.readouterr().out
    assert "  held    1 for pictures of other calls (1 outside of this part)\n" in words
    assert main(["run", str(manifest), "--tier", "tier-1", "--simulate", "--only", "fix"]) == 4
    assert "1 held for pictures of other calls (1 outside of this part)" in capsys.readouterr().err
