"""Kills runs of the batch route, and checks by the simulator's audit that nothing was paid twice or lost."""

import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.output.batch_note import LOOKS_APART
from gemini_batch.output.paths import REMOVED_SUFFIX
from gemini_batch.simulator import Simulator, SimulatorConfig
from tests.simulated import simulator
from tests.torture.desk import Desk

CALLS = 400
BATCHES = 4
KILLS_A_FOLDER = 20
TURNAROUND_S = 3.0
_PATIENCE_S = 900.0  # a run that takes longer hangs, also on a machine that does other things
_MOST_RUNS = 40
_STEP_S = 0.002
_AT_CREATE = 0.2
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
    given_up: int = 0
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
            "batches killed before the create, given up": self.given_up,
            "calls paid twice": self.paid_twice,
            "calls without a picture": self.lost,
            "batches left open, or unknown to the last run": self.left_open,
        }
        lines = [f"{name:<48}{number:>8,}" for name, number in numbers.items()]
        return "\n".join([*lines, *(f"FAULT: {fault}" for fault in self.faults)])


@dataclass(frozen=True)
class BatchDesk(Desk):
    """A desk whose runs submit batches to the simulator."""

    server: Simulator

    @property
    def notes(self) -> list[dict[str, Any]]:
        """What is on the disk of each open batch."""
        found = []
        for path in self.out.glob(".gemini_batch/batches/*/batch.json"):
            if path.parent.name.endswith(REMOVED_SUFFIX):
                continue  # a run was killed while it removed the folder
            with suppress(FileNotFoundError, orjson.JSONDecodeError):  # removed meanwhile
                found.append(orjson.loads(path.read_bytes()))
        return found

    def let_time_pass(self) -> None:
        """Make the notes of batches whose create was not answered older: the next look counts, as it does minutes later."""
        for path in self.out.glob(".gemini_batch/batches/*/batch.json"):
            note = orjson.loads(path.read_bytes())
            if note["step"] == "creating":
                for name in ("planned_at", "sent_at", "looked_at"):
                    if note[name] is not None:
                        note[name] = datetime.fromisoformat(note[name]) - LOOKS_APART
                path.write_bytes(orjson.dumps(note))

    def running(self, *flags: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Start a run; kill it at the end of the block, if it still goes on."""
        lines = str(-(-len(self.ids) // BATCHES))
        asked = ("--base-url", self.server.base_url, "--route", "batch", "--batch-lines", lines)
        return self.process(*asked, *flags)


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
            desk = BatchDesk(place, [f"n{number}" for number in range(calls)], server)
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


def _kill_and_finish(
    desk: BatchDesk, kills: int, source: random.Random, measured: Measured
) -> None:
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
        desk.let_time_pass()
        code = _ended(desk)
        measured.runs += 1
        if code != 5:
            break
        if any(batch["is_open"] for batch in desk.server.report()["batches"]):
            time.sleep(TURNAROUND_S / 4)
    if code != 0:
        measured.faults.append(f"{desk.folder}: the last run ended with {code}: {desk.words}")


def _ended(desk: BatchDesk) -> int:
    """Return the exit code of a run that is left alone."""
    with desk.running() as process:
        try:
            return process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            return -1


def _await_moment(desk: BatchDesk, process: subprocess.Popen[bytes], source: random.Random) -> None:
    """Wait for a moment to kill: shortly after a request of the run, of a kind that it may still send."""
    asked = desk.server.audit.operations
    before, first = dict(asked), source.choice((1, 1, 2, 4))
    aims = source.choice(AIMS)
    is_at_create = source.random() < _AT_CREATE
    ends_s = time.monotonic() + _PATIENCE_S

    def has_come() -> bool:
        # A create is noted, and perhaps not sent yet; or the run waits for what no server has.
        has_looked = asked["batches.list"] > before.get("batches.list", 0)
        if (is_at_create or has_looked) and any(n["step"] == "creating" for n in desk.notes):
            return True
        return sum(asked[aim] - before.get(aim, 0) for aim in aims) >= first

    while process.poll() is None and not has_come() and time.monotonic() < ends_s:
        time.sleep(_STEP_S)
    if not is_at_create:
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


def _check(desk: BatchDesk, measured: Measured) -> None:
    """Hold the output folder against the server's audit."""
    report = desk.server.report()
    measured.server_faults.update(report["faults"])
    measured.batches += len(report["batches"])
    for paid in report["paid"]:
        if paid["batch"] + paid["interactive"] != 1:
            measured.paid_twice += 1
            measured.faults.append(f"{desk.folder}: paid more than once: {paid}")
    for batch in report["batches"]:
        if batch["is_open"] or not batch["downloads"]:
            measured.left_open += 1
            measured.faults.append(
                f"{desk.folder}: {batch['name']} is {batch['state']}, and not collected"
            )
    _check_rows(desk, measured)
    _check_notes(desk, {batch["display_name"] for batch in report["batches"]}, measured)
    code, words = desk.verify()
    if code != 0:
        measured.faults.append(f"{desk.folder}: verify: {words}")


def _check_rows(desk: BatchDesk, measured: Measured) -> None:
    """Check that each call has a picture, and one row but for those of a batch that was given up."""
    rows = desk.rows()
    newest = {row["id"]: row for row in rows}
    for call_id in desk.ids:
        row = newest.get(call_id)
        if row is None or row["status"] != "succeeded":
            measured.lost += 1
            measured.faults.append(f"{desk.folder}: {call_id} has not ended: {row}")
        else:
            measured.calls += 1
    lost = {note["uuid"][:8] for note in desk.notes if note["step"] == "lost"}
    counted = Counter(
        row["id"]
        for row in rows
        if not (row["status"] == "failed" and row["batch"]["key"][:8] in lost)
    )
    measured.faults += [
        f"{desk.folder}: {call_id} has {count} rows"
        for call_id, count in counted.items()
        if count > 1
    ]


def _check_notes(desk: BatchDesk, existing: set[str], measured: Measured) -> None:
    """Check that no note is left, but of a batch that was killed between its note and its create: the server does not have it.

    Runs look for it in vain and give it up; they look for it again until it must have expired.
    """
    for note in desk.notes:
        measured.given_up += 1
        if note["step"] != "lost" or f"gemini_batch {note['uuid']}" in existing:
            measured.faults.append(f"{desk.folder}: the last run left {note}")
