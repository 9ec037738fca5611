"""Errors of the ledger's file as messages: the path, what was found, and what to do."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gemini_batch.errors import StorageError, out_of_resources

FOLDER_VARIABLE = "GEMINI_BATCH_STATE_DIR"
LOCKED_S = 30.0
"""The longest wait for another process that holds the file, in seconds."""

ELSEWHERE = f"or name another folder by {FOLDER_VARIABLE}"

_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
_UNWRITABLE = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_AUTH,
}

_FILES = 4  # that are open at once: the database, its journal, and their folder


class DamagedError(StorageError):
    """The file is not what was written into it."""


@contextmanager
def explained(path: Path, locked_s: float) -> Iterator[None]:
    """Translate the errors of SQLite and of the system.

    Raises:
        StorageError: The message says what to do.
        DamagedError: The file is damaged.
    """
    try:
        yield
    except TimeoutError as error:
        raise _locked(path, locked_s) from error
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}; fix the folder, {ELSEWHERE}") from error
    except sqlite3.Error as error:
        raise _translated(path, locked_s, error) from error
    except UnicodeDecodeError as error:
        raise DamagedError(f"{path}: is damaged: {error}") from error


def _translated(path: Path, locked_s: float, error: sqlite3.Error) -> StorageError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the rest is detail
    if code in _LOCKED:
        return _locked(path, locked_s)
    if code in _DAMAGED:
        return DamagedError(f"{path}: is damaged: {error}")
    if code == sqlite3.SQLITE_CANTOPEN and (reason := _too_few_files()):
        return StorageError(f"{path}: can't be opened: {reason}")
    if code in _UNWRITABLE:
        make = f"make it and its folder writable, {ELSEWHERE}"
        return StorageError(f"{path}: can't be written ({error}); {make}")
    if code == sqlite3.SQLITE_FULL:
        make = "make room: nothing is sent that can't be counted"
        return StorageError(f"{path}: the disk is full; {make}")
    return StorageError(f"{path}: the disk failed: {error}; fix it, {ELSEWHERE}")


def _too_few_files() -> str:
    """Return a message if no more files can be opened than SQLite needs, else ""."""
    opened: list[int] = []
    try:
        for _ in range(_FILES):
            opened.append(os.open(os.devnull, os.O_RDONLY))  # noqa: PERF401 # closed below
    except OSError as error:
        return out_of_resources(error)
    finally:
        for each in opened:
            os.close(each)
    return ""


def _locked(path: Path, locked_s: float) -> StorageError:
    held = f"another program has held it for {locked_s:g} s"
    return StorageError(f"{path}: {held}; end that program, {ELSEWHERE}")
