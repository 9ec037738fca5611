"""`results.jsonl`: one row per finished call, appended; the newest row of an id counts."""

import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.errors import StorageError
from gemini_batch.hashmap import HashMap64, fingerprint
from gemini_batch.output.files import write_whole
from gemini_batch.output.paths import RESULTS
from gemini_batch.records import ResultRow, Status, exact_json
from gemini_batch.wording import shown

_COUNT = (int, type(None))
_AMOUNT = (int, float, type(None))
_BLOCK_BYTES = 1 << 18
_METADATA = b'"metadata":'
_STATUSES = frozenset(Status)


class ResultsFile:
    """The open file of rows, for the one run that holds the folder."""

    def __init__(self, out: Path) -> None:
        self._descriptor = os.open(
            out / RESULTS, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666
        )
        self._is_torn = False
        # A cancelled run may close the file while a sync still runs in its thread.
        self._in_use = threading.Lock()
        self.end_bytes = os.fstat(self._descriptor).st_size

    def append(self, row: ResultRow | Mapping[str, Any]) -> None:
        """Write a row in one piece; from then on a kill of this process can't lose it.

        Raises:
            OSError: The row can't be written. The file ends where it did before.
        """
        option = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
        line = orjson.dumps(row, exact_json.written, option)
        if self._is_torn:
            self._cut_back()
        try:
            write_whole(self._descriptor, line)
        except BaseException:
            self._cut_back()
            raise
        self.end_bytes += len(line)

    def sync(self) -> None:
        """Make all rows durable; raise OSError if the disk fails."""
        with self._in_use:
            if self._descriptor < 0:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            # macOS has no fdatasync.
            getattr(os, "fdatasync", os.fsync)(self._descriptor)

    def close(self) -> None:
        """Close the file, after a running sync."""
        with self._in_use:
            os.close(self._descriptor)
            self._descriptor = -1

    def _cut_back(self) -> None:
        """Remove a torn row, before another one follows it."""
        self._is_torn = True
        os.ftruncate(self._descriptor, self.end_bytes)
        self._is_torn = False


def read_rows(
    out: Path, start_bytes: int = 0, end_bytes: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows in the order of finishing, except a last line that is being written.

    `start_bytes` is the start of a line, `end_bytes` the end of one, or None for the end of the
    file. A missing file has no rows. The readers below behave and raise alike.

    Raises:
        StorageError: A line before the last one is not a row.
    """
    return (row for _, row in placed_rows(out, start_bytes, end_bytes))


def placed_rows(
    out: Path, start_bytes: int = 0, end_bytes: int | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (its start in bytes, row) for each row of `read_rows`."""
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
                where = f":{number}" if start_bytes == 0 else f", after byte {start_bytes:,}"
                raise StorageError(
                    f"{path}{where}: not a row: {shown(line.decode(errors='replace').strip())}; "
                    "the file was damaged or edited: repair or remove that line (its call is "
                    "then sent, and paid for, again), and run again"
                )


def newest_rows(out: Path, start_bytes: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the newest row of each id, in the order of finishing, from `start_bytes` on."""
    return (row for is_newest, row in marked_rows(out, start_bytes) if is_newest)


def marked_rows(out: Path, start_bytes: int = 0) -> Iterator[tuple[bool, dict[str, Any]]]:
    """Yield (whether it is the newest of its id, row) for each row of `read_rows`."""
    newest = HashMap64()
    for place, row in enumerate(read_rows(out, start_bytes)):
        newest.put(fingerprint(row["id"]), place)
    for place, row in enumerate(read_rows(out, start_bytes)):
        yield newest.get(fingerprint(row["id"])) == place, row


def row_at(out: Path, place: int) -> dict[str, Any] | None:
    """Return the row that starts at a place of `placed_rows`; None if the file changed."""
    try:
        with (out / RESULTS).open("rb") as file:
            file.seek(place)
            return parse_row(file.readline())
    except OSError:
        return None


@cache
def _row_validator() -> Callable[[Any], ResultRow]:
    from pydantic import TypeAdapter

    return TypeAdapter(ResultRow).validate_python


def row_of(row: dict[str, Any]) -> ResultRow:
    """Return the value of a row that was read, with Python's own numbers.

    Raises:
        ValueError: A field is missing or has the wrong type.
    """
    return _row_validator()(row | {"metadata": exact_json.plain(row["metadata"])})


def parse_row(line: bytes) -> dict[str, Any] | None:
    """Return the row of a line; None if this package did not write it."""
    try:
        row: dict[str, Any] = orjson.loads(line)
        if row.get("metadata") and exact_json.may_change(line[max(0, line.find(_METADATA)) :]):
            row["metadata"] = exact_json.loads(line)["metadata"]
        return row if _is_row(row) else None
    except (
        orjson.JSONDecodeError,
        AttributeError,
        KeyError,
        TypeError,
    ):  # no JSON, a missing field, no object
        return None


def _is_row(row: dict[str, Any]) -> bool:
    """Check the fields that readers use; a model's validation would take ten times as long."""
    return (
        type(row["id"]) is str
        and type(row["request_sha256"]) is str
        and type(row["endpoint"]) is str
        and type(row["finished_at"]) is str
        and row["status"] in _STATUSES
        and isinstance(row["attempts"], int)
        and isinstance(row["cost_usd"], _AMOUNT)
        and _is_usage(row["usage"])
        and _are_files(row["images"])
        and _are_files(row["drafts"])
    )


def _is_usage(usage: Any) -> bool:
    return usage is None or (
        isinstance(usage, dict) and isinstance(usage.get("total_tokens"), _COUNT)
    )


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
    """Return whether a path can name a file in the output folder."""
    if not isinstance(path, str) or "\0" in path or path.startswith("/"):
        return False
    return ".." not in path or ".." not in path.split("/")
