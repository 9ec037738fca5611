"""Reading JSON of any shape, and bounding what is taken from it. Pure."""

import codecs
import json
import re
from functools import cache
from typing import Any

import orjson

MAX_MESSAGE_CHARS = 2_000
MAX_NAME_CHARS = 500
# Control characters could move a terminal's cursor, or end a line of a log.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_CAPITAL = re.compile("[A-Z]")
# int32 in the discovery schema; a larger number is not a count.
_MAX_COUNT = 2**31 - 1
# orjson writes at most 64 bits, and Python reads at most 4,300 digits.
_MAX_INT_DIGITS = 18


def load(body: bytes) -> Any:
    """Return the parsed JSON, or None; accepts what orjson refuses, such as lone surrogates."""
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        text = body.decode("utf-8", errors="replace")
        return _writable(json.loads(text, strict=False, parse_int=_int))
    except (ValueError, RecursionError):
        return None


def _int(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_INT_DIGITS else digits


def _writable(value: Any) -> Any:
    """Return the value without anything that can't be written as JSON again."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [_writable(item) for item in value]
        case dict():
            return {_writable(key): _writable(item) for key, item in value.items()}
        case _:
            return value


def field(obj: dict[str, Any], name: str) -> Any:
    """Return a field by its JSON name, `inlineData`, or by its proto name, `inline_data`, or None.

    Parsers of proto JSON accept both: https://protobuf.dev/programming-guides/json/ (2026-11-29).
    Gateways may write both, and null in one of them.
    """
    value = obj.get(name)
    return obj.get(_proto_name(name)) if value is None else value


@cache
def _proto_name(name: str) -> str:
    return _CAPITAL.sub(r"_\g<0>", name).lower()


def as_dict(value: Any) -> dict[str, Any]:
    """Return the object, or an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return the array, or an empty one."""
    return value if isinstance(value, list) else []


def as_dicts(value: Any) -> list[dict[str, Any]]:
    """Return the objects in an array."""
    return [item for item in as_list(value) if isinstance(item, dict)]


def as_text(value: Any, max_chars: int | None = None) -> str | None:
    """Return the string, cut to `max_chars`; None for "" and anything else."""
    if not isinstance(value, str) or not value:
        return None
    return value if max_chars is None or len(value) <= max_chars else value[: max_chars - 1] + "…"


def as_name(value: Any) -> str | None:
    """Return the name of an enum value; servers write unknown values as numbers."""
    return str(value) if type(value) is int else as_text(value, MAX_NAME_CHARS)


def as_count(value: Any) -> int | None:
    """Return the int32 that is not negative, or None."""
    return value if type(value) is int and 0 <= value <= _MAX_COUNT else None


def one_line(text: str) -> str:
    """Return a message on one line, cut to `MAX_MESSAGE_CHARS`."""
    text = " ".join(_CONTROL.sub(" ", text[: 2 * MAX_MESSAGE_CHARS]).split())
    return as_text(text, MAX_MESSAGE_CHARS) or ""
