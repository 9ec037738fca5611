"""Redaction of the API key, in any spelling, wherever a server repeats it. Pure."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from gemini_batch.client import decodings
from gemini_batch.client.untrusted_json import load

REDACTED, HIDDEN = "[key]", "[not shown: it holds the key]"
# Google's keys have 39 characters and more; those of proxies may be short. A shorter text, or a
# short one of letters only, is a test's placeholder, and may be a word of an answer.
MIN_SECRET_CHARS, MIN_SECRET_LETTERS = 8, 16
# Without its images no answer is this long: a model writes at most 32,768 tokens. What is longer is
# not searched but left out.
MAX_SEARCHED_BYTES = 1 << 19
# What is searched at once of a longer body, and the most of a key in any spelling.
_REDACTED_BYTES = MAX_SEARCHED_BYTES // 2
_MAX_SPELLED_KEY_BYTES = 1 << 14


class KeyRedactor:
    """Finds a key as it is, in other case, with other separators, and in what decodes to it."""

    def __init__(self, key: str) -> None:
        self._pattern: re.Pattern[bytes] | None = None
        if _is_secret(key) and key.isascii():
            self._pattern = re.compile("".join(map(_spellings, key)).encode())
        # Where letters and digits are enough to know it, separators do not count.
        self._omitted = decodings.NO_LETTERS if _is_secret(_letters(key)) else decodings.BLANKS
        self._needle = self._squeezed(key.encode())
        self._reversed = self._needle[::-1]
        self._min_bytes = len(self._needle)
        # The pattern takes 20 ms a megabyte, and most answers contain none of these.
        self._needed = (key.encode(), b"\\", b"%", b"&")

    def redact(self, body: bytes) -> bytes:
        """Return a body, JSON or any text, without the key; one without it stays as it is."""
        if self._pattern is None:
            return body
        if any(piece in body for piece in self._needed):
            body = self._pattern.sub(REDACTED.encode(), body)
        text = decodings.text_of(body)
        if len(body) <= MAX_SEARCHED_BYTES and not self._holds(text):
            return body
        if isinstance(value := load(text.encode(errors="replace")), dict | list):
            return orjson.dumps(self._without_key(value, [MAX_SEARCHED_BYTES]))
        return self.redact_text(text[:MAX_SEARCHED_BYTES]).encode()

    def redact_text(self, text: str) -> str:
        """Return a text without its parts, between blanks, that hold the key; else none of it."""
        if self._pattern is None:
            return text
        text = self._pattern.sub(REDACTED.encode(), text.encode(errors="replace")).decode()
        if not self._holds(text):
            return text
        parts = re.split(r"(\s+)", text)
        text = "".join(REDACTED if self._holds(part) else part for part in parts)
        return HIDDEN if self._holds(text) else text

    def _without_key(self, value: Any, left_chars: list[int]) -> Any:
        """Return parsed JSON without the key; texts beyond `left_chars` in all are not shown."""
        match value:
            case str() if len(value) >= self._min_bytes:
                left_chars[0] -= len(value)
                return self.redact_text(value) if left_chars[0] >= 0 else HIDDEN
            case list():
                return [self._without_key(item, left_chars) for item in value]
            case dict():
                return {
                    self._without_key(name, left_chars): self._without_key(item, left_chars)
                    for name, item in value.items()
                }
            case _:
                return value

    def _holds(self, text: str) -> bool:
        """Return whether a text, or anything that it decodes to, holds the key."""
        return any(map(self._shows, decodings.of(text, self._min_bytes)))

    def _shows(self, text: bytes) -> bool:
        squeezed = self._squeezed(text)
        return self._needle in squeezed or self._reversed in squeezed

    def _squeezed(self, text: bytes) -> bytes:
        return text.translate(decodings.LOWER, self._omitted)


def redacted(body: Iterable[bytes], redact: Callable[[bytes], bytes]) -> Iterator[bytes]:
    """Yield the pieces of a body without the key, also where it is in two of them."""
    held = b""
    for piece in body:
        for start in range(0, len(piece), _REDACTED_BYTES):
            text = redact(held + piece[start : start + _REDACTED_BYTES])
            yield text[:-_MAX_SPELLED_KEY_BYTES]
            held = text[-_MAX_SPELLED_KEY_BYTES:]
    yield held


def _is_secret(key: str) -> bool:
    return len(key) >= (MIN_SECRET_LETTERS if key.isalpha() else MIN_SECRET_CHARS)


def _letters(key: str) -> str:
    return "".join(filter(str.isalnum, key))


def _spellings(character: str) -> str:
    """Return a pattern for a character as it is, and escaped up to twice."""
    # Every repetition has a bound, so that no text makes this slow.
    plain, number, digits = re.escape(character), ord(character), f"{ord(character):02x}"
    return (
        rf"(?:{plain}|\\{{1,4}}(?:{plain}|u00(?i:{digits}))"
        rf"|%(?:25){{0,2}}(?i:{digits})|&#(?:0{{0,4}}{number}|[xX]0{{0,4}}(?i:{digits}));)"
    )
