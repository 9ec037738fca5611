"""A job that is larger than a day's quota, finished night by night: on a virtual clock, with the ledger that nights share."""

import asyncio
import os
import random
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo

import pytest

from gemini_batch.catalog.tiers import limits_of
from gemini_batch.client import interactive
from gemini_batch.client.transport import Exchange
from gemini_batch.clock import Clock
from gemini_batch.config import Settings, concurrency_for
from gemini_batch.engine import setup
from gemini_batch.engine.summary import Summary
from gemini_batch.output import StagedAnswer
from gemini_batch.output.rows import newest_rows
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import SqliteStorage
from gemini_batch.records import Answer, Call, Limits, Timing
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.quota import REQUESTS_PER_DAY, REQUESTS_PER_MIN, Moment, Quota
from tests.builders import ENDPOINT, MODEL, Step, picture, says
from tests.virtual.clock import run

pytestmark = pytest.mark.slow

NIGHTLY = Path(__file__).parents[2] / "jobs/cron/nightly.sh"
PACIFIC = ZoneInfo("America/Los_Angeles")
FREE = limits_of("free")
PICTURE, BROKEN = picture(), says(503)


@pytest.fixture(autouse=True)
def _no_real_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability is another module's matter here, and real syncs are slow."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda _descriptor: None)
    opened = SqliteStorage.open

    def quick(self: SqliteStorage) -> None:
        opened(self)
        assert self._connection
        self._connection.execute("PRAGMA synchronous = OFF")

    monkeypatch.setattr(SqliteStorage, "open", quick)


@dataclass
class Google:
    """The API: it counts requests as they arrive, some time after they left, and answers a while later.

    Attributes:
        arrived: How many requests were admitted on each Pacific date.
        refused: What was answered with 429.
        fails: Says of a call, while it is set, whether its answer is a 503.
    """

    limits: Limits
    arrived: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    fails: Callable[[Call], bool] = field(default=lambda _call: False)

    def __post_init__(self) -> None:
        config = SimulatorConfig(
            requests_per_min=self.limits.requests_per_min,
            requests_per_day=self.limits.requests_per_day,
        )
        self._quota = Quota(config)
        self._random = random.Random(7)

    async def answer(self, call: Call, clock: Clock) -> Step:
        """Let a request travel, count it, and return what comes of it after its latency."""
        await asyncio.sleep(self._random.uniform(0.02, 0.9))
        utc = clock.utc()
        moment = Moment(clock.steady_s(), utc)
        if violations := self._quota.charge(
            "key", MODEL, moment, {REQUESTS_PER_MIN: 1, REQUESTS_PER_DAY: 1}
        ):
            self.refused.append(f"{utc:%d %H:%M:%S} {call.id}: {violations}")
            return says(429)
        self.arrived[utc.astimezone(PACIFIC).date().isoformat()] += 1
        await asyncio.sleep(self._random.uniform(15, 35))
        return BROKEN if self.fails(call) else PICTURE


@dataclass
class Network:
    """The transport of one night."""

    google: Google
    clock: Clock

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    async def send(
        self, call: Call, incoming: StagedAnswer, _on_connected: Callable[[], object]
    ) -> Exchange:
        """Send a call and wait for its answer."""
        sent_at, sent_s = self.clock.utc(), self.clock.steady_s()
        answer = (await self.google.answer(call, self.clock)).answer(call, incoming)
        assert isinstance(answer, Answer)
        timing = Timing(sent_at, self.clock.utc(), self.clock.steady_s() - sent_s)
        return Exchange(answer, timing)


class Machine:
    """A machine that is up all the time, and starts a run when cron says so; its ledger is a file."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, calls: int, limits: Limits = FREE
    ) -> None:
        self.google = Google(limits)
        self.out = folder / "jobs.out"
        self._path = folder / "jobs.jsonl"
        self._path.write_text(
            "".join(f'{{"id": "n{number}", "prompt": "A robot"}}\n' for number in range(calls))
        )
        self._monkeypatch = monkeypatch
        self._up_s = 1000.0
        self._limits = limits
        self._at = datetime(2026, 1, 1, tzinfo=UTC)

    def night(self, at: datetime, *, waits_for_reset: bool = False) -> Summary:
        """Run from a moment on, later than the end of the run before; return the summary."""
        config = Settings(
            tier="free",
            limits=self._limits,
            endpoint=ENDPOINT,
            base_url=ENDPOINT,
            model=MODEL,
            concurrency=concurrency_for(self._limits),
            max_attempts=2,
            waits_for_reset=waits_for_reset,
        )
        self._up_s += (at - self._at).total_seconds()
        began_s, up_s = self._up_s, [self._up_s]

        async def scenario(clock: Clock) -> Summary:
            def now_s() -> float:
                up_s[0] = began_s + clock.steady_s()
                return up_s[0]

            machine = replace(clock, steady_s=now_s)
            self._monkeypatch.setattr(
                interactive, "InteractiveTransport", lambda *_: Network(self.google, machine)
            )
            return await going.send(ENDPOINT, machine)

        path = self.out.with_name("quota.sqlite")
        storage = SqliteStorage(path, steady_s=lambda: up_s[0], boot="one")
        storage.open()
        ledger = SharedLedger(storage, self._limits, steady_s=lambda: up_s[0])
        with (
            ledger,
            setup.open_run(self._path, self.out, config, lambda _event: None, ledger) as going,
        ):
            summary = run(scenario, start=at)
        self._up_s, self._at = up_s[0], at + timedelta(seconds=up_s[0] - began_s)
        return summary

    def images(self) -> int:
        """Return how many calls have an image."""
        return sum(row["status"] == "succeeded" for row in newest_rows(self.out))


def is_mailed(summary: Summary, folder: Path) -> bool:
    """Let the wrapper of `jobs/cron` decide, as it does after a run that ended so."""
    (folder / "summary").write_bytes(summary.json())
    for name, text in (
        ("gemini-batch", f"cat '{folder}/summary'; exit {summary.exit_code}"),
        ("mail", f"cat >'{folder}/mailed'"),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    environment = {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "MAILTO": "me",
        "GEMINI_API_KEY": "k",
    }
    ended = subprocess.run(
        [NIGHTLY, "jobs.jsonl"], env=environment, cwd=folder, check=False, capture_output=True
    )
    assert (ended.returncode, ended.stderr) == (summary.exit_code, b"")
    mailed = folder / "mailed"
    found = mailed.exists()
    mailed.unlink(missing_ok=True)
    return found


def never(_call: Call) -> bool:
    """Nothing fails."""
    return False


def ends_in_99(call: Call) -> bool:
    """One call in a hundred fails."""
    return call.id.endswith("99")


TEN_PAST_EIGHT = timedelta(hours=8, minutes=10)
"""When the crontab of `jobs/cron` starts, UTC."""


@pytest.mark.parametrize(
    ("first", "a_day", "calls"),
    [
        pytest.param(datetime(2026, 11, 20, tzinfo=UTC), 75, 200, id="days of 24 hours"),
        pytest.param(
            datetime(2026, 11, 20, tzinfo=UTC),
            1500,
            4000,
            id="days of the free tier",
            marks=pytest.mark.torture,
        ),
        pytest.param(datetime(2027, 3, 13, tzinfo=UTC), 75, 200, id="a day of 23 hours"),
        pytest.param(datetime(2026, 10, 31, tzinfo=UTC), 75, 200, id="a day of 25 hours"),
    ],
)
def test_three_nights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: datetime, a_day: int, calls: int
) -> None:
    """Two days are used up to the last request, the third finishes.

    There is no 429, each image is there once, and mail comes on the one day when something failed.
    """
    machine = Machine(tmp_path, monkeypatch, calls, replace(FREE, requests_per_day=a_day))
    nights, mails = [], []
    for number in range(4):
        # On the second night some calls fail at each attempt; the third one sends them again.
        machine.google.fails = ends_in_99 if number == 1 else never
        summary = machine.night(first + timedelta(days=number) + TEN_PAST_EIGHT)
        nights.append(summary)
        mails.append(is_mailed(summary, tmp_path))

    assert machine.google.refused == []
    assert machine.images() == calls
    assert [night.exit_code for night in nights] == [5, 5, 0, 0]
    assert mails == [False, True, False, False]
    assert list(machine.google.arrived.values()) == [night.this_run.sent for night in nights[:3]]
    assert [night.this_run.sent for night in nights[:2]] == [a_day, a_day]
    failed = nights[1].this_run.by_status["failed"]
    assert failed > 0
    assert [night.left for night in nights] == [calls - a_day, calls - 2 * a_day + 2 * failed, 0, 0]
    assert [
        at and at.astimezone(PACIFIC).hour for at in (night.run_again_at for night in nights)
    ] == [0, 0, None, None]
    windows = {use.span: use for use in nights[0].windows}
    assert (windows["a day"].utilisation, windows["a day"].left) == (1.0, 0)
    assert windows["a minute"].utilisation > 0.97


BEFORE_MIDNIGHT = datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
"""22:30 in Los Angeles, on the eve of a day of 25 hours."""
SMALL = Limits(requests_per_min=15, requests_per_day=300)


@pytest.mark.parametrize(
    ("starts_before_min", "calls"),
    [(10, 300), pytest.param(30, 1200, marks=pytest.mark.torture)],
)
def test_a_run_across_midnight_uses_both_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starts_before_min: int, calls: int
) -> None:
    """What is left of the old day is used, then the new one, each up to its limit; no 429 on either side of midnight."""
    machine = Machine(tmp_path, monkeypatch, calls, limits=replace(SMALL, requests_per_day=1000))
    midnight = datetime(2026, 11, 1, 7, tzinfo=UTC)
    summary = machine.night(midnight - timedelta(minutes=starts_before_min))

    assert machine.google.refused == []
    before, after = machine.google.arrived.values()
    assert (summary.exit_code, before + after, machine.images()) == (0, calls, calls)
    assert before > 0.955 * 15 * starts_before_min
    assert summary.windows[-1].allowed == 2000


def test_a_run_that_waits_for_each_reset_needs_no_second_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `--wait-for-reset` one run sleeps through what is left of each day, a day of 25 hours among them, and ends with all
    images; but for the requests that count on both sides of a midnight no day is wasted.
    """
    machine = Machine(tmp_path, monkeypatch, calls=180, limits=replace(SMALL, requests_per_day=60))
    summary = machine.night(BEFORE_MIDNIGHT, waits_for_reset=True)

    assert machine.google.refused == []
    assert (summary.exit_code, machine.images()) == (0, 180)
    assert list(machine.google.arrived) == ["2026-10-31", "2026-11-01", "2026-11-02"]
    assert list(machine.google.arrived.values()) == [60, 60, 60]
    assert not summary.needs_person
