"""Sentences for a 200 of another API or of a gateway, which is not an answer. Pure."""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from gemini_batch.client.untrusted_json import as_text, one_line, proto_name
from gemini_batch.records import Failure, FailureKind, media_types

_SHOWN_NAMES = 5
_SHOWN_CHARS = 300
_MAX_VALUES = 10_000
_MIN_IMAGE_CHARS = 32
# PNG, JPEG, WebP and GIF in base64; a data URI; one whose image was taken out.
_IMAGE = re.compile(r"iVBORw0KGgo|/9j/|UklGR|R0lGOD|data:image/|.*?;base64,#\d", re.DOTALL)
_LINK = re.compile(r"(?:https?|gs)://\S", re.IGNORECASE)
# Of a model that writes, calls functions or runs code: they may have addresses of anything.
_WITH_LINKS = frozenset(
    spelling
    for name in (
        "text",
        "functionCall",
        "functionResponse",
        "executableCode",
        "codeExecutionResult",
    )
    for spelling in (name, proto_name(name))
)
_MESSAGES = ("message", "detail", "details", "msg", "error_description", "error")


def not_an_answer(value: Any) -> Failure:
    """Return the failure of a 200 with this JSON; an error was not billed."""
    if text := _error(value):
        message = f"the answer is an error, but not one of the Gemini API: {text}"
        return Failure(FailureKind.NOT_AN_ANSWER, message, may_be_billed=False)
    match value:
        case dict() if value:
            names = ", ".join(repr(one_line(name)[:50]) for name in islice(value, _SHOWN_NAMES))
            what = f"an object with {names}{' …' if len(value) > _SHOWN_NAMES else ''}"
        case dict():
            what = "an empty object"
        case list():
            what = f"an array of {len(value):,}" if value else "an empty array"
        case _:
            what = f"the JSON value {one_line(str(value))[:50]!r}"
    place = place_of_image(value)
    message = f"the answer is not from the Gemini API: it is {what}"
    if place:
        message += f"; an image may be at {place}"
    return Failure(FailureKind.NOT_AN_ANSWER, message, may_be_billed=True)


def place_of_image(value: Any) -> str | None:
    """Return the path of the first string, or array of bytes, that looks like an image."""
    return _place_of(value, _is_image)


def place_of_link(parts: list[dict[str, Any]]) -> str | None:
    """Return the path of an address in a part of an answer that is not a text, or None."""
    for number, part in enumerate(parts):
        others = {name: value for name, value in part.items() if name not in _WITH_LINKS}
        if place := _place_of(others, _is_link):
            return f"parts[{number}].{place}"
    return None


def _place_of(value: Any, accepts: Callable[[str | bytes], bool]) -> str | None:
    """Return the path of the first string, or array of bytes, that is accepted."""
    for path, found in _leaves(value):
        if accepts(found):
            return one_line(path)[:_SHOWN_CHARS].lstrip(".")
    return None


def _is_image(found: str | bytes) -> bool:
    if isinstance(found, bytes):
        return media_types.sniff(found) is not None
    return len(found) >= _MIN_IMAGE_CHARS and _IMAGE.match(found) is not None


def _is_link(found: str | bytes) -> bool:
    return isinstance(found, str) and _LINK.match(found) is not None


def _leaves(value: Any) -> Iterator[tuple[str, str | bytes]]:
    """Yield all strings, the starts of arrays of bytes, and the paths of both.

    Those of an object's last member come first.
    """
    left: list[tuple[str, Any]] = [("", value)]
    for _ in range(_MAX_VALUES):
        if not left:
            return
        path, value = left.pop()
        match value:
            case str():
                yield path, value
            case dict() | list() if start := _bytes(value):
                yield path, start
            case dict():
                items = islice(value.items(), _MAX_VALUES)
                left += ((f"{path}.{name}", item) for name, item in items)
            case list():
                items = islice(enumerate(value), _MAX_VALUES)
                left += ((f"{path}[{place}]", item) for place, item in items)


def _bytes(value: dict[str, Any] | list[Any]) -> bytes | None:
    """Return the start of bytes as numbers; JavaScript's arrays of bytes become objects."""
    numbers = value.values() if isinstance(value, dict) else value
    start = list(islice(numbers, media_types.HEAD_BYTES))
    are_bytes = start and all(type(number) is int and 0 <= number < 256 for number in start)
    return bytes(start) if are_bytes else None


def _error(value: Any) -> str | None:
    """Return the message of an error; None if it is none."""
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict) or not ({"error", "errors"} & set(value)):
        return None
    error = value.get("error") or value.get("errors")
    if isinstance(error, dict):
        error = next((error[name] for name in _MESSAGES if as_text(error.get(name))), error)
    return (
        one_line(error if isinstance(error, str) else str(error))[:_SHOWN_CHARS] if error else None
    )
