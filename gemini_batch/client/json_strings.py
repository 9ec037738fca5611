"""JSON strings that may be cut at the end of a chunk. Pure."""

import re

import orjson

# Text up to its closing quote, an incomplete escape, or the chunk's end. `++` and `*+` never
# backtrack.
_TEXT = re.compile(rb'(?:[^"\\]++|\\(?:u[0-9a-fA-F]{4}|[^u]))*+')
MAX_ESCAPE_BYTES = 6  # "\u003d"


def text_stop(chunk: bytes, pos: int) -> tuple[int, bool]:
    """Return where a string's text stops in this chunk (see `_TEXT`), and if it has escapes."""
    quote = chunk.find(b'"', pos)
    stop = len(chunk) if quote < 0 else quote
    # Two `find`s are a hundred times faster than the pattern, and nearly all text has no escapes.
    escape = chunk.find(b"\\", pos, stop)
    match = _TEXT.match(chunk, escape) if escape >= 0 else None
    return (match.end(), True) if match else (stop, False)


def unescaped(text: bytes) -> bytes:
    """Return a string without its escapes; raise ValueError if it is not valid, or not ASCII."""
    string: str = orjson.loads(b'"%b"' % text)
    return string.encode("ascii")


def whole_characters(text: bytes, max_bytes: int) -> bytes:
    """Return the start of a string's text, without half an escape or character at its end."""
    if len(text) <= max_bytes:
        return text
    match = _TEXT.match(text, 0, max_bytes)
    stop = match.end() if match else 0
    while stop and text[stop] & 0xC0 == 0x80:
        stop -= 1
    return text[:stop]
