"""A file of variables for templates: a table or JSONL, one record per row."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from gemini_batch.errors import ManifestError, Problem
from gemini_batch.manifest import file_kind
from gemini_batch.manifest.job_line import LineError, check_names
from gemini_batch.manifest.lines import MAX_LINE_BYTES
from gemini_batch.manifest.reader import Manifest
from gemini_batch.manifest.source import opened_text
from gemini_batch.manifest.table_jobs import FORMULA_ERRORS, formula_error
from gemini_batch.manifest.tables import Table, text_of
from gemini_batch.records import exact_json
from gemini_batch.wording import shown

_BOM = b"\xef\xbb\xbf"


class Record(NamedTuple):
    """The variables of one row: a cell of a table is a text, and an empty one is absent.

    Attributes:
        line: Number of its first line, from 1.
        problem: A text for the user; "" for a record that can be used.
    """

    line: int
    values: dict[str, Any]
    problem: str = ""


class Variables:
    """A file of variables, which can be read several times.

    Attributes:
        columns: The columns of a table, or the names in the first object.
        line: Number of the line with their names.
        is_jsonl: Each row has its own names.
    """

    def __init__(self, path: Path) -> None:
        """Read the names.

        Raises:
            ManifestError: It is missing, unreadable, or neither a table nor JSONL.
        """
        self.name = str(path)
        self._path = path
        file, head = opened_or_refused(path)
        with file:
            self.is_jsonl = text_of(head).lstrip().startswith(("{", "["))
            if other := file_kind.refusal(head) if self.is_jsonl else file_kind.binary(head):
                raise ManifestError(self.name, [Problem(0, "", other)])
            self.columns, self.line = self._names(file)

    def records(self) -> Iterator[Record]:
        """Yield the record of each row that is not empty."""
        file, _ = opened_or_refused(self._path)
        with file:
            file.seek(0)
            if self.is_jsonl:
                yield from _of_lines(file)
                return
            with self._table(file) as table:
                yield from _of_table(table)

    def _table(self, file: BinaryIO) -> Table:
        return Table(file, suffix=self._path.suffix.lower())

    def _names(self, file: BinaryIO) -> tuple[tuple[str, ...], int]:
        file.seek(0)
        if self.is_jsonl:
            first = next(_of_lines(file), Record(1, {}))
            return tuple(first.values), first.line
        with self._table(file) as table:
            return self._names_of_table(table), table.line

    def _names_of_table(self, table: Table) -> tuple[str, ...]:
        problems = [table.problem] if table.problem else []
        named = [name for name in table.columns if name]
        if not named and not problems:
            problems.append("the first row is empty; it names the columns, such as name,style")
        twice = sorted({name for name in named if named.count(name) > 1})
        problems += [f"{shown(name)} is there twice: leave one column out" for name in twice]
        if problems:
            found = [Problem(table.line, "", problem) for problem in problems]
            raise ManifestError(self.name, found)
        return tuple(named)


def opened_or_refused(path: Path) -> tuple[BinaryIO, bytes]:
    """Return a regular file and its first bytes.

    Raises:
        ManifestError: It is missing, unreadable, or something else.
    """
    if (opened := opened_text(path)) is not None:
        return opened
    Manifest(path).close()  # says why
    raise ManifestError(str(path), [Problem(0, "", "can't be read")])


def text_value(value: Any) -> str | None:
    """Return what a placeholder becomes; None for a value that is neither a text nor a number."""
    if isinstance(value, str):
        return value
    if isinstance(value, exact_json.Number):
        return value.text
    return orjson.dumps(value).decode() if isinstance(value, int | float) else None


def json_of(text: bytes) -> Any:
    """Return the value of a line, with its numbers as they are written.

    Raises:
        LineError: A name is repeated, or it is nested too deeply.
        ValueError: It is not JSON.
    """
    value = orjson.loads(text)
    check_names(value, text)
    return exact_json.loads(text) if exact_json.may_change(text) else value


def _of_table(table: Table) -> Iterator[Record]:
    for row in table.rows():
        cells = zip(table.columns, map(str.strip, row.cells), strict=False)
        values = {name: cell for name, cell in cells if cell}
        problem = row.problem
        if wrong := FORMULA_ERRORS.intersection(values.values()):
            problem = formula_error(min(wrong))
        yield Record(row.line, values, problem)


def _of_lines(file: BinaryIO) -> Iterator[Record]:
    for number, text in numbered_lines(file):
        try:
            values = json_of(text)
        except LineError as error:
            yield Record(number, {}, ": ".join(filter(None, (error.field, str(error)))))
            continue
        except ValueError as error:
            yield Record(number, {}, f"not valid JSON: {error}")
            continue
        if not isinstance(values, dict):
            yield Record(number, {}, f"got {shown(values)}; a line is one JSON object")
            continue
        yield Record(number, {name: each for name, each in values.items() if each is not None})


def numbered_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield (number, text) of each line that is not blank."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        if text := (line.removeprefix(_BOM) if number == 1 else line).strip():
            yield number, text
