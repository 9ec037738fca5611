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
_BASE64, _HEX = b"A-Za-z0-9+/_-", b"0-9a-fA-Fx:, -"
_MARKS = (b"&", b"%", b"\\", b"<", b"=")  # of all that is decoded but base64 and hex
_CONTROLS = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def text_of(body: bytes) -> str:
    """Return the text of a body: UTF-8, or UTF-16 where it begins with its mark."""
    is_utf16 = body.startswith((b"\xff\xfe", b"\xfe\xff"))
    return body.decode("utf-16" if is_utf16 else "utf-8", errors="replace")


def of(text: str, min_bytes: int) -> Iterator[bytes]:
    """Yield a text and what it decodes to, as ASCII; other characters are left out.

    Only what has `min_bytes` or more is decoded, and of base64 and hex only runs of that length.
    """
    plain = _ascii(text)
    may_be_host = len(text) <= _MAX_HOST_CHARS
    if may_be_host or _may_decode(plain, min_bytes):
        yield from _decoded(plain, min_bytes, may_be_host=may_be_host)
    else:
        yield plain


def _decoded(text: bytes, min_bytes: int, *, may_be_host: bool) -> Iterator[bytes]:
    seen: set[bytes] = set()
    todo = [(text, 0)]
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
        if may_be_host:
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


def _may_decode(text: bytes, min_bytes: int) -> bool:
    """Return whether a text may decode to another one; most do not, which shows at once."""
    if any(mark in text for mark in _MARKS):
        return True
    joined = b"".join(text.split())
    kinds = ((_BASE64, min_bytes * 4 // 3), (_HEX, min_bytes * 2))
    return any(_has_run(*kind, form) for form in (text, joined) for kind in kinds)


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


def _has_run(characters: bytes, min_bytes: int, text: bytes) -> bool:
    """Return whether a text has a run of some characters; a search takes ten times as long."""
    return b"\1" * min_bytes in text.translate(_mask(characters))


@cache
def _mask(characters: bytes) -> bytes:
    """Return a table that makes each of some characters a 1, and a 0 of each other."""
    one = re.compile(rb"[%b]" % characters)
    return bytes(one.match(bytes([code])) is not None for code in range(256))


@cache
def _runs(characters: bytes, min_bytes: int) -> re.Pattern[bytes]:
    return re.compile(rb"[%b]{%d,}" % (characters, min_bytes))


def _from_base64(text: bytes, min_bytes: int) -> Iterator[bytes]:
    """Yield what runs of base64 decode to; a run may begin with other letters."""
    for run in _runs(_BASE64, min_bytes * 4 // 3).findall(text):
        run = run.translate(_URL_SAFE)  # noqa: PLW2901
        for offset in range(4):
            rest = (len(run) - offset) % 4
            piece = run[offset:-1] if rest == 1 else run[offset:] + b"=" * (-rest % 4)
            yield pybase64.b64decode(piece).replace(b"\0", b"")


def _from_hex(text: bytes, min_bytes: int) -> Iterator[bytes]:
    """Yield what runs of hex digits decode to; a run may begin with other digits."""
    for run in _runs(_HEX, min_bytes * 2).findall(text):
        digits = run.replace(b"0x", b"").translate(None, b"x:, -")
        for offset in range(2):
            end = offset + (len(digits) - offset) // 2 * 2
            yield bytes.fromhex(digits[offset:end].decode()).replace(b"\0", b"")
