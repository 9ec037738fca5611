"""Makes a manifest of a template and its variables, and checks all of it."""

import re
from array import array
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, islice, product
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from gemini_batch.errors import ManifestError, TemplateError
from gemini_batch.manifest.reader import SHOWN_PROBLEMS, Manifest
from gemini_batch.manifest.template_lines import TemplateLine, faults_of, read_lines
from gemini_batch.manifest.variables import Record, Variables
from gemini_batch.wording import shown

# Of a message of `Manifest` about two jobs with one id.
_other_line = re.compile(r"(?<=\bwhich )(variant \d+ of )?line (\d+)(?= has\b)")


class _Problems:
    """The first problems of a template, and the number of all."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}  # in their order
        self.total = 0

    def add(self, where: str, field: str, message: str) -> None:
        text = ": ".join(filter(None, (where, field, message)))
        if text not in self._texts:
            self.total += 1
            if len(self._texts) < SHOWN_PROBLEMS:
                self._texts[text] = None

    def raise_any(self, source: str) -> None:
        """Raise a TemplateError if there are any."""
        if self.total:
            more = self.total - len(self._texts)
            last = [f"{source}: and {more:,} more problems like these"] if more else []
            raise TemplateError("\n".join([*self._texts, *last]))


class _Made(NamedTuple):
    """One combination of values, for a line of the template.

    Attributes:
        line_index: Of the template's line.
        row: The line of the file of variables; 0 if there is none.
    """

    line_index: int
    row: int
    values: Mapping[str, Any]


class _Template:
    """The lines of a template that can be expanded, and what they are expanded with."""

    def __init__(
        self, path: Path, variables: Path | None, problems: _Problems, *, is_product: bool
    ) -> None:
        self.problems = problems
        self.name = str(path)
        self._file = None if variables is None else Variables(variables)
        self._by_row = self._file if not is_product else None
        lines = list(read_lines(path))
        if not lines:
            problems.add(self.name, "", "has no lines; a template is a line of a manifest, or more")
        self.is_alone = len(lines) == 1
        if self._file and is_product:
            lines = self._multiplied(lines, self._file)
        # Equal jobs of different rows need two rows.
        records = self._by_row.records() if self._by_row else iter(())
        self._has_rows = len(list(islice(records, 2))) > 1
        self.lines = [line for line in lines if self._is_right(line)]

    def jobs(self) -> Iterator[_Made]:
        """Yield all combinations that have a value for each placeholder."""
        if self._by_row is None:
            for index, line in enumerate(self.lines):
                for values in _combinations(line):
                    yield _Made(index, 0, values)
            return
        is_empty = True
        for record in self._by_row.records():
            is_empty = False
            if record.problem:
                self.problems.add(f"{self._by_row.name}:{record.line}", "", record.problem)
                continue
            for index, line in enumerate(self.lines):
                if self._has_all(record, line):
                    for values in _combinations(line):
                        yield _Made(index, record.line, record.values | values)
        if is_empty:
            self.problems.add(self._by_row.name, "", "has no rows")

    def place(self, made: _Made) -> tuple[str, str]:
        """Return what a problem of a job is of, and more about it in parentheses, if needed."""
        line = self.lines[made.line_index]
        of_line = f"{self.name}:{line.number}"
        about = [f"{name} {shown(made.values.get(name))}" for name in line.lists]
        if not made.row or self._by_row is None:
            return of_line, _in_parentheses(about)
        if not self.is_alone:
            about.insert(0, of_line)
        return f"{self._by_row.name}:{made.row}", _in_parentheses(about)

    def _multiplied(self, lines: Sequence[TemplateLine], file: Variables) -> list[TemplateLine]:
        """Return the lines with the values of the columns that they use as lists of their own."""
        columns: dict[str, dict[str, Any]] = {}  # values by how they are written
        for record in file.records():
            if record.problem:
                self.problems.add(f"{file.name}:{record.line}", "", record.problem)
            for name, value in record.values.items():
                columns.setdefault(name, {})[repr(value)] = value
        if not columns:
            self.problems.add(file.name, "", "has no rows")
            return []
        used = frozenset(chain.from_iterable(line.names for line in lines))
        for name in sorted(columns.keys() - used):
            message = "no placeholder uses this column, and --product multiplies it: leave it out"
            self.problems.add(f"{file.name}:{file.line}", name, message)
        return [
            replace(
                line,
                lists=line.lists
                | {
                    name: list(values.values())
                    for name, values in columns.items()
                    if name in line.names and name not in line.lists
                },
                faults=line.faults
                + [
                    (f"vars.{name}", f"{file.name} has such a column too: give it another name")
                    for name in line.lists.keys() & columns.keys()
                ],
            )
            for line in lines
        ]

    def _is_right(self, line: TemplateLine) -> bool:
        """Return whether a line can be expanded; report what is wrong with it otherwise."""
        columns = self._by_row.columns if self._by_row else ()
        name = self._file.name if self._file else None
        faults = [*faults_of(line, columns, name, has_rows=self._has_rows)]
        faults += self._faults_of_first(line)
        for field, message in faults:
            self.problems.add(f"{self.name}:{line.number}", field, message)
        return not faults

    def _faults_of_first(self, line: TemplateLine) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with the first job, and so with all of a line."""
        records = self._by_row.records() if self._by_row else iter(())
        record = next((each for each in records if not each.problem), Record(0, {}))
        values = dict.fromkeys(line.names, "1") | record.values | next(_combinations(line))
        if line.job:
            with suppress(ValueError):  # of these values alone
                yield from line.problems_of(line.line(values))

    def _has_all(self, record: Record, line: TemplateLine) -> bool:
        missing = line.from_rows - record.values.keys()
        for name in sorted(missing):
            where = f"{self._by_row.name if self._by_row else ''}:{record.line}"
            message = f"is empty, and {self.name}:{line.number} uses it: fill it in"
            self.problems.add(where, name, message)
        return not missing


def _combinations(line: TemplateLine) -> Iterator[dict[str, Any]]:
    for values in product(*line.lists.values()):
        yield dict(zip(line.lists, values, strict=True))


def _in_parentheses(parts: Sequence[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""


def expand(
    path: Path, variables: Path | None, spool: IO[bytes], *, is_product: bool = False
) -> None:
    """Write the manifest of a template to a temporary file that has a name, and check it.

    Without `is_product` each row of the file of variables is combined with each combination of
    the lists of a line; with it, the columns are lists too.

    Raises:
        ManifestError: A file is missing, unreadable, or of another kind.
        TemplateError: The template, the variables, or jobs that would be made are wrong.
        OSError: The disk refused.
    """
    problems = _Problems()
    template = _Template(path, variables, problems, is_product=is_product)
    indexes, rows = array("L"), array("L")
    for made in template.jobs():
        try:
            line = template.lines[made.line_index].line(made.values)
        except ValueError as error:
            where, about = template.place(made)
            problems.add(where, "", f"{error}{about}")
            continue
        spool.write(line + b"\n")
        indexes.append(made.line_index)
        rows.append(made.row)
    spool.flush()
    if indexes:
        _check(template, Path(spool.name), indexes, rows)
    problems.raise_any(template.name)


def _check(template: _Template, spool: Path, indexes: "array[int]", rows: "array[int]") -> None:
    """Check the jobs as a manifest, and report problems where they come from."""
    found = _problems_of(spool)
    if found is None:
        return
    others = filter(None, (_other_line.search(each.message) for each in found.problems))
    wanted = {*(int(other[2]) for other in others), *(each.line for each in found.problems)}
    places: dict[int, tuple[str, str]] = {}
    with spool.open("rb") as file:
        for number, text in enumerate(file, start=1):
            if number in wanted:
                values = orjson.loads(text).get("metadata") or {}
                made = _Made(indexes[number - 1], rows[number - 1], values)
                places[number] = template.place(made)
    for each in found.problems:
        where, about = places[each.line]
        message = _other_line.sub(
            lambda other: (other[1] or "") + "".join(places.get(int(other[2]), other[2])),
            each.message,
        )
        template.problems.add(where, each.field, message + about)
    template.problems.total += found.total - len(found.problems)


def _problems_of(spool: Path) -> ManifestError | None:
    try:
        with Manifest(spool) as manifest:
            deque(manifest.scan(), maxlen=0)
    except ManifestError as error:
        return error
    return None
