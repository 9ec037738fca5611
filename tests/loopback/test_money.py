"""What a run may cost, as a person sets it: over real HTTP, and on a real pseudo-terminal."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.simulator import Simulator
from tests.simulated import simulator

pytestmark = pytest.mark.loopback


@pytest.fixture
def server() -> Iterator[Simulator]:
    """A simulator that answers at once."""
    with simulator() as running:
        yield running


@pytest.fixture
def command(tmp_path: Path, server: Simulator, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments of a run of ten calls, about $1.34."""
    monkeypatch.setenv("GEMINI_API_KEY", "AIzaSy-a-key-that-must-never-be-seen-000")
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path / "state"))
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(
        b"".join(orjson.dumps({"id": f"robot-{n}", "prompt": "A robot"}) + b"\n" for n in range(10))
    )
    return ["run", str(path), "--base-url", server.base_url, "--rpm", "6000"]


def on_terminal(arguments: list[str], typed: str) -> tuple[int, str]:
    """Run the command as one at a terminal, who types this; return the exit code and what the terminal shows."""
    ours, theirs = pty.openpty()
    program = [sys.executable, "-m", "gemini_batch", *arguments]
    with subprocess.Popen(program, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        shown = bytearray()
        try:
            while data := os.read(ours, 1 << 16):
                shown += data
        except OSError:
            pass  # the other end is closed
        code = process.wait(30)
    os.close(ours)
    return code, shown.decode(errors="replace")


def test_a_run_ends_before_its_budget_is_passed(
    command: list[str], tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """The budget pays for as many calls as fit, the run ends with 5 and says why, and the same command again goes on."""
    assert main([*command, "--max-cost", "0.60"]) == 5
    summary = orjson.loads((tmp_path / "jobs.out/summary.json").read_bytes())
    assert summary["this_run"]["sent"] == len(server.audit.entries) == 4
    assert 0.5 < summary["this_run"]["cost_usd"] <= 0.60
    assert summary["stops"][0]["reason"] == "budget"
    words = capsys.readouterr().err.splitlines()
    assert any("the budget of $0.60 has $0.0" in line for line in words)
    assert words[-1].endswith(
        f"{command[1]} --base-url {server.base_url} --rpm 6000 --max-cost 0.60"
    )

    assert main([*command, "--max-cost", "5"]) == 0
    assert len(server.audit.entries) == 10


def test_a_budget_needs_prices(
    command: list[str], server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a price is not known no budget can be held: nothing is sent, and the message says what to do."""
    assert main([*command, "--model", "gemini-9-image", "--max-cost", "5"]) == 3
    assert capsys.readouterr().err == (
        'gemini_batch: --max-cost: what gemini-9-image costs at 1K is not known: give its price in [prices."gemini-9-image"] of a '
        "--config file, or run without --max-cost\n"
    )
    assert not server.audit.entries


def test_a_person_is_asked_before_a_dear_run(command: list[str], server: Simulator) -> None:
    """On a terminal a run above the limit waits for a yes; anything else sends nothing, ends with 5 and says how to go on."""
    code, shown = on_terminal([*command, "--confirm-above", "1"], "n\n")
    assert (code, len(server.audit.entries)) == (5, 0)
    assert "10 calls to send, up to about $1.34 at list price. Continue? [y/N]" in shown
    assert f"nothing was sent; to send it: {sys.executable} -m gemini_batch run" in shown
    assert "--yes" in shown

    code, shown = on_terminal([*command, "--confirm-above", "1"], "\4")
    assert (code, len(server.audit.entries)) == (5, 0)
    assert "\nnothing was sent" in shown

    code, _ = on_terminal([*command, "--confirm-above", "1"], "y\n")
    assert (code, len(server.audit.entries)) == (0, 10)


@pytest.mark.parametrize(
    "flags",
    [
        ["--confirm-above", "2"],
        ["--confirm-above", "1", "--yes"],
        ["--confirm-above", "1", "--max-cost", "0.9"],
        [],
    ],
)
def test_nobody_is_asked_without_need(
    command: list[str], server: Simulator, flags: list[str]
) -> None:
    """A run below the limit, or with a budget below it, or with `--yes`, begins at once."""
    code, shown = on_terminal([*command, *flags], "n\n")
    assert code in {0, 5}
    assert server.audit.entries
    assert "Continue?" not in shown


def test_an_unknown_price_is_asked_about(command: list[str], server: Simulator) -> None:
    """Cost unknown is never 0: a person decides."""
    code, shown = on_terminal([*command, "--model", "gemini-9-image"], "\n")
    assert (code, len(server.audit.entries)) == (5, 0)
    assert "10 calls to send, cost unknown. Continue? [y/N]" in shown


def test_without_a_terminal_nobody_is_asked(command: list[str], server: Simulator) -> None:
    """A cron job never waits for an answer."""
    program = [sys.executable, "-m", "gemini_batch", *command, "--confirm-above", "0.01"]
    done = subprocess.run(
        program, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, len(server.audit.entries)) == (0, 10)
