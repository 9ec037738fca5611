"""Budgets and confirmations, over real HTTP and on a real pseudo-terminal."""

import os
import pty
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from gemini_batch.cli import given, main
from gemini_batch.simulator import Simulator

pytestmark = pytest.mark.loopback


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


@dataclass
class Terminal:
    """A pseudo-terminal as standard input and error, and what it shows."""

    monkeypatch: pytest.MonkeyPatch

    def run(self, arguments: list[str], typed: str, piped: bytes | None = None) -> tuple[int, str]:
        """Run a command in this process with this input; return its exit code and the output.

        What is `piped` is standard input, and the terminal is another one.
        """
        ours, theirs = pty.openpty()
        if piped is None:
            into = os.dup(theirs)
        else:
            into, end = os.pipe()
            os.write(end, piped)
            os.close(end)
        shown = bytearray()

        def read() -> None:
            with suppress(OSError):  # the other end is closed
                while data := os.read(ours, 1 << 16):
                    shown.extend(data)

        reader = threading.Thread(target=read)
        reader.start()
        os.write(ours, typed.encode())
        with (
            self.monkeypatch.context() as patch,
            os.fdopen(into, "r") as stdin,
            os.fdopen(theirs, "w") as stderr,
        ):
            patch.setattr("sys.stdin", stdin)
            patch.setattr("sys.stderr", stderr)
            patch.setattr(given, "TERMINAL", os.ttyname(theirs))
            code = main(arguments)
        reader.join(10)
        os.close(ours)
        return code, shown.decode(errors="replace")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal for commands."""
    return Terminal(monkeypatch)


def test_a_run_ends_before_its_budget_is_passed(
    command: list[str], tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """As many calls as fit are sent, the run exits with 5 and says why; a larger budget continues."""
    assert main([*command, "--max-cost", "0.60"]) == 5
    summary = orjson.loads((tmp_path / "jobs.out/summary.json").read_bytes())
    assert summary["this_run"]["sent"] == len(server.audit.entries) == 4
    assert 0.5 < summary["this_run"]["cost_usd"] <= 0.60
    assert summary["stops"][0]["reason"] == "budget"
    said = capsys.readouterr().err.splitlines()
    assert any("the budget of $0.600 has $0.0" in line for line in said)
    assert said[-1].endswith(
        f"{command[1]} --base-url {server.base_url} --rpm 6000 --max-cost 0.60"
    )

    assert main([*command, "--max-cost", "5"]) == 0
    assert len(server.audit.entries) == 10


def test_a_budget_needs_prices(
    command: list[str], server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a price no budget can be kept: nothing is sent, and the message says what to do."""
    assert main([*command, "--model", "gemini-9-image", "--max-cost", "5"]) == 3
    assert capsys.readouterr().err == (
        'gemini-batch: --max-cost: the price of gemini-9-image at 1K is unknown: set it in [prices."gemini-9-image"] of a '
        "--config file, or run without --max-cost\n"
    )
    assert not server.audit.entries


def test_an_expensive_run_asks_for_confirmation(
    command: list[str], server: Simulator, terminal: Terminal
) -> None:
    """On a terminal it waits for a yes; anything else sends nothing and exits with 5."""
    code, shown = terminal.run([*command, "--confirm-above", "1"], "n\n")
    assert (code, len(server.audit.entries)) == (5, 0)
    assert "10 calls to send, up to about $1.38 at list price. Continue? [y/N]" in shown
    assert "nothing was sent; to send it: python -m gemini_batch run" in shown
    assert "--yes" in shown

    code, shown = terminal.run([*command, "--confirm-above", "1"], "\4")
    assert (code, len(server.audit.entries)) == (5, 0)
    assert "\nnothing was sent" in shown

    code, _ = terminal.run([*command, "--confirm-above", "1"], "y\n")
    assert (code, len(server.audit.entries)) == (0, 10)


def test_an_expensive_run_of_standard_input_asks_at_the_terminal(
    command: list[str], tmp_path: Path, server: Simulator, terminal: Terminal
) -> None:
    """A manifest that is piped in is no answer, and no reason not to ask."""
    piped = (tmp_path / "jobs.jsonl").read_bytes()
    piping = [command[0], "-", "--out", str(tmp_path / "o"), *command[2:], "--confirm-above", "1"]
    code, shown = terminal.run(piping, "n\n", piped)
    assert (code, len(server.audit.entries)) == (5, 0)
    assert "10 calls to send, up to about $1.38 at list price. Continue? [y/N]" in shown
    code, _ = terminal.run(piping, "y\n", piped)
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
def test_other_runs_do_not_ask(
    command: list[str], server: Simulator, terminal: Terminal, flags: list[str]
) -> None:
    """A run below the threshold, with a budget below it, or with `--yes`, starts at once."""
    code, shown = terminal.run([*command, *flags], "n\n")
    assert code in {0, 5}
    assert server.audit.entries
    assert "Continue?" not in shown


def test_rows_that_are_gone_are_paid_for_only_knowingly(
    command: list[str],
    tmp_path: Path,
    server: Simulator,
    terminal: Terminal,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A quiet run ends with 8 and says what to do; on a terminal it asks; --adopt-images makes all done at no cost, --forget pays."""
    assert main(command) == 0
    rows = tmp_path / "jobs.out/results.jsonl"
    rows.unlink()
    capsys.readouterr()
    assert main([*command, "--quiet", "--yes"]) == 8
    said = capsys.readouterr().err
    assert f"{rows}: is gone, and had " in said
    assert "10 calls would be sent, and paid for, of which 10 have their images in " in said
    assert "--adopt-images" in said
    assert "--forget" in said
    code, shown = terminal.run(command, "no\n")
    assert (code, len(server.audit.entries)) == (8, 10)
    assert "[adopt/forget/N]" in shown
    code, _ = terminal.run(command, "adopt\n")
    assert (code, len(server.audit.entries)) == (0, 10)
    assert main(["verify", str(tmp_path / "jobs.out")]) == 0
    rows.unlink()
    assert main([*command, "--forget"]) == 0
    assert len(server.audit.entries) == 20


def test_one_flag_at_most_decides(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The two answers exclude each other."""
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--forget", "--adopt-images"])
    assert "not allowed with" in capsys.readouterr().err


def test_an_unknown_price_asks_for_confirmation(
    command: list[str], server: Simulator, terminal: Terminal
) -> None:
    """An unknown cost is not 0: the user decides."""
    code, shown = terminal.run([*command, "--model", "gemini-9-image"], "\n")
    assert (code, len(server.audit.entries)) == (5, 0)
    assert "10 calls to send, cost unknown. Continue? [y/N]" in shown


def test_without_a_terminal_nothing_is_asked(command: list[str], server: Simulator) -> None:
    """A cron job never waits for an answer."""
    assert main([*command, "--confirm-above", "0.01"]) == 0
    assert len(server.audit.entries) == 10
