"""A server that says anything but what it should: each case is what it sends to one call, and what that call's row has to say."""

import asyncio
import base64
import gzip
import html
import json
import threading
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, cycle
from typing import Any

import orjson

from tests.torture.commands import KEY

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
DATA = base64.b64encode(PIXEL)
_PART: dict[str, Any] = {"inlineData": {"mimeType": "image/png", "data": DATA.decode()}}
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_PLAIN = b"HTTP/1.1 200 OK\r\n\r\n"

Sending = Callable[[], Iterator[bytes | float]]
"""Gives what is sent, piece by piece; a number is a pause in seconds."""


@dataclass(frozen=True)
class Case:
    """What is sent to a call, and what has to come of it.

    Attributes:
        sends: Gives the bytes, piece by piece.
        status: Of its row.
        says: Stands in its row, as JSON.
    """

    sends: Sending
    status: str
    says: str = ""


@dataclass
class Seen:
    """What the server was asked."""

    base_url: str = ""
    calls: list[str] = field(default_factory=list)
    elsewhere: list[bytes] = field(default_factory=list)


# --- what is sent -----------------------------------------------------------------------------------------------------


def answer(part: dict[str, Any] | None = None, **changes: Any) -> bytes:
    """Return a good answer's JSON, with these fields in place of its own."""
    whole = {
        "candidates": [{"content": {"parts": [part or _PART]}, "finishReason": "STOP"}],
        "usageMetadata": {
            "promptTokenCount": 5,
            "candidatesTokenCount": 1120,
            "totalTokenCount": 1125,
        },
        "modelVersion": "m",
    }
    return orjson.dumps(whole | changes)


def whole(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """Return an answer with its head; `length` is one that it does not have."""
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode("latin-1") + body


def once(*pieces: bytes) -> Sending:
    """Send pieces, then close."""
    return lambda: iter(pieces)


def ever(head: bytes, piece: bytes, pause_s: float = 0.0) -> Sending:
    """Send a piece again and again, until the client has enough."""
    return lambda: chain([head], cycle([piece, pause_s]))


def hangs(head: bytes) -> Sending:
    """Send something and then nothing, until the client has enough."""
    return lambda: iter([head, 60.0])


def good(body: bytes, says: str = "", *headers: str, **options: Any) -> Case:
    """A usable answer: its image is kept."""
    return Case(once(whole(body, *headers, **options)), "succeeded", says)


def bad(body: bytes, says: str, *headers: str, **options: Any) -> Case:
    """An answer of which nothing can be used."""
    return Case(once(whole(body, *headers, **options)), "failed", says)


def _with(old: bytes, new: bytes) -> bytes:
    body = answer()
    assert old in body
    return body.replace(old, new)


def _chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


def _bomb(head: bytes, piece: bytes, megabytes: int, form: int) -> bytes:
    """Return so many megabytes of a piece behind a head, packed; they are never in memory. `form` is zlib's: 31 is gzip, 15 deflate."""
    packer = zlib.compressobj(1, zlib.DEFLATED, form)
    pieces = [
        packer.compress(head),
        *(packer.compress(piece * 1_000_000) for _ in range(megabytes)),
        packer.flush(),
    ]
    return b"".join(pieces)


_CHUNKS = [_chunk(answer()[:50], b";a=b"), _chunk(answer()[50:])]
_OPENING = answer().partition(DATA)[0]
_ECHOES = [
    KEY,
    urllib.parse.quote(KEY, safe=""),
    "".join(f"%{ord(character):02X}" for character in KEY),
    "".join(f"\\u{ord(character):04x}" for character in KEY),
    html.escape(KEY),
    "".join(f"&#{ord(character)};" for character in KEY),
    json.dumps(json.dumps(KEY))[1:-1],
]
_ECHO = " ".join(_ECHOES)
_ECHOING = {
    "candidates": [
        {
            "content": {"parts": [{"text": "KEY"}, _PART], "role": "KEY"},
            "finishReason": "STOP",
            "finishMessage": "KEY",
            "safetyRatings": [{"category": "KEY", "KEY": "KEY"}],
        }
    ],
    "usageMetadata": {"promptTokensDetails": [{"modality": "KEY", "tokenCount": 1}]},
    "modelVersion": "KEY",
    "responseId": "KEY",
}
_REFUSING = {
    "error": {
        "code": 400,
        "message": "KEY",
        "status": "KEY",
        "details": [{"@type": "google.rpc.ErrorInfo", "reason": "KEY"}],
    }
}


def _echoing(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value).replace(b"KEY", _ECHO.encode())


def cases(elsewhere: str) -> dict[str, Case]:
    """Return all cases by name; `elsewhere` is the address of another server."""
    return {**_framing(elsewhere), **_endless(), **_contents(), **_echoes()}


def _framing(elsewhere: str) -> dict[str, Case]:
    location = f"Location: {elsewhere}/v1beta/models/m:generateContent?key={KEY}"
    return {
        # How an answer is framed is not what was paid for.
        "length-too-long": good(answer(), length=len(answer()) + 1000),
        "length-far-too-long": good(answer(), length=10**15),
        "length-too-short": good(answer(), length=len(answer()) - 30),  # behind its picture
        "length-twice": bad(answer(), "two Content-Length headers", "Content-Length: 3"),
        "length-negative": bad(answer(), "Content-Length is not valid", length=-5),
        "length-nonsense": bad(answer(), "two Content-Length headers", "Content-Length: 0x10"),
        "length-and-chunks": bad(answer(), "is chunked", "Transfer-Encoding: chunked"),
        "chunk-extensions": Case(once(_CHUNKED, *_CHUNKS, b"0\r\n\r\n"), "succeeded"),
        "chunk-trailers": Case(once(_CHUNKED, *_CHUNKS, b"0\r\nX-Trailer: a\r\n\r\n"), "succeeded"),
        "chunks-without-end": Case(once(_CHUNKED, *_CHUNKS), "succeeded"),
        "chunk-size-huge": Case(once(_CHUNKED, b"f" * 40 + b"\r\n", answer()), "failed"),
        "chunk-size-negative": Case(once(_CHUNKED, b"-5\r\n", answer()), "failed"),
        "chunk-size-of-digits": Case(once(_CHUNKED, b"0" * 200_000), "failed"),
        "chunks-of-a-byte": Case(
            once(_CHUNKED, *(_chunk(bytes([byte])) for byte in answer()), b"0\r\n\r\n"), "succeeded"
        ),
        "no-length": Case(once(_PLAIN, answer()), "succeeded"),
        "http-1.0": Case(once(b"HTTP/1.0 200 OK\r\n\r\n", answer()), "succeeded"),
        "http-0.9": Case(once(answer()), "failed", "its status line is not valid"),
        "early-hints": Case(
            once(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * 50, whole(answer())),
            "succeeded",
        ),
        "switching": Case(
            once(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"),
            "failed",
            "101",
        ),
        "nothing": Case(once(), "failed", "connection broke"),
        "half-a-head": Case(once(b"HTTP/1.1 200 OK\r\nContent-"), "failed", "connection broke"),
        "201": good(answer(), status="201 Created"),
        "206": good(answer(), status="206 Partial Content"),
        "204": Case(once(b"HTTP/1.1 204 No Content\r\n\r\n"), "failed", "the answer is empty"),
        "206-in-part": bad(
            answer()[:40], "breaks off after 40 bytes", status="206 Partial Content"
        ),
        "304": Case(once(b"HTTP/1.1 304 Not Modified\r\n\r\n"), "failed", "304"),
        "redirect-302": bad(b"moved", "redirects to 127.0.0.1:", location, status="302 Found"),
        "redirect-307": bad(
            b"moved", "redirects to 127.0.0.1:", location, status="307 Temporary Redirect"
        ),
        "redirect-308": bad(
            b"", "redirects to 127.0.0.1:", location, status="308 Permanent Redirect"
        ),
        "redirect-to-itself": bad(
            b"", "redirects to 127.0.0.1:", "Location: ?again", status="301 Moved"
        ),
        "redirect-to-nonsense": bad(b"", "302", "Location: http://[::1", status="302 Found"),
        "gzip": good(gzip.compress(answer()), "", "Content-Encoding: gzip"),
        "deflate": good(zlib.compress(answer()), "", "Content-Encoding: deflate"),
        "gzip-that-is-none": good(answer(), "", "Content-Encoding: gzip"),
        "encoding-unknown": good(answer(), "", "Content-Encoding: rot13"),
        "dates-of-nonsense": good(
            answer(), "", "Date: Fri, 99 Foo 0000", "Retry-After: 1e999", "Age: -1"
        ),
        "dates-at-the-end": good(answer(), "", "Date: Fri, 31 Dec 9999 23:59:59 -0100"),
        "retry-after-nonsense": bad(b"{}", "{}", "Retry-After: \xb2, soon", status="500 X"),
        "a-cookie": good(answer(), "", "Set-Cookie: a=b; Domain=.example", "Set-Cookie: \x01=\x02"),
    }


def _endless() -> dict[str, Case]:
    return {
        "endless-image": Case(
            ever(_PLAIN + _OPENING, b"A" * 65_536), "failed", "has more than 268,435,456 bytes"
        ),
        "endless-envelope": Case(
            ever(_PLAIN + b'{"text":"', b"a" * 65_536), "failed", "has more than 268,435,456 bytes"
        ),
        "endless-space": Case(ever(_PLAIN, b" " * 65_536), "failed", "bytes outside its images"),
        "endless-nesting": Case(ever(_PLAIN, b"[" * 65_536), "failed", "nested objects and arrays"),
        "endless-parts": Case(
            ever(_PLAIN + b'{"candidates":[{"content":{"parts":[', b'{"text":"a"},' * 5000),
            "failed",
            "bytes outside its images",
        ),
        "endless-images": Case(
            ever(_PLAIN + b'{"candidates":[{"content":{"parts":[', orjson.dumps(_PART) + b","),
            "failed",
            "more than 64 images",
        ),
        "endless-chunks": Case(
            ever(_CHUNKED + _chunk(_OPENING), _chunk(b"AAAA")), "failed", "no complete answer"
        ),
        "endless-headers": Case(
            ever(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 100), "failed", "headers are too long"
        ),
        "endless-header": Case(
            ever(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65_536), "failed", "headers are too long"
        ),
        "endless-status": Case(ever(b"HTTP/1.1 200 ", b"y" * 65_536), "failed", "can't be read"),
        "endless-1xx": Case(
            ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 10), "failed", "interim answers"
        ),
        "endless-error": Case(
            ever(b"HTTP/1.1 500 X\r\n\r\n", b"<p>sorry " * 9000), "failed", "sorry"
        ),
        "gzip-bomb": bad(_bomb(_OPENING, b"A", 500, 31), "TOO_LARGE", "Content-Encoding: gzip"),
        "gzip-bomb-of-space": bad(_bomb(b"", b" ", 100, 31), "TOO_LARGE", "Content-Encoding: gzip"),
        "deflate-bomb": bad(_bomb(b"", b"[", 100, 15), "TOO_LARGE", "Content-Encoding: deflate"),
        "gzip-bomb-of-an-error": bad(
            _bomb(b"", b"x", 100, 31), "500", "Content-Encoding: gzip", status="500 X"
        ),
        "slow-head": Case(ever(b"", b"\r\n", 0.2), "failed", "no complete answer"),
        "slow-headers": Case(
            ever(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.2), "failed", "no complete answer"
        ),
        "slow-body": Case(ever(_PLAIN, b" ", 0.2), "failed", "no complete answer"),
        "slow-image": Case(ever(_PLAIN + _OPENING, b"AAAA", 0.2), "failed", "no complete answer"),
        "slow-error": Case(ever(b"HTTP/1.1 503 X\r\n\r\n", b"x", 0.2), "failed", "xx"),
        "silence": Case(hangs(b""), "failed", "no complete answer"),
        "silence-in-the-body": Case(hangs(_PLAIN + _OPENING), "failed", "no complete answer"),
        "silence-behind-the-picture": Case(hangs(_PLAIN + answer()[:-1]), "succeeded"),
        "silence-when-whole": Case(hangs(whole(answer(), length=10**9)), "succeeded"),
    }


def _contents() -> dict[str, Case]:
    parts = b'{"candidates":[{"content":{"parts":[%b]}}]}'
    usage = '"usage": {"prompt_tokens": null'
    return {
        # Not an answer.
        "html": bad(
            b"<html><script>alert(1)</script>Sign in</html>",
            "is a web page, not JSON",
            "Content-Type: text/html",
        ),
        "empty": bad(b"", "the answer is empty"),
        "null": bad(b"null", "the answer is not JSON: it begins with"),
        "a-number": bad(b"1e999", "the answer is not JSON: it begins with"),
        "a-string": bad(b'"x"', "the answer is not JSON: it begins with"),
        "an-array": bad(b"[1]", "it is an array of 1"),
        "an-array-of-answers": good(b"[" + answer() + b"]"),
        "two-answers": good(answer() + answer()),
        "utf-16": good(answer().decode().encode("utf-16")),
        "nested-200": bad(b"[" * 201 + b"]" * 201, "nested objects and arrays"),
        "error-in-a-200": bad(
            b'{"error":{"code":13,"message":"Internal"}}', '"status": "INTERNAL"'
        ),
        "cut-in-an-escape": bad(b'{"a":"\\u00', "breaks off"),
        "base64-of-nothing": bad(_with(DATA, b"!!!!"), "not valid base64"),
        "base64-goes-on": bad(_with(DATA, DATA + DATA), "not valid base64"),
        "base64-cut": bad(_with(DATA, DATA[:-3]), "not valid base64"),
        "base64-without-padding": good(_with(DATA, DATA.rstrip(b"="))),
        # An answer without an image.
        "an-object": bad(b"{}", "it is an empty object"),
        "data-a-number": Case(once(whole(_with(b'"' + DATA + b'"', b"7"))), "blocked", "EMPTY"),
        "data-an-object": Case(
            once(whole(_with(b'"' + DATA + b'"', b'{"data":"#0"}'))), "blocked", "EMPTY"
        ),
        "data-null": Case(once(whole(_with(b'"' + DATA + b'"', b"null"))), "blocked", "EMPTY"),
        "data-a-mark": bad(_with(DATA, b"#0"), "not valid base64"),
        "data-empty": Case(once(whole(_with(DATA, b""))), "blocked", "EMPTY"),
        "candidates-an-object": bad(
            b'{"candidates":{"content":{"parts":[]}}}', "it is an object with 'candidates'"
        ),
        "candidates-numbers": bad(
            b'{"candidates":[1,null,"x",[],{}]}', "it is an object with 'candidates'"
        ),
        "a-million-parts": bad(parts % b",".join([b"{}"] * 1_000_000), "more than 150,000 objects"),
        "many-ratings": good(
            _with(
                b'"finishReason"',
                b'"safetyRatings":[%b],"finishReason"' % b",".join([b"[]"] * 200_000),
            )
        ),
        "many-modalities": good(
            answer(
                usageMetadata={
                    "promptTokensDetails": [
                        {"modality": str(n), "tokenCount": 1} for n in range(100_000)
                    ]
                }
            )
        ),
        "a-novel": good(
            _with(b'{"inlineData"', b'{"text":"%b"},{"inlineData"' % (b"a" * 7_000_000))
        ),
        "a-signature": good(
            _with(b'{"inlineData"', b'{"thoughtSignature":"%b"},{"inlineData"' % (b"a" * 7_000_000))
        ),
        "backslashes": good(
            _with(b'{"inlineData"', b'{"text":"%b"},{"inlineData"' % (b"\\\\" * 3_000_000))
        ),
        # Strange, and paid for.
        "called-html": good(answer(), "", "Content-Type: text/html; charset=nonsense"),
        "byte-order-mark": good(b"\xef\xbb\xbf" + answer() + b"\r\n \n"),
        "nuls-escaped": good(
            _with(b'{"inlineData"', b'{"text":"a\\u0000b"},{"inlineData"'), '"text": "a\\u0000b"'
        ),
        "nuls": good(
            _with(b'{"inlineData"', b'{"text":"a\0b"},{"inlineData"'), '"text": "a\\u0000b"'
        ),
        "surrogates": good(
            _with(b'{"inlineData"', b'{"text":"a\\ud800b"},{"inlineData"'), '"text": "a\\ufffdb"'
        ),
        "not-utf-8": good(
            _with(b'{"inlineData"', b'{"text":"a\xff\xfeb"},{"inlineData"'),
            '"text": "a\\ufffd\\ufffdb"',
        ),
        "tokens-1e999": good(_with(b'"promptTokenCount":5', b'"promptTokenCount":1e999'), usage),
        "tokens-of-digits": good(
            _with(b'"promptTokenCount":5', b'"promptTokenCount":%b' % (b"9" * 100_000)), usage
        ),
        "tokens-negative": good(_with(b'"promptTokenCount":5', b'"promptTokenCount":-5'), usage),
        "tokens-a-float": good(_with(b'"promptTokenCount":5', b'"promptTokenCount":5.5'), usage),
        "tokens-a-string": good(_with(b'"promptTokenCount":5', b'"promptTokenCount":"5"'), usage),
        "tokens-a-list": good(_with(b'"promptTokenCount":5', b'"promptTokenCount":[5]'), usage),
        "tokens-true": good(_with(b'"promptTokenCount":5', b'"promptTokenCount":true'), usage),
        "tokens-huge": good(
            _with(b'"promptTokenCount":5', b'"promptTokenCount":9223372036854775808'), usage
        ),
        "usage-a-list": good(answer(usageMetadata=[1]), '"usage": null'),
        "usage-null": good(answer(usageMetadata=None), '"usage": null'),
        "details-of-nonsense": good(
            answer(usageMetadata={"promptTokensDetails": {"a": 1}, "x": [None]})
        ),
        "twice-the-same-key": good(
            _with(b'"modelVersion"', b'"modelVersion":{"a":1},"modelVersion"'),
            '"model_version": "m"',
        ),
        "twice-the-image": good(_with(b'"data":"', b'"data":"AAAA","data":"')),
        "twice-the-candidates": good(_with(b'{"candidates"', b'{"candidates":[{}],"candidates"')),
        "mime-of-paths": good(_with(b"image/png", b"image/../../../x"), '"mime_type": "image/png"'),
        "mime-a-number": good(_with(b'"image/png"', b"7"), '"mime_type": "image/png"'),
        "mime-unknown": good(
            _with(DATA, base64.b64encode(b"no image")).replace(
                b"image/png", b"image/../../x\\u0000"
            )
        ),
        "names-of-nonsense": good(answer(modelVersion=[1], responseId={"a": 1}, promptFeedback=7)),
        "escaped-everywhere": good(
            _with(b'"candidates"', b'"\\u0063andidates"').replace(b'"data"', b'"\\u0064at\\u0061"')
        ),
        "markup": good(
            _with(b'{"inlineData"', b'{"text":"<script>alert(1)</script>\\u001b[2J"},{"inlineData"')
        ),
    }


def _echoes() -> dict[str, Case]:
    return {
        "echo": good(_echoing(_ECHOING), "[key]"),
        "echo-in-an-error": Case(
            once(whole(_echoing(_REFUSING), status="400 X")), "failed", "[key]"
        ),
        "echo-in-a-page": bad(f"<p>{_ECHO}</p>".encode(), "[key]", status="500 X"),
        "echo-in-a-reason": Case(once(whole(b"", status=f"500 {KEY}")), "failed"),
        "echo-in-a-header": Case(
            once(f"HTTP/1.1 200 OK\r\n{KEY}\r\n\r\n".encode()), "failed", "can't be read"
        ),
        "echo-in-a-status": Case(
            once(f"{KEY} {KEY}\r\n\r\n".encode()), "failed", "its status line is not valid"
        ),
        "echo-in-a-chunk": Case(once(_CHUNKED, f"{KEY}\r\n".encode()), "failed"),
        "echo-in-gzip": good(gzip.compress(_echoing(_ECHOING)), "[key]", "Content-Encoding: gzip"),
        "echo-in-a-redirect": bad(
            b"", "redirects to", f"Location: https://a.test/{KEY}", status="302 X"
        ),
        "echo-as-a-type": good(_with(b"image/png", KEY.encode())),
    }


# --- the server -------------------------------------------------------------------------------------------------------


@contextmanager
def hostile() -> Iterator[tuple[Seen, dict[str, Case]]]:
    """Serve on 127.0.0.1, each case to the call of its name; yield what is asked, and the cases."""
    loop, ready, ended = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    seen, served = Seen(), dict[str, Case]()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line[15:])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            )
            request = orjson.loads(await reader.readexactly(length))
            name = request["contents"][0]["parts"][0]["text"].split()[-1]
            seen.calls.append(name)
            for piece in served[name].sends():
                if isinstance(piece, bytes):
                    writer.write(piece)
                    await writer.drain()
                await asyncio.sleep(0 if isinstance(piece, bytes) else piece)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has enough, or the test is over
        finally:
            writer.close()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.elsewhere.append(await reader.read(1 << 16))
        writer.close()

    async def serve() -> None:
        ours = await asyncio.start_server(serve_one, "127.0.0.1", 0)
        other = await asyncio.start_server(note, "127.0.0.1", 0)
        seen.base_url, elsewhere = (
            f"http://127.0.0.1:{each.sockets[0].getsockname()[1]}" for each in (ours, other)
        )
        served.update(cases(elsewhere))
        ready.set()
        await ended.wait()
        ours.close()
        other.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield seen, served
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()
