import asyncio
import base64
import errno
import gzip
import html
import io
import itertools
import json
import os
import random
import re
import socket
import ssl
import tracemalloc
import urllib.parse
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aioresponses import aioresponses
from hypothesis import example, given
from hypothesis import strategies as st

from gemini_batch.client import fairness, headers, image_extractor, interactive
from gemini_batch.client.interactive import InteractiveTransport
from gemini_batch.clock import Clock
from gemini_batch.config import Settings, Timeouts
from gemini_batch.errors import TOO_MANY_FILES, describe_os_error
from gemini_batch.records import (
    Answer,
    Call,
    Estimate,
    Failure,
    FailureKind,
    IncomingImage,
    InputImage,
    Limits,
    Part,
    Request,
    Text,
)

KEY = "AIzaSyD-9_key.of/a+person~0123456789abc"
MODEL = "gemini-3-pro-image-preview"
PATH = f"/v1beta/models/{MODEL}:generateContent"
PIXELS = b"\xff\xd8\xff picture"
ANSWER = (
    b'{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/jpeg","data":"%b"}}]},"finishReason":"STOP"}]}'
    % base64.b64encode(PIXELS)
)
SKELETON = ANSWER.replace(base64.b64encode(PIXELS), b"#0")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


# --- what the transport is given ---


class Sink(io.BytesIO):
    """Keeps an image; `on_close` is called when it is whole."""

    on_write: Callable[[], object] | None = None
    on_close: Callable[[], object] | None = None

    def write(self, data: Any, /) -> int:
        """Take bytes."""
        if self.on_write:
            self.on_write()
        return super().write(data)

    def close(self) -> None:
        """Take note; the garbage collector closes as well."""
        on_close, self.on_close = self.on_close, None
        if on_close:
            on_close()


class Images:
    """Takes the images of one attempt into memory."""

    def __init__(self, open_sink: Callable[[], Sink] = Sink) -> None:
        self._open_sink = open_sink
        self.sinks: list[Sink] = []

    def open_image(self, index: int, /) -> Sink:
        """Open the next sink."""
        self.sinks.append(self._open_sink())
        return self.sinks[-1]

    def journal(self, skeleton: bytes, /) -> None:
        """Keep nothing."""

    def arrived(self) -> tuple[IncomingImage, ...]:
        """Return what came."""
        return tuple(
            IncomingImage(sink.getvalue().decode("latin-1"), 0, "", b"") for sink in self.sinks
        )


ARRIVED = (IncomingImage(PIXELS.decode("latin-1"), 0, "", b""),)


def call(*parts: Part) -> Call:
    """Return a call with these parts."""
    return Call(
        "robot",
        1,
        Request(MODEL, parts or (Text("A robot"),)),
        "",
        None,
        None,
        Estimate(0, 0, None),
    )


def image_of(file: Path) -> InputImage:
    """Describe a file as it is now."""
    seen = file.stat()
    return InputImage(f"in/{file.name}", str(file), "image/png", seen.st_size, seen.st_mtime_ns, "")


@asynccontextmanager
async def opened(
    base_url: str, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[InteractiveTransport]:
    """Open a transport with short timeouts."""
    defaults: dict[str, Any] = {"api_key": KEY, "timeouts": short(), "concurrency": 2}
    config = Settings("free", Limits(), base_url, base_url, MODEL, **(defaults | settings))
    async with InteractiveTransport(config, base_url, clock or Clock()) as transport:
        yield transport


async def send(
    base_url: str, *parts: Part, images: Images | None = None, **settings: Any
) -> Answer | Failure:
    """Send one call over a transport of its own."""
    async with opened(base_url, **settings) as transport:
        sent = await transport.send(call(*parts), images or Images())
    assert sent.timing.latency_s >= 0
    assert sent.timing.sent_at.tzinfo == UTC
    return sent.answer


def short(**timeouts: float) -> Timeouts:
    """Return timeouts of which those named are short."""
    return replace(Timeouts(5.0, 5.0, 5.0), **timeouts)


@pytest.fixture
async def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let seconds pass at once, for every timer of the loop; sockets take their own time."""
    loop, passed_s = asyncio.get_running_loop(), 0.0
    real_time = loop.time

    def jump(seconds: float) -> None:
        nonlocal passed_s
        passed_s += seconds

    monkeypatch.setattr(loop, "time", lambda: real_time() + passed_s)
    return jump


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> asyncio.Semaphore:
    """Is released for each piece of an answer that was taken in."""
    pieces = asyncio.Semaphore(0)

    class Watched(image_extractor.ImageExtractor):
        def feed(self, chunk: bytes) -> None:
            super().feed(chunk)
            pieces.release()

    monkeypatch.setattr(interactive, "ImageExtractor", Watched)
    return pieces


# --- servers ---


@dataclass
class Peer:
    """The server's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)

    async def head(self) -> bytes:
        """Read a request's head."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> bytes:
        """Read a request, and return its body."""
        head = await self.head()
        length = re.search(rb"(?im)^content-length: (\d+)\r$", head)
        assert length, head
        body = await self.reader.readexactly(int(length[1]))
        self.requests.append((head, body))
        return body

    async def say(self, *pieces: bytes) -> None:
        """Write pieces, each in a packet of its own as far as that can be arranged."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    def reset(self) -> None:
        """Break the connection with an RST."""
        opened_socket = self.writer.get_extra_info("socket")
        opened_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.writer.transport.abort()

    async def hang(self) -> None:
        """Read until the client goes away."""
        while await self.reader.read(1 << 16):
            pass


Script = Callable[[Peer], Awaitable[object]]


@dataclass
class Server:
    """What a server has seen."""

    base_url: str
    peers: list[Peer] = field(default_factory=list)

    @property
    def requests(self) -> list[tuple[bytes, bytes]]:
        """The requests of all connections."""
        return [request for peer in self.peers for request in peer.requests]


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Server]:
    """Run `script` for each connection, on a free port of 127.0.0.1."""
    tasks: set[asyncio.Task[object]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        server.peers.append(peer)
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            await script(peer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the client went away, or the test has ended
        finally:
            writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    server = Server(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    try:
        yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for peer in server.peers:
            peer.writer.transport.abort()
        await listening.wait_closed()
        await asyncio.sleep(0)  # the sockets are closed in the loop's next turn


def whole(
    body: bytes = ANSWER, *headers: str, status: str = "200 OK", length: int | None = None
) -> bytes:
    """Return an answer's bytes; `length` is a Content-Length other than the true one."""
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


def saying(
    *pieces: bytes, then: Callable[[Peer], Awaitable[object] | None] | None = None
) -> Script:
    """Read a request, answer with these pieces, and then close the connection or do something else."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(*pieces)
        if then and (doing := then(peer)):
            await doing

    return script


async def always(peer: Peer, answer: bytes = whole()) -> None:
    """Answer every request of a connection."""
    while True:
        await peer.request()
        await peer.say(answer)


# --- the request ---


def headers_of(head: bytes) -> dict[str, str]:
    """Return a request's headers, by their name in lower case."""
    return {
        name.lower(): value
        for name, _, value in (line.partition(": ") for line in head.decode().split("\r\n")[1:-2])
    }


async def test_the_request_as_it_leaves() -> None:
    """The request has the documented path and headers, an exact Content-Length, and the key in a header."""
    async with serving(always) as server:
        await send(server.base_url, timeouts=Timeouts(whole_s=299.5))
    head, body = server.requests[0]
    headers = headers_of(head)

    assert head.startswith(f"POST {PATH} HTTP/1.1\r\n".encode())
    assert headers["x-goog-api-key"] == KEY
    assert headers["content-type"] == "application/json"
    assert headers["accept-encoding"] == "identity"
    assert headers["x-server-timeout"] == "300"
    assert str(len(body)) == headers["content-length"]
    assert "transfer-encoding" not in headers
    assert json.loads(body) == {
        "contents": [{"parts": [{"text": "A robot"}]}],
        "generationConfig": {"responseModalities": ["IMAGE"]},
    }


async def test_the_key_in_the_query() -> None:
    """`auth="query"` puts the key, URL-encoded, into the query, and into no header."""
    async with serving(always) as server:
        await send(server.base_url, auth="query")
    head = server.requests[0][0]
    target = head.split(b" ")[1].decode()

    assert target.partition("?")[0] == PATH
    assert urllib.parse.parse_qs(target.partition("?")[2]) == {"key": [KEY]}
    assert b"x-goog-api-key" not in head.lower()


async def test_an_upload_is_streamed(tmp_path: Path) -> None:
    """A reference image is read and encoded a block at a time: memory does not grow with it, and it arrives as it is."""
    file = tmp_path / "big.png"
    content = random.Random(7).randbytes(12_000_001)
    file.write_bytes(content)
    seen = bytearray()

    async def script(peer: Peer) -> None:
        length = int(headers_of(await peer.head())["content-length"])
        for start in range(0, length, 1 << 16):
            seen.extend(await peer.reader.readexactly(min(1 << 16, length - start)))
        await peer.say(whole())

    async with serving(script) as server:
        tracemalloc.start()
        await send(server.base_url, image_of(file), Text("x"))
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert (
        peak_bytes - len(seen) * 9 / 8 < 4_000_000
    )  # the list of what the server has seen may be an eighth larger
    assert content == base64.b64decode(
        json.loads(seen)["contents"][0]["parts"][0]["inlineData"]["data"]
    )


def shorten(file: Path) -> None:
    """Take a byte away, and keep the time."""
    before = file.stat()
    file.write_bytes(bytes(before.st_size - 1))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def touch(file: Path) -> None:
    """Change the time alone."""
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (shorten, "in/a.png: changed since the run began; run again"),
        (touch, "in/a.png: changed since the run began; run again"),
        (Path.unlink, "in/a.png: can't be opened any more: No such file or directory"),
    ],
)
async def test_an_input_that_changed_is_not_paid_for(
    tmp_path: Path, change: Callable[[Path], object], expected: str
) -> None:
    """A reference image that is not the planned one any more ends the attempt before the server has a request to bill."""
    file = tmp_path / "a.png"
    file.write_bytes(bytes(1000))
    image = image_of(file)
    change(file)

    async with serving(always) as server:
        failure = await send(server.base_url, Text("x"), image)

    assert Failure(FailureKind.INPUT_CHANGED, expected, may_be_billed=False) == failure
    assert server.requests == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (touch, "in/a.png: changed since the run began; run again"),
        (
            lambda file: os.truncate(file, 100),
            "in/a.png: became shorter while it was sent; run again",
        ),
    ],
)
async def test_an_input_that_changes_while_it_is_sent_is_not_paid_for(
    tmp_path: Path, change: Callable[[Path], object], expected: str
) -> None:
    """A file that is written to during its upload ends the attempt before its last block."""
    file = tmp_path / "a.png"
    file.write_bytes(bytes(8_000_000))

    async def script(peer: Peer) -> None:
        await peer.head()
        change(file)
        await peer.hang()

    async with serving(script) as server:
        failure = await send(server.base_url, image_of(file))

    assert Failure(FailureKind.INPUT_CHANGED, expected, may_be_billed=False) == failure


async def test_an_upload_that_breaks_off_is_not_billed(tmp_path: Path) -> None:
    """A request that never was whole can't have been billed."""
    file = tmp_path / "a.png"
    file.write_bytes(bytes(8_000_000))

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.reset()

    async with serving(script) as server:
        failure = await send(server.base_url, image_of(file))

    assert isinstance(failure, Failure)
    assert (failure.kind, failure.may_be_billed) == (FailureKind.DISCONNECTED, False)


async def test_an_answer_before_the_upload_has_ended(tmp_path: Path) -> None:
    """A server that refuses a large request before it has it all is heard."""
    file = tmp_path / "a.png"
    file.write_bytes(bytes(8_000_000))

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.say(whole(b"too large", status="413 Payload Too Large"))
        await peer.hang()

    async with serving(script) as server:
        answer = await send(server.base_url, image_of(file))

    assert Answer(413, b"too large") == answer


# --- an answer ---

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(piece: bytes) -> bytes:
    """Return a chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


BYTE_BY_BYTE = [whole()[index : index + 1] for index in range(len(whole()))]
WHOLE: dict[str, list[bytes]] = {
    "with a length": [whole()],
    "byte by byte": BYTE_BY_BYTE,
    "chunked": [CHUNKED, chunk(ANSWER[:40]), chunk(ANSWER[40:]), b"0\r\n\r\n"],
    "chunked, without its end": [CHUNKED + chunk(ANSWER)],
    "until the connection closes": [b"HTTP/1.1 200 OK\r\n\r\n", ANSWER],
    "HTTP/1.0": [b"HTTP/1.0 200 OK\r\n\r\n" + ANSWER],
    "called a text": [whole(ANSWER, "Content-Type: text/html; charset=nonsense")],
    "gzip all the same": [whole(gzip.compress(ANSWER), "Content-Encoding: gzip")],
    "created": [whole(status="201 Created")],
    "behind a 100": [b"HTTP/1.1 100 Continue\r\n\r\n", whole()],
    "with a length too great": [whole(length=len(ANSWER) + 1000)],
    "with a length far too great": [whole(length=10**12)],
    "and whitespace": [whole(ANSWER + b"\r\n \n")],
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("end", [None, Peer.reset, Peer.hang])
async def test_a_whole_answer_is_taken(name: str, end: Callable[[Peer], Any] | None) -> None:
    """An answer that is whole is taken at once, however it is framed, and whatever the connection does afterwards."""
    images = Images()
    async with serving(saying(*WHOLE[name], then=end)) as server, asyncio.timeout(2):
        answer = await send(server.base_url, images=images)

    assert isinstance(answer, Answer), answer
    skeleton = SKELETON + (b"\r\n \n" if name == "and whitespace" else b"")
    assert (skeleton.strip(), ARRIVED) == (answer.body.strip(), answer.images)
    assert (201 if name == "created" else 200) == answer.http_status


@pytest.mark.parametrize("end", [Peer.reset, lambda peer: peer.writer.close()])
@pytest.mark.parametrize("head", [CHUNKED, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"])
async def test_an_answer_that_waits_its_turn_is_taken_though_the_connection_broke(
    monkeypatch: pytest.MonkeyPatch, end: Callable[[Peer], object], head: bytes
) -> None:
    """What has arrived and is not looked at yet, because others have their turn, is not lost when the connection breaks meanwhile."""
    gone = asyncio.Event()

    async def mine(_turn: object) -> None:
        await gone.wait()
        for _ in range(20):
            await asyncio.sleep(0)

    async def script(peer: Peer) -> None:
        await peer.request()
        framed = chunk if head == CHUNKED else bytes
        await peer.say(head, framed(ANSWER[:40]))
        for _ in range(20):
            await asyncio.sleep(0)
        await peer.say(framed(ANSWER[40:]))
        for _ in range(20):
            await asyncio.sleep(0)
        end(peer)
        gone.set()

    monkeypatch.setattr(fairness.LoopBudget, "acquire", mine)
    async with serving(script) as server, asyncio.timeout(3):
        answer = await send(server.base_url)

    assert Answer(200, SKELETON, ARRIVED) == answer


async def test_a_large_answer_is_taken_though_the_connection_breaks() -> None:
    """A megabyte that is whole is taken, also when more was announced and the connection closes right behind it."""
    pixels = random.Random(7).randbytes(1_000_000)
    body = ANSWER.replace(base64.b64encode(PIXELS), base64.b64encode(pixels))

    async with serving(saying(whole(body, length=len(body) + 1))) as server:
        answer = await send(server.base_url)

    assert Answer(200, SKELETON, (IncomingImage(pixels.decode("latin-1"), 0, "", b""),)) == answer


async def test_nothing_comes_between_the_last_byte_and_the_return() -> None:
    """From the moment that the answer is whole nothing else runs on the loop until `send` has returned."""
    others: list[str] = []

    def sink() -> Sink:
        made = Sink()
        made.on_close = lambda: asyncio.get_running_loop().call_soon(others.append, "ran")
        return made

    async with serving(always) as server, opened(server.base_url) as transport:
        sent = await transport.send(call(), Images(sink))
        between = list(others)
        await asyncio.sleep(0)

    assert isinstance(sent.answer, Answer)
    assert between == []
    assert others == ["ran"]


@pytest.mark.parametrize(
    "status", [204, 301, 302, 307, 308, 400, 401, 402, 403, 404, 408, 413, 429, 499, 500, 503, 599]
)
async def test_a_no_is_an_answer(status: int) -> None:
    """Any other status is an answer with its body, a redirect is not followed, and the headers that matter are read."""
    base_url = "https://api.test"
    headers = {
        "Location": "https://elsewhere.test/",
        "Retry-After": "7",
        "Date": "Sun, 22 Nov 2026 12:00:00 GMT",
    }
    with aioresponses() as server:
        server.post(base_url + PATH, status=status, body=b'{"error":{}}', headers=headers)
        answer = await send(base_url, clock=Clock(steady_s=lambda: 0.0))
        assert len(server.requests) == 1

    if status == 204:
        expected = Answer(204, b'{"error":{}}', (), None)
    else:
        host = "elsewhere.test" if 300 <= status < 400 else ""
        expected = Answer(status, b'{"error":{}}', (), 7.0, host)
    assert expected == answer


@pytest.mark.parametrize("status", ["301 X", "302 X", "303 X", "307 X", "308 X"])
async def test_a_redirect_is_never_followed(status: str) -> None:
    """A redirect would carry the key, or the request, to somebody else."""
    async with serving(always) as elsewhere:
        redirect = whole(b"moved", f"Location: {elsewhere.base_url}{PATH}", status=status)
        async with serving(saying(redirect)) as server:
            answer = await send(server.base_url)

    expected = Answer(
        int(status[:3]), b"moved", redirects_to=elsewhere.base_url.removeprefix("http://")
    )
    assert expected == answer
    assert elsewhere.peers == []


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (
            f"https://user:{urllib.parse.quote(KEY, safe='')}@sso.test:8443/{KEY}?key={KEY}#{KEY}",
            "sso.test:8443",
        ),
        ("//[::1]:9/x", "[::1]:9"),
        (f"/login?key={KEY}", "here"),
        (f"https://{KEY.replace('/', '.').replace('+', '-').replace('~', '-')}.test/", None),
        ("https://sso.test:99999/", "no valid address"),
        ("javascript:alert(1)", ""),
        (f"https://{'a' * 5000}.test/", "a" * 253),
    ],
)
async def test_of_a_redirect_only_the_host_is_told(location: str, expected: str | None) -> None:
    """What else an address holds may be a secret; one that is none is no reason to break."""
    async with serving(saying(whole(b"moved", f"Location: {location}", status="302 X"))) as server:
        answer = await send(server.base_url)

    assert isinstance(answer, Answer)
    if expected == "here":
        expected = server.base_url.removeprefix("http://")
    assert expected in {answer.redirects_to, None}
    assert KEY not in repr(answer)


@pytest.mark.parametrize(
    ("pieces", "end", "expected"),
    [
        ([whole(b"x" * 3_000_000, status="500 X")], None, b"x" * interactive.MAX_ERROR_BODY_BYTES),
        ([whole(b"cut", status="500 X", length=1000)], None, b"cut"),
        ([whole(b"cut", status="500 X", length=1000)], Peer.hang, b"cut"),
        ([whole(b"not gzip", "Content-Encoding: gzip", status="500 X")], None, b""),
        ([whole(b"", status="500 X")], None, b""),
    ],
)
async def test_the_status_is_enough(pieces: list[bytes], end: Any, expected: bytes) -> None:
    """An error's body is capped, and when it breaks off, hangs or can't be read, its status still counts."""
    async with serving(saying(*pieces, then=end)) as server:
        answer = await send(server.base_url, timeouts=short(between_bytes_s=0.03))

    assert isinstance(answer, Answer)
    assert answer.http_status == 500
    assert answer.body == expected or expected.startswith(answer.body)


# --- no answer ---

CUT = ANSWER[:-20]
HEADERS = b"HTTP/1.1 200 OK\r\n"
FAULTS: dict[str, tuple[list[bytes], Callable[[Peer], Any] | None, FailureKind]] = {
    "closed before the headers": ([], None, FailureKind.DISCONNECTED),
    "reset before the headers": ([], Peer.reset, FailureKind.DISCONNECTED),
    "closed within the headers": ([HEADERS], None, FailureKind.DISCONNECTED),
    "reset within the body": (
        [whole(CUT, length=len(ANSWER))],
        Peer.reset,
        FailureKind.DISCONNECTED,
    ),
    "closed within the body": ([whole(CUT, length=len(ANSWER))], None, FailureKind.DISCONNECTED),
    "closed within a chunk": ([CHUNKED, chunk(ANSWER)[:-40]], None, FailureKind.DISCONNECTED),
    "closed between chunks": ([CHUNKED, chunk(CUT)], None, FailureKind.DISCONNECTED),
    "a chunk that is none": ([CHUNKED + b"nonsense\r\n"], Peer.hang, FailureKind.DISCONNECTED),
    "no HTTP at all": ([b"SSH-2.0-OpenSSH_9.9\r\n\r\n"], Peer.hang, FailureKind.DISCONNECTED),
    "gzip that is none": (
        [whole(ANSWER, "Content-Encoding: gzip")],
        None,
        FailureKind.DISCONNECTED,
    ),
    "gzip cut off": (
        [whole(gzip.compress(ANSWER)[:-30], "Content-Encoding: gzip")],
        None,
        FailureKind.MALFORMED,
    ),
    "chunks that end early": ([CHUNKED, chunk(CUT) + b"0\r\n\r\n"], None, FailureKind.MALFORMED),
    "a length too small": ([whole(ANSWER, length=len(CUT))], None, FailureKind.DISCONNECTED),
    "closed without a length": ([HEADERS + b"\r\n" + CUT], None, FailureKind.MALFORMED),
    "an empty 200": ([whole(b"")], None, FailureKind.MALFORMED),
    "a 204": ([b"HTTP/1.1 204 No Content\r\n\r\n"], None, FailureKind.MALFORMED),
    "a page": (
        [whole(b"<html>Sign in</html>", "Content-Type: text/html")],
        None,
        FailureKind.MALFORMED,
    ),
    "an image that is none": ([whole(ANSWER.replace(b"/9j", b"/9!"))], None, FailureKind.MALFORMED),
    "headers without end": (
        [HEADERS, *[b"X-%d: y\r\n" % number for number in range(300)]],
        Peer.hang,
        FailureKind.DISCONNECTED,
    ),
    "a header without end": (
        [HEADERS + b"X: " + b"y" * 100_000],
        Peer.hang,
        FailureKind.DISCONNECTED,
    ),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_broken_answer_is_a_failure(name: str) -> None:
    """However an answer breaks, a value says so in one line, and that it may have been billed."""
    pieces, end, kind = FAULTS[name]
    async with serving(saying(*pieces, then=end)) as server, asyncio.timeout(2):
        failure = await send(server.base_url)

    assert isinstance(failure, Failure), failure
    assert (kind, True) == (failure.kind, failure.may_be_billed), failure
    assert failure.message
    assert "\n" not in failure.message


async def test_an_error_without_end_is_cut_off() -> None:
    """An error's body that does not end is left at its cap."""
    endless = partial(flood, head=b"HTTP/1.1 500 X\r\n\r\n", piece=b"x" * 65_536)
    async with serving(endless) as server, asyncio.timeout(3):
        answer = await send(server.base_url)

    assert Answer(500, b"x" * interactive.MAX_ERROR_BODY_BYTES) == answer


SILENT: dict[str, list[bytes]] = {
    "before the headers": [],
    "within the headers": [HEADERS],
    "before the body": [whole(b"", length=100)],
    "within the body": [whole(CUT, length=len(ANSWER))],
    "within a chunk": [CHUNKED + chunk(ANSWER)[:-40]],
}


@pytest.mark.parametrize("name", SILENT)
async def test_silence_ends_with_the_whole_time(name: str, jump: Callable[[float], None]) -> None:
    """A server that falls silent is left when the attempt's time is over; it may have billed."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(*SILENT[name])
        jump(300.5)
        await peer.hang()

    async with serving(script) as server:
        failure = await send(server.base_url, timeouts=Timeouts(between_bytes_s=1000))

    expected = "no whole answer: nothing for 1000 s, or not done after 300 s"
    assert Failure(FailureKind.TIMEOUT, expected, may_be_billed=True) == failure


@pytest.mark.parametrize("name", ["before the body", "within the body", "within a chunk"])
async def test_silence_within_the_body_is_not_waited_out(name: str) -> None:
    """Once the answer has begun, a silence of `between_bytes_s` ends it."""
    async with serving(saying(*SILENT[name], then=Peer.hang)) as server:
        failure = await send(server.base_url, timeouts=short(between_bytes_s=0.03))

    expected = "no whole answer: nothing for 0.03 s, or not done after 5 s"
    assert Failure(FailureKind.TIMEOUT, expected, may_be_billed=True) == failure


async def test_the_model_may_think_for_long(
    fed: asyncio.Semaphore, jump: Callable[[float], None]
) -> None:
    """`between_bytes_s` does not count before the headers, and starts anew with each piece."""

    async def script(peer: Peer) -> None:
        await peer.request()
        jump(100)
        for piece in (whole()[:-60], whole()[-60:-40], whole()[-40:-20], whole()[-20:]):
            await peer.say(piece)
            await fed.acquire()
            jump(45)

    async with serving(script) as server, asyncio.timeout(1000):
        answer = await send(server.base_url, timeouts=Timeouts(between_bytes_s=60, whole_s=300))

    assert Answer(200, SKELETON, ARRIVED) == answer


@pytest.mark.parametrize("still_s", [61, 3600])
async def test_what_came_while_the_process_stood_still_is_taken(
    still_s: float, fed: asyncio.Semaphore, jump: Callable[[float], None]
) -> None:
    """After ^Z, or a call that blocked the event loop, the answer lies there, paid for: its time is not over."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(whole()[:-60])
        await fed.acquire()
        jump(still_s)
        await asyncio.sleep(0)  # the timers ring first
        await peer.say(whole()[-60:])

    async with serving(script) as server:
        answer = await send(server.base_url, timeouts=Timeouts(between_bytes_s=20, whole_s=30))

    assert Answer(200, SKELETON, ARRIVED) == answer


async def test_an_answer_that_goes_on_to_come_is_not_cut_off(
    fed: asyncio.Semaphore, jump: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow line is no reason to throw away what is paid for."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(whole().removesuffix(ANSWER))
        for start in range(0, len(ANSWER), 20):
            await peer.say(ANSWER[start : start + 20])
            await fed.acquire()
            jump(0.9)

    monkeypatch.setattr(interactive, "MIN_PROGRESS_BYTES", 20)
    async with serving(script) as server:
        answer = await send(server.base_url, timeouts=Timeouts(whole_s=2))

    assert Answer(200, SKELETON, ARRIVED) == answer


async def flood(peer: Peer, head: bytes, piece: bytes) -> None:
    """Send without end."""
    await peer.request()
    await peer.say(head)
    while True:
        await peer.say(piece)


OPENING = ANSWER.partition(base64.b64encode(PIXELS))[0]


@pytest.mark.parametrize(
    ("opening", "piece", "expected"),
    [
        (b'{"text":"', b"a" * 65_536, "the answer has more than 100,000 bytes outside its images"),
        (b"{", b" " * 65_536, "the answer has more than 100,000 bytes outside its images"),
        (OPENING, b"A" * 65_536, "the answer has more than 1,000,000 bytes"),
    ],
)
async def test_a_body_without_end_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, opening: bytes, piece: bytes, expected: str
) -> None:
    """A server that sends without end is left at a cap, and is not asked again in this run."""
    limits = image_extractor.ExtractorLimits(envelope_bytes=100_000, body_bytes=1_000_000)
    monkeypatch.setattr(
        interactive, "ImageExtractor", partial(image_extractor.ImageExtractor, limits=limits)
    )

    async with serving(partial(flood, head=HEADERS + b"\r\n" + opening, piece=piece)) as server:
        failure = await send(server.base_url)

    assert Failure(FailureKind.TOO_LARGE, expected, may_be_billed=True) == failure


async def test_a_compressed_bomb_takes_no_more_memory_than_the_cap() -> None:
    """Half a megabyte that unpacks to 500 MB ends the attempt, and never is in memory."""
    packed = gzip.compress(OPENING + b"A" * 500_000_000, compresslevel=1)

    async with serving(saying(whole(packed, "Content-Encoding: gzip"), then=Peer.hang)) as server:
        tracemalloc.start()
        failure = await send(server.base_url)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert isinstance(failure, Failure)
    assert peak_bytes < 150_000_000


# --- no connection ---


def unreachable(failure: Answer | Failure, base_url: str) -> None:
    """Check that nothing was sent, and that the message says where to."""
    assert isinstance(failure, Failure), failure
    assert (failure.kind, failure.may_be_billed) == (FailureKind.UNREACHABLE, False), failure
    assert failure.message.startswith(f"no connection to {base_url}")
    assert KEY not in failure.message


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Give a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.parametrize("auth", ["header", "query"])
async def test_a_refused_connection_is_not_billed(closed_port: int, auth: str) -> None:
    """When nobody listens, nothing was sent."""
    base_url = f"http://127.0.0.1:{closed_port}"

    unreachable(await send(base_url, auth=auth), base_url)


async def test_a_name_that_is_not_known_is_not_billed(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the name can't be looked up, nothing was sent."""

    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)

    unreachable(await send("https://api.test"), "https://api.test")


async def test_a_name_server_that_is_silent_counts_as_connecting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Looking the name up is part of the time for connecting."""

    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        await asyncio.get_running_loop().create_future()
        return []

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)

    async with asyncio.timeout(2):
        failure = await send("https://api.test", timeouts=short(connect_s=0.02))

    expected = "no connection to https://api.test within 0.02 s"
    assert Failure(FailureKind.UNREACHABLE, expected, may_be_billed=False) == failure


async def test_tls_to_a_plain_port_is_not_billed() -> None:
    """When the TLS handshake fails, nothing was sent."""

    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(script) as server:
        base_url = server.base_url.replace("http:", "https:")
        unreachable(await send(base_url), base_url)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_too_many_open_files_are_no_outage(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no socket can be opened it is this machine that is short, not the server that is away: waiting would not help."""

    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)

    failure = await send("https://api.test")

    assert Failure(FailureKind.STORAGE, TOO_MANY_FILES, may_be_billed=False) == failure


async def test_a_tls_handshake_that_hangs_counts_as_connecting() -> None:
    """The handshake is part of the time for connecting."""
    async with serving(Peer.hang) as server:
        base_url = server.base_url.replace("http:", "https:")
        async with asyncio.timeout(2):
            failure = await send(base_url, timeouts=short(connect_s=0.03))

    expected = f"no connection to {base_url} within 0.03 s"
    assert Failure(FailureKind.UNREACHABLE, expected, may_be_billed=False) == failure


async def test_a_certificate_that_nobody_vouches_for_is_not_billed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A certificate that is not valid ends the connection before the key is sent."""

    async def refuse(*_: object, sock: socket.socket, **__: object) -> Any:
        sock.close()
        raise ssl.SSLCertVerificationError(1, "self-signed certificate")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", refuse)
    async with serving(Peer.hang) as server:
        base_url = server.base_url.replace("http:", "https:")
        unreachable(await send(base_url), base_url)


# --- the disk ---

DISK_ERRORS = [
    OSError(errno.ENOSPC, "No space left"),
    ConnectionResetError("NFS"),
    TimeoutError(errno.ETIMEDOUT, "NFS"),
]


class FullDisk(Images):
    """Images whose disk fails at one place."""

    def __init__(self, place: str, error: OSError) -> None:
        super().__init__()
        self._place, self._error = place, error

    def _fail(self, place: str) -> None:
        if place == self._place:
            raise self._error

    def open_image(self, index: int, /) -> Sink:
        """Open a sink that fails."""
        self._fail("open")
        sink = super().open_image(index)
        sink.on_write = lambda: self._fail("write")
        sink.on_close = lambda: self._fail("close")
        return sink

    def arrived(self) -> tuple[IncomingImage, ...]:
        """Return what came, or fail."""
        self._fail("arrived")
        return super().arrived()


@pytest.mark.parametrize("place", ["open", "write", "close", "arrived"])
@pytest.mark.parametrize("error", DISK_ERRORS)
async def test_a_disk_that_fails_is_no_fault_of_the_network(place: str, error: OSError) -> None:
    """An error of the disk stays one, in words, also when it looks like one of the network: the answer was paid for."""
    async with serving(always) as server:
        failure = await send(server.base_url, images=FullDisk(place, error))

    expected = f"the answer can't be written: {describe_os_error(error)}"
    assert Failure(FailureKind.STORAGE, expected, may_be_billed=True) == failure


# --- the key ---

ECHOES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "as JSON escapes": lambda key: "".join(f"\\u{ord(character):04x}" for character in key),
    "as JSON escapes in capitals": lambda key: "".join(
        f"\\u{ord(character):04X}" for character in key
    ),
    "as JSON, slashes escaped": lambda key: key.replace("/", "\\/"),
    "as JSON in JSON": lambda key: json.dumps(key.replace("/", "\\/"))[1:-1].replace(
        "+", "\\\\u002b"
    ),
    "as a URL": lambda key: urllib.parse.quote(key, safe=""),
    "as a URL, every character": lambda key: "".join(f"%{ord(character):02x}" for character in key),
    "as a URL in a URL": lambda key: urllib.parse.quote(urllib.parse.quote(key, safe=""), safe=""),
    "as HTML": lambda key: html.escape(
        "".join(f"&#{ord(character)};" for character in key)
    ).replace("&amp;", "&"),
    "as HTML, in hex": lambda key: "".join(f"&#x{ord(character):X};" for character in key),
}


@pytest.mark.parametrize("name", ECHOES)
async def test_the_key_never_comes_back(name: str) -> None:
    """A key that the server echoes is blacked out in answers of any status, in whatever spelling."""
    echo = ECHOES[name](KEY)
    refusal = json.dumps({"error": {"message": "not valid: KEY."}}).replace("KEY", echo).encode()
    reply = ANSWER.replace(b'"parts":[', f'"parts":[{{"text":"your key: {echo}"}},'.encode())

    async with serving(saying(whole(refusal, status="400 X"))) as server:
        no = await send(server.base_url)
    async with serving(saying(whole(reply))) as server:
        yes = await send(server.base_url)

    assert isinstance(no, Answer)
    assert isinstance(yes, Answer)
    assert no.body == b'{"error": {"message": "not valid: [key]."}}'
    assert SKELETON.replace(b'"parts":[', b'"parts":[{"text":"your key: [key]"},') == yes.body


@pytest.mark.parametrize("auth", ["header", "query"])
@pytest.mark.parametrize("name", FAULTS)
async def test_the_key_is_in_no_failure(name: str, auth: str) -> None:
    """No failure's text holds the key, also when it stood in the URL."""
    pieces, end, _ = FAULTS[name]
    async with serving(saying(*pieces, then=end)) as server:
        failure = await send(server.base_url, auth=auth)

    assert KEY not in repr(failure)
    assert urllib.parse.quote(KEY, safe="") not in repr(failure)
    assert urllib.parse.quote(KEY) not in repr(failure)


async def test_the_key_in_an_error_s_text_is_blacked_out() -> None:
    """Also an error of the library that quotes the URL does not show the key."""
    base_url = "https://api.test"
    url = f"{base_url}{PATH}?key={urllib.parse.quote(KEY, safe='')}"
    with aioresponses() as server:
        server.post(re.compile(".*"), exception=aiohttp.ClientPayloadError(f"bad: {url} and {KEY}"))
        failure = await send(base_url, auth="query")

    expected = f"the connection broke before the answer was whole: bad: {base_url}{PATH}?key=[key] and [key]"
    assert Failure(FailureKind.DISCONNECTED, expected, may_be_billed=True) == failure


@pytest.mark.parametrize("key", ["proxy-k3y", "SECRET-0", "lettersandlettersonly"])
async def test_a_short_key_is_blacked_out_as_well(key: str) -> None:
    """A proxy's own key can be short; one that could not be a word of an answer is searched for."""
    refusal = whole(f'{{"error":{{"message":"{key} is not known"}}}}'.encode(), status="400 X")
    async with serving(saying(refusal)) as server:
        answer = await send(server.base_url, api_key=key)

    assert Answer(400, b'{"error":{"message":"[key] is not known"}}') == answer


@pytest.mark.parametrize("key", ["", "a", "data", "candidates", "image/"])
async def test_a_word_that_stands_in_for_a_key_spoils_no_answer(key: str) -> None:
    """A short key, as for a simulator, is not searched for in answers: it could be any word of them."""
    async with serving(always) as server:
        answer = await send(server.base_url, api_key=key)

    assert Answer(200, SKELETON, ARRIVED) == answer


# --- connections ---


@pytest.mark.parametrize(
    "answer", [whole(), whole(status="429 X"), CHUNKED + chunk(ANSWER) + b"0\r\n\r\n"]
)
async def test_a_connection_is_used_again(answer: bytes) -> None:
    """When an answer ended exactly, the next call goes over the same connection."""
    async with (
        serving(partial(always, answer=answer)) as server,
        opened(server.base_url) as transport,
    ):
        for _ in range(3):
            await transport.send(call(), Images())

    assert [len(peer.requests) for peer in server.peers] == [3]


def closes(peer: Peer) -> None:
    """Close the connection, before the client has had a turn to see it."""
    peer.writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def says_unasked(peer: Peer) -> None:
    """Say something that nobody asked for, as servers do that lose patience."""
    os.write(
        peer.writer.get_extra_info("socket").fileno(),
        whole(b"bored", "Connection: close", status="408 X"),
    )


@pytest.mark.parametrize("end", [closes, says_unasked])
async def test_a_connection_that_the_server_gave_up_is_not_used_again(
    end: Callable[[Peer], None],
) -> None:
    """One that ended before the first byte of a request is never written to: that request is sent once, over another one."""
    async with serving(always) as server, opened(server.base_url) as transport:
        await transport.send(call(), Images())
        end(server.peers[0])
        sent = await transport.send(call(), Images())

    assert Answer(200, SKELETON, ARRIVED) == sent.answer
    assert [len(peer.requests) for peer in server.peers] == [1, 1]


async def test_a_connection_with_a_rest_is_not_used_again() -> None:
    """When an answer was taken before its announced end, the rest can't be mistaken for the next answer."""
    script = partial(always, answer=whole(length=len(ANSWER) + 10))
    async with serving(script) as server, opened(server.base_url) as transport:
        answers = [(await transport.send(call(), Images())).answer for _ in range(3)]

    assert [Answer(200, SKELETON, ARRIVED)] * 3 == answers
    assert [len(peer.requests) for peer in server.peers] == [1, 1, 1]


@pytest.mark.parametrize("end", [None, Peer.reset, Peer.hang])
async def test_as_many_connections_as_calls_and_none_is_lost(
    end: Callable[[Peer], Any] | None,
) -> None:
    """All calls in flight have a connection at once, also after as many attempts have failed before."""
    waiting = asyncio.Semaphore(0)
    everybody = asyncio.Event()

    async def together(peer: Peer) -> None:
        await peer.request()
        if len(server.peers) <= 8:
            await peer.say(whole(CUT, length=len(ANSWER)))
            if end and (doing := end(peer)):
                await doing
            return
        waiting.release()
        if len(server.peers) == 16:
            everybody.set()
        await everybody.wait()
        await peer.say(whole())

    settings: dict[str, Any] = {"concurrency": 8, "timeouts": short(between_bytes_s=0.05)}
    async with (
        serving(together) as server,
        opened(server.base_url, **settings) as transport,
        asyncio.timeout(3),
    ):
        broken = await asyncio.gather(*(transport.send(call(), Images()) for _ in range(8)))
        answers = await asyncio.gather(*(transport.send(call(), Images()) for _ in range(8)))

    assert [Failure] * 8 == [type(sent.answer) for sent in broken]
    assert [Answer] * 8 == [type(sent.answer) for sent in answers]


async def test_a_cancelled_call_gives_its_connection_back() -> None:
    """Cancelling a call raises in it alone, and closes its connection."""
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if arrived.is_set():
            await peer.say(whole())
            return
        arrived.set()
        await peer.hang()
        gone.set()

    async with (
        serving(script) as server,
        opened(server.base_url, concurrency=1) as transport,
        asyncio.timeout(2),
    ):
        task = asyncio.create_task(transport.send(call(), Images()))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone.wait()
        sent = await transport.send(call(), Images())

    assert isinstance(sent.answer, Answer)


async def test_cookies_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server can't mark a client from one call to the next."""

    async def getaddrinfo(_: str, port: int, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    # A jar that keeps cookies keeps those of names only.
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    script = partial(always, answer=whole(ANSWER, "Set-Cookie: id=7; Path=/"))
    async with (
        serving(script) as server,
        opened(server.base_url.replace("127.0.0.1", "api.test")) as transport,
    ):
        for _ in range(2):
            await transport.send(call(), Images())

    assert ["cookie" in headers_of(head) for head, _ in server.requests] == [False, False]


async def test_a_bug_of_a_sink_is_not_hidden() -> None:
    """What is neither the network's nor the disk's fault is raised, and the connection is given back all the same."""

    def broken() -> Sink:
        raise LookupError("a bug")

    async with (
        serving(always) as server,
        opened(server.base_url, concurrency=1) as transport,
        asyncio.timeout(2),
    ):
        with pytest.raises(LookupError, match="a bug"):
            await transport.send(call(), Images(broken))
        sent = await transport.send(call(), Images())

    assert isinstance(sent.answer, Answer)


async def test_a_transport_that_is_not_open_says_so() -> None:
    """Sending outside the `async with` is a bug of the caller."""
    config = Settings("free", Limits(), "http://x.test", "http://x.test", MODEL)

    with pytest.raises(RuntimeError, match="outside its `async with`"):
        await InteractiveTransport(config, "http://x.test", Clock()).send(call(), Images())


# --- headers ---


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        (" 34 ", 34.0),
        ("Sun, 22 Nov 2026 12:01:30 GMT", 90.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("Sun, 22 Nov 2026 14:00:30 +0200", 30.0),
        ("1.5", None),
        ("-1", None),
        ("soon", None),
        ("²", None),
        ("9" * 400, None),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str | None, expected: float | None) -> None:
    """Retry-After is read in both of its forms; whatever else stands there is left alone."""
    assert expected == headers.retry_after_s(value, NOON)


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ ([+-]\d+|GMT)"))
@example("Fri, 31 Dec 9999 23:59:59 -0100")
@example("Mon, 01 Jan 0001 00:00:00 +0100")
@example(" ")
@example("Sun, 22 Nov 2026 12:00:00 +9999999999")
def test_any_date_is_read_or_left_alone(value: str) -> None:
    """A Date header never raises, and what is read is UTC."""
    at = headers.http_date(value)

    assert at is None or timedelta(0) == at.utcoffset()


@pytest.mark.parametrize(
    "value", ["Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 9001 00:00:00 GMT"]
)
def test_a_date_at_the_end_of_the_calendar_is_none(value: str) -> None:
    """Nothing can be counted on from a date that has no tomorrow."""
    assert headers.http_date(value) is None


@pytest.mark.parametrize(("turn_s", "between"), [(-1.0, ["another"]), (100.0, [])])
async def test_one_turn_of_the_loop_works_on_answers_for_so_long(
    monkeypatch: pytest.MonkeyPatch, turn_s: float, between: list[str]
) -> None:
    """With its time used up, the next answer lets others have their turn first; with time left it goes on at once."""
    monkeypatch.setattr(fairness, "BUDGET_S", turn_s)
    turn, others = fairness.LoopBudget(), list[str]()
    await turn.acquire()
    asyncio.get_running_loop().call_soon(others.append, "another")
    await turn.acquire()
    assert others == between


# --- turns of the event loop ---


async def test_a_turn_takes_as_many_answers_as_it_has_time_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What finds the turn used up goes on in later ones; all come through, also behind one that was cancelled while it waited."""
    monkeypatch.setattr(fairness, "BUDGET_S", 0.0)
    turn, loop = fairness.LoopBudget(), asyncio.get_running_loop()
    turns, passed = itertools.count(), list[tuple[int, int]]()
    current = 0

    def tick() -> None:
        nonlocal current
        current = next(turns)
        if len(passed) < 3 * 9:
            loop.call_soon(tick)

    async def answer(number: int) -> None:
        for _ in range(3):
            await turn.acquire()
            passed.append((number, current))

    tick()
    tasks = [asyncio.create_task(answer(number)) for number in range(10)]
    await asyncio.sleep(0)
    tasks[7].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert Counter(number for number, _ in passed) == {
        number: 3 for number in range(10) if number != 7
    }
    assert max(Counter(at for _, at in passed).values()) == 1
    assert current < 3 * len(passed)


async def test_who_waits_for_a_turn_is_woken_though_those_before_it_were_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those whose turn it was are cancelled before they could take it, and nobody else comes: the rest go on all the same."""
    monkeypatch.setattr(fairness, "BUDGET_S", 0.0)
    turn = fairness.LoopBudget()
    tasks = [asyncio.create_task(turn.acquire()) for _ in range(5)]
    await asyncio.sleep(0)  # the first has its turn
    await asyncio.sleep(0)  # the next two are woken
    assert [task.done() for task in tasks] == [True, False, False, False, False]
    tasks[1].cancel()
    tasks[2].cancel()
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.cancelled() for task in tasks] == [False, True, True, False, False]
