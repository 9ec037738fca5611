"""Runs as processes: signals, and a locked folder."""

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from gemini_batch.cli import main
from gemini_batch.simulator import Simulator
from tests.loopback.commands import (
    first_line,
    line_with,
    manifest,
    rows,
    run,
    started,
    use_key_and_state,
)
from tests.simulated import late_answers_held, simulator, wait_for_requests

IDS = [f"n{number}" for number in range(8)]
FAST = ("--rpm", "6000", "--rpd", "100000")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_key_and_state(monkeypatch, tmp_path)


def test_the_first_signal_drains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls in flight are completed and written; the next run sends only the rest."""
    cases = ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143))
    prompts = ["Late [[fault:late=0.01]]"] * 3 + ["At once"] * 5
    jobs = [{"id": id_, "prompt": prompt} for id_, prompt in zip(IDS, prompts, strict=True)]
    with ExitStack() as stack:
        release = stack.enter_context(late_answers_held(monkeypatch))
        runs = []
        for sent, code in cases:
            (tmp_path / sent.name).mkdir()
            path = manifest(tmp_path / sent.name, *jobs)
            server = stack.enter_context(simulator())
            process = started(path, server.base_url, "--concurrency", "3", *FAST)
            runs.append((process, path, server, sent, code))
        for process, _, server, sent, _ in runs:
            wait_for_requests(server, 3)
            process.send_signal(sent)
            assert "finishing 3 calls already paid for" in line_with(process, "stopping:")
        release()
        for process, path, server, _, code in runs:
            said = process.communicate(timeout=300)[1]
            assert process.returncode == code
            assert f"gemini_batch run {path}" in said.splitlines()[-1]
            assert [row["status"] for row in rows(path.with_suffix(".out"))] == ["succeeded"] * 3
            assert run(path, server) == 0
            assert sorted(row["id"] for row in rows(path.with_suffix(".out"))) == IDS
            assert len(server.audit.entries) == len(IDS)


def test_the_second_signal_abandons_and_the_next_run_names_what_may_be_billed(
    tmp_path: Path, server: Simulator
) -> None:
    """A second Ctrl-C ends the run at once, and reports what it may have cost."""
    path = manifest(tmp_path, {"id": "slow", "prompt": "Slow [[fault:late=600 x1]]"})
    process = started(path, server.base_url)
    first_line(process)
    wait_for_requests(server, 1)
    process.send_signal(signal.SIGINT)
    assert first_line(process) == (
        "stopping: interrupted; finishing 1 call already paid for; Ctrl-C again to abandon it\n"
    )
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 130
    assert "1 request failed without an answer and may have been billed" in said


def test_a_run_that_was_killed_is_reported_as_such(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """`status` shows that the last run has no end, and `verify` finds no fault with its rows."""
    path = manifest(
        tmp_path,
        {"id": "robot", "prompt": "A robot"},
        {"id": "cat", "prompt": "A cat [[fault:late=600]]"},
    )
    process = started(path, server.base_url, "--concurrency", "1", *FAST)
    wait_for_requests(server, 2)
    process.kill()
    process.communicate(timeout=300)
    assert main(["status", str(tmp_path / "jobs.out")]) == 0
    expected = f"last run of {path}: was killed; at its start 2 of 2 calls left"
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
        said = process.communicate(timeout=300)[1]
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "nothing was sent" not in said
    assert said.splitlines()[-1].startswith("run again to continue: ")


def test_a_second_run_on_one_folder_is_refused(
    tmp_path: Path,
    server: Simulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit 7 at once; the first run is named and undisturbed."""
    path = manifest(tmp_path, {"id": "slow", "prompt": "Slow [[fault:late=0.01]]"})
    with late_answers_held(monkeypatch):
        process = started(path, server.base_url)
        wait_for_requests(server, 1)
        assert run(path, server) == 7
        assert f"process {process.pid}" in capsys.readouterr().err
    process.communicate(timeout=300)
    assert process.returncode == 0
