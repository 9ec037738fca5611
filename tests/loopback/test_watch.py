"""The display of a run on a real pseudo-terminal, and in a log, over real HTTP."""

import asyncio
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.errors import StorageError
from gemini_batch.progress.run_state import Sample
from gemini_batch.progress.watch import sampled, suits_live
from gemini_batch.simulator import Simulator, SimulatorConfig
from tests.simulated import simulator, wait_for_requests
from tests.unit.progress.conftest import in_utc

__all__ = ["in_utc"]

pytestmark = [pytest.mark.loopback, pytest.mark.slow]


class Tty(io.StringIO):
    """A terminal of some encoding."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """Return True."""
        return True


class Ascii(Tty):
    encoding = "ascii"


@pytest.mark.parametrize(
    ("stream", "environment", "is_live"),
    [
        (Tty(), {"TERM": "xterm"}, True),
        (Tty(), {"TERM": "xterm", "CI": "false", "NO_COLOR": "1"}, True),
        (Tty(), {"TERM": "xterm", "CI": "true"}, False),
        (Tty(), {"TERM": "xterm", "CI": "1"}, False),
        (Tty(), {"TERM": "dumb"}, False),
        (Tty(), {}, False),
        (Ascii(), {"TERM": "xterm"}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
        (None, {"TERM": "xterm"}, False),
    ],
)
def test_only_an_interactive_terminal_gets_the_live_view(
    *, stream: io.StringIO | None, environment: Mapping[str, str], is_live: bool
) -> None:
    """Not a pipe, a dumb terminal, a CI, or a terminal that cannot show the bar."""
    assert suits_live(stream, environment) == is_live


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "AIzaSy-a-key-that-must-never-be-seen-000")
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("CI", raising=False)


class Seat:
    """A terminal with one command running."""

    def __init__(self, *arguments: str, columns: int = 80, lines: int = 24) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        # As started by a login shell: keys become signals.
        code = (
            "import os, sys; os.login_tty(0); from gemini_batch.cli import main; sys.exit(main())"
        )
        program = [sys.executable, "-c", code, *arguments]
        self.process = subprocess.Popen(program, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self.shown = ""

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    def wait_for(self, text: str) -> None:
        """Read until the text is shown."""
        while text not in self.shown:
            self.shown += os.read(self._ours, 1 << 16).decode(errors="replace")

    def end(self) -> int:
        """Read until the end; return the exit code."""
        try:
            while data := os.read(self._ours, 1 << 16):
                self.shown += data.decode(errors="replace")
        except OSError:
            pass  # the other end is closed
        os.close(self._ours)
        return self.process.wait(30)

    @property
    def text(self) -> str:
        """All output, without colours and cursor movements."""
        return re.sub(r"\x1b\[[\d;]*[A-Za-z]", "", self.shown).replace("\r\n", "\n")


def manifest(folder: Path, number: int, prompt: str = "A robot", name: str = "jobs") -> Path:
    """Write a manifest of so many jobs."""
    path = folder / f"{name}.jsonl"
    path.write_bytes(
        b"".join(
            orjson.dumps({"id": f"n{index}", "prompt": prompt}) + b"\n" for index in range(number)
        )
    )
    return path


def test_a_run_on_a_terminal_is_one_view_and_a_short_end(tmp_path: Path) -> None:
    """The view has bar, cost and quota; at the end counts, cost, folder and gallery replace it."""
    path = manifest(tmp_path, 4)
    with simulator(SimulatorConfig(tier="unlimited", pixels=16, latency_s=1.0)) as server:
        flags = ("--base-url", server.base_url, "--rpm", "60", "--rpd", "500", "--concurrency", "2")
        seat = Seat("run", str(path), *flags, columns=200)
        assert seat.end() == 0
    assert re.search(r"━+─+ +[1-3] of 4 +\d\d %", seat.text)
    assert re.search(r"requests a day +[━─]+ +\d of 500 · resets", seat.text)
    assert "waiting for 2 answers" in seat.text
    end = seat.text[seat.text.rindex(" done in ") :].splitlines()
    assert end[1] == " calls   4 succeeded"
    assert end[2].startswith(" cost    $0.")
    assert ", estimated $0.5" in end[2]
    assert end[3:] == [
        f" images  {tmp_path}/jobs.out/images",
        f" view    python -m gemini_batch gallery {tmp_path}/jobs.out",
    ]


def test_ctrl_c_on_a_terminal_is_answered_and_a_second_one_abandons(tmp_path: Path) -> None:
    """The first completes the calls in flight; the second abandons them, and the end names the risk."""
    with simulator(SimulatorConfig(tier="unlimited", pixels=16, latency_s=60.0)) as server:
        seat = Seat(
            "run",
            str(manifest(tmp_path, 8)),
            "--base-url",
            server.base_url,
            "--concurrency",
            "3",
            "--rpm",
            "6000",
        )
        wait_for_requests(server, 3)
        seat.press("\x03")
        seat.wait_for("finishing 3 calls already paid for; Ctrl-C again to abandon them")
        seat.press("\x03")
        assert seat.end() == 130
    assert "3 requests failed without an answer and may have been billed" in seat.text
    assert seat.text.splitlines()[-2] == " next    run again to continue:"
    assert seat.text.splitlines()[-1].startswith(" python -m gemini_batch run ")


def test_every_line_of_a_json_log_is_an_object(
    tmp_path: Path, server: Simulator, capfd: pytest.CaptureFixture[str]
) -> None:
    """A run, and one that could not start: every line on stderr can be parsed."""
    path = manifest(tmp_path, 2)
    flags = ["--base-url", server.base_url, "--rpm", "6000", "--log-format", "json"]
    assert main(["run", str(path), *flags]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == [
        "run_started",
        "call_finished",
        "call_finished",
        "run_ended",
    ]
    path.write_text('{"promt": "x"}\n{"prompt": 7}\n')
    assert main(["run", str(path), *flags]) == 3
    errors = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert {(line["event"], line["exit_code"]) for line in errors} == {("error", 3)}
    assert len(errors) >= 2


def test_a_json_log_of_a_quiet_run_that_went_well_is_empty(
    tmp_path: Path, server: Simulator, capfd: pytest.CaptureFixture[str]
) -> None:
    """Only what requires action is logged."""
    path = manifest(tmp_path, 1)
    flags = ["--base-url", server.base_url, "--rpm", "6000", "--log-format", "json", "--quiet"]
    assert main(["run", str(path), *flags]) == 0
    assert capfd.readouterr() == ("", "")


def test_a_path_with_an_escape_sequence_is_escaped(
    tmp_path: Path, server: Simulator, capfd: pytest.CaptureFixture[str]
) -> None:
    """No command and no error writes it unchanged."""
    path, escaped = manifest(tmp_path, 1, name="a\x1b[2J[red]b"), "a\\x1b[2J[red]b"
    out = path.with_suffix(".out")
    commands = [
        ["plan", str(path)],
        ["run", str(path), "--base-url", server.base_url, "--rpm", "6000"],
        ["status", str(out)],
        ["verify", str(out)],
        ["gallery", str(out)],
    ]
    for command in commands:
        assert main(command) == 0
        shown = "".join(capfd.readouterr())
        assert escaped in shown
        assert "\x1b" not in shown
    path.write_text('{"prompt": 7}\n')
    assert main(commands[0]) == 3
    assert f"{escaped}.jsonl:1: prompt" in capfd.readouterr().err


def test_a_ledger_that_can_t_be_read_costs_the_gauges_and_not_the_run() -> None:
    """The view may fail; calls in flight do not."""
    seen: list[object] = []
    updated = asyncio.Event()

    class Watched:
        every_s = 0.001

        def update(self, sample: object) -> None:
            seen.append(sample)
            updated.set()
            raise ZeroDivisionError

    class Asked:
        in_flight = 3

        async def used(self) -> dict[str, object]:
            raise StorageError("gone")

    async def scenario() -> str:
        async with sampled(Asked(), Watched()):  # type: ignore[arg-type]
            async with asyncio.timeout(10):
                await updated.wait()
            await asyncio.sleep(0)
        return "ended"

    assert asyncio.run(scenario()) == "ended"
    assert seen == [Sample(3, {})]


def test_what_a_run_raises_comes_out_as_it_is() -> None:
    """The errors of a run keep their type: they are not in a group."""

    class Watched:
        every_s = 60.0

    async def scenario() -> None:
        async with sampled(object(), Watched()):  # type: ignore[arg-type]
            raise StorageError("the disk is full")

    with pytest.raises(StorageError, match="the disk is full"):
        asyncio.run(scenario())
