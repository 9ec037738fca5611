"""Data URIs in a text that arrives in chunks, still escaped for JSON. Pure."""

import re

# How characters of a URI may be written; white space only where brackets or quotes show its end.
_IN_TYPE = rb"(?:[A-Za-z0-9.+;=_-]|\\?/|\\u002[fF])"
_IN_DATA = rb"[A-Za-z0-9+/=_-]|\\/|\\u00(?:2[bBfFdD]|3[dD])|%(?:2[bBfF]|3[dD])"
START = re.compile(rb"data:image%b{1,90}?;base64," % _IN_TYPE, re.IGNORECASE)
MAX_START_BYTES = 600
# What may become a start in the next chunk.
PARTIAL_START = re.compile(
    rb"d(?:a(?:t(?:a(?::(?:i(?:m(?:a(?:g(?:e%b{0,98}+)?)?)?)?)?)?)?)?)?\Z" % _IN_TYPE,
    re.IGNORECASE,
)
_DATA = re.compile(rb"(?:%b)*+" % _IN_DATA)
_QUOTED_DATA = re.compile(rb"(?:%b| |\\[nrt])*+" % _IN_DATA)
_QUOTES = (b"(", b"<", b"'", b'\\"')
MAX_QUOTE_BYTES = 2
# An escape that the end of the chunk cuts off.
CUT_ESCAPE = re.compile(rb"(?:\\(?:u[0-9a-fA-F]{0,3})?|%[0-9a-fA-F]?)\Z")
_ESCAPE = re.compile(rb"\\u00([0-9a-fA-F]{2})|%([0-9a-fA-F]{2})|\\([nrt])|[\\ ]")


def data_pattern(before: bytes) -> "re.Pattern[bytes]":
    """Return the pattern of the base64 of a URI after this text."""
    return _QUOTED_DATA if before.endswith(_QUOTES) else _DATA


def plain(data: bytes) -> bytes:
    """Return base64 without its escapes and white space."""
    return _ESCAPE.sub(lambda match: bytes.fromhex((match[1] or match[2] or b"").decode()), data)
