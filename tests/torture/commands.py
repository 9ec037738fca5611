"""What the tests of this folder share: commands in this process, and what a person would have read."""

import io
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.cli import main
from gemini_batch.simulator import Simulator

KEY = "AIzaSy-a-key-that-must-never-be-seen-000"


@dataclass(frozen=True)
class Ended:
    """How a command ended, and its words."""

    code: int
    out: str
    err: str

    @property
    def is_clean(self) -> bool:
        """Whether it said something for a person, and no traceback."""
        words = self.out + self.err
        return self.code != 1 and "a bug in" not in words and "Traceback" not in words


def command(*arguments: str) -> Ended:
    """Carry out a command."""
    out, err = (
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)
    )
    with redirect_stdout(out), redirect_stderr(err):
        code = main(arguments)
    return Ended(code, *(each.buffer.getvalue().decode() for each in (out, err)))


def run(folder: Path, base_url: str, *flags: str) -> Ended:
    """Run the manifest of a folder, as fast as it goes."""
    pace = ("--rpm", "60000", "--rpd", "1000000", "--concurrency", "4")
    return command("run", str(folder / "jobs.jsonl"), "--base-url", base_url, *pace, *flags)


def write_jobs(folder: Path, number: int, **fields: Any) -> list[str]:
    """Write a manifest of so many jobs; return their ids."""
    ids = [f"n{index}" for index in range(number)]
    lines = [
        orjson.dumps({"id": call_id, "prompt": f"Number {call_id}"} | fields) + b"\n"
        for call_id in ids
    ]
    (folder / "jobs.jsonl").write_bytes(b"".join(lines))
    return ids


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return all rows of the manifest's output folder."""
    path = folder / "jobs.out/results.jsonl"
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def sent(server: Simulator) -> Iterator[str]:
    """Yield the call of each request that arrived: the last word of its prompt."""
    for entry in server.audit.entries:
        yield entry.prompt.split()[-1]
