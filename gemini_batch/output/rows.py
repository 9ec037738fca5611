"""`results.jsonl`: one row per finished call, appended; the newest row of an id counts."""

import errno
import os
import re
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from io import BufferedReader
from itertools import groupby
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

import orjson

from gemini_batch.errors import StorageError
from gemini_batch.hashmap import HashMap64, fingerprint
from gemini_batch.output.files import (
    MAX_LINE_BYTES,
    kind_of,
    lines_of,
    open_regular,
    open_to_read,
    write_whole,
)
from gemini_batch.output.paths import RESULTS
from gemini_batch.output.row_forms import form_of
from gemini_batch.output.shards import Part, parts
from gemini_batch.output.tree import is_same
from gemini_batch.records import Status, exact_json
from gemini_batch.wording import shown

if TYPE_CHECKING:  # those who only read rows need no values of them
    from gemini_batch.records import ResultRow

_COUNT = (int, type(None))
_AMOUNT = (int, float, type(None))
_BLOCK_BYTES = 1 << 18
_ROW_BYTES = 1 << 10  # of most rows
# The begin of a row as it is written, whose id has no escaped characters.
_begin = re.compile(rb'\{"id":"([ !#-\[\]-~]+)","line":\d+,"status":"([a-z]+)",').match
_METADATA = b'"metadata":'
_SHOWN_BYTES = 1_000
# No file of rows is larger.
_PLACE_BITS = 40
_STATUSES = frozenset(Status)
_NEVER_NEWEST = frozenset({Status.LATE, Status.PRUNED})
_PARTS = 16


class ResultsFile:
    """The open file of rows, for the one run that holds the folder.

    Others can replace, cut or move it meanwhile: `check` notices, before anything is paid for
    whose row would be lost.

    Args:
        out: The output folder.
        dir_fd: Its descriptor, where it is open.

    Raises:
        OSError: It can't be opened, or is a link, a named pipe or the like.
    """

    def __init__(self, out: Path, dir_fd: int | None = None) -> None:
        self.path = out / RESULTS
        self._name = RESULTS if dir_fd is not None else self.path
        self._dir_fd = dir_fd
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        self._descriptor = open_regular(self._name, flags, 0o666, dir_fd=dir_fd, shown=self.path)
        self._is_torn = False
        # A cancelled run may close the file while a sync still runs in its thread.
        self._in_use = threading.Lock()
        self.start_bytes = self.end_bytes = os.fstat(self._descriptor).st_size
        # False on a mount that gives a file another number with each look-up.
        self._has_inode = is_same(self._name, self._descriptor, dir_fd=dir_fd)

    def changed(self) -> str:
        """Return what others did to the file, or "" if the name leads to what was written."""
        try:
            named = os.stat(self._name, dir_fd=self._dir_fd, follow_symlinks=False)
        except FileNotFoundError:
            return "was moved or removed"
        found = os.fstat(self._descriptor)
        if not S_ISREG(named.st_mode):
            return f"was replaced by {kind_of(named.st_mode)}"
        if self._has_inode and not os.path.samestat(named, found):
            return "was replaced by another file, as editors, sed -i and sync tools do it"
        if found.st_size < self.end_bytes:
            return f"was cut off at {found.st_size:,} of {self.end_bytes:,} bytes"
        if found.st_size > self.end_bytes and not self._is_torn:
            return "was written to by another program"
        return ""

    def append(self, row: "ResultRow | Mapping[str, Any]") -> None:
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

    def own_rows(self) -> Iterator[bytes]:
        """Yield in blocks what was appended since the opening, also to a file without a name.

        Raises:
            OSError: It can't be read.
        """
        place = self.start_bytes
        while place < self.end_bytes:
            wanted = min(_BLOCK_BYTES, self.end_bytes - place)
            if not (block := os.pread(self._descriptor, wanted, place)):
                return
            yield block
            place += len(block)

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
    out: Path, start_bytes: int | None = None, end_bytes: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows in the order of finishing, except a last line that is being written.

    With `start_bytes`, the start of a line, only the folder's own file is read, up to `end_bytes`,
    the end of one, or None for the end of the file. Without it the folders of all its workers
    are, the oldest first, with the paths of images from `out` on; within a generation, rows that
    a worker wrote for another one come first. A missing file has no rows. The readers below behave
    and raise alike.

    Raises:
        StorageError: A line before the last one is not a row, or the file has another form.
    """
    return (row for _, row in placed_rows(out, start_bytes, end_bytes))


def placed_rows(
    out: Path, start_bytes: int | None = None, end_bytes: int | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (its place, row) for each row of `read_rows`; see `place_of`."""
    if start_bytes is None and len(found := parts(out)) > 1:
        return _of_parts(found)
    return _of_file(out, start_bytes or 0, end_bytes)


def place_of(part: int, start_bytes: int) -> int:
    """Return the place of a row: where it starts in the file of a part of the folder."""
    return part << _PLACE_BITS | start_bytes


def part_number(place: int) -> int:
    """Return the number of the part of the folder that a row is in."""
    return place >> _PLACE_BITS


def _of_parts(found: Iterable[Part]) -> Iterator[tuple[int, dict[str, Any]]]:
    for generation, group in groupby(found, key=lambda part: part.generation):
        of_generation = [*group]
        if generation is None or not generation.adopted:
            for part in of_generation:
                yield from _of_part(part)
            continue
        for is_own in (False, True):
            for part in of_generation:
                yield from (each for each in _of_part(part) if part.owns(each[1]) is is_own)


def _of_part(part: Part) -> Iterator[tuple[int, dict[str, Any]]]:
    for start_bytes, row in rows_of(part):
        yield place_of(part.number, start_bytes), row


def rows_of(part: Part, start_bytes: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (its start in bytes, row) of one part, with the paths of images from `out` on."""
    for place, row in _of_file(part.path, start_bytes, None):
        yield place, _from_out(row, part)


def _from_out(row: dict[str, Any], part: Part) -> dict[str, Any]:
    """Return a row of a part with the paths of its images from the output folder on."""
    for image in (*row["images"], *row["drafts"]):
        image["path"] = f"{part.prefix}{image['path']}"
    return row


def _of_file(
    out: Path, start_bytes: int, end_bytes: int | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    path = out / RESULTS
    try:
        file = open_to_read(path, buffering=_BLOCK_BYTES)
    except FileNotFoundError:
        return
    with file:
        head = file.peek()
        if parse_row(head.partition(b"\n")[0]) is None and (form := form_of(head)):
            raise StorageError(f"{path}: {form}; another program has rewritten it")
        file.seek(start_bytes)
        place = start_bytes
        for number, line in enumerate(lines_of(file), start=1):
            if (not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES) or place == end_bytes:
                return
            row_place, place = place, place + len(line)
            row = parse_row(line)
            if row is not None:
                yield row_place, row
            elif line.strip():
                where = f":{number}" if start_bytes == 0 else f", after byte {start_bytes:,}"
                found = shown(line[:_SHOWN_BYTES].decode(errors="replace").strip())
                raise StorageError(
                    f"{path}{where}: not a row: {found}; the file was damaged, compressed or "
                    "edited: repair or remove that line, and run again"
                )


def newest_rows(out: Path, start_bytes: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the newest row of each id, in the order of finishing, from `start_bytes` on.

    A late row is none of them, and a call that was pruned has none.
    """
    return (row for is_newest, row in marked_rows(out, start_bytes) if is_newest)


def marked_rows(out: Path, start_bytes: int | None = None) -> Iterator[tuple[bool, dict[str, Any]]]:
    """Yield (whether it is the newest of its id, row) for each row of `read_rows`."""
    return ((is_newest, row) for _, is_newest, row in placed_marked_rows(out, start_bytes))


def newest_placed(out: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (its place, row) for each row of `newest_rows`."""
    return ((place, row) for place, is_newest, row in placed_marked_rows(out) if is_newest)


def placed_marked_rows(
    out: Path, start_bytes: int | None = None
) -> Iterator[tuple[int, bool, dict[str, Any]]]:
    """Yield (its place, whether it is the newest of its id, row) as `marked_rows`."""
    if start_bytes is None and len(parts(out)) > 1:
        yield from _marked_of_parts(out)
        return
    newest, end = _newest_of_repeated(out, start_bytes or 0)
    for place, row in placed_rows(out, start_bytes):
        is_newest = row["status"] not in _NEVER_NEWEST and place < end
        if is_newest and newest:
            is_newest = newest.get(fingerprint(row["id"]), place) == place
        yield place, is_newest, row


def _marked_of_parts(out: Path) -> Iterator[tuple[int, bool, dict[str, Any]]]:
    newest = HashMap64()
    for place, row in placed_rows(out):
        if row["status"] != Status.LATE:
            newest.put(fingerprint(row["id"]), place)
    for place, row in placed_rows(out):
        is_newest = newest.get(fingerprint(row["id"])) == place
        yield place, is_newest and row["status"] not in _NEVER_NEWEST, row


def _newest_of_repeated(out: Path, start_bytes: int) -> tuple[dict[int, int], int]:
    """Return the place of the newest row of each id that has several, and the end of the rows."""
    calls, places, end = array("Q"), array("Q"), start_bytes
    for place, call_id, status in _begun_rows(out, start_bytes):
        end = place + 1
        if status != Status.LATE:
            calls.append(fingerprint(call_id))
            places.append(place)
    several = _repeated(calls)
    if not several:
        return {}, end
    of_calls = zip(calls, places, strict=True)
    return {call: place for call, place in of_calls if call in several}, end


def _repeated(hashes: Sequence[int]) -> set[int]:
    """Return the hashes that are there more than once, in little memory if they are few."""
    of_parts = [array("Q") for _ in range(_PARTS)]
    for each in hashes:
        of_parts[each % _PARTS].append(each)
    found: set[int] = set()
    for part in of_parts:
        if len(set(part)) < len(part):
            found.update(each for each, number in Counter(part).items() if number > 1)
    return found


def _begun_rows(out: Path, start_bytes: int) -> Iterator[tuple[int, str, str]]:
    """Yield (its start in bytes, id, status) for the rows up to a line that is none."""
    try:
        file = open_to_read(out / RESULTS, buffering=_BLOCK_BYTES)
    except FileNotFoundError:
        return
    with file:
        file.seek(start_bytes)
        place = start_bytes
        for line in lines_of(file):
            if not line.endswith(b"\n"):
                return  # it is being written
            if begun := _begin(line):
                yield place, begun[1].decode(), begun[2].decode()
            elif (row := parse_row(line)) is not None:
                yield place, row["id"], row["status"]
            elif line.strip():
                return  # `placed_rows` comes to it, too, and raises
            place += len(line)


def row_at(out: Path, place: int) -> dict[str, Any] | None:
    """Return the row at a place of `placed_rows`; None if the file changed."""
    number, start_bytes = divmod(place, 1 << _PLACE_BITS)
    try:
        part = parts(out)[number] if number else Part(0, out)
        with open_to_read(part.path / RESULTS) as file:
            file.seek(start_bytes)
            row = parse_row(file.readline(MAX_LINE_BYTES))
    except (OSError, IndexError):
        return None
    return row and _from_out(row, part)


class RowReader:
    """Reads single rows of one folder, whose file is opened once."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._file: BufferedReader | None = None

    def at(self, place: int) -> dict[str, Any] | None:
        """Return what `row_at` returns."""
        if part_number(place):
            return row_at(self._out, place)
        size = _ROW_BYTES
        try:
            self._file = self._file or open_to_read(self._out / RESULTS)
            while True:
                block = os.pread(self._file.fileno(), size, place)
                line, end, _ = block.partition(b"\n")
                if end or len(block) < size or size == MAX_LINE_BYTES:
                    break
                size = min(4 * size, MAX_LINE_BYTES)
        except OSError:
            return None
        return parse_row(line)

    def __del__(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


@cache
def _row_validator() -> "Callable[[Any], ResultRow]":
    from pydantic import TypeAdapter

    from gemini_batch.records import ResultRow

    return TypeAdapter(ResultRow).validate_python


def row_of(row: dict[str, Any]) -> "ResultRow":
    """Return the value of a row that was read, with Python's own numbers.

    Raises:
        ValueError: A field is missing or has the wrong type.
    """
    return _row_validator()(row | {"metadata": exact_json.plain(row["metadata"])})


def parse_row(line: bytes) -> dict[str, Any] | None:
    """Return the row of a line; None if this package did not write it."""
    try:
        row: dict[str, Any] = orjson.loads(line)
        if _has_numbers(row.get("metadata")) and exact_json.may_change(
            line[max(0, line.find(_METADATA)) :]
        ):
            row["metadata"] = exact_json.loads(line)["metadata"]
        return row if _is_row(row) else None
    except (
        orjson.JSONDecodeError,
        AttributeError,
        KeyError,
        TypeError,
    ):  # no JSON, a missing field, no object
        return None


def _has_numbers(metadata: Any) -> bool:
    """Return whether metadata may have a number; False for one of strings, as nearly all are."""
    return bool(metadata) and not (
        isinstance(metadata, dict) and set(map(type, metadata.values())) == {str}
    )


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
