"""The key in any spelling."""

import base64
import html
import json
import re
import urllib.parse
from collections.abc import Callable

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemini_batch.client import decodings
from gemini_batch.client.api_error import parse_error
from gemini_batch.client.redaction import HIDDEN, MAX_SEARCHED_BYTES, KeyRedactor
from gemini_batch.records import Answer

KEY = "AIzaSyD-9_key.of/a+person~0123456789abc"
REDACTOR = KeyRedactor(KEY)
Spelling = tuple[Callable[[str], str], Callable[[str], str]]


def each(pattern: str) -> Callable[[str], str]:
    """Return a function that writes each character by a pattern."""
    return lambda text: "".join(pattern.format(ord(character)) for character in text)


def named(text: str) -> str:
    """Write the characters that have a name in HTML by it."""
    names = {"_": "lowbar", ".": "period", "/": "sol", "+": "plus", "&": "amp", "~": "tilde"}
    return "".join(f"&{names[c]};" if c in names else f"&#{ord(c)}" for c in text)


def from_url_safe(text: str) -> str:
    """Decode base64 without its padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("latin-1")


# How a text is written, and how it is read again, by means of the standard library.
SPELLINGS: dict[str, Spelling] = {
    "HTML": (each("&#{};"), html.unescape),
    "HTML in hex": (each("&#x{:X};"), html.unescape),
    "HTML without semicolons": (each("&#{}"), html.unescape),
    "HTML with zeros": (each("&#0000{}"), html.unescape),
    "HTML by name": (named, html.unescape),
    "escaped HTML": (html.escape, html.unescape),
    "percent": (each("%{:02x}"), urllib.parse.unquote),
    "percent of percent": (
        each("%2525{:02X}"),
        lambda text: urllib.parse.unquote(urllib.parse.unquote(urllib.parse.unquote(text))),
    ),
    "URL": (lambda text: urllib.parse.quote(text, safe=""), urllib.parse.unquote),
    "JSON": (each("\\u{:04x}"), lambda text: str(json.loads(f'"{text}"', strict=False))),
    "JSON in JSON": (
        lambda text: json.dumps(json.dumps(text))[1:-1],
        lambda text: str(json.loads(json.loads(f'"{text}"'))),
    ),
    "base64": (
        lambda text: base64.b64encode(text.encode("latin-1")).decode(),
        lambda text: base64.b64decode(text).decode("latin-1"),
    ),
    "base64 of URLs": (
        lambda text: base64.urlsafe_b64encode(text.encode("latin-1")).decode().rstrip("="),
        from_url_safe,
    ),
    "hex": (
        lambda text: text.encode("latin-1").hex(),
        lambda text: bytes.fromhex(text).decode("latin-1"),
    ),
    "hex with colons": (
        lambda text: text.encode("latin-1").hex(":"),
        lambda text: bytes.fromhex(text.replace(":", "")).decode("latin-1"),
    ),
    "UTF-16": (
        lambda text: text.encode("utf-16-le").decode("latin-1"),
        lambda text: text.encode("latin-1").decode("utf-16-le"),
    ),
}
FIRST: dict[str, Spelling] = {
    "as it is": (str, str),
    "in capitals": (str.upper, str.lower),
    "in small letters": (str.lower, str.lower),
    "backwards": (lambda key: key[::-1], lambda text: text[::-1]),
}
SHAPES: dict[str, Callable[[str], bytes]] = {
    "page": lambda echo: f"<html><body>No page for {echo}, sorry.</body></html>".encode(),
    "tag": lambda echo: f'<a href="/{echo}">no</a> page'.encode(),
    "word": lambda echo: f"token={echo}&x=1".encode(),
    "error": lambda echo: orjson.dumps({"error": {"code": 400, "message": f"No {echo}, sorry."}}),
    "text": lambda echo: orjson.dumps({"candidates": [{"content": {"parts": [{"text": echo}]}}]}),
    "name": lambda echo: orjson.dumps([{"safetyRatings": [{echo: echo}]}]),
}


def read_again(shown: str, spellings: list[Spelling]) -> list[str]:
    """Return what an attacker reads in a text, word by word, who knows how it was spelled."""
    found = [shown, shown.replace("\0", "")]
    for text in re.split(r"[\s<>\"',=&;/]+", shown) + re.split(r"[\s<>\"',]+", shown):
        try:
            for _, decode in reversed(spellings):
                text = decode(text)  # noqa: PLW2901
        except (ValueError, TypeError):
            continue
        found.append(text)
    return found


def leaks(shown: str, key: str, spellings: list[Spelling]) -> bool:
    """Return whether an attacker finds the key."""
    return any(key.casefold() in text.casefold() for text in read_again(shown, spellings))


@given(
    key=st.text("ABCXYZabcxyz0123456789_-.", min_size=20, max_size=45),
    first=st.sampled_from(sorted(FIRST)),
    names=st.lists(st.sampled_from(sorted(SPELLINGS)), max_size=4),
    shape=st.sampled_from(sorted(SHAPES)),
)
@settings(max_examples=50)
def test_no_spelling_gives_the_key(key: str, first: str, names: list[str], shape: str) -> None:
    """In whatever way a key is spelled, one spelling within another, nothing shown holds it."""
    if KeyRedactor(key).redact(key.encode()) != b"[key]":
        return  # letters and separators alone are not secret enough
    spellings = [FIRST[first], *(SPELLINGS[name] for name in names)]
    echo = key
    for encode, _ in spellings:
        echo = encode(echo)
    body = SHAPES[shape](echo)
    redacted = KeyRedactor(key).redact(body)
    shown = redacted.decode()
    if redacted.startswith((b"{", b"[")) and shape in ("error", "text", "name"):
        shown = str(orjson.loads(redacted))
    message = parse_error(Answer(502, redacted)).message

    assert echo not in shown
    assert not leaks(shown, key, spellings)
    assert not leaks(message, key, spellings)


@given(st.text() | st.from_regex(r"[A-Za-z0-9+/=%&;\\<> -]{0,300}", fullmatch=True))
def test_a_text_without_the_key_is_not_changed(text: str) -> None:
    """What does not hold the key is shown as it came."""
    for body in (text.encode(errors="replace"), orjson.dumps({"error": {"message": text}})):
        assert REDACTOR.redact(body) == body


ORDINARY = [
    "API key not valid. Please pass a valid API key.",
    "You exceeded your current quota. Please retry in 34.286670503s.",
    "<html><head><title>502 Bad Gateway</title></head><body>&nbsp;nginx/1.24</body></html>",
    base64.b64encode(bytes(range(256))).decode(),
    "a trace: 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "AIzaSyD... is not known",
    "Schlüssel ungültig: 認証エラー",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_an_ordinary_message_is_shown(text: str) -> None:
    """The messages of servers stay readable."""
    assert REDACTOR.redact(text.encode()) == text.encode()
    assert REDACTOR.redact_text(text) == text


MEMBERS = {
    "split by tags": "<b>" + "</b><b>".join(KEY) + "</b>",
    "split by a tag with a blank": KEY[:9] + '<b class="x">' + KEY[9:],
    "split by blanks": " ".join(KEY),
    "split by invisible characters": "\u200b".join(KEY),
    "soft hyphens": "\xad".join(KEY),
    "wide letters": "".join(chr(ord(c) + 0xFEE0) for c in KEY),
    "octal": "".join(f"\\{ord(c):03o}" for c in KEY),
    "Python bytes": "".join(f"\\x{ord(c):02x}" for c in KEY),
    "quoted-printable": "".join(f"={ord(c):02X}" for c in KEY),
    "JavaScript": "".join(f"\\u{{{ord(c):x}}}" for c in KEY),
    "IIS": "".join(f"%u00{ord(c):02x}" for c in KEY),
    "C": ", ".join(f"0x{ord(c):02x}" for c in KEY),
    "basic authorization": base64.b64encode(f"user:{KEY}".encode()).decode(),
    "base64 in lines": "\n".join(re.findall(".{1,20}", base64.b64encode(KEY.encode()).decode())),
    "base64 behind letters": "Bearer" + base64.b64encode(KEY.encode()).decode(),
    "base64 within bytes": base64.b64encode(b"\x0a\x27" + KEY.encode() + b"\xff\xfe").decode(),
    "a domain": ".".join(reversed(KEY.replace("_", "-").lower().split("."))) + ".example",
    "separators exchanged": KEY.translate(str.maketrans("_./+~", "-----")),
    "a dump": KEY.encode().hex(" ", 2),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_an_odd_spelling_is_redacted(name: str) -> None:
    """Spellings of proxies, dumps and mail are found."""
    shown = REDACTOR.redact_text(MEMBERS[name])
    assert shown in ("[key]", HIDDEN, "[key] [key]")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32-le"])
def test_a_page_of_wide_characters_is_redacted(encoding: str) -> None:
    """UTF-16 and UTF-32, with and without a mark."""
    redacted = REDACTOR.redact(f"<p>No page for {KEY}</p>".encode(encoding))
    message = parse_error(Answer(502, redacted)).message
    assert KEY not in "".join(message.replace("\0", "").split())


def test_only_the_word_with_the_key_is_hidden() -> None:
    """The rest of a message stays readable, and so does the rest of an answer."""
    echo = base64.b64encode(KEY.encode()).decode()
    assert REDACTOR.redact_text(f"No page for {echo} here") == "No page for [key] here"
    body = {"error": {"code": 429, "message": f"key {echo} over quota", "status": "EXHAUSTED"}}
    assert orjson.loads(REDACTOR.redact(orjson.dumps(body))) == {
        "error": {"code": 429, "message": "key [key] over quota", "status": "EXHAUSTED"}
    }


def test_an_answer_keeps_its_images() -> None:
    """Redaction of a text does not touch the place of an image."""
    part = {"inlineData": {"mimeType": "image/png", "data": "#0"}}
    text = {"text": base64.b64encode(KEY.encode()).decode()}
    body = orjson.dumps({"candidates": [{"content": {"parts": [text, part]}}]})
    redacted = orjson.loads(REDACTOR.redact(body))
    assert redacted == {"candidates": [{"content": {"parts": [{"text": "[key]"}, part]}}]}


def test_what_is_too_long_to_be_searched_is_not_shown() -> None:
    """Beyond half a megabyte texts are left out, short ones and the images stay."""
    long = "x" * (MAX_SEARCHED_BYTES + 1)
    part = {"inlineData": {"mimeType": "image/png", "data": "#0"}}
    redacted = orjson.loads(REDACTOR.redact(orjson.dumps([part, long, {"text": "A robot"}])))
    assert redacted == [part, HIDDEN, {"text": "A robot"}]


@pytest.mark.parametrize(
    "key", ["proxy-k3y", "SECRET-0", "lettersandlettersonly", "!#$%&()*+<=>a1"]
)
def test_a_short_key_is_found_too(key: str) -> None:
    """A proxy's key may be short, or have few letters."""
    redactor = KeyRedactor(key)
    for echo in (key, key.upper(), base64.b64encode(key.encode()).decode(), key.encode().hex()):
        assert redactor.redact_text(f"no {echo} here") == "no [key] here"
    assert redactor.redact_text("no secret 0, proxy or letters here") == (
        "no secret 0, proxy or letters here"
    )


@pytest.mark.parametrize("key", ["", "a", "data", "candidates", "image/"])
def test_a_placeholder_is_not_redacted(key: str) -> None:
    """A short placeholder could be any word of an answer."""
    text = f"candidates data image/png a {key}"
    assert KeyRedactor(key).redact_text(text) == text


@settings(max_examples=200)
@given(
    st.lists(
        st.from_regex(r"[A-Za-z0-9+/_:, x-]{0,60}", fullmatch=True)
        | st.from_regex(r"([0-9a-f]{2}[:, -]){0,40}", fullmatch=True)
        | st.text(),
        max_size=12,
    ),
    st.sampled_from([" ", "\n", ", ", "\0", "}"]),
    st.integers(1, 30),
)
def test_a_long_text_is_decoded_like_a_short_one(
    parts: list[str], between: str, min_bytes: int
) -> None:
    """A long text that shows nothing to decode has no other form."""
    text = between.join(parts)
    plain = decodings._ascii(text)
    if not decodings._may_decode(plain, min_bytes) and len(plain) >= min_bytes:
        assert list(decodings._decoded(plain, min_bytes, may_be_host=False)) == [plain]
