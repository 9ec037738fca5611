"""The ledger's SQLite file: its tables, its checks, and a new one after damage."""

import errno
import os
import sqlite3
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.errors import ConfigError, StorageError
from gemini_batch.quota.storage import version1
from gemini_batch.quota.storage.base import QuotaKey
from gemini_batch.quota.storage.sqlite_errors import ELSEWHERE, DamagedError

# A million calls a day take less.
_MAX_COPIED_BYTES = 256 << 20
_BLOCK_BYTES = 1 << 20
_SUFFIXES = ("-journal", "-wal", "-shm", ".lock", ".new", ".new-journal")
# File systems in user space that can't sync a folder; there is nothing to sync.
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.ENOSYS}
_VERSION = 2
_APPLICATION_ID = 0x67656D69  # "gemi": our file, not another program's
_SCHEMA = f"""
CREATE TABLE file (lost_at_s REAL);
CREATE TABLE states (
    endpoint TEXT, project TEXT, model TEXT, state TEXT NOT NULL, crc32 INTEGER NOT NULL,
    PRIMARY KEY (endpoint, project, model)
);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
"""


def checked(
    connection: sqlite3.Connection, path: Path
) -> Iterator[tuple[QuotaKey, dict[str, Any]]]:
    """Yield all states of a file that is ours and whole.

    Raises:
        DamagedError: It is not.
        ConfigError: A newer version wrote it.
    """
    ((application,),) = connection.execute("PRAGMA application_id")
    ((version,),) = connection.execute("PRAGMA user_version")
    if application != _APPLICATION_ID:
        raise DamagedError(f"{path}: is damaged: it is not what gemini_batch wrote")
    if version > _VERSION:
        newer = f"by a newer gemini_batch (version {version}; this one knows {_VERSION})"
        raise ConfigError(f"{path}: was written {newer}: update this one, {ELSEWHERE}")
    ((health,),) = connection.execute("PRAGMA quick_check(1)")
    if health != "ok":
        raise DamagedError(f"{path}: is damaged: {health}")
    if version < _VERSION:
        yield from version1.states(connection, path)
        return
    headers = connection.execute("SELECT typeof(lost_at_s) FROM file").fetchall()
    if headers not in ([("null",)], [("real",)]):
        raise DamagedError(f"{path}: is damaged: it has no header")
    for row in connection.execute("SELECT * FROM states"):
        yield parsed(row, path)


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Have every commit synced to the disk, and bring a file of the first version to this one."""
    connection.execute("PRAGMA journal_mode = TRUNCATE")
    connection.execute("PRAGMA synchronous = FULL")
    # On macOS a plain fsync stops at the disk's cache.
    connection.execute("PRAGMA fullfsync = ON")
    if connection.execute("PRAGMA user_version").fetchone() != (1,):
        return
    connection.execute("BEGIN IMMEDIATE")
    states = dict(checked(connection, path))
    lost_at_s = version1.lost_at_s(connection, path)
    connection.execute("DROP TABLE clock")
    connection.execute("DROP TABLE quotas")
    for statement in _SCHEMA.split(";"):
        connection.execute(statement)
    connection.execute("INSERT INTO file VALUES (?)", (lost_at_s,))
    for key, state in states.items():
        write(connection, key, state)
    connection.execute("COMMIT")


def write(connection: sqlite3.Connection, key: QuotaKey, state: dict[str, Any]) -> None:
    """Write the row of a state, with its checksum."""
    texts = (*key, orjson.dumps(state).decode())
    connection.execute("REPLACE INTO states VALUES (?, ?, ?, ?, ?)", (*texts, _crc32(texts)))


def parsed(row: Sequence[Any], path: Path) -> tuple[QuotaKey, dict[str, Any]]:
    """Return key and state of a row.

    Raises:
        DamagedError: It is not what was written: SQLite itself does not notice a flipped bit.
    """
    *texts, crc32 = row
    if not all(isinstance(text, str) for text in texts):
        raise DamagedError(f"{path}: is damaged: a row has values of another type")
    if _crc32(texts) != crc32:
        raise DamagedError(f"{path}: is damaged: its checksum is wrong")
    return QuotaKey(*texts[:3]), orjson.loads(texts[3])


def _crc32(texts: Iterable[str]) -> int:
    return zlib.crc32("\0".join(texts).encode())


def check_kind(path: Path) -> None:
    """Check, before it is opened, that the ledger's files are this user's, and regular.

    A named pipe would be waited for, and a device read without end. A file that others may read is
    made private: it shows what a project spends.

    Raises:
        StorageError: One is not.
        OSError: One can't be looked at.
    """
    for file in (path, *(path.with_name(path.name + each) for each in _SUFFIXES)):
        try:
            found, folder = file.stat(), file.parent.stat()
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
            raise StorageError(f"{file}: is {kind}; move it away, {ELSEWHERE}")
        if found.st_uid not in {os.geteuid(), folder.st_uid}:
            raise StorageError(f"{file}: belongs to another user; move it away, {ELSEWHERE}")
        if found.st_mode & 0o077:
            with suppress(OSError):  # a file system without modes
                file.chmod(0o600)


def create(path: Path, *, lost_at_s: float | None = None) -> None:
    """Make an empty file under another name and rename it: so an empty file is a damaged one."""
    new = path.with_name(f"{path.name}.new")
    for leftover in (new, journal(new), journal(path)):
        leftover.unlink(missing_ok=True)
    # SQLite gives its journal the mode of the file.
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        connection.execute("INSERT INTO file VALUES (?)", (lost_at_s,))
    new.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def kept_aside(path: Path) -> Path:
    """Copy a damaged file, and return the copy. The original stays until a new one replaces it."""
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    _copy(path, aside)
    with suppress(FileNotFoundError):
        if journal(path).stat().st_size:
            _copy(journal(path), journal(aside))
    return aside


def _copy(path: Path, aside: Path) -> None:
    """Copy the first part of a file, which is all of it unless it is damaged beyond use."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    left = _MAX_COPIED_BYTES
    with path.open("rb") as source, os.fdopen(os.open(aside, flags, 0o600), "wb") as copy:
        while left > 0 and (block := source.read(min(left, _BLOCK_BYTES))):
            copy.write(block)
            left -= len(block)


def journal(path: Path) -> Path:
    """Return the path of SQLite's journal."""
    return path.with_name(f"{path.name}-journal")


def identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of the file that has the name now; None if there is none."""
    with suppress(FileNotFoundError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None
