"""`results.jsonl`: one row a finished call, appended; the newest row of an id counts."""

import errno
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter

from gemini_batch.errors import StorageError
from gemini_batch.hashmap import HashMap64, fingerprint
from gemini_batch.output.paths import RESULTS
from gemini_batch.records import ResultRow, Status
from gemini_batch.wording import shown

_FIELDS = itemgetter(
    "id",
    "status",
    "request_sha256",
    "endpoint",
    "finished_at",
    "attempts",
    "cost_usd",
    "usage",
    "images",
    "drafts",
)
_NUMBER = (int, float)
_BLOCK_BYTES = 1 << 18
_STATUSES = list(Status)
_STATUS_BITS = 4
_STATUS_MASK = (1 << _STATUS_BITS) - 1


class ResultsFile:
    """The open file of rows, for the one run that holds the folder."""

    def __init__(self, out: Path) -> None:
        self._descriptor = os.open(
            out / RESULTS, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666
        )
        self._is_torn = False
        self._in_use = (
            threading.Lock()
        )  # a sync may still go on in its thread when a cancelled run closes the file
        self.end_bytes = os.fstat(self._descriptor).st_size

    def append(self, row: ResultRow | Mapping[str, Any]) -> None:
        """Write a row in one piece; from then on a kill of this process can't lose it.

        Raises:
            OSError: The disk would not take it; the file then ends where it did before.
        """
        line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)
        if self._is_torn:
            self._cut_back()
        is_whole = False
        try:
            is_whole = os.write(self._descriptor, line) == len(line)
        finally:
            if not is_whole:
                self._cut_back()
        if not is_whole:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.end_bytes += len(line)

    def sync(self) -> None:
        """Make all rows durable.

        Raises:
            OSError: The disk would not.
        """
        with self._in_use:
            if self._descriptor < 0:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            # macOS has no fdatasync.
            getattr(os, "fdatasync", os.fsync)(self._descriptor)

    def close(self) -> None:
        """Close the file, after a sync that goes on."""
        with self._in_use:
            os.close(self._descriptor)
            self._descriptor = -1

    def _cut_back(self) -> None:
        """Remove what there is of a row that was not written whole; no row may follow it."""
        self._is_torn = True
        os.ftruncate(self._descriptor, self.end_bytes)
        self._is_torn = False


@dataclass(slots=True)
class Cost:
    """What rows came to.

    Attributes:
        cost_usd: At list price.
        unpriced: Rows whose cost is unknown, and is not in that.
    """

    cost_usd: float = 0.0
    unpriced: int = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row that was read."""
        if row["cost_usd"] is None:
            self.unpriced += 1
        else:
            self.cost_usd = round(self.cost_usd + row["cost_usd"], 6)


class History:
    """How each call of earlier runs ended, in 24 to 32 bytes a call."""

    def __init__(self) -> None:
        self._verdicts = HashMap64()

    def __len__(self) -> int:
        return len(self._verdicts)

    def add(self, row: dict[str, Any]) -> None:
        """Take in a row; a later row of the same id replaces an earlier one."""
        request = fingerprint((row["request_sha256"], row["endpoint"])) & ~_STATUS_MASK
        status = _STATUSES.index(row["status"])
        self._verdicts.put(fingerprint(row["id"]), request | status)

    def status(self, call_id: str, request_sha256: str, endpoint: str) -> Status | None:
        """Return how this very request ended, or None: never sent, edited since, or sent elsewhere."""
        verdict = self._verdicts.get(fingerprint(call_id))
        if verdict is None or (verdict ^ fingerprint((request_sha256, endpoint))) & ~_STATUS_MASK:
            return None
        return _STATUSES[verdict & _STATUS_MASK]

    def was_answered(self, call_id: str) -> bool:
        """Return whether the newest row of this id is an answer, whatever was asked: one that was paid for."""
        verdict = self._verdicts.get(fingerprint(call_id))
        return verdict is not None and _STATUSES[verdict & _STATUS_MASK] in {
            Status.SUCCEEDED,
            Status.BLOCKED,
        }


def read_history(out: Path) -> History:
    """Read what earlier runs wrote; an absent file is an empty history.

    Raises:
        StorageError: A line in the file's middle is no row.
    """
    history = History()
    for row in read_rows(out):
        history.add(row)
    return history


def read_rows(
    out: Path, start_bytes: int = 0, end_bytes: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows in the order of finishing, without a last line that has no end: a run may be writing it.

    Args:
        out: The output folder.
        start_bytes: Where to begin: the start of a line.
        end_bytes: Where to end: behind a line; None is the end of the file.

    Raises:
        StorageError: A line in the file's middle is no row.
    """
    return (row for _, row in placed_rows(out, start_bytes, end_bytes))


def placed_rows(
    out: Path, start_bytes: int = 0, end_bytes: int | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (where it begins in bytes, row) of what `read_rows` yields.

    Raises:
        StorageError: A line in the file's middle is no row.
    """
    path = out / RESULTS
    try:
        file = path.open("rb", buffering=_BLOCK_BYTES)
    except FileNotFoundError:
        return
    with file:
        file.seek(start_bytes)
        place = start_bytes
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n") or place == end_bytes:
                return
            row_place, place = place, place + len(line)
            row = parse_row(line)
            if row is not None:
                yield row_place, row
            elif line.strip():
                where = (
                    f"{path}:{number}"
                    if start_bytes == 0
                    else f"{path}, after byte {start_bytes:,}"
                )
                raise StorageError(
                    f"{where}: is no row: {shown(line.decode(errors='replace').strip())}; the file was damaged or edited: "
                    "mend or remove that line (its call is then sent, and paid for, again), and run again"
                )


def without_images(out: Path) -> set[int]:
    """Return the fingerprints of the ids whose newest row names an image that is not there any more.

    Raises:
        StorageError: A line in the file's middle is no row.
    """
    return {
        fingerprint(row["id"])
        for row in newest_rows(out)
        if any(not (out / image["path"]).exists() for image in row["images"])
    }


def row_at(out: Path, place: int) -> dict[str, Any] | None:
    """Return the row that begins at a place of `placed_rows`; None when it is not there any more."""
    try:
        with (out / RESULTS).open("rb") as file:
            file.seek(place)
            return parse_row(file.readline())
    except OSError:
        return None


@cache
def _row_reader() -> TypeAdapter[ResultRow]:
    return TypeAdapter(ResultRow)


def row_of(row: Mapping[str, Any]) -> ResultRow:
    """Return the value of a row that was read.

    Raises:
        ValueError: A field is missing or is of another kind.
    """
    return _row_reader().validate_python(row)


def parse_row(line: bytes) -> dict[str, Any] | None:
    """Return a line's row, or None when it is none that this package wrote."""
    try:
        row: dict[str, Any] = orjson.loads(line)
        fields = _FIELDS(row)
    except (orjson.JSONDecodeError, KeyError, TypeError):  # no JSON, not all fields, no object
        return None
    return row if _is_row(fields) else None


def _is_row(fields: tuple[Any, ...]) -> bool:
    (
        call_id,
        status,
        request_sha256,
        endpoint,
        finished_at,
        attempts,
        cost_usd,
        usage,
        images,
        drafts,
    ) = fields
    # There are a million of them: `isinstance` with a union of types takes as long as all of this.
    if (
        not type(call_id)
        is type(status)
        is type(request_sha256)
        is type(endpoint)
        is type(finished_at)
        is str
    ):
        return False
    return (
        status in _STATUSES
        and isinstance(attempts, int)
        and (cost_usd is None or isinstance(cost_usd, _NUMBER))
        and (usage is None or _can_be_counted(usage))
        and _are_files(images)
        and _are_files(drafts)
    )


def _can_be_counted(usage: Any) -> bool:
    if not isinstance(usage, dict):
        return False
    tokens = usage.get("total_tokens")
    return tokens is None or isinstance(tokens, int)


def _are_files(value: Any) -> bool:
    if not isinstance(value, list):
        return False
    for file in value:  # `all` with a generator takes three times as long
        if not (
            isinstance(file, dict)
            and _is_inside(file.get("path"))
            and isinstance(file.get("sha256"), str)
            and isinstance(file.get("size_bytes"), int)
        ):
            return False
    return True


def _is_inside(path: Any) -> bool:
    """Return whether it can be the name of a file in the output folder."""
    if not isinstance(path, str) or "\0" in path or path.startswith("/"):
        return False
    return ".." not in path or ".." not in path.split("/")


def newest_rows(out: Path, start_bytes: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the newest row of each id, in the order of finishing; with `start_bytes`, of the rows from there on.

    Raises:
        StorageError: A line in the file's middle is no row.
    """
    return (row for is_newest, row in marked_rows(out, start_bytes) if is_newest)


def marked_rows(out: Path, start_bytes: int = 0) -> Iterator[tuple[bool, dict[str, Any]]]:
    """Yield (whether it is the newest of its id, row) of what `read_rows` yields.

    Raises:
        StorageError: A line in the file's middle is no row.
    """
    newest = HashMap64()
    for place, row in enumerate(read_rows(out, start_bytes)):
        newest.put(fingerprint(row["id"]), place)
    for place, row in enumerate(read_rows(out, start_bytes)):
        yield newest.get(fingerprint(row["id"])) == place, row
