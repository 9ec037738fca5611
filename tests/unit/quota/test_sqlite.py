import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
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
from gemini_batch.quota.model_quota import DayClosed, Granted, Paused, ReserveResult
from gemini_batch.quota.storage.memory import MemoryLedger
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


def test_a_new_day_on_the_real_clocks(path: Path) -> None:
    """With the clocks of a real run, a day that is full opens at midnight Pacific."""
    with (
        time_machine.travel(datetime(2026, 3, 8, 18, 0, tzinfo=UTC), tick=False) as wall,
        SqliteLedger(path, Limits(requests_per_day=1), endpoint=ENDPOINT, project="test") as ledger,
    ):
        granted(ledger.reserve(M, PICTURE, 1, boot_time_s(), utc_now()))
        closed = ledger.reserve(M, PICTURE, 1, boot_time_s(), utc_now())
        # Clocks went forward that night: midnight is at 07:00 UTC.
        assert DayClosed(datetime(2026, 3, 9, 7, 0, 1, tzinfo=UTC), "1 request a day") == closed
        wall.shift(timedelta(hours=14))

        granted(ledger.reserve(M, PICTURE, 1, boot_time_s(), utc_now()))


EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "pass_s": st.floats(0, 30) | st.floats(0, 5000),
            "reboot": st.sampled_from([False, False, False, True]),
            "off_s": st.floats(0, 40_000),
            "permits": st.integers(1, 3),
        }
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(events=EVENTS)
def test_reboots_overrun_nothing(events: list[dict[str, Any]]) -> None:
    """Reboots overrun no minute and no date, and no wait exceeds a window."""
    limits, sent = Limits(requests_per_min=4, requests_per_day=9), list[tuple[float, int]]()
    true_s, booted_s, boots = 0.0, -T0, 0
    start = datetime(2026, 11, 1, 6, 0, tzinfo=UTC)  # the night in which clocks go back
    with TemporaryDirectory(dir=RAM) as folder:
        ledger = opened(Path(folder) / "q", limits, boot="0")
        for event in events:
            true_s += event["pass_s"]
            if event["reboot"]:
                ledger.close()
                true_s += 10.0 + event["off_s"]
                boots, booted_s = boots + 1, true_s - 5.0
                ledger = opened(Path(folder) / "q", limits, boot=str(boots))
            now_s, utc = true_s - booted_s, start + timedelta(seconds=true_s)
            verdict = ledger.reserve(M, PICTURE, event["permits"], now_s, utc)
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
