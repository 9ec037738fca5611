"""`results.jsonl`: one row per finished call, appended; the newest row of an id counts."""

import os
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedReader
from itertools import groupby
from pathlib import Path
from typing import Any

from gemini_batch.errors import StorageError
from gemini_batch.hashmap import HashMap64, fingerprint
from gemini_batch.output import brief_rows
from gemini_batch.output.brief_rows import parse_brief
from gemini_batch.output.files import MAX_LINE_BYTES, lines_of, open_to_read
from gemini_batch.output.paths import RESULTS
from gemini_batch.output.row_forms import form_of
from gemini_batch.output.row_lines import parse_row
from gemini_batch.output.shards import Part, parts
from gemini_batch.records import Status
from gemini_batch.wording import shown

_BLOCK_BYTES = 1 << 18
_ROW_BYTES = 1 << 11  # nearly all rows are shorter
# The begin of a row as it is written, whose id has no escaped characters.
_begin = re.compile(rb'\{"id":"([ !#-\[\]-~]+)","line":\d+,"status":"([a-z]+)",').match
_SHOWN_BYTES = 1_000
# No file of rows is larger.
_PLACE_BITS = 40
_NEVER_NEWEST = frozenset({Status.LATE, Status.PRUNED})
_PARTS = 16


def read_rows(
    out: Path,
    start_bytes: int | None = None,
    end_bytes: int | None = None,
    *,
    brief: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yield the rows in the order of finishing, except a last line that is being written.

    With `start_bytes`, the start of a line, only the folder's own file is read, up to `end_bytes`,
    the end of one, or None for the end of the file. Without it the folders of all its workers
    are, the oldest first, with the paths of images from `out` on; within a generation, rows that
    a worker wrote for another one come first. A missing file has no rows. With `brief` a row may
    have only the fields of `brief_rows`. The readers below behave and raise alike.

    Raises:
        StorageError: A line before the last one is not a row, or the file has another form.
    """
    return (row for _, row in placed_rows(out, start_bytes, end_bytes, brief=brief))


def placed_rows(
    out: Path,
    start_bytes: int | None = None,
    end_bytes: int | None = None,
    *,
    brief: bool = False,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (its place, row) for each row of `read_rows`; see `place_of`."""
    if start_bytes is None and len(found := parts(out)) > 1:
        return _of_parts(found, brief=brief)
    return _of_file(out, start_bytes or 0, end_bytes, brief=brief)


def place_of(part: int, start_bytes: int) -> int:
    """Return the place of a row: where it starts in the file of a part of the folder."""
    return part << _PLACE_BITS | start_bytes


def part_number(place: int) -> int:
    """Return the number of the part of the folder that a row is in."""
    return place >> _PLACE_BITS


def _of_parts(found: Iterable[Part], *, brief: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    for generation, group in groupby(found, key=lambda part: part.generation):
        of_generation = [*group]
        if generation is None or not generation.adopted:
            for part in of_generation:
                yield from _of_part(part, brief=brief)
            continue
        for is_own in (False, True):
            for part in of_generation:
                yield from (
                    each for each in _of_part(part, brief=brief) if part.owns(each[1]) is is_own
                )


def _of_part(part: Part, *, brief: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    for start_bytes, row in rows_of(part, brief=brief):
        yield place_of(part.number, start_bytes), row


def rows_of(
    part: Part, start_bytes: int = 0, *, brief: bool = False
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (its start in bytes, row) of one part, with the paths of images from `out` on."""
    for place, row in _of_file(part.path, start_bytes, None, brief=brief):
        yield place, _from_out(row, part)


def _from_out(row: dict[str, Any], part: Part) -> dict[str, Any]:
    """Return a row of a part with the paths of its images from the output folder on."""
    for image in (*row["images"], *row["drafts"]):
        image["path"] = f"{part.prefix}{image['path']}"
    return row


def _of_file(
    out: Path, start_bytes: int, end_bytes: int | None, *, brief: bool
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
        parse = parse_brief if brief and _is_long(file) else parse_row
        file.seek(start_bytes)
        place = start_bytes
        for number, line in enumerate(lines_of(file), start=1):
            if (not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES) or place == end_bytes:
                return
            row_place, place = place, place + len(line)
            row = parse(line)
            if row is not None:
                yield row_place, row
            elif line.strip():
                where = f":{number}" if start_bytes == 0 else f", after byte {start_bytes:,}"
                found = shown(line[:_SHOWN_BYTES].decode(errors="replace").strip())
                raise StorageError(
                    f"{path}{where}: not a row: {found}; the file was damaged, compressed or "
                    "edited: repair or remove that line, and run again"
                )


def _is_long(file: BufferedReader) -> bool:
    return os.fstat(file.fileno()).st_size >= brief_rows.MIN_BYTES


def newest_rows(
    out: Path, start_bytes: int | None = None, *, brief: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield the newest row of each id, in the order of finishing, from `start_bytes` on.

    A late row is none of them, and a call that was pruned has none.
    """
    found = marked_rows(out, start_bytes, brief=brief)
    return (row for is_newest, row in found if is_newest)


def marked_rows(
    out: Path, start_bytes: int | None = None, *, brief: bool = False
) -> Iterator[tuple[bool, dict[str, Any]]]:
    """Yield (whether it is the newest of its id, row) for each row of `read_rows`."""
    found = placed_marked_rows(out, start_bytes, brief=brief)
    return ((is_newest, row) for _, is_newest, row in found)


def newest_placed(out: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (its place, row) for each row of `newest_rows`."""
    return ((place, row) for place, is_newest, row in placed_marked_rows(out) if is_newest)


def placed_marked_rows(
    out: Path, start_bytes: int | None = None, *, brief: bool = False
) -> Iterator[tuple[int, bool, dict[str, Any]]]:
    """Yield (its place, whether it is the newest of its id, row) as `marked_rows`."""
    if start_bytes is None and len(parts(out)) > 1:
        yield from _marked_of_parts(out, brief=brief)
        return
    newest, end = _newest_of_repeated(out, start_bytes or 0)
    for place, row in placed_rows(out, start_bytes, brief=brief):
        is_newest = row["status"] not in _NEVER_NEWEST and place < end
        if is_newest and newest:
            is_newest = newest.get(fingerprint(row["id"]), place) == place
        yield place, is_newest, row


def _marked_of_parts(out: Path, *, brief: bool) -> Iterator[tuple[int, bool, dict[str, Any]]]:
    newest = HashMap64()
    for place, row in placed_rows(out, brief=True):
        if row["status"] != Status.LATE:
            newest.put(fingerprint(row["id"]), place)
    for place, row in placed_rows(out, brief=brief):
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

    def at(self, place: int, *, brief: bool = False) -> dict[str, Any] | None:
        """Return what `row_at` returns; with `brief` as `read_rows`."""
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
        return parse_brief(line) if brief else parse_row(line)

    def __del__(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
