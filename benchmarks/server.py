"""A Gemini API that costs next to nothing: raw asyncio, one process, and answers that are always the same bytes.

What it does with a request stands in front of the path, so that one server serves every scenario:
`/answer=1500000,together=128,piece=65536,gap_ms=50,read_ms=0/v1beta/models/…:generateContent`

answer      size of the answer in bytes, nearly all of it base64; 0 is an image of one pixel
together    before anything goes on, so many requests must have begun
piece       the answer goes out in pieces of so many bytes …
gap_ms      … with so long a break between them
read_ms     the request is taken in with so long a break after each read
"""

import argparse
import asyncio
import base64
import json
import random
import re
import ssl
import struct
import sys
import time
import zlib
from email.utils import formatdate
from functools import lru_cache

_HEAD_END = b"\r\n\r\n"
_WRITE_BYTES = 1 << 18
_ROW_BYTES = 4096


@lru_cache
def png(size_bytes: int) -> bytes:
    """Return a valid grayscale picture of about this size, of noise that no compression makes smaller."""
    rows = max(1, size_bytes // (_ROW_BYTES + 1))
    width = _ROW_BYTES if size_bytes else 1
    noise = random.Random(5)
    pixels = b"".join(b"\0" + noise.randbytes(width) for _ in range(rows))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, rows, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(pixels, 0)),
        (b"IEND", b""),
    )
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


@lru_cache
def answer(size_bytes: int) -> bytes:
    """Return the body of an answer, of about this size."""
    inline = {"mimeType": "image/png", "data": base64.b64encode(png(size_bytes * 3 // 4)).decode()}
    body = {
        "candidates": [
            {
                "content": {
                    "parts": [{"text": "Here it is."}, {"inlineData": inline}],
                    "role": "model",
                },
                "finishReason": "STOP",
                "index": 0,
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 9,
            "candidatesTokenCount": 1290,
            "totalTokenCount": 1299,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 9}],
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
        },
        "modelVersion": "gemini-3-pro-image-preview",
        "responseId": "c2FtZS1hcy1ldmVy",
    }
    return json.dumps(body, indent=2).encode()


@lru_cache(maxsize=8)
def head(size_bytes: int, second: int) -> bytes:
    """Return what stands in front of a body at a second since 1970: a client that holds a day's quota goes by the date."""
    lines = (
        "HTTP/1.1 200 OK",
        "Content-Type: application/json; charset=UTF-8",
        f"Date: {formatdate(second, usegmt=True)}",
        f"Content-Length: {size_bytes}",
        "",
        "",
    )
    return "\r\n".join(lines).encode()


class Together:
    """Lets requests go on when so many have come."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    async def wait(self, count: int) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        if len(self._waiting) >= count:
            for each in self._waiting:
                each.set_result(None)
            self._waiting.clear()
        await waiter


class Connection(asyncio.Protocol):
    """One connection, kept alive; one request at a time."""

    def __init__(self, together: Together) -> None:
        self._together = together
        self._received = b""
        self._left_bytes = 0  # of the body that comes in
        self._settings: dict[str, int] = {}
        self._writable = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._writable.set()
        transport.set_write_buffer_limits(high=_WRITE_BYTES)

    def connection_lost(self, error: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self._left_bytes:
            self._take(len(data))
            return
        self._received += data
        if _HEAD_END not in self._received:
            return
        request, _, body = self._received.partition(_HEAD_END)
        self._received = b""
        line, _, headers = request.decode("latin-1").partition("\r\n")
        self._settings = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)}
        if line.startswith("HEAD"):
            self._transport.write(head(0, int(time.time())))
            return
        length = re.search(r"(?im)^content-length: *(\d+)", headers)
        if length is None:  # this server knows no chunked requests
            self._transport.close()
            return
        self._left_bytes = int(length[1])
        if count := self._settings.get("together"):
            self._transport.pause_reading()
            self._task = asyncio.create_task(self._when_together(count, len(body)))
        else:
            self._take(len(body))

    async def _when_together(self, count: int, received_bytes: int) -> None:
        await self._together.wait(count)
        self._transport.resume_reading()
        self._take(received_bytes)

    def _take(self, received_bytes: int) -> None:
        self._left_bytes -= received_bytes
        if self._left_bytes <= 0:
            self._task = asyncio.create_task(self._send())
        elif read_ms := self._settings.get("read_ms"):
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(read_ms / 1000, self._read_on)

    def _read_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    async def _send(self) -> None:
        body = memoryview(answer(self._settings.get("answer", 0)))
        before = head(len(body), int(time.time()))
        piece_bytes = self._settings.get("piece", _WRITE_BYTES)
        gap_s = self._settings.get("gap_ms", 0) / 1000
        for start in range(0, len(body), piece_bytes):
            await self._writable.wait()
            self._transport.write(before + body[start : start + piece_bytes])
            before = b""
            if gap_s:
                await asyncio.sleep(gap_s)


async def serve(certificate: str | None) -> None:
    """Serve until stdin closes; say on which port, in the first line of stdout."""
    loop, together = asyncio.get_running_loop(), Together()
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    listening = await loop.create_server(
        lambda: Connection(together), "127.0.0.1", 0, ssl=context, backlog=1024
    )
    print(listening.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--certificate", metavar="PEM", help="serve TLS with this certificate and key"
    )
    asyncio.run(serve(parser.parse_args().certificate))
