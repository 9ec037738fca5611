"""A manifest, its output folder, and commands on it in processes that can be killed."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Desk:
    """One manifest with calls of these ids, in a folder of its own.

    Attributes:
        chained: How many follow each other, each with the picture of the one before.
    """

    folder: Path
    ids: Sequence[str]
    chained: int = field(default=1, kw_only=True)

    @property
    def out(self) -> Path:
        """The output folder."""
        return self.folder / "jobs.out"

    @property
    def words(self) -> str:
        """The last that the runs said."""
        return (self.folder / "words").read_text()[-500:]

    def write_manifest(self) -> None:
        """Write the jobs; each has a prompt of its own."""
        jobs = (
            {"id": call_id, "prompt": f"Number {call_id}", "images": self.references(call_id)}
            for call_id in self.ids
        )
        (self.folder / "jobs.jsonl").write_bytes(
            b"".join(orjson.dumps(job) + b"\n" for job in jobs)
        )

    def references(self, call_id: str) -> list[str]:
        """Return the pictures of other calls that a call uses."""
        place = self.ids.index(call_id)
        return [f"job:{self.ids[place - 1]}"] if place % self.chained else []

    @contextmanager
    def process(self, *flags: str, before: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
        """Start a run, by the command `before` it; kill it at the end of the block, if it still goes on."""
        command = [*before, *self._command("run", "jobs.jsonl", "--quiet", *flags)]
        with (self.folder / "words").open("ab") as words:
            started = subprocess.Popen(
                command, cwd=self.folder, env=self._environment(), stderr=words
            )
            try:
                yield started
            finally:
                started.kill()
                started.wait()

    def verify(self) -> tuple[int, str]:
        """Return the exit code of `verify` and what it said."""
        found = subprocess.run(
            self._command("verify", "jobs.out"),
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        return found.returncode, found.stdout + found.stderr

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows; raises for a line that is none."""
        data = (self.out / "results.jsonl").read_bytes()
        return [orjson.loads(line) for line in data.removesuffix(b"\n").split(b"\n")]

    def variables(self) -> dict[str, str]:
        """Return the variables of the environment that differ from those of this process."""
        return {
            "PYTHONPATH": str(ROOT),
            "GEMINI_API_KEY": "AIzaSy-a-key-of-the-torture-00000000000",
            "GEMINI_BATCH_STATE_DIR": str(self.folder / "state"),
        }

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "gemini_batch", *arguments]

    def _environment(self) -> dict[str, str]:
        return os.environ | self.variables()
