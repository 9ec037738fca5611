"""The texts that a text can be decoded to: HTML, URLs, escapes, base64, hex, one within another.

Pure. ASCII alone counts, because a key has nothing else. All works on bytes, which takes a few
milliseconds a megabyte as long as there is nothing to decode.
"""

import html
import re
import unicodedata
from collections.abc import Iterator
from functools import cache

import pybase64

LOWER = bytes(range(256)).lower()
NO_LETTERS = bytes(code for code in range(256) if not chr(code).isalnum() or code > 127)
BLANKS = bytes(code for code in range(256) if not 32 < code < 127)
# A base64 of a URL of HTML is three deep.
_MAX_DEPTH = 6
_MAX_HOST_CHARS = 253
_PRINTABLE = bytes([9, 10, 13, *range(32, 127)])
_TAG = re.compile(rb"<[^<>]*>")
_PERCENT = re.compile(rb"%(?:25)*(?:u00)?([0-9a-fA-F]{2})")
_ESCAPE = re.compile(rb"\\+(?:(?:x|u00|u\{0*)([0-9a-fA-F]{2})\}?|([0-7]{3})|([^ux0-7]))", re.DOTALL)
_QUOTED_PRINTABLE = re.compile(rb"=(?:\r?\n|([0-9a-fA-F]{2}))")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_CONTROLS = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def text_of(body: bytes) -> str:
    """Return the text of a body: UTF-8, or UTF-16 where it begins with its mark."""
    is_utf16 = body.startswith((b"\xff\xfe", b"\xfe\xff"))
    return body.decode("utf-16" if is_utf16 else "utf-8", errors="replace")


def of(text: str, min_bytes: int) -> Iterator[bytes]:
    """Yield a text and what it decodes to, as ASCII; other characters are left out.

    Only what has `min_bytes` or more is decoded, and of base64 and hex only runs of that length.
    """
    seen: set[bytes] = set()
    todo = [(_ascii(text), 0)]
    while todo:
        found, depth = todo.pop()
        if found in seen or depth > _MAX_DEPTH or len(found) < min_bytes:
            continue
        seen.add(found)
        forms = [found]
        for mark, decode in _STEPS:
            if mark in forms[-1]:
                forms.append(decode(forms[-1]).replace(b"\0", b""))
        unescaped = forms[-1]
        if b"<" in unescaped:
            forms.append(_TAG.sub(b"", unescaped))
        yield from forms
        if b"=" in unescaped:
            yield _QUOTED_PRINTABLE.sub(_character, unescaped).replace(b"\0", b"")
        if len(text) <= _MAX_HOST_CHARS:
            labels = found.split(b".")
            yield b".".join(reversed(labels))
            forms.append(b"".join(labels))
        readable: list[bytes] = []
        forms.append(b"".join(forms[-1].split()))  # mail breaks base64 into lines
        for form in set(forms):
            if pieces := [*_from_base64(form, min_bytes), *_from_hex(form, min_bytes)]:
                yield b"\n".join(pieces)
                readable += (piece for piece in pieces if not piece.translate(None, _PRINTABLE))
        todo += [(each, depth + 1) for each in (unescaped, b"\n".join(readable)) if each != found]


def _ascii(text: str) -> bytes:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return text.encode("ascii", errors="ignore").replace(b"\0", b"")


def _from_html(text: bytes) -> bytes:
    return _ascii(html.unescape(text.decode()))


def _from_percent(text: bytes) -> bytes:
    return _PERCENT.sub(_character, text)


def _from_escapes(text: bytes) -> bytes:
    return _ESCAPE.sub(_unescaped, text)


_STEPS = ((b"&", _from_html), (b"%", _from_percent), (b"\\", _from_escapes))


def _character(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1], 16) & 127]) if match[1] else b""


def _unescaped(match: re.Match[bytes]) -> bytes:
    if plain := match[3]:
        return _CONTROLS.get(plain, plain)
    return bytes([(int(match[1], 16) if match[1] else int(match[2], 8)) & 127])


def _runs(characters: bytes, min_bytes: int, text: bytes) -> list[bytes]:
    """Return the runs of some characters, a pattern, that have this length or more."""
    pattern, mask = _runs_of(characters, min_bytes)
    # Most texts have none, which this shows in a tenth of the time.
    return pattern.findall(text) if b"\1" * min_bytes in text.translate(mask) else []


@cache
def _runs_of(characters: bytes, min_bytes: int) -> tuple[re.Pattern[bytes], bytes]:
    """Return a pattern of the runs, and a table that makes each of their characters a 1."""
    one = re.compile(rb"[%b]" % characters)
    mask = bytes(one.match(bytes([code])) is not None for code in range(256))
    return re.compile(rb"[%b]{%d,}" % (characters, min_bytes)), mask


def _from_base64(text: bytes, min_bytes: int) -> Iterator[bytes]:
    """Yield what runs of base64 decode to; a run may begin with other letters."""
    for run in _runs(b"A-Za-z0-9+/_-", min_bytes * 4 // 3, text):
        run = run.translate(_URL_SAFE)  # noqa: PLW2901
        for offset in range(4):
            rest = (len(run) - offset) % 4
            piece = run[offset:-1] if rest == 1 else run[offset:] + b"=" * (-rest % 4)
            yield pybase64.b64decode(piece).replace(b"\0", b"")


def _from_hex(text: bytes, min_bytes: int) -> Iterator[bytes]:
    """Yield what runs of hex digits decode to; a run may begin with other digits."""
    for run in _runs(b"0-9a-fA-Fx:, -", min_bytes * 2, text):
        digits = run.replace(b"0x", b"").translate(None, b"x:, -")
        for offset in range(2):
            end = offset + (len(digits) - offset) // 2 * 2
            yield bytes.fromhex(digits[offset:end].decode()).replace(b"\0", b"")
