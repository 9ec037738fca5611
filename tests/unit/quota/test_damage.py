import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gemini_batch.errors import ConfigError, StorageError
from gemini_batch.quota.limits import Weights
from gemini_batch.quota.results import DayClosed
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import SqliteStorage, state_path
from gemini_batch.quota.storage.fair_lock import FairFileLock
from gemini_batch.records import Limits
from tests.unit.quota.contract import CYCLE_S, PICTURE, T0, M, granted, requests_left
from tests.unit.quota.files import ask, opened

LIMITS = Limits(requests_per_min=15, requests_per_day=1500)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a ledger was used."""
    path = tmp_path / "quota.sqlite"
    with opened(path, LIMITS) as ledger:
        ask(ledger, permits=5)
    return path


def sqlite_of(ledger: SharedLedger) -> sqlite3.Connection:
    """Return the connection of a ledger."""
    assert isinstance(ledger.storage, SqliteStorage)
    assert ledger.storage._connection
    return ledger.storage._connection


def overwrite(path: Path, at: int, data: bytes) -> None:
    """Damage a file."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def flip_a_digit(path: Path) -> None:
    """Change a count in a way that SQLite does not notice."""
    at = path.read_bytes().rindex(b'"days":[[') + 12
    overwrite(path, at, b"1")


# --- where it is ------------------------------------------------------------------------------------------------------


def test_place(tmp_path: Path) -> None:
    """The file is in the folder that the environment names, else in the person's state folder."""
    assert state_path({"GEMINI_BATCH_STATE_DIR": str(tmp_path)}) == tmp_path / "quota.sqlite"
    assert "gemini_batch" in str(state_path({}))


# --- damaged ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a database at all" * 100),
        lambda path: os.truncate(path, 5000),
        lambda path: overwrite(path, 4096, b"\xff" * 4096),
        lambda path: overwrite(path, 60, b"\0\0\0\0\0\0\0\0\0\0\0\0"),
        flip_a_digit,
    ],
    ids=[
        "empty",
        "no database",
        "truncated",
        "a page lost",
        "another program's",
        "a digit flipped",
    ],
)
def test_damaged_file_is_set_aside_and_counted_as_full(
    path: Path, damage: Callable[[Path], object]
) -> None:
    """Whatever is wrong with the file, it is kept aside, and the minute and the day count as used up; the person is told."""
    damage(path)
    damaged = path.read_bytes()

    with opened(path, LIMITS) as ledger:
        notice = " ".join(ledger.notices)
        assert "is damaged" in notice
        assert "quota.sqlite.corrupt-1" in notice
        assert path.with_name("quota.sqlite.corrupt-1").read_bytes() == damaged
        rebuilt_at = datetime.now(UTC)
        closed = ledger.reserve(M, PICTURE, 1, T0, rebuilt_at)
        assert isinstance(closed, DayClosed)
        assert closed.why == "1,500 requests a day"
        granted(ledger.reserve(M, PICTURE, 1, T0 + 86400 * 2, rebuilt_at + timedelta(days=2)))
    with opened(path, LIMITS) as again:
        assert again.notices == ()


def test_after_damage_a_run_goes_on_after_a_window(path: Path) -> None:
    """Without a limit of the day, what is not known any more holds a run for no longer than a window, whatever the limits."""
    path.write_bytes(b"")
    with opened(path, Limits(requests_per_min=15, usd_per_10min=10.0)) as ledger:
        now = datetime.now(UTC)

        light = granted(ledger.reserve(M, PICTURE, 1, T0, now)).grant
        heavy = granted(ledger.reserve(M, Weights(usd_micros=1), 1, T0, now)).grant

    assert T0 + 55 < light.at_s <= T0 + CYCLE_S
    assert T0 + 590 < heavy.at_s <= T0 + 610


def test_damage_in_the_middle_of_a_run_stops_it(path: Path) -> None:
    """A file that is damaged while a run uses it grants nothing: the next run sets it aside."""
    with opened(path, LIMITS) as ledger:
        with closing(sqlite3.connect(path)) as other:
            other.execute("UPDATE states SET state = replace(state, '[', '[1')")
            other.commit()
        with pytest.raises(StorageError, match=r"quota\.sqlite: is damaged: its checksum is wrong"):
            ask(ledger)


def test_next_damage_is_kept_too(path: Path) -> None:
    """No file that was set aside is overwritten."""
    for _ in range(2):
        path.write_bytes(b"")
        opened(path, LIMITS).close()

    assert sorted(each.name for each in path.parent.glob("*corrupt*")) == [
        "quota.sqlite.corrupt-1",
        "quota.sqlite.corrupt-2",
    ]


def test_newer_version_is_left_alone(path: Path) -> None:
    """What a newer version wrote is neither read nor changed, and the sentence says what to do."""
    overwrite(path, 60, (3).to_bytes(4, "big"))
    before = path.read_bytes()

    with pytest.raises(
        ConfigError, match=r"newer gemini_batch \(version 3; this one knows 2\): update"
    ):
        opened(path, LIMITS)

    assert path.read_bytes() == before


# --- not to be had ----------------------------------------------------------------------------------------------------


def test_locked_by_another_program(path: Path) -> None:
    """A database that another program holds is waited for, and then a sentence says so; nothing was granted."""
    with opened(path, LIMITS, locked_s=0.1) as ledger:
        other = sqlite3.connect(path)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(
            StorageError, match=r"another program has held it for 0\.1 s; end that program"
        ):
            ask(ledger)
        other.close()

        assert requests_left(ledger) == 1495


def test_turn_that_does_not_come(path: Path) -> None:
    """A process that stopped in its turn holds nobody for ever, and when it goes on all is as before."""
    with opened(path, LIMITS, locked_s=0.1) as ledger:
        with (
            FairFileLock(path.with_name("quota.sqlite.lock"), 1.0) as stopped,
            pytest.raises(StorageError, match="has held it"),
        ):
            ask(ledger)
        stopped.close()

        granted(ask(ledger))
        assert requests_left(ledger) == 1494


def test_busy_threads(path: Path) -> None:
    """A thread that waits for another one of its own process gives up after the same time."""
    with opened(path, LIMITS, locked_s=0.1) as ledger:
        inside, done, storage = threading.Event(), threading.Event(), ledger.storage
        assert isinstance(storage, SqliteStorage)

        def hold() -> None:
            with storage._transaction():
                inside.set()
                done.wait(5)

        thread = threading.Thread(target=hold)
        thread.start()
        inside.wait(5)
        with pytest.raises(StorageError, match="has held it"):
            ask(ledger)
        done.set()
        thread.join()


def test_read_only_file(path: Path) -> None:
    """A file that can't be written grants nothing; the message names it and the way out."""
    with opened(path, LIMITS) as ledger:
        sqlite_of(ledger).execute("PRAGMA query_only = 1")  # root may write any file
        with pytest.raises(
            StorageError,
            match=r"can't be written .* writable, or name another folder by GEMINI_BATCH_STATE_DIR",
        ):
            ask(ledger)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write any folder")
def test_read_only_folder(path: Path) -> None:
    """In a folder that can't be written no ledger opens."""
    path.parent.chmod(0o500)
    with pytest.raises(ConfigError, match="Permission denied"):
        opened(path, LIMITS)
    path.parent.chmod(0o700)


def test_folder_that_is_none(tmp_path: Path) -> None:
    """A state folder that is a file is a mistake of the environment."""
    (tmp_path / "state").touch()
    with pytest.raises(ConfigError, match=r"state: File exists; fix the folder, or name another"):
        opened(tmp_path / "state" / "quota.sqlite", LIMITS)


def test_full_disk(path: Path) -> None:
    """On a full disk nothing is granted that was not counted, and with room again all goes on."""
    with opened(path, LIMITS) as ledger:
        connection = sqlite_of(ledger)
        ((pages,),) = connection.execute("PRAGMA page_count")
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageError, match="the disk is full; make room"):
            ledger.pause(M, T0 + 1, "words" * 10_000, T0)
        connection.execute("PRAGMA max_page_count = 1000000")

        granted(ask(ledger))
        assert requests_left(ledger) == 1494


def test_a_question_that_fails_holds_nobody(path: Path) -> None:
    """After a call that is refused, or fails, the next one finds the file as it was."""
    with (
        opened(path, Limits(tokens_per_min=5, requests_per_day=1500)) as ledger,
        opened(path, LIMITS, locked_s=0.1) as other,
    ):
        with pytest.raises(ValueError, match="never be sent"):
            ask(ledger, weights=Weights(tokens=6))

        granted(ask(other))
        granted(ask(ledger))


# --- replaced, deleted, closed ----------------------------------------------------------------------------------------


def test_deleted_while_a_run_goes_on(path: Path) -> None:
    """After `quota --reset` a run goes on with a new file, and not with the one that nobody sees any more."""
    with opened(path, LIMITS) as ledger:
        assert SqliteStorage(path).clear()
        granted(ask(ledger))
        with opened(path, LIMITS) as other:
            assert requests_left(other) == 1499
    assert not SqliteStorage(path.with_name("none")).clear()


def test_closed_is_closed(path: Path) -> None:
    """A ledger that is used after its end says so, and opens nothing again."""
    ledger = opened(path, LIMITS)
    ledger.close()
    ledger.close()

    with pytest.raises(RuntimeError, match="used after it was closed"):
        ask(ledger)


def test_every_commit_is_on_the_disk(path: Path) -> None:
    """The journal is truncated and synced: a power cut takes back no reservation that was told of."""
    with opened(path, LIMITS) as ledger:
        connection = sqlite_of(ledger)
        modes = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "fullfsync")
        ]

    assert modes == ["truncate", 2, 1]


KILLED = """
import os, sys
from pathlib import Path
from gemini_batch.quota.state import SharedQuota
from tests.unit.quota.contract import M, NOON, PICTURE, T0
from tests.unit.quota.test_damage import LIMITS
from tests.unit.quota.files import opened
ledger = opened(Path(sys.argv[1]), LIMITS)
storage = ledger.storage
dump = SharedQuota.dump
def killed(self):
    if sys.argv[2] == "spilled":  # the pages are in the file, and the journal has what was there before
        connection = storage._connection
        connection.execute("PRAGMA cache_spill = 1"); connection.execute("PRAGMA cache_size = 1")
        rows = ((str(i), "x" * 3000) for i in range(300))
        connection.executemany("INSERT INTO states VALUES (?, '', '', ?, 0)", rows)
    os.kill(os.getpid(), 9)
SharedQuota.dump = killed
ledger.reserve(M, PICTURE, 7, T0, NOON)
"""


@pytest.mark.parametrize("where", ["before the write", "spilled"])
def test_killed_in_its_turn(path: Path, where: str) -> None:
    """A process that is killed in the middle of a transaction leaves a file that is whole, without what it did not end."""
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), where],
        check=False,
        capture_output=True,
        text=True,
    )
    assert process.returncode == -9, process.stderr

    with opened(path, LIMITS) as ledger:
        assert ledger.notices == ()
        assert requests_left(ledger) == 1495
