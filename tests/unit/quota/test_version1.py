"""Files that the first version of the ledger wrote, byte for byte as it did."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from gemini_batch.errors import StorageError
from gemini_batch.quota.results import DayClosed, Paused
from gemini_batch.quota.status import statuses
from gemini_batch.quota.storage import SqliteStorage
from gemini_batch.records import Limits
from tests.unit.quota.contract import NEXT_DAY, NOON, PICTURE, T0, M, granted, requests_left
from tests.unit.quota.files import ENDPOINT, ask, opened

LIMITS = Limits(requests_per_min=15, requests_per_day=1500)
# A dump of the file after 3 requests, a pause of 34 s and another model's closed day.
DUMP = """
CREATE TABLE clock (
    one INTEGER PRIMARY KEY CHECK (one = 1), state TEXT NOT NULL, crc32 INTEGER NOT NULL);
INSERT INTO clock VALUES(1, '{"belief":{"boot_id":"one","era":0,"seen_s":1000000.0,'
    || '"offset_s":1794377600.0,"is_sure":false,"refuted_s":null,"rival_s":null,'
    || '"rival_since_s":0.0},"rebuilt_at":null}', 1577265443);
CREATE TABLE quotas (
    endpoint TEXT, project TEXT, model TEXT, era INTEGER NOT NULL, used_at REAL NOT NULL,
    limits TEXT NOT NULL, state TEXT NOT NULL, crc32 INTEGER NOT NULL,
    PRIMARY KEY (endpoint, project, model));
INSERT INTO quotas VALUES('https://generativelanguage.googleapis.com', 'test',
    'gemini-3-pro-image-preview', 0, 1795377600.0,
    '{"requests_per_min":15,"tokens_per_min":null,"images_per_min":null,"requests_per_day":1500,'
    || '"usd_per_10min":null,"usd_per_day":null,"minute_s":60.0}',
    '{"slot_us":250000,"last":4000000,"paused":[4000136,"the server asked for a pause"],'
    || '"level":[1,4000000],"windows":[[4000000,3],[4000000,3],[4000000,21],[400000,402000]],'
    || '"days":[[739942,0],[739942,3,402000]]}', 116829503);
INSERT INTO quotas VALUES('https://generativelanguage.googleapis.com', 'test', 'another', 0,
    1795377600.0,
    '{"requests_per_min":15,"tokens_per_min":null,"images_per_min":null,"requests_per_day":1500,'
    || '"usd_per_10min":null,"usd_per_day":null,"minute_s":60.0}',
    '{"slot_us":250000,"last":0,"paused":[0,""],"level":[0,0],"windows":[[],[],[],[]],'
    || '"days":[[0,739942]]}', 4068269284);
PRAGMA application_id = 0x67656D69;
PRAGMA user_version = 1;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return such a file."""
    path = tmp_path / "quota.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(DUMP)
    return path


def test_all_but_the_belief_is_used(path: Path) -> None:
    """Minute, day, pause, guard and closed day of the first version hold on; the rest is ignored."""
    with opened(path, LIMITS) as ledger:
        assert ledger.notices == ()
        assert ask(ledger) == Paused(T0 + 34.0, "the server asked for a pause")
        assert requests_left(ledger) == 1497
        assert granted(ask(ledger, 34.0, permits=15)).permits == 12
        assert granted(ask(ledger, 34.0)).grant.at_s == T0 + 62.25  # the guard was doubled
        closed = ledger.reserve("another", PICTURE, 1, T0, NOON)
        assert closed == DayClosed(NEXT_DAY, "the server closed the day")
    with opened(path, LIMITS) as again:
        assert requests_left(again) == 1484


def test_a_reboot_since_is_noticed(path: Path) -> None:
    """Its moments count from the boot that it names; after another one the windows are moved."""
    later = NOON + timedelta(seconds=20)
    with opened(path, Limits(requests_per_min=3), boot="two") as ledger:
        assert ledger.reserve(M, PICTURE, 1, 13.0, later) == Paused(
            47.0, "the server asked for a pause"
        )
        assert granted(ledger.reserve(M, PICTURE, 1, 47.0, later)).grant.at_s == 13.0 + 62.25


def test_it_is_shown_and_left_alone(path: Path) -> None:
    """`quota` shows such a file without changing it."""
    before = path.read_bytes()
    shown = statuses(SqliteStorage(path, steady_s=lambda: T0, boot="one"), NOON)

    assert [(each.key.endpoint, each.key.model) for each in shown] == [
        (ENDPOINT, "another"),
        (ENDPOINT, M),
    ]
    assert (shown[0].is_day_closed, shown[1].paused_s, shown[1].used[0].used) == (True, 34.0, 3)
    assert path.read_bytes() == before


@pytest.mark.parametrize("change", ["state = '{}'", "limits = '[]'", "used_at = 'x'", "crc32 = 1"])
def test_a_damaged_one_is_set_aside(path: Path, change: str) -> None:
    """What the first version did not write is not migrated."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE quotas SET {change}")

    with pytest.raises(StorageError, match="is damaged"):
        SqliteStorage(path).scan()
    with opened(path, LIMITS) as ledger:
        assert "is damaged" in ledger.notices[0]
