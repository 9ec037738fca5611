"""A transport, and servers that follow a script."""

import asyncio
import base64
import gzip
import io
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC
from pathlib import Path
from typing import Any

from gemini_batch.client.interactive import InteractiveTransport
from gemini_batch.clock import Clock
from gemini_batch.config import Settings, Timeouts
from gemini_batch.config.network import trusted_certificates
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
    ServiceTier,
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
ENVELOPE = ANSWER.replace(base64.b64encode(PIXELS), b"#0")


class Sink(io.BytesIO):
    """A sink that keeps an image; `on_close` is called when it is complete."""

    on_write: Callable[[], object] | None = None
    on_close: Callable[[], object] | None = None

    def write(self, data: Any, /) -> int:
        """Append bytes."""
        if self.on_write:
            self.on_write()
        return super().write(data)

    def blocks(self, start: int = 0, size_bytes: int | None = None, /) -> Iterator[bytes]:
        """Yield what was written."""
        yield self.getvalue()[start:][:size_bytes]

    def close(self) -> None:
        """Call `on_close` once; the garbage collector closes as well."""
        on_close, self.on_close = self.on_close, None
        if on_close:
            on_close()


class Images:
    """The images of one attempt in memory."""

    def __init__(self, open_sink: Callable[[], Sink] = Sink) -> None:
        self._open_sink = open_sink
        self.sinks: list[Sink] = []

    def open_image(self, index: int, /) -> Sink:
        """Open the next sink."""
        self.sinks.append(self._open_sink())
        return self.sinks[-1]

    def open_aside(self) -> Sink:
        """Open a sink of its own."""
        self.aside = Sink()
        return self.aside

    def keepable(self, body: Iterable[bytes], /) -> None:
        """Take the body."""
        self.body = body

    def journal(self, envelope: bytes, /, *, is_whole: bool = True) -> None:
        """Save nothing."""

    def arrived(self) -> tuple[IncomingImage, ...]:
        """Return what arrived."""
        return tuple(
            IncomingImage(sink.getvalue().decode("latin-1"), len(sink.getvalue()), "", b"")
            for sink in self.sinks
        )


ARRIVED = (IncomingImage(PIXELS.decode("latin-1"), len(PIXELS), "", b""),)


def call(*parts: Part) -> Call:
    """Return a call with these parts."""
    return Call(
        "robot",
        1,
        Request(MODEL, parts or (Text("A robot"),)),
        "",
        None,
        "1K",
        None,
        Estimate(0, 0, None),
    )


def image_of(file: Path) -> InputImage:
    """Return a reference image for a file as it is now."""
    seen = file.stat()
    return InputImage(f"in/{file.name}", str(file), "image/png", seen.st_size, seen.st_mtime_ns, "")


@asynccontextmanager
async def opened(
    base_url: str, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[InteractiveTransport]:
    """Open a transport whose timeouts no busy machine reaches."""
    defaults: dict[str, Any] = {"api_key": KEY, "timeouts": patient(), "concurrency": 2}
    if base_url.startswith("https:"):
        defaults["certificates"] = trusted_certificates()
    config = Settings("free", Limits(), base_url, base_url, MODEL, **(defaults | settings))
    async with InteractiveTransport(config, base_url, clock or Clock()) as transport:
        yield transport


async def send(
    base_url: str,
    *parts: Part,
    images: Images | None = None,
    tier: ServiceTier = "standard",
    **settings: Any,
) -> Answer | Failure:
    """Send one call over a transport of its own."""
    made = call(*parts)
    made = replace(made, request=replace(made.request, service_tier=tier))
    async with opened(base_url, **settings) as transport:
        exchange = await transport.send(made, images or Images())
    assert exchange.timing.latency_s >= 0
    assert exchange.timing.sent_at.tzinfo == UTC
    return exchange.answer


def patient(**timeouts: float) -> Timeouts:
    """Return timeouts of minutes, except those given."""
    return replace(Timeouts(300.0, 300.0, 300.0, 300.0), **timeouts)


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
        """Write pieces, each in its own packet if possible."""
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
    """A running server and its connections."""

    base_url: str
    peers: list[Peer] = field(default_factory=list)

    @property
    def requests(self) -> list[tuple[bytes, bytes]]:
        """The requests of all connections."""
        return [request for peer in self.peers for request in peer.requests]


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
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

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    server = Server(f"http{'s' if tls else ''}://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
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
        await asyncio.sleep(0)  # the sockets are closed in the next iteration


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
    """Return a script: read a request, send these pieces, then close or do something else."""

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


async def rounds(number: int = 10) -> None:
    """Let the event loop, which client and server share, read what was sent."""
    for _ in range(number):
        await asyncio.sleep(0)


def headers_of(head: bytes) -> dict[str, str]:
    """Return a request's headers by lower-case name."""
    return {
        name.lower(): value
        for name, _, value in (line.partition(": ") for line in head.decode().split("\r\n")[1:-2])
    }


async def flood(peer: Peer, head: bytes, piece: bytes) -> None:
    """Send without end."""
    await peer.request()
    await peer.say(head)
    while True:
        await peer.say(piece)


# --- answers ---

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(piece: bytes) -> bytes:
    """Return a chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


CUT = ANSWER[: ANSWER.index(b'"}}]}') - 4]  # within its picture
HEADERS = b"HTTP/1.1 200 OK\r\n"
# HTTP that the library refuses, and why.
REFUSED: dict[str, tuple[list[bytes], str]] = {
    "an invalid chunk at once": ([CHUNKED + b"nonsense\r\n"], "its chunks are not valid"),
    "an invalid chunk later": ([CHUNKED, chunk(CUT), b"zz\r\n"], "its chunks are not valid"),
    "a chunk longer than it says": (
        [CHUNKED + chunk(CUT)[:-2] + b"zz\r\n"],
        "its chunks are not valid",
    ),
    "a chunk of an impossible size": ([CHUNKED + b"f" * 40 + b"\r\n"], "its chunks are not valid"),
    "not HTTP": ([b"SSH-2.0-OpenSSH_9.9\r\n\r\n"], "its status line is not valid"),
    "HTTP 0.9": ([ANSWER], "its status line is not valid"),
    "HTTP 3": ([b"HTTP/3.0 200 OK\r\n\r\n"], "its status line is not valid"),
    "an impossible status": ([b"HTTP/1.1 2000 OK\r\n\r\n"], "its status line is not valid"),
    "two lengths": ([whole(ANSWER, "Content-Length: 3")], "it has two Content-Length headers"),
    "the same length twice": (
        [whole(ANSWER, f"Content-Length: {len(ANSWER)}")],
        "it has two Content-Length headers",
    ),
    "a length and chunks": (
        [whole(ANSWER, "Transfer-Encoding: chunked")],
        "it has a Content-Length and is chunked",
    ),
    "chunks and a length": (
        [HEADERS + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"],
        "it has a Content-Length and is chunked",
    ),
    "a negative length": ([whole(length=-5)], "its Content-Length is not valid"),
    "a length that is none": (
        [whole().replace(b"Content-Length: ", b"Content-Length: x")],
        "its Content-Length is not valid",
    ),
    "headers without end": (
        [HEADERS, *[b"X-%d: y\r\n" % number for number in range(300)]],
        "its headers are too long",
    ),
    "a header without end": ([HEADERS + b"X: " + b"y" * 100_000], "its headers are too long"),
    "a header that is none": ([HEADERS + b"X Y: a\r\n\r\n"], "its headers are not valid"),
    "a NUL in a header": ([HEADERS + b"X: a\0b\r\n\r\n"], "its headers are not valid"),
    "trailers without end": (
        [CHUNKED, chunk(CUT), b"0\r\n", b"X" * 70_000],
        "its headers are too long",
    ),
}
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
    "a length too small": ([whole(ANSWER, length=len(CUT))], None, FailureKind.MALFORMED),
    "gzip cut off": (
        [whole(gzip.compress(ANSWER)[:-30], "Content-Encoding: gzip")],
        None,
        FailureKind.MALFORMED,
    ),
    "chunks that end early": ([CHUNKED, chunk(CUT) + b"0\r\n\r\n"], None, FailureKind.MALFORMED),
    "closed without a length": ([HEADERS + b"\r\n" + CUT], None, FailureKind.MALFORMED),
    "an empty 200": ([whole(b"")], None, FailureKind.NOT_AN_ANSWER),
    "a 204": ([b"HTTP/1.1 204 No Content\r\n\r\n"], None, FailureKind.NOT_AN_ANSWER),
    "a page": (
        [whole(b"<html>Sign in</html>", "Content-Type: text/html")],
        None,
        FailureKind.NOT_AN_ANSWER,
    ),
    "invalid base64": ([whole(ANSWER.replace(b"/9j", b"/9!"))], None, FailureKind.MALFORMED),
} | {name: ([*pieces], Peer.hang, FailureKind.MALFORMED) for name, (pieces, _) in REFUSED.items()}
