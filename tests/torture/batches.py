"""Kills runs of the batch route, and checks by the simulator's audit that nothing was paid twice or lost."""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.simulator import Simulator, SimulatorConfig
from tests.simulated import simulator
from tests.torture.harness import ROOT

CALLS = 400
BATCHES = 4
KILLS_A_FOLDER = 20
TURNAROUND_S = 3.0
_PATIENCE_S = 120.0
_MOST_RUNS = 40
_STEP_S = 0.002
# Each happens once or twice to a folder, at a moment of its own.
FAULTS = (
    "upload-cut",
    "upload-lost",
    "upload-final-lost",
    "create-503-after",
    "create-reset-after",
    "get-404",
    "get-503",
    "list-503",
    "download-cut",
    "download-short",
    "no-range",
    "corrupt-output",
)


@dataclass
class Measured:
    """The numbers over all folders, and what went against a promise, in words."""

    kills: int = 0
    runs: int = 0
    calls: int = 0
    batches: int = 0
    at: Counter[str] = field(default_factory=Counter)
    server_faults: Counter[str] = field(default_factory=Counter)
    paid_twice: int = 0
    lost: int = 0
    left_open: int = 0
    faults: list[str] = field(default_factory=list)

    def table(self, seed: int) -> str:
        """Return the numbers, a line each."""
        numbers = {
            "seed": seed,
            "kills": self.kills,
            **{f"  of them with a batch {step}": count for step, count in sorted(self.at.items())},
            "runs": self.runs,
            "calls": self.calls,
            "batches": self.batches,
            **{f"  fault {name}": count for name, count in sorted(self.server_faults.items())},
            "calls paid twice": self.paid_twice,
            "calls without a picture": self.lost,
            "batches left open, or unknown to the last run": self.left_open,
        }
        lines = [f"{name:<48}{number:>8,}" for name, number in numbers.items()]
        return "\n".join([*lines, *(f"FAULT: {fault}" for fault in self.faults)])


@dataclass(frozen=True)
class Desk:
    """One manifest, its output folder, and the runs on it."""

    folder: Path
    server: Simulator
    calls: int

    @property
    def notes(self) -> list[dict[str, Any]]:
        """What is on the disk of each open batch."""
        found = []
        for path in self.folder.glob("jobs.out/.gemini_batch/batches/*/batch.json"):
            try:
                found.append(orjson.loads(path.read_bytes()))
            except (FileNotFoundError, orjson.JSONDecodeError):
                continue  # removed or renamed meanwhile
        return found

    def write_manifest(self) -> None:
        """Write the jobs; each has a prompt of its own."""
        jobs = ({"id": f"n{n}", "prompt": f"Number n{n}"} for n in range(self.calls))
        (self.folder / "jobs.jsonl").write_bytes(
            b"".join(orjson.dumps(job) + b"\n" for job in jobs)
        )

    @contextmanager
    def running(self, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start a run; kill it at the end of the block, if it still goes on."""
        command = [sys.executable, "-m", "gemini_batch", "run", "jobs.jsonl", *flags]
        command += ["--base-url", self.server.base_url, "--route", "batch", "--quiet"]
        command += ["--batch-lines", str(-(-self.calls // BATCHES))]
        with (self.folder / "words").open("ab") as words:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self._environment(), stderr=words
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def verify(self) -> tuple[int, str]:
        """Return the exit code of `verify` and what it said."""
        command = [sys.executable, "-m", "gemini_batch", "verify", "jobs.out"]
        found = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        return found.returncode, found.stdout + found.stderr

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows; raises for a line that is none."""
        path = self.folder / "jobs.out/results.jsonl"
        return [orjson.loads(line) for line in path.read_bytes().splitlines()]

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "PYTHONPATH": str(ROOT),
            "GEMINI_API_KEY": "AIzaSy-a-key-of-the-torture-00000000000",
            "GEMINI_BATCH_STATE_DIR": str(self.folder / "state"),
        }


def torture_batches(
    folder: Path,
    kills: int,
    seed: int,
    *,
    calls: int = CALLS,
    kills_a_folder: int = KILLS_A_FOLDER,
    say: Callable[[str], None] = lambda _words: None,
) -> Measured:
    """Kill so many runs, on one output folder after the other, and return what was measured.

    Args:
        folder: Where all that is written goes.
        kills: How many runs to kill.
        seed: Of the moments and the faults.
        calls: How many a manifest has.
        kills_a_folder: How many runs on one manifest are killed, at most.
        say: Told how far it is.
    """
    measured, source = Measured(), random.Random(seed)
    number = 0
    while measured.kills < kills:
        number += 1
        place = folder / str(number)
        place.mkdir()
        rules = place / "faults.toml"
        rules.write_text(_rules(source))
        config = SimulatorConfig(
            tier="unlimited",
            pixels=16,
            latency_s=0.0,
            batch_turnaround_s=TURNAROUND_S,
            faults=rules,
            seed=source.randrange(1 << 30),
        )
        with simulator(config) as server:
            desk = Desk(place, server, calls)
            desk.write_manifest()
            _kill_and_finish(desk, min(kills_a_folder, kills - measured.kills), source, measured)
            _check(desk, measured)
        say(f"folder {number}: {measured.kills} of {kills} kills, {len(measured.faults)} faults")
    return measured


def _rules(source: random.Random) -> str:
    """Return a file of faults: half of them, each once or twice, at some moment."""
    return "".join(
        f'[[rules]]\nfault = "{fault}"\nskip = {source.randrange(4)}\ntimes = {source.randint(1, 2)}\n'
        for fault in source.sample(FAULTS, len(FAULTS) // 2)
    )


def _kill_and_finish(desk: Desk, kills: int, source: random.Random, measured: Measured) -> None:
    ends = measured.kills + kills
    for _ in range(2 * kills):
        with desk.running(*(["--wait"] if source.random() < 0.5 else [])) as process:
            measured.runs += 1
            _await_moment(desk, process, source)
            if process.poll() is None:
                measured.kills += 1
                measured.at.update({note.get("step", "?") for note in desk.notes} or {"none"})
                process.kill()
                process.wait()
        if process.returncode == 0 or measured.kills == ends:
            break
    for _ in range(_MOST_RUNS):
        code = _ended(desk)
        measured.runs += 1
        if code != 5:
            break
        if any(batch["is_open"] for batch in desk.server.report()["batches"]):
            time.sleep(TURNAROUND_S / 4)
    if code != 0:
        words = (desk.folder / "words").read_text()[-500:]
        measured.faults.append(f"{desk.folder}: the last run ended with {code}: {words}")


def _ended(desk: Desk) -> int:
    """Return the exit code of a run that is left alone."""
    with desk.running() as process:
        try:
            return process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            return -1


def _await_moment(desk: Desk, process: subprocess.Popen[bytes], source: random.Random) -> None:
    """Wait for a moment to kill: shortly after a request of the run, of a kind that it may still send."""
    asked = desk.server.audit.operations
    before, first = dict(asked), source.choice((1, 1, 2, 4))
    aims = source.choice(AIMS)
    ends_s = time.monotonic() + _PATIENCE_S

    def done() -> int:
        return sum(asked[aim] - before.get(aim, 0) for aim in aims)

    while process.poll() is None and done() < first and time.monotonic() < ends_s:
        time.sleep(_STEP_S)
    time.sleep(source.choice((0.0, source.uniform(0, 0.03), source.uniform(0, 0.3))))


UPLOAD, CREATE, DOWNLOAD = "files.upload", "batches.create", "files.download"
LOOK = ("batches.get", "batches.list")
# After which requests to kill: those that come first in a run, or any of those before them.
AIMS = (
    (UPLOAD, DOWNLOAD),
    (CREATE, DOWNLOAD),
    (CREATE, DOWNLOAD),
    (DOWNLOAD, CREATE, "files.delete"),
    (*LOOK, UPLOAD),
    (*LOOK, UPLOAD, CREATE, DOWNLOAD, "files.delete"),
)


def _check(desk: Desk, measured: Measured) -> None:
    """Hold the output folder against the server's audit."""
    report = desk.server.report()
    rows = desk.rows()
    newest = {row["id"]: row for row in rows}
    measured.server_faults.update(report["faults"])
    measured.batches += len(report["batches"])
    for paid in report["paid"]:
        if paid["batch"] + paid["interactive"] != 1:
            measured.paid_twice += 1
            measured.faults.append(f"{desk.folder}: paid more than once: {paid}")
    for number in range(desk.calls):
        row = newest.get(f"n{number}")
        if row is None or row["status"] != "succeeded":
            measured.lost += 1
            measured.faults.append(f"{desk.folder}: n{number} has not ended: {row}")
        else:
            measured.calls += 1
    for call_id, count in Counter(row["id"] for row in rows).items():
        if count > 1:
            measured.faults.append(f"{desk.folder}: {call_id} has {count} rows")
    unknown = [batch for batch in report["batches"] if batch["is_open"] or not batch["downloads"]]
    for batch in unknown:
        measured.left_open += 1
        measured.faults.append(
            f"{desk.folder}: {batch['name']} is {batch['state']}, and not collected"
        )
    if desk.notes:
        measured.faults.append(f"{desk.folder}: the last run left {desk.notes}")
    code, words = desk.verify()
    if code != 0:
        measured.faults.append(f"{desk.folder}: verify: {words}")
