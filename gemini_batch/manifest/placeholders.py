"""Texts with placeholders, such as `A {animal} in {style}`; `{{` and `}}` are braces."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from gemini_batch.wording import shown

_pieces = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+").finditer
_BRACES = {"{{": "{", "}}": "}"}


@dataclass(frozen=True, slots=True)
class Text:
    """A text with at least one placeholder.

    Attributes:
        names: Those of its placeholders.
    """

    names: frozenset[str]
    _pieces: tuple[tuple[str, bool], ...]

    def filled(self, values: Mapping[str, str]) -> str:
        """Return the text with the values of its placeholders."""
        return "".join([values[piece] if is_name else piece for piece, is_name in self._pieces])


Filled: TypeAlias = Any
"""JSON in which a `Text` may take the place of a string."""


def parsed(text: str) -> Text | str:
    """Return a text with placeholders, or the text itself if it has none.

    Raises:
        ValueError: A brace is alone, or a placeholder has no name.
    """
    pieces: list[tuple[str, bool]] = []
    for match in _pieces(text):
        piece, name = match[0], match[1]
        if name is not None:
            if not (name := name.strip()):
                raise ValueError("{} names no column: write its name, or {{}} for braces")
            pieces.append((name, True))
        elif piece in ("{", "}"):
            where = shown(text[match.start() :] if piece == "{" else text[: match.end()])
            raise ValueError(f"got a single {piece} in {where}; write {piece * 2} for a brace")
        else:
            pieces.append((_BRACES.get(piece, piece), False))
    if any(is_name for _, is_name in pieces):
        return Text(frozenset(name for name, is_name in pieces if is_name), tuple(pieces))
    return "".join(piece for piece, _ in pieces)


def compiled(value: Any, path: str, texts: dict[str, Text], faults: list[tuple[str, str]]) -> Any:
    """Return JSON with a `Text` for each string that has placeholders.

    Args:
        value: What a line of JSON has.
        path: The field; those of the texts, such as `parts[0].text`, are the keys of `texts`.
        texts: Gets the texts.
        faults: Gets (field, message) for each string that can't be read.
    """
    match value:
        case str():
            try:
                text = parsed(value)
            except ValueError as error:
                faults.append((path, str(error)))
                return value
            if isinstance(text, Text):
                texts[path] = text
            return text
        case list():
            return [
                compiled(item, f"{path}[{number}]", texts, faults)
                for number, item in enumerate(value)
            ]
        case dict():
            return {
                name: compiled(item, f"{path}.{name}", texts, faults)
                for name, item in value.items()
            }
        case _:
            return value


def filled(value: Filled, values: Mapping[str, str]) -> Any:
    """Return JSON whose texts have the values of their placeholders."""
    match value:
        case Text():
            return value.filled(values)
        case list():
            return [filled(item, values) for item in value]
        case dict():
            return {name: filled(item, values) for name, item in value.items()}
        case _:
            return value


def names(texts: Mapping[str, Text]) -> Iterator[tuple[str, str]]:
    """Yield (field, name) of each placeholder."""
    for path, text in texts.items():
        for name in sorted(text.names):
            yield path, name
