"""Reading JSON of any shape, and bounding what is taken from it. Pure."""

import codecs
import json
import re
from collections.abc import Callable, Iterable
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
_LONG_NUMBER = re.compile(rb"\d{%d}" % (_MAX_INT_DIGITS + 1))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
# Each value is looked at in Python: a megabyte takes up to a second.
_MAX_SLOW_BYTES = 1 << 20
# Of values that may hold an image, where an object has one twice.
_SEPARATORS = {"data": " ", "text": "\n"}


def load(body: bytes) -> Any:
    """Return the parsed JSON, or None; accepts what orjson refuses, such as lone surrogates."""
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    return _read(body, None)


def load_joined(body: bytes) -> Any:
    """Return the parsed JSON with the values of equal keys joined; None if no keys are equal.

    Other parsers let the last of them win, which may be the null of a gateway that writes a field
    twice: objects are united, arrays and what may hold an image are concatenated, and nothing
    empty overrules. A large body is not read.
    """
    has_equal = False
    if len(body) > _MAX_SLOW_BYTES:
        return None

    def joined(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal has_equal
        has_equal = has_equal or len(pairs) > len(dict(pairs))
        return _united({}, pairs)

    value = _read(body.removeprefix(codecs.BOM_UTF8), joined)
    return value if has_equal else None


def _united(first: dict[str, Any], pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    united = dict(first)
    for name, value in pairs:
        united[name] = _joined(name, united[name], value) if name in united else value
    return united


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _joined(name: str, first: Any, second: Any) -> Any:
    """Return the value of a key that an object has twice."""
    if _is_empty(first) or _is_empty(second):
        return first if _is_empty(second) else second
    match first, second:
        case dict(), dict():
            return _united(first, second.items())
        case list(), list():
            return first + second
        case str(), str() if first and name in _SEPARATORS:
            return first + _SEPARATORS[name] + second
        case dict() | list(), str() | int() | float():
            return first
    return second


def _read(body: bytes, hook: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None) -> Any:
    parse_int = _int if _LONG_NUMBER.search(body) else None
    has_surrogates = _SURROGATE.search(body) is not None
    if (parse_int or has_surrogates) and len(body) > _MAX_SLOW_BYTES:
        return None
    try:
        text = body.decode("utf-8", errors="replace")
        value = json.loads(text, strict=False, parse_int=parse_int, object_pairs_hook=hook)
        return _writable(value) if has_surrogates else value
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
    Gateways may write both, and leave one of them empty.
    """
    value = obj.get(name)
    if value or (value is not None and not _is_empty(value)):
        return value
    other = obj.get(proto_name(name))
    return value if other is None else other


@cache
def proto_name(name: str) -> str:
    """Return the proto name of a field, `inline_data`."""
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
