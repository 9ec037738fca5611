"""A server that says exactly what it sent: slow on purpose, so that a kill falls where it is aimed."""

import asyncio
import base64
import hashlib
import random
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import orjson

_HEAD_END = b"\r\n\r\n"
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"


@dataclass
class Sending:
    """One request and its answer.

    Attributes:
        response_id: Different for each request.
        call_id: Which call asked: the last word of its prompt.
        sha256: Of the image that it was answered with, also different for each.
        process: The number of the run that asked.
        inputs: SHA-256 of the pictures that came with it.
        is_whole: Its last byte was handed to the kernel.
    """

    response_id: str
    call_id: str
    sha256: str
    process: int
    inputs: tuple[str, ...] = ()
    is_whole: bool = False


class TorturedServer:
    """Answers each request with a picture of its own, in pieces; with `by_uri` the answer names where its picture is, at once, and the
    picture comes in pieces.

    Attributes:
        sendings: All requests, in the order of arrival.
        process: The number of the run that is on now; whoever starts one sets it.
        receiving: Answers, or their pictures, that have begun and not ended.
        whole: Those whose last byte was sent.
    """

    def __init__(self, seed: int, *, by_uri: bool = False) -> None:
        self._random = random.Random(seed)
        self.by_uri = by_uri
        self._max_pause_s = 0.06 if by_uri else 0.02
        self._pictures: dict[str, bytes] = {}
        self.sendings: list[Sending] = []
        self.process = 0
        self.receiving = 0
        self.whole = 0
        self.base_url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until it closes."""
        try:
            while True:
                head = await reader.readuntil(_HEAD_END)
                if head.startswith(b"GET "):
                    name = head.split(b" ", 2)[1].decode().rpartition("/")[2]
                    await self._say(self._pictures[name], writer)
                    continue
                length = next(
                    int(line.partition(b":")[2])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                )
                await self._answer(orjson.loads(await reader.readexactly(length)), writer)
        except (asyncio.IncompleteReadError, OSError):
            pass  # killed
        finally:
            writer.close()

    async def _answer(self, request: dict[str, object], writer: asyncio.StreamWriter) -> None:
        data = picture(self._random)
        sending = Sending(
            response_id=f"r{len(self.sendings)}",
            call_id=_prompt(request).split()[-1],
            sha256=hashlib.sha256(data).hexdigest(),
            process=self.process,
            inputs=tuple(_inputs(request)),
        )
        self.sendings.append(sending)
        if not self.by_uri:
            inline = {"mimeType": "image/png", "data": base64.b64encode(data).decode()}
            body = _body(sending.response_id, {"inlineData": inline})
            sending.is_whole = await self._say(body, writer)
            return
        self._pictures[sending.response_id] = data
        uri = f"{self.base_url}/files/{sending.response_id}"
        body = _body(sending.response_id, {"fileData": {"mimeType": "image/png", "fileUri": uri}})
        writer.write(_HEAD % len(body) + body)
        await writer.drain()
        sending.is_whole = not writer.is_closing()

    async def _say(self, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Send an answer or a picture in pieces; return whether all was sent."""
        self.receiving += 1
        try:
            writer.write(_HEAD % len(body))
            for piece in _pieces(body, self._random):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(self._random.uniform(0.001, self._max_pause_s))
            is_whole = not writer.is_closing()
            self.whole += is_whole
            return is_whole
        finally:
            self.receiving -= 1


def picture(source: random.Random) -> bytes:
    """Return a PNG whose header is right and whose pixels are noise, 10 to 150 KB."""
    noise = source.randbytes(source.randint(10_000, 150_000))
    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", noise)
        + _chunk(b"IEND", b"")
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _body(response_id: str, part: dict[str, object]) -> bytes:
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 1120, "totalTokenCount": 1130}
    candidates = [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}]
    return orjson.dumps(
        {"candidates": candidates, "usageMetadata": usage, "responseId": response_id}
    )


def _pieces(body: bytes, source: random.Random) -> Iterator[bytes]:
    """Cut a body at random; the last piece is short, so that its arrival is the end."""
    places = sorted(source.randrange(1, len(body) - 20) for _ in range(source.randint(2, 8)))
    places.append(len(body) - source.randint(1, 20))
    for start, end in zip([0, *places], [*places, len(body)], strict=True):
        yield body[start:end]


def _inputs(request: dict[str, Any]) -> Iterator[str]:
    for part in request["contents"][0]["parts"]:
        if "inlineData" in part:
            yield hashlib.sha256(base64.b64decode(part["inlineData"]["data"])).hexdigest()


def _prompt(request: dict[str, object]) -> str:
    contents = request["contents"]
    assert isinstance(contents, list)
    return str(contents[0]["parts"][-1]["text"])


@contextmanager
def tortured_server(seed: int, *, by_uri: bool = False) -> Iterator[TorturedServer]:
    """Serve on a free port of 127.0.0.1, on a thread of its own, until the block ends."""
    server, loop, ready = (
        TorturedServer(seed, by_uri=by_uri),
        asyncio.new_event_loop(),
        threading.Event(),
    )
    ended = asyncio.Event()

    async def serve() -> None:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.base_url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        ready.set()
        await ended.wait()
        listening.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield server
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()
