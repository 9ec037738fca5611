"""What can go wrong with the ledger's file, as sentences: where, what was found, and what to do."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gemini_batch.errors import StorageError

FOLDER_VARIABLE = "GEMINI_BATCH_STATE_DIR"
LOCKED_S = 30.0
"""How long to wait for another process that holds the file, in seconds."""

ELSEWHERE = f"or name another folder by {FOLDER_VARIABLE}"


class DamagedError(StorageError):
    """The file is not what was written into it."""


@contextmanager
def sentences(path: Path, locked_s: float = LOCKED_S) -> Iterator[None]:
    """Tell a person what to do about whatever goes wrong with the file.

    Raises:
        StorageError: In place of the error of SQLite or of the system.
    """
    try:
        yield
    except TimeoutError as error:
        raise _locked(path, locked_s) from error
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}; mend the folder, {ELSEWHERE}") from error
    except sqlite3.Error as error:
        raise _told(path, locked_s, error) from error
    except UnicodeDecodeError as error:
        raise DamagedError(f"{path}: is damaged: {error}") from error


def _told(path: Path, locked_s: float, error: sqlite3.Error) -> StorageError:
    match (
        getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    ):  # the rest of the code is detail
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return _locked(path, locked_s)
        case (
            sqlite3.SQLITE_READONLY
            | sqlite3.SQLITE_PERM
            | sqlite3.SQLITE_CANTOPEN
            | sqlite3.SQLITE_AUTH
        ):
            return StorageError(
                f"{path}: can't be written ({error}); make it and its folder writable, {ELSEWHERE}"
            )
        case sqlite3.SQLITE_FULL:
            return StorageError(
                f"{path}: the disk is full; make room: nothing is sent that can't be counted"
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_ERROR:
            return DamagedError(f"{path}: is damaged: {error}")
        case _:
            return StorageError(f"{path}: the disk failed: {error}; mend it, {ELSEWHERE}")


def _locked(path: Path, locked_s: float) -> StorageError:
    return StorageError(
        f"{path}: another program has held it for {locked_s:g} s; end that program, {ELSEWHERE}"
    )
