"""Tables of text, CSV and TSV, as spreadsheets and pandas write them, read row by row."""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import BinaryIO, NamedTuple, Self

from gemini_batch.wording import shown

DELIMITERS = {",": "CSV", ";": "CSV, with semicolons", "\t": "TSV", "|": "CSV, with bars"}
# A cell of Excel has up to 32,767; a raw request with inline images may be longer.
MAX_CELL_CHARS = 16 * 1024 * 1024

_NO_DELIMITER = "\x1f"
_HEAD_BYTES = 64 * 1024
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Excel's own first line, which names the delimiter.
_is_separator = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE).fullmatch
_escaped = re.compile("[\udc80-\udcff]").search
_UNCLOSED = "has an opening quote that is never closed"
_ERRORS = (
    ("expected after", 'has text after a closing quote: write a quote in a cell twice, as ""'),
    ("unexpected end of data", f"{_UNCLOSED}: close it, or leave it out"),
    ("field larger", f"{_UNCLOSED}, or a cell of more than {MAX_CELL_CHARS:,} characters"),
)


class Row(NamedTuple):
    """A row that is not empty, or a problem of the table.

    Attributes:
        line: Number of its first line, from 1; a cell may have several lines.
        cells: As many as the table has columns, or fewer.
        problem: A text for the user; "" for a row that can be used.
    """

    line: int
    cells: list[str]
    problem: str = ""


def encoding_of(head: bytes) -> str:
    """Return the encoding of a text by its first bytes: that of the BOM, or UTF-16, or UTF-8."""
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    match head[:2]:
        case b"":
            return "utf-8"
        case start if start.endswith(b"\0"):
            return "utf-16-le"
        case start if start.startswith(b"\0"):
            return "utf-16-be"
    return "utf-8"


def text_of(head: bytes) -> str:
    """Return the beginning of a text without what can't be decoded."""
    return head.decode(encoding_of(head), errors="ignore")


class Table:
    """A table whose first row names its columns; it closes the file.

    Attributes:
        columns: The names, without blanks around them; "" for a column that has none.
        line: Number of the line that names them.
        problem: A text for the user; "" if the names can be read.
        delimiter: What separates the cells.
    """

    def __init__(
        self, file: BinaryIO, *, suffix: str = "", names: frozenset[str] = frozenset()
    ) -> None:
        """Read the names of the columns; those in `names` are expected."""
        csv.field_size_limit(MAX_CELL_CHARS)  # of this process
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        # A byte that is not UTF-8 is noticed with its line.
        errors = "surrogateescape" if encoding_of(head).startswith("utf-8") else "strict"
        self._text = io.TextIOWrapper(file, encoding_of(head), errors, newline="")
        self._before = 0  # lines before the first one that the CSV reader gets
        self._fault = ""
        start = io.StringIO(text_of(head), newline="")
        if named := _is_separator(start.readline()):
            self._text.readline()
            self._before = 1
            self.delimiter = named[1]
        else:
            start.seek(0)
            self.delimiter = _delimiter(start.read(), suffix, names)
        first = next(_cells(start.read() if named else start.getvalue(), self.delimiter), [])
        self._reader = csv.reader(
            self._lines(),
            strict=True,
            delimiter=self.delimiter,
            # `id, prompt` was typed by hand, and no program writes it.
            skipinitialspace=len(first) > 1 and all(cell.startswith(" ") for cell in first[1:]),
        )
        self.line, cells, self.problem = next(self._raw_rows(), Row(1, []))
        self.columns = [cell.strip() for cell in cells]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._text.close()

    def rows(self) -> Iterator[Row]:
        """Yield each row that has a text; after a problem that hides the rest, no more."""
        if self.problem:
            return
        unnamed = {place for place, name in enumerate(self.columns) if not name}
        for row in self._raw_rows():
            if row.problem:
                yield row
                continue
            columns = len(self.columns)
            if len(row.cells) > columns and any(map(str.strip, row.cells[columns:])):
                found = f"has {len(row.cells)} cells, and the first row {columns}"
                advice = f"put a cell with {shown(self.delimiter)} in it into quotes"
                yield row._replace(problem=f"{found}: {advice}")
                continue
            for place in [at for at in unnamed if "".join(row.cells[at : at + 1]).strip()]:
                unnamed.remove(place)
                advice = "name it, or leave it out (with pandas: to_csv(…, index=False))"
                yield Row(self.line, [], f"column {place + 1} has no name: {advice}")
            yield row

    def _raw_rows(self) -> Iterator[Row]:
        while True:
            line = self._before + self._reader.line_num + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                text = next((say for part, say in _ERRORS if part in str(error)), str(error))
                yield Row(line, [], text)
                if text.startswith(_UNCLOSED):
                    return
                continue
            except UnicodeError:
                name = self._text.encoding.upper()
                yield Row(line, [], f"not {name}, as its beginning is; save it as CSV UTF-8")
                return
            if self._fault:
                yield Row(line, [], self._fault)
                return
            if any(map(str.strip, cells)):
                yield Row(line, cells)

    def _lines(self) -> Iterator[str]:
        while line := self._text.readline(MAX_CELL_CHARS):
            if len(line) == MAX_CELL_CHARS:
                raise csv.Error("field larger than any")
            if not line.isascii() and (bad := _escaped(line)):
                found = f"byte 0x{ord(bad.group()) - 0xDC00:02x} at column {bad.start() + 1}"
                self._fault = f"not UTF-8: {found}; save the table as CSV UTF-8"
            yield line


def _delimiter(head: str, suffix: str, names: frozenset[str]) -> str:
    """Return the delimiter that finds the most of the expected names, else the most cells.

    In a table of one column, no text separates anything.
    """
    first = "," if suffix == ".csv" else "\t"

    def found(delimiter: str) -> tuple[int, int, bool]:
        cells = [cell.strip() for cell in next(_cells(head, delimiter), [])]
        return len(names.intersection(cells)), len(cells), delimiter == first

    best = max(DELIMITERS, key=found)
    return best if found(best)[1] > 1 else _NO_DELIMITER


def _cells(head: str, delimiter: str) -> Iterator[list[str]]:
    """Yield the rows at the beginning of a table, as far as they can be read."""
    with suppress(csv.Error):
        yield from islice(csv.reader(io.StringIO(head, newline=""), delimiter=delimiter), 1)
