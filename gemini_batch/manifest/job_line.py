"""One line of a manifest as a job: its JSON, checked for what a JSON parser passes over."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson

from gemini_batch.records import exact_json
from gemini_batch.records.job import Job

# orjson writes at most 254 levels; a row or a request adds a few of its own.
MAX_DEPTH = 240
TOO_DEEP = f"nested too deeply; allowed: {MAX_DEPTH} levels"

_validate = Job.__pydantic_validator__.validate_python  # `Job.model_validate` takes 20 % longer


class LineError(ValueError):
    """A line that JSON parsers read, although it is wrong.

    Attributes:
        field: The field's path; "" for the line as a whole.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def job_of(text: bytes) -> Job:
    """Return the job of a line that `checked_job_of` accepts."""
    return _exact(_validate(orjson.loads(text)), text)


def checked_job_of(text: bytes) -> Job:
    """Return the job of a line.

    Raises:
        LineError: A name is repeated, or it is nested too deeply.
        ValueError: It is not JSON, or no job; `problems.explain` explains it.
    """
    data = orjson.loads(text)
    made: Job = _validate(data)
    check_names(data, text)
    return _exact(made, text)


def check_names(data: Any, text: bytes) -> None:
    """Raise a LineError if a name is repeated in JSON, or it is nested too deeply."""
    # Each name takes one of these colons: more of them are nested names, repeated names, or texts.
    has_spaces = _has_spaced_colon(text)
    if not has_spaces and isinstance(data, dict) and text.count(b'":') == len(data):
        return
    if may_be_too_deep(text) and is_too_deep(data):
        raise LineError("", TOO_DEEP)
    if isinstance(data, dict | list) and (has_spaces or text.count(b'":') != _names(data)):
        _check_repeated(text)


def _exact(made: Job, text: bytes) -> Job:
    """Set the fields that are passed on again, if a number in them would be another one."""
    if (made.metadata or made.request) and exact_json.may_change(text):
        data = exact_json.loads(text)
        for name in ("metadata", "request"):
            if name in data:
                made.__dict__[name] = data[name]  # frozen, and not shared
    return made


def may_be_too_deep(text: bytes) -> bool:
    """Return whether a line has enough brackets to be nested too deeply; a quick test."""
    return len(text) >= 2 * MAX_DEPTH and text.count(b"{") + text.count(b"[") >= MAX_DEPTH


def is_too_deep(data: Any) -> bool:
    """Return whether JSON is nested too deeply to be written again."""
    level = [data]
    for _ in range(MAX_DEPTH):
        level = [child for value in level for child in _children(value)]
        if not level:
            return False
    return True


def _children(value: Any) -> Iterator[Any]:
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (child for child in values if isinstance(child, dict | list))


def _has_spaced_colon(text: bytes) -> bool:
    return b" :" in text or b"\t:" in text or b"\r:" in text


def _names(data: Any) -> int:
    """Return the number of names in all objects of JSON that is not nested too deeply."""
    count, values = (len(data), data.values()) if isinstance(data, dict) else (0, data)
    for value in values:
        if isinstance(value, dict | list):
            count += _names(value)
    return count


class _Repeating(dict[str, Any]):
    """An object of JSON that has a name twice."""

    name = ""


def _check_repeated(text: bytes) -> None:
    """Raise a LineError if an object has a name twice."""
    data = json.loads(text, object_pairs_hook=_object, parse_int=str, parse_float=str)
    for path, value in paths(data):
        if isinstance(value, _Repeating):
            raise LineError(f"{path}.{value.name}".lstrip("."), "is there twice: leave one out")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeating = _Repeating(found)
    ((repeating.name, _),) = Counter(name for name, _ in pairs).most_common(1)
    return repeating


def paths(data: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (`parts[0].text`, value) of a value, and of all in it."""
    yield path, data
    if isinstance(data, dict):
        for name, value in data.items():
            yield from paths(value, f"{path}.{name}" if path else name)
    elif isinstance(data, list):
        for number, value in enumerate(data):
            yield from paths(value, f"{path}[{number}]")
