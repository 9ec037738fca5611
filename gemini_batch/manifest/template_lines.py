"""One line of a template: a job with placeholders, and lists of values for them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.errors import ManifestError, Problem
from gemini_batch.manifest import file_kind, placeholders, problems
from gemini_batch.manifest.job_line import checked_job_of
from gemini_batch.manifest.placeholders import Text
from gemini_batch.manifest.table_jobs import is_text, value_of
from gemini_batch.manifest.variables import (
    json_of,
    numbered_lines,
    opened_or_refused,
    text_value,
)
from gemini_batch.records import exact_json
from gemini_batch.wording import did_you_mean, shown, suggest

VARS, METADATA = "vars", "metadata"
MAX_JOBS = 10_000_000
_UNTOUCHED = "request"


@dataclass(frozen=True)
class TemplateLine:
    """One line of a template.

    Attributes:
        job: Its JSON without `vars`, with a `Text` for each string that has placeholders.
        texts: These by field, such as `parts[0].text`.
        lists: The values of its own variables.
        faults: (field, message) of what is wrong with it.
    """

    number: int
    job: dict[str, Any]
    texts: dict[str, Text] = field(default_factory=dict)
    lists: dict[str, list[Any]] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of all placeholders."""
        return frozenset().union(*(text.names for text in self.texts.values()))

    @cached_property
    def from_rows(self) -> frozenset[str]:
        """The names of those that are in no list."""
        return self.names - self.lists.keys()

    @cached_property
    def _filled(self) -> tuple[tuple[str, bool], ...]:
        """The fields with placeholders, and whether each is a text."""
        fields = dict.fromkeys(re.split(r"[.\[]", path, maxsplit=1)[0] for path in self.texts)
        return tuple((name, name not in self.texts or is_text(name)) for name in fields)

    @property
    def jobs(self) -> int:
        """The number of combinations of its lists."""
        return prod(map(len, self.lists.values()))

    def line(self, values: Mapping[str, Any]) -> bytes:
        """Return a line of the manifest; the values are kept in its metadata.

        Raises:
            ValueError: A value can't be put into its field.
        """
        texts = {name: _text(name, values[name]) for name in self.names}
        job = self.job.copy()
        for name, is_plain in self._filled:
            value = placeholders.filled(job[name], texts)
            job[name] = value if is_plain else _of_field(name, value)
        own = job.pop(METADATA, None) or {}
        kept = {**values, **own} if isinstance(own, dict) else own
        return orjson.dumps(job | ({METADATA: kept} if kept else {}), default=exact_json.written)

    def problems_of(self, line: bytes) -> Iterator[tuple[str, str]]:
        """Yield (field, message) of what is wrong with all lines that are made of this one."""
        try:
            checked_job_of(line)
        except ValueError as error:
            for path, message in problems.explain(line, error):
                is_of_value = message.startswith("got ") and path in self.texts
                if not is_of_value:
                    yield path, message


def _of_field(name: str, cell: str) -> Any:
    try:
        return value_of(name, cell)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _text(name: str, value: Any) -> str:
    text = text_value(value)
    if text is None:
        raise ValueError(f"{name}: got {shown(value)}; must be a text or a number")
    return text


def read_lines(path: Path) -> Iterator[TemplateLine]:
    """Yield the lines of a template.

    Raises:
        ManifestError: It is missing, unreadable, or no JSONL.
    """
    file, head = opened_or_refused(path)
    with file:
        if other := file_kind.refusal(head):
            raise ManifestError(str(path), [Problem(0, "", other)])
        file.seek(0)
        for number, text in numbered_lines(file):
            yield _line(number, text)


def _line(number: int, text: bytes) -> TemplateLine:
    try:
        data = json_of(text)
    except ValueError as error:
        return TemplateLine(number, {}, faults=list(problems.explain(text, error)))
    if not isinstance(data, dict):
        fault = f"got {shown(data)}; a line of a template is one whole JSON object"
        return TemplateLine(number, {}, faults=[("", fault)])
    faults: list[tuple[str, str]] = []
    lists = dict(_lists(data.pop(VARS, None), faults))
    texts: dict[str, Text] = {}
    job = {
        name: value if name == _UNTOUCHED else placeholders.compiled(value, name, texts, faults)
        for name, value in data.items()
    }
    return TemplateLine(number, job, texts, lists, faults)


def _lists(given: Any, faults: list[tuple[str, str]]) -> Iterator[tuple[str, list[Any]]]:
    if given is not None and not isinstance(given, dict):
        faults.append((VARS, f"got {shown(given)}; must be an object of lists"))
        return
    for name, values in (given or {}).items():
        if not isinstance(values, list) or not values:
            advice = f"write [{shown(values)}]" if text_value(values) else "fill it in"
            found = f"got {shown(values)}; must be a list of values: {advice}"
            faults.append((f"{VARS}.{name}", found))
            yield name, ["1"]  # it is there
            continue
        yield name, values
        texts = [text_value(value) for value in values]
        for value, text in zip(values, texts, strict=True):
            if text is None:
                found = f"got {shown(value)}; must be a text or a number"
                faults.append((f"{VARS}.{name}", found))
        if twice := next((text for text in texts if text and texts.count(text) > 1), None):
            faults.append((f"{VARS}.{name}", f"{shown(twice)} is there twice: leave one out"))


def faults_of(
    line: TemplateLine, columns: Sequence[str], source: str | None, *, has_rows: bool
) -> Iterator[tuple[str, str]]:
    """Yield (field, message) of what is wrong with a line for all values.

    Args:
        line: A line; its lists include the columns that are multiplied.
        columns: Those of the file that are read by row.
        source: Its name; None if there is none.
        has_rows: It has several rows.
    """
    yield from line.faults
    if not line.job:
        return
    known = [*line.lists, *columns]
    for path, name in placeholders.names(line.texts):
        if name not in known:
            yield path, f"{{{name}}} {_unknown(name, known, source)}"
    yield from _unused_lists(line, columns, source)
    own = line.job.get(METADATA)
    for name, value in own.items() if isinstance(own, dict) else ():
        if name in known and value != placeholders.parsed(f"{{{name}}}"):
            yield f"{METADATA}.{name}", "a variable has this name too: choose another one"
    if has_rows and not line.faults and not line.names.intersection(columns):
        yield "", f"uses no column of {source}: each row would make the same job"
    yield from _same_ids(line, columns if has_rows else (), source)
    if line.jobs > MAX_JOBS:
        yield "", f"its lists make {line.jobs:,} jobs; allowed: {MAX_JOBS:,}"


def _unused_lists(
    line: TemplateLine, columns: Sequence[str], source: str | None
) -> Iterator[tuple[str, str]]:
    known = {*line.lists, *columns}
    for name in line.lists:
        if name in columns:
            yield f"{VARS}.{name}", f"{source} has such a column too: give it another name"
        if name not in line.names:
            near = did_you_mean(name, line.names - known)
            advice = near or f"write {{{name}}}, or leave it out"
            yield f"{VARS}.{name}", f"no placeholder uses it: {advice}"


def _unknown(name: str, known: Sequence[str], source: str | None) -> str:
    if not known:
        return f'has no value: name a file with --vars, or write "{VARS}": {{"{name}": ["…"]}}'
    where = f'is not a column of {source}, and not in "{VARS}"' if source else f'is not in "{VARS}"'
    return f"{where}; {suggest(name, known)}; {{{{ and }}}} are braces"


def _same_ids(
    line: TemplateLine, columns: Sequence[str], source: str | None
) -> Iterator[tuple[str, str]]:
    """Yield a problem for each list, and for the file, that makes several jobs with one id."""
    for name in ("id", "key"):
        given = line.job.get(name)
        if not isinstance(given, str | Text):
            continue
        used = given.names if isinstance(given, Text) else frozenset()
        for each, values in line.lists.items():
            if len(values) > 1 and each in line.names and each not in used:
                yield name, f"is the same for each {shown(each)}: put {{{each}}} into it"
        usable = [column for column in columns if column in line.names] or list(columns)
        if usable and not used.intersection(columns):
            advice = f"put a column into it, such as {{{usable[0]}}}"
            yield name, f"is the same for each row of {source}: {advice}"
