"""`results.jsonl`: one row a finished call, appended; the newest row of an id counts."""

import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.errors import StorageError
from gemini_batch.fingerprints import Fingerprints, fingerprint
from gemini_batch.records import ResultRow, Status

FILE_NAME = "results.jsonl"
_STATUSES = list(Status)
_STATUS_BITS = 4
_STATUS_MASK = (1 << _STATUS_BITS) - 1


class ResultsLog:
    """The open file of rows, for the one run that holds the folder."""

    def __init__(self, out: Path) -> None:
        self._descriptor = os.open(out / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        self.end_bytes = os.fstat(self._descriptor).st_size

    def append(self, row: ResultRow | Mapping[str, Any]) -> None:
        """Write a row in one piece; from then on a kill of this process can't lose it.

        Raises:
            OSError: The disk would not take it; the file then ends where it did before.
        """
        line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(self._descriptor, self.end_bytes)
            raise
        self.end_bytes += written

    def sync(self) -> None:
        """Make all rows durable.

        Raises:
            OSError: The disk would not.
        """
        # macOS has no fdatasync.
        getattr(os, "fdatasync", os.fsync)(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class History:
    """How each call of earlier runs ended, in 16 bytes a slot."""

    def __init__(self) -> None:
        self._verdicts = Fingerprints()

    def __len__(self) -> int:
        return len(self._verdicts)

    def add(self, row: dict[str, Any]) -> None:
        """Take in a row; a later row of the same id replaces an earlier one."""
        request = fingerprint((row["request_sha256"], row["endpoint"])) & ~_STATUS_MASK
        status = _STATUSES.index(Status(row["status"]))
        self._verdicts.put(fingerprint(row["id"]), request | status)

    def status(self, call_id: str, request_sha256: str, endpoint: str) -> Status | None:
        """Return how this very request ended, or None: never sent, edited since, or sent elsewhere."""
        verdict = self._verdicts.get(fingerprint(call_id))
        if verdict is None or (verdict ^ fingerprint((request_sha256, endpoint))) & ~_STATUS_MASK:
            return None
        return _STATUSES[verdict & _STATUS_MASK]

    def knows(self, call_id: str) -> bool:
        """Whether there is any row of this id."""
        return self._verdicts.get(fingerprint(call_id)) is not None


def read_history(out: Path) -> History:
    """Read what earlier runs wrote; an absent file is an empty history.

    Raises:
        StorageError: A line in the file's middle is no row.
    """
    history = History()
    for row in read_rows(out):
        history.add(row)
    return history


def read_rows(out: Path, start_bytes: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the rows in the order of finishing, without a last line that has no end: a run may be writing it.

    Raises:
        StorageError: A line in the file's middle is no row.
    """
    path = out / FILE_NAME
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(start_bytes)
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            row = parse_row(line)
            if row is None:
                where = f"{path}:{number}" if start_bytes == 0 else f"{path}, after byte {start_bytes:,}"
                raise StorageError(
                    f"{where}: is no row: {line[:60]!r}; the file was damaged or edited: "
                    "mend or remove that line (its call is then sent, and paid for, again), and run again"
                )
            yield row


def parse_row(line: bytes) -> dict[str, Any] | None:
    """Return a line's row, or None when it is none that this package wrote."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    needed = ("id", "status", "request_sha256", "endpoint")
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in needed):
        return None
    return row if row["status"] in _STATUSES else None


def newest_rows(out: Path) -> Iterator[dict[str, Any]]:
    """Yield the newest row of each id, in the order of finishing.

    Raises:
        StorageError: A line in the file's middle is no row.
    """
    last: dict[str, int] = {}
    for place, row in enumerate(read_rows(out)):
        last[row["id"]] = place
    for place, row in enumerate(read_rows(out)):
        if last[row["id"]] == place:
            yield row
