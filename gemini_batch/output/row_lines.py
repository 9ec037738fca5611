"""One line of `results.jsonl`: what it must have to be a row, and its value."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson

from gemini_batch.records import Status, exact_json

if TYPE_CHECKING:  # those who only read rows need no values of them
    from gemini_batch.records import ResultRow

_COUNT = (int, type(None))
_AMOUNT = (int, float, type(None))
_METADATA = b'"metadata":'
_STATUSES = frozenset(Status)


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
            and is_inside(file.get("path"))
            and isinstance(file.get("sha256"), str)
            and isinstance(file.get("size_bytes"), int)
        ):
            return False
    return True


def is_inside(path: Any) -> bool:
    """Return whether a path can name a file in the output folder."""
    if not isinstance(path, str) or "\0" in path or path.startswith("/"):
        return False
    return ".." not in path or ".." not in path.split("/")
