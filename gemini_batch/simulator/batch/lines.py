"""Input of a batch: each line is checked when the batch is created."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from gemini_batch.simulator import bodies, checks, gemini_schema, parsing, schema
from gemini_batch.simulator.batch.spool import Spool
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.checks import ImageRequest
from gemini_batch.simulator.faults import NO_FAULT, FaultSet
from gemini_batch.simulator.models import Model

_LINE = schema.Message(
    {"key": schema.STRING, "request": gemini_schema.REQUEST, "metadata": schema.ANY}
)
_UNKNOWN = re.compile(r'Unknown name "(?P<name>[^"]*)"')
_MAX_ERRORS = 10


@dataclass(slots=True)
class Line:
    """One request of a batch.

    Attributes:
        number: From 1.
        key: As given, or None.
        offset: Start of its JSON in the input.
        size_bytes: Length of its JSON.
        request: The checked request, without the data of its images, or its error.
        has_references: Whether the request has images.
        tokens: Its input tokens.
        faults: The faults of its answer.
        turn: How often the same request has been answered before.
        error: The error that answers it; None if it gets a response.
        placed: Faults of its place in the output, by name.
    """

    number: int
    key: str | None
    offset: int
    size_bytes: int
    request: ImageRequest | ErrorBody
    has_references: bool = False
    tokens: int = 0
    faults: FaultSet = NO_FAULT
    turn: int = 0
    error: ErrorBody | None = None
    placed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Input:
    """Input of a batch.

    Attributes:
        file: Name of its file; None if the requests are inlined.
        data: The lines, as JSON.
        metadata: The metadata of inlined requests.
        lines: The requests.
    """

    file: str | None
    data: Spool
    metadata: list[Any]
    lines: list[Line]

    @property
    def tokens(self) -> int:
        """Input tokens of all lines."""
        return sum(line.tokens for line in self.lines)


def read_lines(data: Spool, model: Model) -> list[Line] | ErrorBody:
    """Return the lines of an input, or the 400 for lines that can't be read; blocks.

    A request that can be read and that the model refuses is a line with an error.
    """
    lines: list[Line] = []
    errors: list[str] = []
    number = 0
    for offset, text in data.lines():
        if not text.strip():
            continue
        number += 1
        found = _line(number, offset, text, model)
        if isinstance(found, Line):
            lines.append(found)
        else:
            errors.append(f"Error on line {number}: {found}")
        if len(errors) == _MAX_ERRORS:
            break
    if errors:
        return bodies.error(400, "\n".join(errors))
    if not lines:
        return bodies.error(400, "The input file has no requests.")  # derived
    return lines


def with_references(line: Line, data: Spool) -> ImageRequest:
    """Return the request of a line with its images; blocks."""
    assert isinstance(line.request, ImageRequest), "a line with an error has none"  # noqa: S101
    if not line.has_references:
        return line.request
    raw = json.loads(data.read(line.offset, line.size_bytes))
    found = checks.check_json(raw["request"], line.request.model)
    assert isinstance(found, ImageRequest), "checked before"  # noqa: S101
    return found


def _line(number: int, offset: int, text: bytes, model: Model) -> Line | str:
    """Return a line, or its error."""
    try:
        raw = parsing.parsed(text)
    except RecursionError:
        return "invalid JSON, near column 1: message too deep"
    except ValueError as problem:
        column = getattr(problem, "colno", 1)
        return f"invalid JSON, near column {column}: unexpected token"
    violations: schema.Violations = []
    found = schema.read(_LINE, raw, "", violations)
    if violations:
        return _violation(violations[0], text)
    if not found.get("request"):
        return "invalid JSON, near column 1: no request"  # derived
    request = checks.check_fields(found["request"], raw["request"], model)
    line = Line(number, found.get("key"), offset, len(text), request)
    if isinstance(request, ImageRequest):
        line.has_references = bool(request.references)
        line.tokens = request.prompt_tokens
        line.request = replace(request, references=())
    else:
        line.error = request
    return line


def _violation(violation: tuple[str, str], text: bytes) -> str:
    """Return the parser's message for a field that is unknown or of a wrong type."""
    unknown = _UNKNOWN.search(violation[1])
    if unknown is None:
        return f"invalid JSON, near column 1: {violation[1]}"
    at = text.find(b'"' + unknown["name"].encode() + b'"') + 1
    return f"invalid JSON, near column {at}: no such field: '{unknown['name']}'"


def as_spool(requests: list[Any]) -> tuple[Spool, list[Any]]:
    """Return inlined requests as the lines of an input, and their metadata."""
    data = Spool()
    metadata = [item.get("metadata") for item in requests]
    for line in _as_lines(requests):
        data.append(line)
    return data, metadata


def _as_lines(requests: list[Any]) -> Iterator[bytes]:
    for item in requests:
        metadata = item.get("metadata")
        key = metadata.get("key") if isinstance(metadata, dict) else None
        line = {"request": item.get("request"), **({} if key is None else {"key": key})}
        yield json.dumps(line).encode() + b"\n"
