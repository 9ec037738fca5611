"""JSON whose numbers keep the value that they were written with.

orjson reads a whole number of more than 64 bits, and any decimal, as a double, which may be another
number. Data that is only passed on holds such a number as a `Number`.
"""

import json
from typing import Any

import orjson

_AS_ZEROS = bytes.maketrans(b"123456789.E", b"0000000000e")
# Fewer digits fit into a double, and an exponent of more than -100 leaves all of them.
_LONG, _TINY = b"0" * 16, b"e-000"
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1  # those of orjson
_SAFE_CHARS = 18


class Number:
    """A number that neither orjson nor a double can hold, as its text."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return self.text

    @property
    def nearest(self) -> int | float:
        """The number itself if it is a whole one, else the nearest double."""
        return int(self.text) if self.text.lstrip("-").isdecimal() else float(self.text)


def may_change(text: bytes) -> bool:
    """Return whether JSON may have a number that orjson changes; a quick test."""
    zeros = text.translate(_AS_ZEROS)
    return _LONG in zeros or _TINY in zeros


def loads(text: bytes) -> Any:
    """Return the value of JSON that orjson accepts, with a `Number` where orjson changes one."""
    return json.loads(text, parse_int=_int, parse_float=_float)


def written(value: Any) -> orjson.Fragment:
    """Return what orjson writes for a `Number`; a `default` of `orjson.dumps`."""
    if isinstance(value, Number):
        return orjson.Fragment(value.text)
    raise TypeError(type(value).__name__)


def plain(value: Any) -> Any:
    """Return the value with `Number.nearest` for each `Number`."""
    match value:
        case Number():
            return value.nearest
        case list():
            return [plain(item) for item in value]
        case dict():
            return {name: plain(item) for name, item in value.items()}
        case _:
            return value


def _int(text: str) -> int | Number:
    if len(text) <= _SAFE_CHARS:
        return int(text)
    # A longer one has more than 64 bits; Python reads at most 4,300 digits.
    is_small = len(text) <= len(str(_INT_MIN)) and _INT_MIN <= int(text) <= _INT_MAX
    return int(text) if is_small else Number(text)


def _float(text: str) -> float | Number:
    from decimal import Decimal, InvalidOperation

    double = float(text)
    try:
        is_same = Decimal(text) == Decimal(repr(double))  # what orjson writes
    except InvalidOperation:  # an exponent of 19 digits
        is_same = False
    return double if is_same else Number(text)
