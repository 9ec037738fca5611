"""Kinds of JSON values, and Google's error messages for those that are not of their kind."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

_PACKAGE = "type.googleapis.com/google.ai.generativelanguage.v1beta."


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value of a proto type, such as `TYPE_INT32`."""

    type: str


@dataclass(frozen=True, slots=True)
class Enum:
    """One of the names of a proto enum."""

    type: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Repeated:
    """A list of one kind."""

    of: "Kind"


@dataclass(frozen=True, slots=True)
class Message:
    """An object with known fields by snake_case name; at most one of `oneof` may be set."""

    fields: dict[str, "Kind"]
    oneof: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Anything:
    """A part of the API that this simulator does not check."""


Kind: TypeAlias = Scalar | Enum | Repeated | Message | Anything

STRING, BYTES, BOOL = Scalar("TYPE_STRING"), Scalar("TYPE_BYTES"), Scalar("TYPE_BOOL")
INT32, INT64, FLOAT = Scalar("TYPE_INT32"), Scalar("TYPE_INT64"), Scalar("TYPE_FLOAT")
ANY = Anything()

Violations: TypeAlias = list[tuple[str, str]]


def read(kind: Kind, value: Any, path: str, violations: Violations) -> Any:  # noqa: PLR0911
    """Parse a JSON value.

    Args:
        kind: The expected type.
        value: The JSON value.
        path: Its path in snake_case, for error messages.
        violations: Google's errors for the value are appended here.

    Returns:
        The value with snake_case names and decoded bytes.
    """
    match kind:
        case Message():
            return _message(kind, value, path, violations)
        case Repeated():
            if value is None:
                return []
            # Proto's JSON mapping does not accept a single value for a list; this API does.
            items = value if isinstance(value, list) else [value]
            return [
                read(kind.of, item, f"{path}[{place}]", violations)
                for place, item in enumerate(items)
            ]
        case Scalar():
            return _scalar(kind, value, path, violations)
        case Enum():
            if isinstance(value, str) and value.upper() in kind.names:
                return value.upper()
            violations.append(
                (path, f"Invalid value at '{path}' ({_PACKAGE}{kind.type}), {_shown(value)}")
            )
            return None
        case Anything():
            return value


def _message(kind: Message, value: Any, path: str, violations: Violations) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        started = "start list" if isinstance(value, list) else "be a scalar value"
        at = f" at '{path}'" if path else ""
        violations.append((path, f"Invalid JSON payload received. A message{at} can't {started}."))
        return {}
    found: dict[str, Any] = {}
    at = f" at '{path}'" if path else ""
    for name, item in value.items():
        snake = snake_case(name)
        below = f"{path}.{snake}" if path else snake
        if snake not in kind.fields:
            violations.append(
                (
                    path,
                    f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.',
                )
            )
        elif (
            item is not None and snake in kind.oneof and any(other in found for other in kind.oneof)
        ):
            message = (
                f"Invalid value{at} (oneof), oneof field 'data' is already set. Cannot set '{name}'"
            )
            violations.append((path, message))
        elif item is not None:
            found[snake] = read(kind.fields[snake], item, below, violations)
    return found


def _scalar(kind: Scalar, value: Any, path: str, violations: Violations) -> Any:
    try:
        return _READ[kind.type](value)
    except binascii.Error:
        shown = value if len(value) <= 100 else value[:100] + "…"
        message = (
            f"Invalid value at '{path}' (TYPE_BYTES), Base64 decoding failed for {_shown(shown)}"
        )
    except (TypeError, ValueError, OverflowError):
        message = f"Invalid value at '{path}' ({kind.type}), {_shown(value)}"
    violations.append((path, message))
    return None


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _bytes(value: Any) -> bytes:
    """Decode base64 of either alphabet, padded or not, like proto's JSON mapping."""
    text = _string(value).replace("-", "+").replace("_", "/").rstrip("=")
    if not text.isascii():
        raise binascii.Error
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _int(bits: int) -> Callable[[Any], int]:
    def read_int(value: Any) -> int:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float | str)
            or float(value) != int(float(value))
        ):
            raise TypeError
        number = int(value)
        if not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
            raise OverflowError
        return number

    return read_int


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return float(value)


_READ: Mapping[str, Callable[[Any], Any]] = {
    "TYPE_STRING": _string,
    "TYPE_BYTES": _bytes,
    "TYPE_BOOL": _bool,
    "TYPE_INT32": _int(32),
    "TYPE_INT64": _int(64),
    "TYPE_FLOAT": _float,
}


def snake_case(name: str) -> str:
    """Convert `imageConfig` to `image_config`; snake_case names are unchanged."""
    return re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), name)


def _shown(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 200 else shown[:200] + "…"
