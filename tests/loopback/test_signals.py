"""Runs as processes: signals, a locked folder, and the imports of `--help`."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from gemini_batch.cli import main
from gemini_batch.simulator import Simulator
from tests.loopback.commands import (
    ROOT,
    first_line,
    manifest,
    rows,
    run,
    started,
    use_key_and_state,
)
from tests.simulated import simulator, wait_for_requests

pytestmark = pytest.mark.loopback

Case = TypeVar("Case")

IDS = [f"n{number}" for number in range(8)]
FAST = ("--rpm", "6000", "--rpd", "100000")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_key_and_state(monkeypatch, tmp_path)


@contextmanager
def at_once(
    function: Callable[[Path, Simulator, Case], None], folder: Path, *cases: Case
) -> Iterator[list[tuple[Path, Simulator]]]:
    """Call the function for each case in a thread, with a folder and a simulator of its own."""
    folders = [folder / str(number) for number in range(len(cases))]
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        for each in folders:
            each.mkdir()
        servers = [stack.enter_context(simulator()) for _ in cases]
        list(pool.map(function, folders, servers, cases))
        yield list(zip(folders, servers, strict=True))


def test_the_first_signal_drains(tmp_path: Path) -> None:
    """Calls in flight are completed and written; the next run sends only the rest."""

    def drain(folder: Path, server: Simulator, case: tuple[signal.Signals, int]) -> None:
        sent, code = case
        prompts = ["Late [[fault:late=1]]"] * 3 + ["At once"] * 5
        jobs = [{"id": id_, "prompt": prompt} for id_, prompt in zip(IDS, prompts, strict=True)]
        path = manifest(folder, *jobs)
        process = started(path, server.base_url, "--concurrency", "3", *FAST)
        wait_for_requests(server, 3)
        process.send_signal(sent)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == code
        assert "finishing 3 calls already paid for" in said
        assert f"gemini_batch run {path}" in said.splitlines()[-1]
        assert [row["status"] for row in rows(folder / "jobs.out")] == ["succeeded"] * 3

    with at_once(drain, tmp_path, (signal.SIGINT, 130), (signal.SIGTERM, 143)) as drained:
        for folder, server in drained:
            assert run(folder / "jobs.jsonl", server) == 0
            assert sorted(row["id"] for row in rows(folder / "jobs.out")) == IDS
            assert len(server.audit.entries) == len(IDS)


def test_the_second_signal_abandons_and_the_next_run_names_what_may_be_billed(
    tmp_path: Path, server: Simulator
) -> None:
    """A second Ctrl-C ends the run at once, and reports what it may have cost."""
    path = manifest(tmp_path, {"id": "slow", "prompt": "Slow [[fault:late=30 x1]]"})
    process = started(path, server.base_url)
    first_line(process)
    wait_for_requests(server, 1)
    process.send_signal(signal.SIGINT)
    assert first_line(process) == (
        "stopping: interrupted; finishing 1 call already paid for; Ctrl-C again to abandon it\n"
    )
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "1 request failed without an answer and may have been billed" in said


def test_a_signal_that_comes_twice_at_once_is_one(tmp_path: Path) -> None:
    """A wrapper that passes on the signal of its group does not make the run abandon its calls."""

    def signal_twice(folder: Path, server: Simulator, sent: signal.Signals) -> None:
        path = manifest(folder, {"id": "late", "prompt": "Late [[fault:late=1 x1]]"})
        process = started(path, server.base_url)
        first_line(process)
        wait_for_requests(server, 1)
        process.send_signal(sent)
        assert "finishing 1 call already paid for" in first_line(process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert [row["status"] for row in rows(folder / "jobs.out")] == ["succeeded"]

    with at_once(signal_twice, tmp_path, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        pass


def test_a_run_that_was_killed_is_reported_as_such(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """`status` shows that the last run has no end, and `verify` finds no fault with its rows."""
    path = manifest(
        tmp_path,
        {"id": "robot", "prompt": "A robot"},
        {"id": "cat", "prompt": "A cat [[fault:late=30]]"},
    )
    process = started(path, server.base_url, "--concurrency", "1", *FAST)
    wait_for_requests(server, 2)
    process.kill()
    process.communicate(timeout=60)
    assert main(["status", str(tmp_path / "jobs.out")]) == 0
    expected = f"last run of {path}: still running, or killed; started with 2 of 2 left"
    assert expected in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "jobs.out")]) == 0


HANGS = """\
import asyncio
import socket
import threading

def hang(*_):
    print("asked", flush=True)
    threading.Event().wait()

async def close(loop, *_):
    print("closing", flush=True)
    await closed(loop)

socket.getaddrinfo = hang
closed = asyncio.BaseEventLoop.shutdown_default_executor
asyncio.BaseEventLoop.shutdown_default_executor = close
"""


def test_ctrl_c_again_and_again_ends_a_run_that_hangs(tmp_path: Path) -> None:
    """A name lookup that hangs holds a thread; the third Ctrl-C exits, with the last message."""
    path = manifest(tmp_path, {"id": "robot", "prompt": "A robot"})
    (tmp_path / "sitecustomize.py").write_text(HANGS)
    process = started(path, "https://example.invalid", PYTHONPATH=str(tmp_path))
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        first_line(process)
        process.send_signal(signal.SIGINT)
        assert "Ctrl-C again to abandon it" in first_line(process)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "closing\n"
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "nothing was sent" not in said
    assert said.splitlines()[-1].startswith("run again to continue: ")


def test_a_second_run_on_one_folder_is_refused(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 7 at once; the first run is named and undisturbed."""
    path = manifest(tmp_path, {"id": "slow", "prompt": "Slow [[fault:late=1]]"})
    process = started(path, server.base_url)
    wait_for_requests(server, 1)
    assert run(path, server) == 7
    assert f"process {process.pid}" in capsys.readouterr().err
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_help_imports_nothing_heavy() -> None:
    """`--help` and `import gemini_batch` load neither aiohttp nor pydantic nor rich."""
    code = (
        "import sys, contextlib, io\n"
        "from gemini_batch.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main(['run', '--help'])\n"
        "print(sorted({'aiohttp', 'pydantic', 'rich', 'PIL'} & set(sys.modules)))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stdout == "[]\n"
