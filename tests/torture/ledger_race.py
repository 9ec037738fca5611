# ruff: noqa: T201 # a command that prints its numbers
"""Machines with wrong clocks race on one ledger in PostgreSQL, while it is hurt.

`python -m tests.torture.ledger_race` prints a table; exit 1 when a figure is missed.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import psycopg

from gemini_batch.clock import boot_time_s
from tests.postgres import USER, Server, serving
from tests.torture.proxy import Proxy
from tests.torture.racer import GUARD_S, MODEL
from tests.unit.quota.test_model_quota import fullest

ROOT = Path(__file__).parents[2]
PER_MIN, MINUTE_S = 64, 1.0
# A network of 10 ms allows about 80 transactions a second, and a request takes up to two.
MINUTES_S = {"delay": 4.0}
HURTS = 4


@dataclass
class Race:
    """Racers on a ledger, what they sent, and for how long there was no server."""

    server: Server
    folder: Path
    url: str
    processes: int
    stack: ExitStack
    minute_s: float
    racers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    hurt: set[int] = field(default_factory=set)
    down_s: float = 0.0

    def start(self, racer: int) -> subprocess.Popen[bytes]:
        """Start a racer whose clocks are off by hours and days."""
        log = self.folder / f"{racer}.log"
        given = (self.url, log, PER_MIN, self.minute_s, 1234.5 * racer)
        command = [sys.executable, "-m", "tests.torture.ledger_racer", *map(str, given)]
        process = subprocess.Popen(command, cwd=ROOT)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process

    def begin(self) -> None:
        """Start all, and wait until each has sent."""
        self.racers = [self.start(racer) for racer in range(self.processes)]
        while not all(map(self.sent, range(self.processes))):
            assert all(racer.poll() is None for racer in self.racers)
            time.sleep(0.05)

    def resumed(self, since_s: float) -> None:
        """Wait until each has sent since a moment."""
        while not all(max(self.sent(racer)) >= since_s for racer in range(self.processes)):
            assert boot_time_s() < since_s + 60, "a racer does not send any more"
            time.sleep(0.05)

    def sent(self, racer: int) -> list[float]:
        """Return when a racer sent."""
        log = self.folder / f"{racer}.log"
        text = log.read_text() if log.exists() else ""
        lines = text[: text.rfind("\n") + 1].splitlines()
        return [float(line) for line in lines if not line.startswith("ready")]

    @contextmanager
    def down(self) -> Iterator[None]:
        """Count the time in which there is no server."""
        began_s = boot_time_s()
        yield
        self.down_s += boot_time_s() - began_s


def nothing(_race: Race, _time: int) -> None:
    """Leave all alone."""


def kills(race: Race, turn: int) -> None:
    """Kill a racer and start it again."""
    victim = 1 + 2 * turn % race.processes
    race.hurt.add(victim)
    race.racers[victim].kill()
    race.racers[victim].wait()
    race.racers[victim] = race.start(victim)


def restart(race: Race, _turn: int) -> None:
    """Restart the server."""
    with race.down():
        race.server.stop("fast")
        race.server.start()


def kill_server(race: Race, _turn: int) -> None:
    """Kill the server, which recovers when it starts."""
    with race.down():
        race.server.kill()
        race.server.start()


def clock_forward(race: Race, turn: int) -> None:
    """Set the server's clock forward."""
    race.server.set_clock(None, 30.0 * (turn + 1))


def clock_back(race: Race, turn: int) -> None:
    """Set the server's clock back."""
    race.server.set_clock(None, -30.0 * (turn + 1))


def vanished(race: Race, _turn: int) -> None:
    """Stop a machine that holds the lock: the server frees it."""
    from gemini_batch.quota.storage.postgres import _number
    from gemini_batch.quota.storage.postgres_connection import BEGIN

    number = _number(("", "", MODEL))
    holder = os.fork()
    if not holder:
        with psycopg.connect(race.server.url, autocommit=True) as connection:
            connection.execute(BEGIN)
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (number,))
            os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(holder, os.WUNTRACED)
    race.stack.callback(os.waitpid, holder, 0)
    race.stack.callback(os.kill, holder, signal.SIGKILL)
    with race.down():
        until_s = boot_time_s() + 10
        query = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
        time.sleep(1.0)
        while race.server.execute(query)[0][0] and boot_time_s() < until_s:
            time.sleep(0.05)


HURT: dict[str, tuple[Callable[[Race, int], None], float]] = {
    "nothing": (nothing, 0.95),
    "kills": (kills, 0.95),
    "restart": (restart, 0.95),
    "kill-9": (kill_server, 0.90),
    "cut": (nothing, 0.95),
    "delay": (nothing, 0.90),
    "clock-forward": (clock_forward, 0.80),
    "clock-back": (clock_back, 0.80),
    "vanished": (vanished, 0.80),
    "failover": (nothing, 0.0),
}
"""What is done, and which share of what the windows allowed must be used while the server was up."""


@dataclass(frozen=True)
class Result:
    """The figures of a race.

    Attributes:
        most: In the fullest interval of a minute.
        sent: By all.
        allowed: By the windows, while the server was up.
        shares: Of those that were not hurt.
        silence_s: The longest time without a request.
    """

    most: int
    sent: int
    allowed: float
    shares: list[int]
    silence_s: float
    down_s: float
    note: str = ""

    @property
    def used(self) -> float:
        """The share that was used."""
        return self.sent / self.allowed

    @property
    def fairness(self) -> float:
        """The least share of a racer, of the largest."""
        return min(self.shares) / max(self.shares)


def raced(what: str, processes: int, length_s: float, server: Server) -> Result:
    """Race for some seconds; hurt all a few times meanwhile."""
    hurt, _ = HURT[what]
    server.empty()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url, note, replica = server.url, "", None
        if what in {"cut", "delay"}:
            cut, delay_s = (0.05, 0.0) if what == "cut" else (0.0, 0.005)
            proxy = stack.enter_context(Proxy(server.port, cut_share=cut, delay_s=delay_s))
            url = f"postgresql://{USER}@127.0.0.1:{proxy.port}/postgres"
        if what == "failover":
            replica = server.copy()
            stack.callback(replica.remove)
            hosts = f"127.0.0.1:{server.port},127.0.0.1:{replica.port}"
            url = f"postgresql://{USER}@{hosts}/postgres"
        race = Race(server, folder, url, processes, stack, MINUTES_S.get(what, MINUTE_S))
        race.begin()
        started_s = boot_time_s()
        hurt_s = started_s
        for turn in range(HURTS):
            # The server is up for the whole length, however long it takes to start again.
            time.sleep(length_s / HURTS / (1 if turn else 2))
            if replica is not None and turn == HURTS // 2:
                with race.down():
                    server.kill()
                    replica.promote()
            hurt(race, turn)
            hurt_s = boot_time_s()
        time.sleep(length_s / HURTS / 2)
        race.resumed(hurt_s)
        ended_s = boot_time_s()
        if what == "cut":
            note = f"{proxy.cuts['before']} commits lost before, {proxy.cuts['after']} after"
        assert all(racer.poll() is None for racer in race.racers), "a racer died"
        return result_of(race, started_s, ended_s, note)


def result_of(race: Race, started_s: float, ended_s: float, note: str) -> Result:
    """Return the figures."""
    everyone = sorted(at_s for racer in range(race.processes) for at_s in race.sent(racer))
    within = [at_s for at_s in everyone if started_s <= at_s < ended_s]
    cycle_s = race.minute_s * (1 + 1 / 240) + GUARD_S
    up_s = ended_s - started_s - race.down_s
    gaps = [after - before for before, after in pairwise(within)]
    return Result(
        most=fullest([(at_s, 1) for at_s in everyone], race.minute_s),
        sent=len(within),
        allowed=PER_MIN * up_s / cycle_s,
        shares=[
            sum(started_s <= at_s < ended_s for at_s in race.sent(racer))
            for racer in range(race.processes)
            if racer not in race.hurt
        ],
        silence_s=max(gaps, default=0.0),
        down_s=race.down_s,
        note=note,
    )


def main() -> int:
    """Race as named; print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.ledger_race")
    parser.add_argument("what", nargs="*", choices=[*HURT, []], help="what is done (default: all)")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=24.0)
    options = parser.parse_args()
    random.seed(7)
    missed = 0
    print(f"{options.processes} processes, {PER_MIN} a minute of {MINUTE_S:g} s")
    for what in options.what or HURT:
        with serving() as server:
            result = raced(what, options.processes, options.seconds, server)
        is_missed = (
            result.most > PER_MIN
            or result.used < HURT[what][1]
            or (what != "failover" and result.fairness < 0.8)
        )
        missed += is_missed
        print(
            f"{what:<14} fullest {result.most} of {PER_MIN}; sent {result.sent} of "
            f"{result.allowed:.0f} ({result.used:.0%}); least/most {result.fairness:.2f}; "
            f"silence {result.silence_s:.1f} s; down {result.down_s:.1f} s"
            f"{'; ' + result.note if result.note else ''}{'  MISSED' if is_missed else ''}",
            flush=True,
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
