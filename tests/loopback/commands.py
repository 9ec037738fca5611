"""Commands against a simulator, in this process or in one of their own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.simulator import Simulator

ROOT = Path(__file__).parents[2]
KEY = "AIzaSy-a-key-that-must-never-be-seen-000"


def use_key_and_state(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Set a key and a folder for the ledger, and no server."""
    monkeypatch.delenv("GEMINI_BATCH_BASE_URL", raising=False)
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(folder / "state"))


def manifest(folder: Path, *jobs: dict[str, Any]) -> Path:
    """Write a manifest of these jobs."""
    path = folder / "jobs.jsonl"
    path.write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in jobs))
    return path


def run(path: Path, server: Simulator, *flags: str) -> int:
    """Run a manifest in this process, as fast as possible."""
    limits = ["--rpm", "6000", "--rpd", "100000"]
    return main(["run", str(path), "--base-url", server.base_url, *limits, *flags])


def started(path: Path, base_url: str, *flags: str, **environment: str) -> subprocess.Popen[str]:
    """Start a run in a process of its own."""
    command = [sys.executable, "-m", "gemini_batch", "run", str(path), "--base-url", base_url]
    return subprocess.Popen(
        [*command, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"GEMINI_API_KEY": KEY} | environment,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    """Wait for the next line that the process writes to stderr."""
    assert process.stderr is not None
    return process.stderr.readline()


def line_with(process: subprocess.Popen[str], text: str) -> str:
    """Wait for the first line on stderr that has the text."""
    assert process.stderr is not None
    return next(line for line in process.stderr if text in line)


def rows(out: Path) -> list[dict[str, Any]]:
    """Return all rows of an output folder."""
    return [orjson.loads(line) for line in (out / "results.jsonl").read_bytes().splitlines()]
