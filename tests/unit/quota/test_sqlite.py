import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from hypothesis import given, settings
from hypothesis import strategies as st

from gemini_batch.clock import boot_time_s, utc_now
from gemini_batch.quota.limiter import Ledger
from gemini_batch.quota.limits import Weights
from gemini_batch.quota.model_quota import DayClosed, Granted, ModelQuota, Paused, ReserveResult
from gemini_batch.quota.storage.memory import MemoryLedger
from gemini_batch.quota.storage.rows import Rows, standings
from gemini_batch.quota.storage.sqlite import SqliteLedger, project_of
from gemini_batch.records import Limits
from tests.unit.quota.contract import (
    CYCLE_S,
    NEXT_DAY,
    NOON,
    PICTURE,
    T0,
    LedgerContract,
    M,
    granted,
)
from tests.unit.quota.test_model_quota import LIMITS, STEPS, fullest

PACIFIC = ZoneInfo("America/Los_Angeles")
RAM = "/dev/shm" if Path("/dev/shm").is_dir() else None  # hundreds of files, each of many commits
ENDPOINT = "https://generativelanguage.googleapis.com"


def opened(path: Path, limits: Limits, **options: Any) -> SqliteLedger:
    """Open a ledger whose clock is the test's: no time passes while it works."""
    defaults = {"endpoint": ENDPOINT, "project": "test", "boot": "one", "steady_s": lambda: 0.0}
    return SqliteLedger(path, limits, **{**defaults, **options})


def ask(
    ledger: SqliteLedger, after_s: float = 0.0, weights: Weights = PICTURE, permits: int = 1
) -> ReserveResult:
    """Reserve at a moment after noon."""
    return ledger.reserve(M, weights, permits, T0 + after_s, NOON + timedelta(seconds=after_s))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a ledger's file may be."""
    return tmp_path / "state" / "quota.sqlite"


class TestSqliteLedger(LedgerContract):
    @pytest.fixture(autouse=True)
    def _closed(self, path: Path) -> Iterator[None]:
        with ExitStack() as self.ledgers:
            self.path = path
            yield

    def make(self, limits: Limits) -> SqliteLedger:
        """Return an empty one."""
        return self.ledgers.enter_context(opened(self.path, limits))


# --- sharing ----------------------------------------------------------------------------------------------------------


def test_what_one_process_used_the_next_one_counts(path: Path) -> None:
    """Overlapping and later runs share the minute, the pause and the day."""
    limits = Limits(requests_per_min=3, requests_per_day=4)
    with opened(path, limits) as ours, opened(path, limits) as theirs:
        ask(ours, permits=2), ask(theirs)
        theirs.pause(M, T0 + 90.0, "the server asked for a pause", T0)
    with opened(path, limits) as later:
        assert Paused(T0 + 90.0, "the server asked for a pause") == ask(later, CYCLE_S)
        assert later.day_left(M, PICTURE, T0, NOON) == 1
        granted(ask(later, 90.0))
        assert DayClosed(NEXT_DAY, "4 requests a day") == ask(later, 91.0)


def test_quotas_of_others_are_apart(path: Path) -> None:
    """Another endpoint, project or model has a quota of its own in the same file."""
    limits = Limits(requests_per_day=1)
    with (
        opened(path, limits) as ours,
        opened(path, limits, project="another") as project,
        opened(path, limits, endpoint="https://another") as endpoint,
    ):
        granted(ask(ours))
        assert isinstance(ask(ours), DayClosed)
        granted(ask(project)), granted(ask(endpoint))
        granted(ours.reserve("another", PICTURE, 1, T0, NOON))


def test_project_is_no_key() -> None:
    """A key's project is a fingerprint that does not show the key; a scope that a person gave is taken as it is."""
    key = "AIza" + "x" * 35
    assert project_of(key) == "key-e92a1199406b"
    assert project_of(key) != project_of(key + "y")
    assert project_of(key, "studio") == "studio"


@settings(max_examples=25, deadline=None)
@given(limits=LIMITS, steps=STEPS)
def test_decides_as_the_memory_ledger_does(limits: Limits, steps: list[dict[str, Any]]) -> None:
    """Two processes on one file, in turns and started again at times, decide what one ledger in memory decides."""
    now_s, memory = T0, MemoryLedger(limits)
    with TemporaryDirectory(dir=RAM) as folder, ExitStack() as stack:
        ledgers = [stack.enter_context(opened(Path(folder) / "q", limits)) for _ in range(2)]
        for number, step in enumerate(steps):
            now_s += step["pass_s"]
            utc = NOON + timedelta(seconds=now_s - T0)
            if step["event"] == "store":
                ledgers[0].close()
                ledgers[0] = stack.enter_context(opened(Path(folder) / "q", limits))
            weights = Weights(tokens=step["tokens"], usd_micros=step["usd_micros"])
            verdicts = list[ReserveResult]()
            for ledger in (memory, ledgers[number % 2]):
                verdicts.append(ledger.reserve(M, weights, step["permits"], now_s, utc))
                if isinstance(verdict := verdicts[-1], Granted) and step["settles"]:
                    ledger.settle(
                        M,
                        verdict.grant,
                        tokens=step["tokens"] // 2,
                        usd_micros=2 * step["usd_micros"],
                    )
                if step["event"] in {"pause", "overrun"}:
                    ledger.pause(M, now_s + 5.0, "why", now_s, overrun=step["event"] == "overrun")
                if isinstance(verdict, Granted) and step["event"] == "give back":
                    ledger.give_back(M, verdict.grant)
            assert verdicts[0] == verdicts[1]


def test_a_pause_in_the_way_narrows_no_guard(path: Path) -> None:
    """What is not granted changes nothing: a ledger in memory, and one that does not write it down, decide alike ever after."""
    limits = Limits(requests_per_min=1, usd_per_10min=0.2)
    dear, soon = Weights(usd_micros=134_000), T0 + 6.0
    memory = MemoryLedger(limits)
    with opened(path, limits) as ledger:
        verdicts: list[list[ReserveResult]] = [[], []]
        both: tuple[Ledger, Ledger] = (memory, ledger)
        for found, each in zip(verdicts, both, strict=True):
            granted(each.reserve(M, dear, 1, T0, NOON))
            each.pause(M, T0, "too many", T0, overrun=True)
            granted(
                each.reserve(M, dear, 1, soon, NOON)
            )  # ten minutes ahead, where the guard is to be narrower
            each.pause(M, soon + 5.0, "wait", soon)
            assert isinstance(each.reserve(M, PICTURE, 1, soon, NOON), Paused)
            each.pause(M, soon + 5.0, "too many", soon, overrun=True)
            found.append(each.reserve(M, PICTURE, 1, soon + 6.0, NOON))
    assert verdicts[0] == verdicts[1]


def test_threads_share_a_ledger(path: Path) -> None:
    """Many threads may use one ledger at a time: each grant is counted once."""
    limits = Limits(requests_per_day=120, tokens_per_min=1000)
    with opened(path, limits) as ledger:

        def work() -> None:
            for _ in range(10):
                grant = granted(ask(ledger, weights=Weights(tokens=2))).grant
                ledger.settle(M, grant, tokens=1)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        used = {entry.bound.words: entry.used for entry in ledger.used(M, T0, NOON)}

    assert (used["120 requests a day"], used["1,000 tokens a minute"]) == (80, 80)


# --- writing no more than needed --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "writes"),
    [
        (Limits(requests_per_min=60, requests_per_day=9), False),
        (Limits(tokens_per_min=100), True),
        (Limits(usd_per_10min=1.0), True),
        (Limits(usd_per_day=1.0), True),
    ],
    ids=["rpm, rpd", "tpm", "usd in ten minutes", "usd a day"],
)
def test_settles_only_where_something_is_counted(path: Path, limits: Limits, writes: bool) -> None:  # noqa: FBT001 # a table
    """Without a limit on tokens or dollars, settling does not touch the file; nor when the estimate was right."""
    with opened(path, limits) as ledger:
        grant = granted(ask(ledger, weights=Weights(tokens=9, usd_micros=9))).grant
        before = path.read_bytes()
        ledger.settle(M, grant, tokens=9, usd_micros=9)
        assert path.read_bytes() == before
        ledger.settle(M, grant, tokens=5, usd_micros=5)

    assert (path.read_bytes() != before) == writes


def test_old_quotas_are_forgotten(path: Path) -> None:
    """What nobody used for a week is dropped, so that the file does not grow with every endpoint that ever was."""
    limits, week_s = Limits(requests_per_day=9), 9 * 86_400.0
    with opened(path, limits, endpoint="http://127.0.0.1:1") as old, opened(path, limits) as ledger:
        ask(old), ask(ledger, week_s)
        assert old.day_left(M, PICTURE, T0, NOON) == 9


# --- time -------------------------------------------------------------------------------------------------------------


def test_time_waited_for_the_turn_is_counted(path: Path) -> None:
    """A grant that had to wait for the lock begins when it was decided, not when it was asked for, and so holds."""
    with opened(path, Limits(requests_per_min=60), steady_s=lambda: T0 + 7.0) as ledger:
        grant = granted(ask(ledger)).grant

        assert grant.at_s == T0 + 7.0
        assert ledger.holds(M, grant, T0 + 7.0)


def test_a_slow_disk_grants_later(path: Path) -> None:
    """When a commit takes seconds, the next grant begins so much later, and does not arrive when it has expired."""
    moments = iter([T0, T0, T0 + 3.0])
    with opened(path, Limits(requests_per_min=60), steady_s=lambda: next(moments, 0.0)) as ledger:
        granted(ask(ledger))

        assert granted(ask(ledger, 3.0)).grant.at_s == T0 + 6.0


def test_reboot_takes_all_as_used_just_now(path: Path) -> None:
    """After a reboot the minute is full for a window at the most, and never forgotten."""
    limits = Limits(requests_per_min=1, requests_per_day=9)
    with opened(path, limits) as before:
        granted(ask(before))
    later = NOON + timedelta(seconds=20)
    with opened(path, limits, boot="two") as after:
        grant = granted(after.reserve(M, PICTURE, 1, 13.0, later)).grant
        assert grant.at_s == 13.0 + CYCLE_S
        assert after.day_left(M, PICTURE, 13.0, later) == 7


def test_clock_that_begins_anew_without_a_boot(path: Path) -> None:
    """Where a system does not name its boots, a clock that went back is one that began anew: nobody waits for its old time."""
    limits = Limits(requests_per_min=1)
    with opened(path, limits, boot="") as ledger:
        granted(ask(ledger))

        assert granted(ledger.reserve(M, PICTURE, 1, 100.0, NOON)).grant.at_s == 100.0 + CYCLE_S


@pytest.mark.parametrize("hours", [-1, 1])
def test_wall_jump_moves_no_day(path: Path, hours: int) -> None:
    """A wall clock that is set an hour off, or sent over midnight, opens no day that was full, and closes none for longer."""
    limits = Limits(requests_per_day=2)
    midnight = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
    start = midnight + timedelta(minutes=-30 if hours > 0 else 30)
    with opened(path, limits) as ledger:
        granted(ledger.reserve(M, PICTURE, 2, T0, start))
        jumped = start + timedelta(hours=hours, seconds=1)

        answer = ledger.reserve(M, PICTURE, 1, T0 + 1, jumped)

        assert isinstance(answer, DayClosed)
        assert ledger.doubts_time(T0 + 1, jumped)


def test_wall_jump_forgets_no_quota(path: Path) -> None:
    """A wall clock that is weeks ahead for a moment, while an answer is settled, lets no other model's day begin anew."""
    limits = Limits(requests_per_day=1, tokens_per_min=9_000)
    with (
        time_machine.travel(NOON, tick=False) as wall,
        opened(path, limits, steady_s=lambda: T0) as ledger,
    ):
        granted(ask(ledger))
        grant = granted(ledger.reserve("another", PICTURE, 1, T0, NOON)).grant
        wall.move_to(NOON + timedelta(days=20))

        ledger.settle("another", grant, tokens=1)

        assert isinstance(ask(ledger), DayClosed)


def test_wall_jump_counts_on_both_dates(path: Path) -> None:
    """While nobody knows which clock is right, a request takes from the days of both, and a server decides for the rest."""
    limits = Limits(requests_per_day=10)
    before = datetime(2026, 11, 23, 7, 30, tzinfo=UTC)
    jumped = before + timedelta(hours=1)
    with opened(path, limits) as ledger:
        granted(ledger.reserve(M, PICTURE, 3, T0, before))
        granted(ledger.reserve(M, PICTURE, 2, T0 + 1, jumped))
        assert ledger.day_left(M, PICTURE, T0 + 1, jumped) == 5

        ledger.note_server_date(jumped, T0 + 1, jumped)

        assert ledger.day_left(M, PICTURE, T0 + 1, jumped) == 8


def test_server_agrees_with_the_wall_clock(path: Path) -> None:
    """A day that was full opens when a server's Date confirms that the wall clock was right to jump."""
    limits = Limits(requests_per_day=1)
    with opened(path, limits) as ledger, opened(path, limits) as other:
        granted(ask(ledger))
        morning = NOON + timedelta(hours=20)
        assert isinstance(ledger.reserve(M, PICTURE, 1, T0 + 1, morning), DayClosed)

        ledger.note_server_date(morning - timedelta(seconds=3), T0 + 1, morning)

        granted(other.reserve(M, PICTURE, 1, T0 + 2, morning))
        assert not other.doubts_time(T0 + 2, morning)


def test_server_dates_are_read_only_when_needed(path: Path) -> None:
    """With two witnesses for the time, a Date costs no look at the file."""
    with opened(path, Limits()) as ledger:
        granted(ask(ledger))
        ledger.note_server_date(NOON, T0, NOON)
        path.unlink()
        ledger.note_server_date(NOON, T0 + 60, NOON + timedelta(seconds=60))

    assert not path.exists()


def test_a_new_day_on_the_real_clocks(path: Path) -> None:
    """With the clocks of a real run, a day that is full opens at midnight Pacific; a clock that was set is not believed."""
    with (
        time_machine.travel(datetime(2026, 3, 8, 18, 0, tzinfo=UTC), tick=False) as wall,
        SqliteLedger(path, Limits(requests_per_day=1), endpoint=ENDPOINT, project="test") as ledger,
    ):
        granted(ledger.reserve(M, PICTURE, 1, boot_time_s(), utc_now()))
        wall.shift(timedelta(hours=14))
        closed = ledger.reserve(M, PICTURE, 1, boot_time_s(), utc_now())
        # Clocks went forward that night: midnight is at 07:00 UTC.
        assert DayClosed(datetime(2026, 3, 9, 7, 0, 1, tzinfo=UTC), "1 request a day") == closed

        ledger.note_server_date(utc_now(), boot_time_s(), utc_now())

        granted(ledger.reserve(M, PICTURE, 1, boot_time_s(), utc_now()))


def test_one_strange_date_moves_no_day(path: Path) -> None:
    """Of a fresh file one strange Date lets no more through, holds no other endpoint, and is forgotten when one agrees."""
    limits, strange = Limits(requests_per_day=20), datetime(2030, 1, 1, 12, tzinfo=UTC)
    with opened(path, limits) as ledger, opened(path, limits, endpoint="https://another") as other:
        granted(ask(ledger, permits=2))
        ledger.note_server_date(strange, T0, NOON)
        assert ledger.day_left(M, PICTURE, T0, NOON) == 18
        assert granted(ask(ledger, permits=18)).permits == 18
        # Noon here and 04:00 there: both have to reach midnight Pacific.
        assert DayClosed(NOON + timedelta(hours=20, seconds=1), "20 requests a day") == ask(ledger)
        assert other.doubts_time(T0, NOON)

        other.note_server_date(NOON, T0, NOON)

        assert not other.doubts_time(T0, NOON)
        assert DayClosed(NEXT_DAY, "20 requests a day") == ask(ledger)
        assert granted(ask(other, permits=20)).permits == 20
        assert granted(ask(ledger, 13 * 3600.0)).permits == 1


@pytest.mark.parametrize(
    "first", [datetime(2030, 1, 1, 7, 59, tzinfo=UTC), datetime(2025, 6, 1, 6, 59, tzinfo=UTC)]
)
def test_a_lone_server_counts_what_was_sent_before_its_date(path: Path, first: datetime) -> None:
    """If the server was right after all, its day is not overrun either, whichever midnight comes first."""
    limits = Limits(requests_per_day=10)
    with opened(path, limits) as ledger:
        granted(ask(ledger, permits=4))
        ledger.note_server_date(first - timedelta(hours=23), T0, NOON)  # its day has just begun

        later = 12.5 * 3600  # past midnight here
        assert granted(ask(ledger, later, permits=9)).permits == 6
        assert isinstance(ask(ledger, later), DayClosed)


def test_a_date_behind_opens_again(path: Path) -> None:
    """A server whose clock stands still, a year ago, holds nothing up on the next days, and they are not counted as one."""
    limits = Limits(requests_per_day=3)
    with opened(path, limits) as ledger:
        granted(ask(ledger))
        for day in range(3):
            at_s, utc = T0 + 86_400 * day, NOON + timedelta(days=day)
            ledger.note_server_date(datetime(2025, 11, 22, 21, tzinfo=UTC), at_s, utc)
            assert ledger.day_left(M, PICTURE, at_s, utc) == (3 if day else 2)
            grant = granted(ledger.reserve(M, PICTURE, 9, at_s, utc)).grant
            assert ledger.holds(M, grant, at_s)
            closed = ledger.reserve(M, PICTURE, 1, at_s, utc)
            assert isinstance(closed, DayClosed)
            assert closed.until < utc + timedelta(days=1)


def test_a_day_closed_in_doubt_stays_closed(path: Path) -> None:
    """The server's word that the day is over is kept by the clock that is believed, and holds nobody longer than a day."""
    limits = Limits(requests_per_day=9)
    with opened(path, limits) as ledger:
        for day, strange in enumerate(
            [datetime(2025, 11, 22, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)] * 2
        ):
            at_s, utc = T0 + 86_400 * day, NOON + timedelta(days=day)
            ledger.note_server_date(strange, at_s, utc)
            grant = granted(ledger.reserve(M, PICTURE, 1, at_s, utc)).grant
            ledger.close_day(M, at_s, utc, grant)

            closed = ledger.reserve(M, PICTURE, 1, at_s, utc)

            assert isinstance(closed, DayClosed)
            assert closed.until <= utc + timedelta(days=1)
            assert not ledger.holds(M, grant, at_s)


def test_a_wall_clock_that_was_years_ahead_from_the_start(path: Path) -> None:
    """What a wrong clock moved to a date years ahead goes back to today when the clock is set right, and today counts it."""
    limits, wrong = Limits(requests_per_day=9), datetime(2030, 1, 1, 12, tzinfo=UTC)
    with opened(path, limits) as ledger:
        granted(ledger.reserve(M, PICTURE, 4, T0, wrong))
        granted(ledger.reserve("closed", PICTURE, 1, T0, wrong))
        ledger.close_day("closed", T0, wrong)
        ledger.note_server_date(NOON, T0, wrong)
        assert granted(ledger.reserve(M, PICTURE, 9, T0, wrong)).permits == 5

        ledger.note_server_date(NOON + timedelta(seconds=60), T0 + 60, NOON + timedelta(seconds=60))

        assert ledger.day_left(M, PICTURE, T0 + 60, NOON + timedelta(seconds=60)) == 0
        assert DayClosed(NEXT_DAY, "9 requests a day") == ask(ledger, 61)
        granted(ask(ledger, 13 * 3600.0))
        tomorrow = NOON + timedelta(hours=13)
        granted(ledger.reserve("closed", PICTURE, 1, T0 + 13 * 3600, tomorrow))


def test_a_wall_clock_without_a_battery(path: Path) -> None:
    """A clock that begins in 1970 is no witness: the server is asked first, and it is its day that counts."""
    limits, never = Limits(requests_per_day=9), datetime(1970, 1, 1, 0, 5, tzinfo=UTC)
    with opened(path, limits) as ledger:
        assert ledger.doubts_time(T0, never)
        ledger.note_server_date(NOON, T0, never)

        assert granted(ledger.reserve(M, PICTURE, 99, T0, never)).permits == 9
        assert DayClosed(NEXT_DAY, "9 requests a day") == ledger.reserve(M, PICTURE, 1, T0, never)
        granted(ledger.reserve(M, PICTURE, 1, T0 + 86_400, never + timedelta(days=1)))


def test_a_date_that_went_back_goes_on(path: Path) -> None:
    """Where nobody knows when it was used, what a wrong clock's date used fills today, and not tomorrow as well."""
    limits, wrong = Limits(requests_per_day=1), datetime(2030, 1, 1, 12, tzinfo=UTC)
    with opened(path, limits) as ledger:
        granted(ledger.reserve(M, PICTURE, 1, T0, wrong))
    with opened(path, limits, boot="two") as rebooted:
        rebooted.note_server_date(NOON, 30.0, NOON)
        for hours, expected in ((0, DayClosed), (13, Granted), (14, DayClosed), (37, Granted)):
            verdict = rebooted.reserve(
                M, PICTURE, 1, 30.0 + 3600 * hours, NOON + timedelta(hours=hours)
            )
            assert isinstance(verdict, expected)


@pytest.mark.parametrize("ahead_h", [8, -8, 100, -100])
def test_a_wall_clock_that_is_hours_off_from_the_start(path: Path, ahead_h: int) -> None:
    """Night after night, the server's day is never overrun, and no more than one night is lost until the server is believed."""
    limits, sent, start = (
        Limits(requests_per_day=20),
        Counter[date](),
        NOON + timedelta(hours=8),
    )  # 20:00 Pacific
    for night in range(6):
        with opened(path, limits) as ledger:
            at_s, true = T0 + 86_400 * night, start + timedelta(days=night)
            wall = true + timedelta(hours=ahead_h)
            if ledger.doubts_time(at_s, wall):
                ledger.note_server_date(true, at_s, wall)
            for second in range(40):
                passed = timedelta(seconds=second)
                if isinstance(ledger.reserve(M, PICTURE, 1, at_s + second, wall + passed), Granted):
                    sent[(true + passed).astimezone(PACIFIC).date()] += 1
                ledger.note_server_date(true + passed, at_s + second, wall + passed)

    assert max(sent.values()) <= 20
    assert sum(sent.values()) >= 5 * 20 - 1  # and the request before the first Date


@pytest.mark.parametrize("year", [2019, 2030, 9999])
def test_a_file_that_believes_a_wrong_date_heals(path: Path, year: int) -> None:
    """What a file holds by a wrong clock, however far, is mended by the next server that agrees with the wall clock."""
    limits = Limits(requests_per_day=9)
    wrong = datetime(year, 12, 30, 12, tzinfo=UTC)
    with opened(path, limits) as ledger:
        granted(ask(ledger, permits=2))
        with ledger._file.transaction(writes=True) as connection:
            rows, quota, key = Rows(connection, path), ModelQuota(limits), (ENDPOINT, "test", M)
            assert rows.belief
            rows.load(key, quota, rows.belief, T0)
            quota.reserve(PICTURE, 3, T0, wrong)
            quota.close_day(wrong)
            rows.save(key, quota, 0, limits, wrong)
            offset_s = (wrong - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() - T0
            rows.note_belief(
                replace(
                    rows.belief, offset_s=offset_s, is_sure=True, refuted_s=rows.belief.offset_s
                )
            )
    with opened(path, limits) as ledger:
        at_s, utc = T0 + 2 * 86_400, NOON + timedelta(days=2)
        ledger.used(M, at_s, utc), ask(ledger), standings(path, at_s, utc, boot="one")
        if ledger.doubts_time(at_s, utc):
            ledger.note_server_date(utc, at_s, utc)
        tomorrow = timedelta(days=1)

        assert granted(ledger.reserve(M, PICTURE, 1, at_s + 86_400, utc + tomorrow)).permits == 1
        assert standings(path, at_s + 86_400, utc + tomorrow, boot="one")[0].at == utc + tomorrow


def test_a_server_that_is_years_ahead_forgets_no_quota(path: Path) -> None:
    """Also a strange server that is believed in the end does not make the ledger forget what others used."""
    limits, strange = Limits(requests_per_day=1), datetime(2030, 1, 1, 12, tzinfo=UTC)
    with (
        opened(path, limits) as ledger,
        opened(path, limits, endpoint="http://127.0.0.1:1") as simulator,
    ):
        granted(ask(ledger))
        for hours in (0, 2):
            ledger.note_server_date(
                strange + timedelta(hours=hours), T0 + 3600 * hours, NOON + timedelta(hours=hours)
            )
        granted(ask(simulator, 7200.0))
        later, wall = T0 + 7300.0, NOON + timedelta(seconds=7300)

        ledger.note_server_date(wall, later, wall)

        assert ledger.day_left(M, PICTURE, later, wall) == 0


EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "pass_s": st.floats(0, 30) | st.floats(0, 5000),
            "wall_ahead_s": st.sampled_from([0.0, 0.0, 3600.0, -3600.0]),
            "reboot": st.sampled_from([False, False, False, True]),
            "off_s": st.floats(0, 40_000),
            "answers": st.booleans(),
            "permits": st.integers(1, 3),
        }
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(events=EVENTS)
def test_jumps_and_reboots_overrun_nothing(events: list[dict[str, Any]]) -> None:
    """Wall clocks that jump by an hour and back, and reboots: no minute and no true date is overrun, no wait exceeds a window.

    As a run does, each start of a process asks the server for the time when it is in doubt. The very first wall clock is right.
    """
    limits, sent = Limits(requests_per_min=4, requests_per_day=9), list[tuple[float, int]]()
    true_s, booted_s, boots = 0.0, -T0, 0
    start = datetime(2026, 11, 1, 6, 0, tzinfo=UTC)  # the night in which clocks go back
    with TemporaryDirectory(dir=RAM) as folder:
        ledger = opened(Path(folder) / "q", limits, boot="0")
        for number, event in enumerate(events):
            true_s += event["pass_s"]
            if event["reboot"]:
                ledger.close()
                true_s += 10.0 + event["off_s"]
                boots, booted_s = boots + 1, true_s - 5.0
                ledger = opened(Path(folder) / "q", limits, boot=str(boots))
            now_s, true_utc = true_s - booted_s, start + timedelta(seconds=true_s)
            wall = true_utc + timedelta(seconds=event["wall_ahead_s"] if number else 0.0)
            is_start = number == 0 or event["reboot"]
            if event["answers"] or (is_start and ledger.doubts_time(now_s, wall)):
                ledger.note_server_date(true_utc, now_s, wall)
            verdict = ledger.reserve(M, PICTURE, event["permits"], now_s, wall)
            if isinstance(verdict, Granted):
                assert verdict.grant.at_s - now_s <= CYCLE_S
                true_s += verdict.grant.at_s - now_s
                sent.append((true_s, verdict.permits))
        ledger.close()

    assert fullest(sent, 60.0) <= 4 if sent else True
    on_date = Counter[date]()
    for at_s, permits in sent:
        on_date[(start + timedelta(seconds=at_s)).astimezone(PACIFIC).date()] += permits
    assert max(on_date.values(), default=0) <= 9


@settings(max_examples=60, deadline=None)
@given(
    events=st.lists(
        st.tuples(
            st.sampled_from([0.0, 5.0, 700.0, 5000.0, 30_000.0]),
            st.sampled_from([None, 0.0, 0.0, 9.0, -9.0, 400.0, 30_000.0, -9_000.0, -60_000.0]),
            st.integers(1, 9),
        ),
        max_size=40,
    )
)
def test_strange_servers_overrun_nothing(events: list[tuple[float, float | None, int]]) -> None:
    """A right wall clock, and servers that are hours or years off, in any order: no true date is overrun.

    Nor does any hold up a date for longer than all that is said to be today takes to end; and one right Date ends all doubt.
    """
    limits, on_date, start = (
        Limits(requests_per_day=9),
        Counter[date](),
        datetime(2026, 11, 1, 6, 0, tzinfo=UTC),
    )
    true_s = 0.0
    with TemporaryDirectory(dir=RAM) as folder, opened(Path(folder) / "q", limits) as ledger:
        for number, (pass_s, off_h, permits) in enumerate(events):
            true_s += pass_s
            now_s, utc = T0 + true_s, start + timedelta(seconds=true_s)
            verdict = ledger.reserve(M, PICTURE, permits, now_s, utc)
            if isinstance(verdict, Granted):
                sent_at = utc + timedelta(seconds=verdict.grant.at_s - now_s)
                on_date[sent_at.astimezone(PACIFIC).date()] += verdict.permits
            else:
                assert isinstance(verdict, DayClosed)
                assert utc < verdict.until <= utc + timedelta(hours=25, seconds=1)
            if off_h is not None:
                strange = timedelta(
                    hours=off_h, minutes=2 * number if off_h else 0
                )  # none says the same again
                ledger.note_server_date(utc + strange, now_s, utc)
        now_s, utc = T0 + true_s + 20, start + timedelta(seconds=true_s + 20)
        ledger.note_server_date(utc, now_s, utc)
        assert not ledger.doubts_time(now_s, utc)

    assert max(on_date.values(), default=0) <= 9
