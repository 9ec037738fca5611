"""The rows of a table as lines of a manifest: columns are fields, an empty cell is not a field."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any, TypeAlias

import orjson

from gemini_batch.manifest.job_line import TOO_DEEP
from gemini_batch.manifest.problems import OTHER_NAMES
from gemini_batch.manifest.tables import Table
from gemini_batch.records.job import Job
from gemini_batch.wording import SHOWN_CHARS, choices, did_you_mean, shown

NAMES = frozenset({*Job.model_fields, "key"})
EXAMPLE = "id,prompt"

_Problem: TypeAlias = tuple[str, str]
"""The field, the message."""
# What spreadsheets show for a formula that failed, such as a text that begins with "=" or "-".
# https://support.microsoft.com/office/formula-errors, 2026-11
FORMULA_ERRORS = frozenset(
    {"#N/A", "#NAME?", "#REF!", "#VALUE!", "#DIV/0!", "#NUM!", "#NULL!", "#SPILL!", "#CALC!"}
)
_is_time = re.compile(r"\d{1,2}:\d\d(:\d\d)?( [AP]M)?", re.IGNORECASE).fullmatch
_is_whole = re.compile(r"(-?\d{1,4000})(?:\.0)?", re.ASCII).fullmatch
_is_number = re.compile(r"-?\d{1,300}(\.\d+)?", re.ASCII).fullmatch


class TableJobs:
    """Makes a line of each row of a table.

    Attributes:
        problems: Those of the names of the columns.
    """

    def __init__(self, table: Table) -> None:
        self.problems = [] if table.problem else list(_problems(table.columns))
        # In Europe's spreadsheets, a semicolon separates because a comma is in numbers.
        has_commas = table.delimiter == ";"
        # The cells of a column with a wrong name are left out.
        self._names = [
            name if _is_field(name) and not _outer(name, table.columns) else ""
            for name in table.columns
        ]
        self._special = [
            (name, name.split("."), _converter(name, has_commas=has_commas))
            for name in dict.fromkeys(self._names)
            if not name or "." in name or not is_text(name)
        ]

    def line(self, cells: Sequence[str]) -> tuple[bytes, list[_Problem]]:
        """Return the line of a row, and the problems of its cells."""
        job: dict[str, Any] = {
            name: cell for name, cell in zip(self._names, cells, strict=False) if cell
        }
        if any(map(str.isspace, cells)):
            job = {name: cell for name, cell in job.items() if not cell.isspace()}
        problems = []
        if not FORMULA_ERRORS.isdisjoint(cells):
            found = [name for name, cell in job.items() if cell in FORMULA_ERRORS]
            problems = [(name, formula_error(job.pop(name))) for name in found]
        for name, path, convert in self._special:
            if (cell := job.pop(name, None)) is None or not name:
                continue
            into = job
            for step in path[:-1]:
                into = into.setdefault(step, {})
            try:
                into[path[-1]] = convert(cell.strip()) if convert else cell
            except ValueError as error:
                problems.append((name, str(error)))
        return b"" if problems else orjson.dumps(job), problems


def value_of(name: str, text: str) -> Any:
    """Return a field's value for `orjson.dumps`; a text if it is not what the field wants.

    Raises:
        ValueError: It begins like JSON and is none, or a spreadsheet has changed it.
    """
    convert = _converters().get(name)
    return text if convert is None else convert(text.strip())


def is_text(name: str) -> bool:
    """Return whether any text is a value of a field."""
    return name not in _converters()


def formula_error(cell: str) -> str:
    """Return what is wrong with one of `FORMULA_ERRORS`."""
    return f"got {shown(cell)}, an error of the spreadsheet: write the text again"


def _converter(name: str, *, has_commas: bool) -> Callable[[str], Any] | None:
    convert = _converters().get(name)
    if convert is _number and has_commas:
        return lambda text: _number(text.replace(",", "."))
    return convert


@cache
def _converters() -> dict[str, Callable[[str], Any]]:
    """Return the functions that make a field's value of a cell, for fields that are no text."""
    by_type: dict[str, Callable[[str], Any]] = {"integer": _whole, "number": _number}
    found: dict[str, Callable[[str], Any]] = {}
    for name, schema in Job.model_json_schema()["properties"].items():
        rule = schema.get("anyOf", [schema])[0]
        if "enum" in rule:
            found[name] = partial(_choice, rule["enum"])
        elif rule["type"] != "string":
            found[name] = by_type.get(rule["type"], _json)
    return found


def _choice(allowed: Sequence[str], text: str) -> str:
    if _is_time(text) and text not in allowed:
        made = "a spreadsheet made a time of a shape: format the column as text, and write it again"
        raise ValueError(f"got {shown(text)}; {made}")
    return text


def _whole(text: str) -> Any:
    # Not 1.000, 1,000 or 1E+03: some spreadsheets mean a thousand, or have dropped digits.
    found = _is_whole(text)
    return orjson.Fragment(str(int(found[1]))) if found else text


def _number(text: str) -> Any:
    return float(text) if _is_number(text) else text


def _json(text: str) -> Any:
    try:
        orjson.loads(text)
    except ValueError as error:
        if not text.startswith(("[", "{", '"')):
            return text
        raise ValueError(f"{_not_json(text, error)}; {_ADVICE[text[0]]}") from None
    # Outside of strings, where no line can end, a line's end is a blank.
    return orjson.Fragment(re.sub(r"[\r\n]", " ", text))


_LIST = 'write a list as ["a.png", "b.png"]'
_ADVICE = {"[": _LIST, "{": 'write an object as {"name": "value"}', '"': _LIST}


def _not_json(text: str, error: ValueError) -> str:
    try:
        json.loads(text)
    except json.JSONDecodeError as invalid:
        rest = text[invalid.pos :]
        found = f"got {shown(rest)}" if rest else "got the cell's end"
        reason = invalid.msg.removesuffix(" at")
        kind = "is Python and not JSON" if rest.startswith(("'", "None", "True", "False")) else ""
        return f"{found}, which {kind or f'is not valid JSON ({reason})'}"
    except RecursionError:
        return TOO_DEEP
    return f"got {shown(text)}, which is not valid JSON ({error})"


def _problems(columns: Sequence[str]) -> Iterator[_Problem]:
    """Yield (name, message) for each name of a column that is not a field."""
    named = [name for name in columns if name]
    unknown = [name for name in named if not _is_field(name)]
    if not named:
        yield "", f"the first row is empty; it names the fields, such as {EXAMPLE}"
    elif len(unknown) == len(named) and not any(did_you_mean(name, NAMES) for name in named):
        found = shown(", ".join(named))
        yield "", f"got {found}; the first row names the fields of jobs, such as {EXAMPLE}"
        return
    for name in dict.fromkeys(unknown):
        yield name[:SHOWN_CHARS], f"no such field; {_advice(name)}"
    for name in sorted({name for name in named if named.count(name) > 1}):
        yield name[:SHOWN_CHARS], "is there twice: leave one column out"
    for name in named:
        if outer := _outer(name, named):
            yield name[:SHOWN_CHARS], f"is inside of {shown(outer)}: leave one column out"


def _outer(name: str, columns: Sequence[str]) -> str:
    """Return the first column that a column would be inside of, or ""."""
    return next((each for each in columns if each and name.startswith(f"{each}.")), "")


def _is_field(name: str) -> bool:
    root, *inner = name.split(".")
    return name in NAMES or (root == "metadata" and bool(inner) and all(inner))


def _advice(name: str) -> str:
    if other := OTHER_NAMES.get(name.lower()):
        return f'did you mean "{other}"?'
    if near := did_you_mean(name, NAMES):
        return near
    kept = shown(f"metadata.{name.strip('.')}")
    return f"known: {choices(Job.model_fields)}; {kept} is kept with the result"
