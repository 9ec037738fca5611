"""Kills runs and checks what they leave."""

import os
import random
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from tests.torture.desk import ROOT, Desk
from tests.torture.server import Sending, TorturedServer, tortured_server

HOOK = Path(__file__).parent / "hook"
CONCURRENCY = 8
CALLS = 60
KILLS_A_FOLDER = 20
_STEP_S = 0.0005
_PATIENCE_S = 60.0


@dataclass
class Measured:
    """What was counted over all folders; each field's `label` is its line in the table, `most` what it may be.

    Attributes:
        faults: What went against a promise, in words.
    """

    kills: int = field(default=0, metadata={"label": "kills"})
    while_receiving: int = field(
        default=0, metadata={"label": "  of them while answers were arriving"}
    )
    noticed: int = field(default=0, metadata={"label": "  of them after a run had stopped itself"})
    calls: int = field(default=0, metadata={"label": "calls, each with one newest row"})
    requests: int = field(default=0, metadata={"label": "requests"})
    finished_again: int = field(
        default=0, metadata={"label": "finished calls sent again", "most": 0}
    )
    kept_again: int = field(
        default=0, metadata={"label": "answers read and kept, and sent again", "most": 0}
    )
    consumed_again: int = field(
        default=0, metadata={"label": "  read, killed before the write that keeps them"}
    )
    wrong_images: int = field(
        default=0, metadata={"label": "images that the server did not send", "most": 0}
    )
    torn_or_double: int = field(default=0, metadata={"label": "rows torn or doubled", "most": 0})
    wrong_inputs: int = field(
        default=0,
        metadata={"label": "requests with another picture than their parent's", "most": 0},
    )
    repeats: int = field(default=0, metadata={"label": "requests repeated, of those in flight"})
    most_repeats: int = field(
        default=0, metadata={"label": "  at most, of one kill", "most": CONCURRENCY}
    )
    whole_lost: int = field(
        default=0, metadata={"label": "  of them answered whole, unread in the kernel"}
    )
    faults: list[str] = field(default_factory=list)

    def blame(self, name: str, words: str) -> None:
        """Count a fault, and say where."""
        setattr(self, name, getattr(self, name) + 1)
        self.faults.append(words)

    def table(self, seed: int) -> str:
        """Return the numbers, a line each."""
        lines = [f"{'seed':<48}{seed:>8,}"]
        counted = [each for each in fields(self) if "label" in each.metadata]
        lines += [f"{each.metadata['label']:<48}{getattr(self, each.name):>8,}" for each in counted]
        if self.kills:
            lines.append(f"{'repeats a kill':<48}{self.repeats / self.kills:>8.2f}")
            lines.append(
                f"{'answers lost in the kernel a kill':<48}{self.whole_lost / self.kills:>8.2f}"
            )
        return "\n".join([*lines, *(f"FAULT: {fault}" for fault in self.faults)])


@dataclass(frozen=True)
class ServedDesk(Desk):
    """A desk whose runs ask a server that notes all that it sends."""

    server: TorturedServer

    def noted(self, what: str) -> set[str]:
        """Return which answers the hook noted as `consumed` by the extractor, or as `kept`."""
        return set((self.folder / what).read_text().split())

    def running(self, *before: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Start a run, by the command `before` it; kill it at the end of the block, if it still goes on."""
        self.server.process += 1
        return self.process("--base-url", self.server.base_url, *_PACE, before=before)

    def variables(self) -> dict[str, str]:
        """Return those of a run, and what its hook writes."""
        return super().variables() | {
            "PYTHONPATH": os.pathsep.join([str(HOOK), str(ROOT)]),
            "TORTURE_CONSUMED": str(self.folder / "consumed"),
            "TORTURE_KEPT": str(self.folder / "kept"),
        }


_PACE = ("--rpm", "60000", "--rpd", "1000000", "--concurrency", str(CONCURRENCY))


# What changes a disk, or what others see of it: how many of these a run has done before it opens its folder, and about how many it does
# then. It is killed before one of them, which does not happen any more.
SYSCALLS = {
    "write": (0, 160),
    "pwrite64": (0, 40),
    "rename": (0, 30),
    "unlink": (0, 30),
    "fsync": (0, 40),
    "fdatasync": (0, 30),
    "openat": (850, 120),
    "close": (680, 120),
    "flock": (0, 40),
    "mkdir": (0, 4),
    "ftruncate": (0, 2),
}


def torture(
    folder: Path,
    kills: int,
    seed: int,
    *,
    calls: int = CALLS,
    at_syscalls: bool = False,
    renames: bool = False,
    by_uri: bool = False,
    chained: int = 1,
    say: Callable[[str], None] = lambda _words: None,
) -> Measured:
    """Kill so many runs, on one output folder after the other, and return what was measured.

    Args:
        folder: Where all that is written goes.
        kills: How many runs to kill.
        seed: Of the moments and the pictures.
        calls: How many a manifest has.
        renames: Rename `results.jsonl` and restore it all the time while a run goes on.
        at_syscalls: Kill before the n-th call of the system of a kind, by `strace`, in place of at a moment.
        by_uri: The answers name where their pictures are, and runs are killed while these are fetched.
        chained: How many calls follow each other, each with the picture of the one before.
        say: Told how far it is.
    """
    measured, source = Measured(), random.Random(seed)
    number = 0
    while measured.kills < kills:
        number += 1
        place = folder / str(number)
        place.mkdir()
        with tortured_server(source.randrange(1 << 30), by_uri=by_uri) as server:
            names = [f"n{index}" for index in range(calls)]
            desk = ServedDesk(place, names, server, chained=chained)
            desk.write_manifest()
            how = _kill_at_syscall if at_syscalls else _kill_at_moment
            kill = partial(_kill_renaming if renames else how, desk, source, measured)
            _kill_and_finish(desk, min(KILLS_A_FOLDER, kills - measured.kills), kill, measured)
            _check(desk, measured)
        say(f"folder {number}: {measured.kills} of {kills} kills, {len(measured.faults)} faults")
    return measured


def _kill_and_finish(
    desk: ServedDesk, kills: int, kill: Callable[[], bool], measured: Measured
) -> None:
    for _ in range(kills):
        if not kill():
            break
        measured.kills += 1
        _await(
            lambda: not desk.server.receiving
        )  # the server has seen that nobody is there any more
    with desk.running() as process:
        try:
            code = process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            code = -1
    if code != 0:
        measured.faults.append(f"the last run ended with {code}: {desk.words}")


def _kill_at_moment(desk: ServedDesk, source: random.Random, measured: Measured) -> bool:
    """Kill a run; return False when all was done before its moment came."""
    with desk.running() as process:
        _await_moment(desk.server, process, source)
        if process.poll() is not None:
            return False
        measured.while_receiving += desk.server.receiving > 0
        process.kill()
        process.wait()
    return True


def _kill_renaming(desk: ServedDesk, source: random.Random, measured: Measured) -> bool:
    """Kill a run while the file of rows comes and goes; one that notices ends with 8 by itself."""
    rows = desk.out / "results.jsonl"
    away, is_over = rows.with_name("away"), threading.Event()
    pauses = random.Random(source.random())

    def come_and_go() -> None:
        while not is_over.wait(pauses.uniform(0.0, 0.2)):
            with suppress(FileNotFoundError):
                rows.rename(away)
                time.sleep(pauses.uniform(0.0, 0.05))
                away.rename(rows)

    with desk.running() as process:
        tampering = threading.Thread(target=come_and_go)
        tampering.start()
        try:
            _await_moment(desk.server, process, source)
            ended = process.poll()
            measured.noticed += ended == 8
            if ended not in {None, 0, 8}:
                measured.faults.append(f"{desk.out}: a run ended with {ended}")
            process.kill()
            process.wait()
        finally:
            is_over.set()
            tampering.join()
    return ended != 0


def _kill_at_syscall(desk: ServedDesk, source: random.Random, _measured: Measured) -> bool:
    """Have a run killed before a call of the system, rather an early one: these are those of recovery."""
    name = source.choice(list(SYSCALLS))
    before, about = SYSCALLS[name]
    number = 1 + before + int(about * source.random() ** 2)
    with desk.running(
        "strace", "-f", "-qq", "-o", os.devnull, "-e", f"inject={name}:signal=KILL:when={number}"
    ) as process:
        return process.wait(_PATIENCE_S) != 0


def _await_moment(
    server: TorturedServer, process: subprocess.Popen[bytes], source: random.Random
) -> None:
    """Wait for a moment to kill: in three of five cases while answers arrive, in three of ten around a commit."""
    aim = source.random()
    if aim < 0.6:
        wanted = source.randint(1, CONCURRENCY)
        _await(lambda: server.receiving >= wanted or process.poll() is not None, give_up_s=5.0)
        delay_s = source.uniform(0, 0.06)
    elif aim < 0.9:
        whole = server.whole + source.randint(1, 6)
        _await(lambda: server.whole >= whole or process.poll() is not None, give_up_s=5.0)
        delay_s = source.uniform(0, 0.04)
    else:
        delay_s = source.uniform(0, 2.0)
    time.sleep(delay_s)
    if server.by_uri:  # each kill is to fall while a picture arrives
        _await(lambda: server.receiving > 0 or process.poll() is not None, give_up_s=5.0)


def _await(condition: Callable[[], bool], give_up_s: float = _PATIENCE_S) -> None:
    ends_s = time.monotonic() + give_up_s
    while not condition() and time.monotonic() < ends_s:
        time.sleep(_STEP_S)


def _check(desk: ServedDesk, measured: Measured) -> None:
    """Hold the output folder against what the server says that it sent."""
    rows = desk.rows()
    sent: dict[str, list[Sending]] = defaultdict(list)
    for sending in desk.server.sendings:
        sent[sending.call_id].append(sending)
    newest = {row["id"]: row for row in rows}
    measured.requests += len(desk.server.sendings)
    for call_id, count in Counter(row["id"] for row in rows if row["status"] != "lost").items():
        if count > 1:
            measured.blame("torn_or_double", f"{desk.out}: {call_id} has {count} rows")
    for call_id in desk.ids:
        row = newest.get(call_id)
        if row is None or row["status"] != "succeeded":
            measured.faults.append(f"{desk.out}: {call_id} has not ended: {row}")
            continue
        measured.calls += 1
        _check_call(desk, row, sent[call_id], measured)
        _check_inputs(desk, newest, call_id, sent[call_id], measured)
    pictures = {image["sha256"] for row in rows for image in row["images"] if row["is_cut"]}
    _check_repeats(desk, {row["response_id"] for row in rows} | pictures, measured)
    code, words = desk.verify()
    if code != 0:
        measured.faults.append(f"{desk.out}: verify: {words}")


def _check_call(
    desk: ServedDesk, row: dict[str, Any], sendings: list[Sending], measured: Measured
) -> None:
    images = [image["sha256"] for image in row["images"]]
    # Of an answer that was cut off behind its picture that is kept, without the id behind it.
    answer = next(
        (
            each
            for each in sendings
            if (row["is_cut"] and [each.sha256] == images) or each.response_id == row["response_id"]
        ),
        None,
    )
    if answer is None or not (answer.is_whole or row["is_cut"]) or [answer.sha256] != images:
        measured.blame(
            "wrong_images",
            f"{desk.out}: {row['id']}: its row says {row['images']}, the server {answer}",
        )
    elif answer is not sendings[-1]:
        measured.blame(
            "finished_again", f"{desk.out}: {row['id']} was sent again after {answer.response_id}"
        )


def _check_inputs(
    desk: ServedDesk,
    newest: dict[str, dict[str, Any]],
    call_id: str,
    sendings: list[Sending],
    measured: Measured,
) -> None:
    """Each request of a child, and its row, has the picture that the row of its parent has."""
    parents = [each.removeprefix("job:") for each in desk.references(call_id)]
    wanted = [newest[each]["images"][0]["sha256"] for each in parents if each in newest]
    noted = [each["sha256"] for each in newest[call_id]["inputs"]]
    if any(list(each.inputs) != wanted for each in sendings) or noted != wanted:
        measured.blame("wrong_inputs", f"{desk.out}: {call_id}: {noted}, {sendings}, not {wanted}")


def _check_repeats(desk: ServedDesk, in_rows: set[str], measured: Measured) -> None:
    consumed, kept = desk.noted("consumed"), desk.noted("kept")
    of_process: Counter[int] = Counter()
    for sending in desk.server.sendings:
        if {sending.response_id, sending.sha256} & in_rows:
            continue
        of_process[sending.process] += 1
        if sending.response_id in kept:
            measured.blame(
                "kept_again", f"{desk.out}: {sending.call_id}: {sending.response_id} was kept"
            )
        elif sending.response_id in consumed:
            measured.consumed_again += 1
        measured.whole_lost += sending.is_whole and sending.response_id not in consumed
    measured.repeats += of_process.total()
    measured.most_repeats = max([measured.most_repeats, *of_process.values()])
    for process, count in of_process.items():
        if count > CONCURRENCY:
            measured.faults.append(f"{desk.out}: run {process} left {count} requests unanswered")
