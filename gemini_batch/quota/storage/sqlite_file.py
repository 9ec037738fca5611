"""The ledger's SQLite file: its tables, its checks, and a new one after damage."""

import os
import shutil
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.errors import ConfigError
from gemini_batch.quota.storage import version1
from gemini_batch.quota.storage.base import QuotaKey
from gemini_batch.quota.storage.sqlite_errors import ELSEWHERE, DamagedError

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


def create(path: Path, *, lost_at_s: float | None = None) -> None:
    """Make an empty file under another name and rename it: so an empty file is a damaged one."""
    new = path.with_name(f"{path.name}.new")
    for leftover in (new, journal(new), journal(path)):
        leftover.unlink(missing_ok=True)
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        connection.execute("INSERT INTO file VALUES (?)", (lost_at_s,))
    new.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def kept_aside(path: Path) -> Path:
    """Copy a damaged file, and return the copy. The original stays until a new one replaces it."""
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    shutil.copyfile(path, aside)
    with suppress(FileNotFoundError):
        if journal(path).stat().st_size:
            shutil.copyfile(journal(path), journal(aside))
    return aside


def journal(path: Path) -> Path:
    """Return the path of SQLite's journal."""
    return path.with_name(f"{path.name}-journal")


def identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of the file that has the name now; None if there is none."""
    with suppress(FileNotFoundError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None
