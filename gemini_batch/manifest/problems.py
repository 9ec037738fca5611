"""Problems of a manifest's line, explained to the user who wrote it."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gemini_batch.manifest.job_line import TOO_DEEP, LineError, is_too_deep, paths
from gemini_batch.records.job import Job, JobPart
from gemini_batch.wording import SHOWN_CHARS, choices, shown, suggest

_ONE_OBJECT = 'a line is one whole JSON object, such as {"prompt": "A cute robot mascot"}'
_KINDS = {
    "string_type": "a string",
    "int_type": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
}
_JOB_FIELDS = tuple(Job.model_fields)
_PART_FIELDS = tuple(JobPart.model_fields)
# What other tools and other APIs call a field.
OTHER_NAMES = {
    "n": "variants",
    "count": "variants",
    "num_images": "variants",
    "size": "image_size",
    "resolution": "image_size",
    "ratio": "aspect_ratio",
}


def explain(text: bytes, error: ValueError) -> Iterator[tuple[str, str]]:
    """Yield (field, message) for each problem of a line that is not a job."""
    if isinstance(error, LineError):
        yield error.field, str(error)
    elif isinstance(error, ValidationError):
        for detail in error.errors(include_url=False):
            yield _path(detail["loc"]), _message(detail)
    else:
        yield _not_json(text, error)


def _path(location: tuple[int | str, ...]) -> str:
    """Return `parts[0].text`."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return path.removeprefix(".")


def _message(detail: ErrorDetails) -> str:
    found, context = detail["input"], detail.get("ctx", {})
    match detail["type"]:
        case "value_error":
            return str(context["error"])
        case "extra_forbidden":
            return _unknown_field(detail["loc"])
        case "literal_error":
            known = re.findall("'([^']*)'", context["expected"])
            allowed = _one_of(found, known)
        case "string_too_short" | "too_short":
            allowed = "must not be empty: fill it in, or leave it out"
        case "greater_than_equal":
            allowed = f"must be {_plain(context['ge'])} or more"
        case "less_than_equal":
            allowed = f"must be {_plain(context['le'])} or less"
        case "model_type" if not detail["loc"]:
            allowed = _ONE_OBJECT
        case "list_type" if isinstance(found, str):
            allowed = f"must be a list: write [{shown(found)}]"
        case "string_type" if isinstance(found, int | float) and not isinstance(found, bool):
            allowed = _must_be_quoted(found)
        case kind:
            allowed = f"must be {_KINDS[kind]}" if kind in _KINDS else detail["msg"]
    return f"got {shown(found)}; {allowed}"


def _one_of(found: Any, known: list[str]) -> str:
    """Return what to write for a value that is not a known one."""
    if str(found) in known:
        return _must_be_quoted(found)
    meant = re.sub("[x/]", ":", str(found).lower())
    near = [each for each in known if each.lower() == meant]
    return f"{f'did you mean {shown(near[0])}? ' if near else ''}allowed: {choices(known)}"


def _must_be_quoted(found: Any) -> str:
    return f'must be a string: write "{found}"'


def _plain(number: float) -> str:
    return f"{int(number):,}" if number == int(number) else f"{number:,}"


def _unknown_field(location: tuple[int | str, ...]) -> str:
    name = str(location[-1])
    if location == ("key",):
        return 'is the same as "id": leave one of them out'
    if location == ("vars",):
        return "belongs to a template: write the manifest with gemini-batch expand"
    is_of_part = len(location) > 1
    return f"no such field; {suggest(name, _PART_FIELDS) if is_of_part else _suggest_field(name)}"


def _suggest_field(name: str) -> str:
    """Return `did you mean "variants"?`, or all fields of a job."""
    other = OTHER_NAMES.get(name.lower())
    return f'did you mean "{other}"?' if other else suggest(name, _JOB_FIELDS)


def _not_json(text: bytes, error: ValueError) -> tuple[str, str]:
    """Return (field, message) for a line that orjson refused; Python's parser says why."""
    try:
        data = json.loads(
            text.decode(), parse_int=_finite, parse_float=_finite, parse_constant=_Unreadable
        )
    except UnicodeDecodeError as undecodable:
        byte, column = text[undecodable.start], len(text[: undecodable.start].decode()) + 1
        return "", f"not UTF-8: byte 0x{byte:02x} at column {column}; save the file as UTF-8"
    except json.JSONDecodeError as invalid:
        return "", _broken(text.decode(), invalid)
    except RecursionError:
        return "", TOO_DEEP
    if is_too_deep(data):
        return "", TOO_DEEP
    for field, value in paths(data):
        if isinstance(value, _Unreadable):
            return field, value.message
    return _lone_surrogate(data) or ("", f"not valid JSON: {error}")


def _broken(text: str, error: json.JSONDecodeError) -> str:
    """Return the grammar mistake of a line; the most common ones by name."""
    rest = text[error.pos :]
    if "\0" in text:
        return "has NUL bytes, as UTF-16 has; save the file as UTF-8"
    if text in ("[", "{", "]", "}", "],", "},"):
        advice = 'write each job on one line of its own, without "[" and "]" around them'
        return f"got {shown(text)} alone; {advice}"
    if rest == ",":
        return "has a comma at its end: leave it out; no comma separates the lines"
    found = shown(rest) if rest else "the line's end"
    found = f"got {found} at column {error.colno}"
    if rest.startswith(("'", "None", "True", "False")):
        return f"{found}, which is Python and not JSON; {_ONE_OBJECT}"
    reason = error.msg.removesuffix(" at")
    return f"{found}, which is not valid JSON ({reason}); {_ONE_OBJECT}"


def _lone_surrogate(data: Any) -> tuple[str, str] | None:
    advice = "half of a character; write both halves, or the character itself"
    for field, value in data.items() if isinstance(data, dict) else [("", data)]:
        if half := re.search("[\ud800-\udfff]", field + json.dumps(value, ensure_ascii=False)):
            where = "" if half.start() < len(field) else field
            return where, f"got \\u{ord(half.group()):04x} alone, {advice}"
    return None


class _Unreadable:
    """A number that JSON can't have, or that no double can hold."""

    def __init__(self, text: str) -> None:
        if text in ("NaN", "Infinity", "-Infinity"):
            self.message = f"got {text}, which JSON does not have: leave it out"
        else:
            found = text if len(text) <= SHOWN_CHARS else f"{text[:20]}… ({len(text):,} characters)"
            self.message = f"got {found}, a number that is too large; allowed: up to 1.7e308"


def _finite(text: str) -> float | _Unreadable:
    number = float(text)
    return number if math.isfinite(number) else _Unreadable(text)
