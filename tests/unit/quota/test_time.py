from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.clock import boot_time_s, utc_now
from gemini_batch.quota.results import DayClosed, Granted
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.records import Limits
from tests.ledgers import open_storage
from tests.unit.quota.contract import CYCLE_S, NOON, PICTURE, T0, M, granted, requests_left
from tests.unit.quota.files import RAM, ask, opened
from tests.unit.quota.test_model_quota import fullest

PACIFIC = ZoneInfo("America/Los_Angeles")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a ledger that does not exist yet."""
    return tmp_path / "state" / "quota.sqlite"


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
        assert requests_left(after, 13.0, later) == 7


def test_clock_that_begins_again_without_a_boot(path: Path) -> None:
    """Where a system does not name its boots, a clock that went back is one that began anew: nobody waits for its old time."""
    limits = Limits(requests_per_min=1)
    with opened(path, limits, boot="") as ledger:
        granted(ask(ledger))

        assert granted(ledger.reserve(M, PICTURE, 1, 100.0, NOON)).grant.at_s == 100.0 + CYCLE_S


def test_a_new_day_on_the_real_clocks(path: Path) -> None:
    """With the clocks of a real run, a day that is full opens at midnight Pacific."""
    with (
        time_machine.travel(datetime(2026, 3, 8, 18, 0, tzinfo=UTC), tick=False) as wall,
        SharedLedger(open_storage(path), Limits(requests_per_day=1)) as ledger,
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
            result = ledger.reserve(M, PICTURE, event["permits"], now_s, utc)
            if isinstance(result, Granted):
                assert result.grant.at_s - now_s <= CYCLE_S
                true_s += result.grant.at_s - now_s
                sent.append((true_s, result.permits))
        ledger.close()

    assert fullest(sent, 60.0) <= 4 if sent else True
    on_date = Counter[date]()
    for at_s, permits in sent:
        on_date[(start + timedelta(seconds=at_s)).astimezone(PACIFIC).date()] += permits
    assert max(on_date.values(), default=0) <= 9
