"""The SQLite file behind the ledger: where it is, how it is made, and what is done when it can't be trusted.

A commit is on the disk before it is known to anyone (`journal_mode=TRUNCATE`, `synchronous=FULL`): a process that is killed, or
a power cut, takes back at most a reservation that nobody was told of, and none that was used. With `synchronous=NORMAL` the
emptying of the journal is not synced, and after a power cut the last reservation that was used would be rolled back.
"""

import os
import shutil
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import orjson
import platformdirs

from gemini_batch.errors import ConfigError
from gemini_batch.quota.storage.fair_lock import FairFileLock
from gemini_batch.quota.storage.faults import (
    ELSEWHERE,
    FOLDER_VARIABLE,
    LOCKED_S,
    DamagedError,
    sentences,
)
from gemini_batch.records import Limits

_VERSION = 1
_APPLICATION_ID = 0x67656D69  # "gemi": tells our file from another program's
_SCHEMA = f"""
BEGIN;
CREATE TABLE clock (one INTEGER PRIMARY KEY CHECK (one = 1), state TEXT NOT NULL, crc32 INTEGER NOT NULL);
CREATE TABLE quotas (
    endpoint TEXT, project TEXT, model TEXT, era INTEGER NOT NULL, used_at REAL NOT NULL,
    limits TEXT NOT NULL, state TEXT NOT NULL, crc32 INTEGER NOT NULL, PRIMARY KEY (endpoint, project, model)
);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
COMMIT;
"""


def state_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the ledger is: in the person's state folder, or in that of `GEMINI_BATCH_STATE_DIR`."""
    folder = environment.get(FOLDER_VARIABLE) or platformdirs.user_state_path("gemini_batch")
    return Path(folder).expanduser() / "quota.sqlite"


class StateFile:
    """One file, its connection and its turnstile; threads and processes use it one at a time.

    A file that was replaced or deleted meanwhile is noticed with the next transaction.

    Attributes:
        notice: What a person has to know about the opening; `""` when all is well.
    """

    def __init__(self, path: Path, *, locked_s: float = LOCKED_S) -> None:
        """Open the file; make it if there is none, and set it aside and make a new one if it is damaged.

        Raises:
            StorageError: It can't be read or written, or another process holds it.
            ConfigError: A newer version wrote it.
        """
        self._path = path
        self._locked_s = locked_s
        self._threads = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._is_closed = False
        self.notice = ""
        with sentences(path, locked_s):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._turnstile = _turnstile(path, locked_s)
        try:
            with sentences(path, locked_s), self._turnstile:
                self._open_or_rebuild()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return itself, open."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the file, when the transaction that goes on has ended; a second time does nothing."""
        with self._threads:
            if not self._is_closed:
                self._is_closed = True
                self._disconnect()
                self._turnstile.close()

    @contextmanager
    def transaction(self, *, writes: bool) -> Iterator[sqlite3.Connection]:
        """Give the connection for one transaction; what it did is on the disk when the context ends, or never.

        Raises:
            StorageError: Nothing was changed.
        """
        with sentences(self._path, self._locked_s), self._turn():
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # what made it fail says more
                    connection.rollback()
                raise

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._threads.acquire(timeout=self._locked_s):
            raise TimeoutError
        try:
            if self._is_closed:
                raise RuntimeError(f"{self._path} is used after it was closed")
            with self._turnstile:
                yield
        finally:
            self._threads.release()

    # --- opening ------------------------------------------------------------------------------------------------------

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None or self._identity != _identity(self._path):
            self._open()
        assert self._connection  # noqa: S101 # for mypy
        return self._connection

    def _open_or_rebuild(self) -> None:
        try:
            with sentences(self._path, self._locked_s):
                self._open()
        except DamagedError as error:
            self._disconnect()
            aside = _kept_aside(self._path)
            _create(self._path, rebuilt_at=datetime.now(UTC))
            self._open()
            self.notice = (
                f"{error}. It is kept as {aside.name}. What was used is not known any more: the last minutes, and today, count as "
                "used up where there is a limit. If today's quota is not used up, tell it so: gemini-batch quota --reset"
            )

    def _open(self) -> None:
        """Connect to the file that bears the name now, and make sure that it is ours and whole."""
        self._disconnect()
        if not self._path.exists():
            _create(self._path)
        self._connection = connect(self._path, self._locked_s)
        self._connection.execute("PRAGMA journal_mode = TRUNCATE")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "PRAGMA fullfsync = ON"
        )  # on macOS a plain fsync stops at the disk's cache
        check(self._connection, self._path)
        self._identity = _identity(self._path)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def connect(path: Path, locked_s: float = LOCKED_S) -> sqlite3.Connection:
    """Return a connection to a file that is there; threads may share it, one at a time."""
    uri = path.absolute().as_uri() + "?mode=rw"
    return sqlite3.connect(
        uri, uri=True, timeout=locked_s, isolation_level=None, check_same_thread=False
    )


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Make sure that a file is ours and whole.

    Raises:
        DamagedError: It is not.
        ConfigError: A newer version wrote it.
    """
    ((application,),) = connection.execute("PRAGMA application_id")
    ((version,),) = connection.execute("PRAGMA user_version")
    if application != _APPLICATION_ID:
        raise DamagedError(f"{path}: is damaged: it is not what gemini_batch wrote")
    if version > _VERSION:
        raise ConfigError(
            f"{path}: was written by a newer gemini_batch (version {version}; this one knows {_VERSION}): update this one, {ELSEWHERE}"
        )
    ((health,),) = connection.execute("PRAGMA quick_check(1)")
    if health != "ok":
        raise DamagedError(f"{path}: is damaged: {health}")
    clocks = connection.execute("SELECT state, crc32 FROM clock").fetchall()
    if len(clocks) != 1:
        raise DamagedError(f"{path}: is damaged: it does not say what time it was")
    quotas = connection.execute(
        "SELECT state, crc32, limits, endpoint, project, model, era, used_at FROM quotas"
    )
    for state, crc32, limits, *key, era, used_at in quotas:
        parse(state, crc32, path)
        parse_limits(limits, path)
        if not (
            all(isinstance(each, str) for each in key)
            and isinstance(era, int)
            and isinstance(used_at, float)
        ):
            raise DamagedError(f"{path}: is damaged: a row has values that nobody wrote")
    state, crc32 = clocks[0]
    parse(state, crc32, path)


def parse(state: Any, crc32: Any, path: Path) -> dict[str, Any]:
    """Return what `packed` was given.

    Raises:
        DamagedError: It is not that: SQLite itself does not notice a flipped bit.
    """
    if not isinstance(state, str) or zlib.crc32(state.encode()) != crc32:
        raise DamagedError(f"{path}: is damaged: its checksum is wrong")
    return dict(orjson.loads(state))


def parse_limits(text: Any, path: Path) -> Limits:
    """Return the limits that a quota was used by.

    Raises:
        DamagedError: They are none.
    """
    try:
        values = orjson.loads(text)
        if all(
            value is None or (isinstance(value, int | float) and value > 0)
            for value in values.values()
        ):
            return Limits(**values)
    except (TypeError, ValueError, AttributeError):
        pass
    raise DamagedError(f"{path}: is damaged: it holds limits that nobody set")


def packed(values: dict[str, Any]) -> tuple[str, int]:
    """Return JSON values as text, and its checksum."""
    state = orjson.dumps(values)
    return state.decode(), zlib.crc32(state)


def delete(path: Path, *, locked_s: float = LOCKED_S) -> bool:
    """Delete the file, damaged or not; return whether there was one. Runs that go on make a new one.

    Raises:
        StorageError: It can't be deleted, or another process holds it.
    """
    if not path.exists():
        return False
    with sentences(path, locked_s), closing(_turnstile(path, locked_s)) as turnstile, turnstile:
        _journal(path).unlink(missing_ok=True)
        path.unlink()
    return True


def _turnstile(path: Path, locked_s: float) -> FairFileLock:
    return FairFileLock(path.with_name(f"{path.name}.lock"), locked_s)


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _create(path: Path, *, rebuilt_at: datetime | None = None) -> None:
    """Make an empty file under another name, and put it into its place when it is whole: so an empty file is a damaged one."""
    new = path.with_name(f"{path.name}.new")
    for leftover in (new, _journal(new), _journal(path)):
        leftover.unlink(missing_ok=True)
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_SCHEMA)
        moment = None if rebuilt_at is None else rebuilt_at.timestamp()
        connection.execute(
            "INSERT INTO clock VALUES (1, ?, ?)", packed({"boot": None, "rebuilt_at": moment})
        )
    new.replace(path)
    _sync_folder(path.parent)


def _kept_aside(path: Path) -> Path:
    """Copy a damaged file, and return the copy's name. There is never a moment without a file: an empty one would follow it."""
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    shutil.copyfile(path, aside)
    with suppress(FileNotFoundError):
        if _journal(path).stat().st_size:
            shutil.copyfile(_journal(path), _journal(aside))
    return aside


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
