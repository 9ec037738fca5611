"""The storage that processes and restarts of a machine share: an SQLite file.

A commit is durable before anyone knows of it (`journal_mode=TRUNCATE`, `synchronous=FULL`): a kill
or a power cut loses at most a reservation that was not reported, and none that was used. With
`synchronous=NORMAL` the emptying of the journal is not synced, and after a power cut the last
reservation that was used would be rolled back.
"""

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import platformdirs

from gemini_batch.clock import boot_id, boot_time_s
from gemini_batch.errors import ConfigError
from gemini_batch.quota.storage import sqlite_file
from gemini_batch.quota.storage.base import Decide, OnUnknown, QuotaKey, Snapshot
from gemini_batch.quota.storage.fair_lock import FairFileLock
from gemini_batch.quota.storage.sqlite_errors import (
    ELSEWHERE,
    FOLDER_VARIABLE,
    LOCKED_S,
    DamagedError,
    explained,
)
from gemini_batch.wording import shown

T = TypeVar("T")

# The folder can't be made, or not be written: a wrong HOME, or a container without a writable one.
_WRONG_PLACE = {
    errno.EACCES,
    errno.EEXIST,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
_SELECT = "SELECT * FROM states WHERE endpoint = ? AND project = ? AND model = ?"
_CLEAR = """DELETE FROM states
WHERE endpoint = coalesce(?, endpoint) AND project = coalesce(?, project)"""
_DELETE = "DELETE FROM states WHERE endpoint = ? AND project = ? AND model = ?"


def state_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the ledger: in the user's state folder, or `GEMINI_BATCH_STATE_DIR`.

    Raises:
        ConfigError: It has the home folder of a user who has none.
    """
    given = environment.get(FOLDER_VARIABLE)
    try:
        folder = Path(given or platformdirs.user_state_path("gemini_batch")).expanduser()
    except RuntimeError:
        folder = None
    if folder is None or not (given or folder.is_absolute()):
        found = f"{FOLDER_VARIABLE}: got {shown(given)}; no such" if given else "there is no"
        advice = f"name one by its whole path in {FOLDER_VARIABLE}"
        raise ConfigError(f"{found} home folder, which the quota's ledger needs: {advice}")
    return folder / "quota.sqlite"


class SqliteStorage:
    """One file, its connection and its lock; threads and processes use it one at a time.

    A file that was replaced or deleted meanwhile is noticed with the next transaction.
    """

    blocks: ClassVar[bool] = True
    has_own_clock: ClassVar[bool] = False
    is_away: ClassVar[bool] = False

    def __init__(
        self,
        path: Path,
        *,
        steady_s: Callable[[], float] = boot_time_s,
        boot: str | None = None,
        locked_s: float = LOCKED_S,
    ) -> None:
        """Name the file; nothing is read.

        Args:
            path: Of the file.
            steady_s: The clock, which counts from the machine's boot: equal for all processes.
            boot: Names the boot of the machine; None asks the system.
            locked_s: How long to wait for another process that holds the file.
        """
        self.name = str(path)
        self._path = path
        self._steady_s = steady_s
        self._boot = boot_id() if boot is None else boot
        self._locked_s = locked_s
        self._threads = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._lock: FairFileLock | None = None
        self.notices: tuple[str, ...] = ()
        self.lost_at_s: float | None = None

    def open(self) -> None:
        """Open the file, or make it; set a damaged one aside and make a new one."""
        try:
            self._lock = self._first_lock()
            with explained(self._path, self._locked_s), self._lock:
                self._connect_or_rebuild()
        except BaseException:
            self.close()
            raise

    def hurry(self) -> None:
        """Do nothing: a file is there."""

    def close(self) -> None:
        """Close the file after the transaction in progress; a second time does nothing."""
        with self._threads:
            self._disconnect()
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def transact(
        self,
        keys: Sequence[QuotaKey],
        decide: Decide[T],
        _on_unknown: OnUnknown,
        *,
        is_look: bool = False,
    ) -> T:
        """Decide with exclusive access to the states of `keys`, and return when that is durable."""
        with self._transaction() as connection:
            rows = (connection.execute(_SELECT, key).fetchone() for key in keys)
            before = [row and sqlite_file.parsed(row, self._path)[1] for row in rows]
            result, states = decide(before, self._steady_s(), self._boot)
            for key, state in states.items():
                if state is None:
                    connection.execute(_DELETE, key)
                else:
                    sqlite_file.write(connection, key, state.dump())
        return result

    def scan(self) -> Snapshot:
        """Return all states; changes nothing, and makes no file."""
        states: dict[QuotaKey, dict[str, Any]] = {}
        if self._path.exists():
            with explained(self._path, self._locked_s), closing(self._connected()) as connection:
                connection.execute("BEGIN")
                states = dict(sorted(sqlite_file.checked(connection, self._path)))
        return Snapshot(states, self._steady_s(), self._boot)

    def clear(self, endpoint: str | None = None, project: str | None = None) -> bool:
        """Delete the states of an endpoint and a project; return if there were any.

        Without both, the file is deleted, damaged or not; runs in progress make a new one.
        """
        if not self._path.exists():
            return False
        with explained(self._path, self._locked_s):
            sqlite_file.check_kind(self._path)
        with explained(self._path, self._locked_s), closing(self._file_lock()) as lock, lock:
            if endpoint is None and project is None:
                sqlite_file.journal(self._path).unlink(missing_ok=True)
                self._path.unlink()
                return True
            with closing(self._connected()) as connection:
                sqlite_file.prepare(connection, self._path)
                return connection.execute(_CLEAR, (endpoint, project)).rowcount > 0

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with explained(self._path, self._locked_s), self._turn():
            connection = self._connection
            if connection is None or self._identity != sqlite_file.identity(self._path):
                connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # the first error says more
                    connection.rollback()
                raise

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._threads.acquire(timeout=self._locked_s):
            raise TimeoutError
        try:
            if self._lock is None:
                raise RuntimeError(f"{self._path} is used after it was closed")
            with self._lock:
                yield
        finally:
            self._threads.release()

    def _connect_or_rebuild(self) -> None:
        try:
            with explained(self._path, self._locked_s):
                self._connect()
        except DamagedError as error:
            self._disconnect()
            aside = sqlite_file.kept_aside(self._path)
            sqlite_file.create(self._path, lost_at_s=time.time())
            self._connect()
            notice = (
                f"{error}. It is kept as {aside.name}. The use of the last minutes and of today is "
                "unknown and counts as used up where there is a limit. If today's quota is not "
                "used up, reset it: gemini-batch quota --reset"
            )
            self.notices = (notice,)

    def _connect(self) -> sqlite3.Connection:
        """Connect to the file that has the name now, and make sure that it is ours and whole."""
        self._disconnect()
        if not self._path.exists():
            sqlite_file.create(self._path)
        self._connection = connection = self._connected()
        sqlite_file.prepare(connection, self._path)
        for _ in sqlite_file.checked(connection, self._path):
            pass
        ((self.lost_at_s,),) = connection.execute("SELECT lost_at_s FROM file")
        self._identity = sqlite_file.identity(self._path)
        return connection

    def _connected(self) -> sqlite3.Connection:
        """Return a connection to a file that exists; threads may share it, one at a time."""
        sqlite_file.check_kind(self._path)
        uri = self._path.absolute().as_uri() + "?mode=rw"
        return sqlite3.connect(
            uri, uri=True, timeout=self._locked_s, isolation_level=None, check_same_thread=False
        )

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _first_lock(self) -> FairFileLock:
        """Make the folder, and open the lock file in it.

        Raises:
            ConfigError: The environment names a place where there can be no folder.
            StorageError: Of any other error.
        """
        with explained(self._path, self._locked_s):
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                sqlite_file.check_kind(self._path)
                return self._file_lock()
            except OSError as error:
                if error.errno not in _WRONG_PLACE:
                    raise
                reason = f"{self._path.parent}: {error.strerror}"
                raise ConfigError(f"{reason}; fix the folder, {ELSEWHERE}") from error

    def _file_lock(self) -> FairFileLock:
        return FairFileLock(self._path.with_name(f"{self._path.name}.lock"), self._locked_s)
