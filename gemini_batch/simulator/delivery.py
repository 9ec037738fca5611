"""How the bytes of an answer go over the wire: whole, slowly, in part, or not at all."""

import asyncio
import gzip
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from aiohttp import web

_PIECE_BYTES = 64 * 1024
_ENDLESS_BYTES = 512 * 1024 * 1024
_RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds


@dataclass(frozen=True, slots=True)
class Parcel:
    """An answer on its way.

    Attributes:
        request: What it answers.
        http_status: Its status.
        body: All of its bytes.
        headers: Its headers, Content-Type among them.
        seconds: How long a slow delivery takes, at most.
    """

    request: web.Request
    http_status: int
    body: bytes
    headers: Mapping[str, str]
    seconds: float


Deliver: TypeAlias = Callable[[Parcel], Awaitable[web.StreamResponse]]


async def whole(parcel: Parcel) -> web.StreamResponse:
    """Send it with its length."""
    return web.Response(status=parcel.http_status, body=parcel.body, headers=parcel.headers)


async def gzipped(parcel: Parcel) -> web.StreamResponse:
    """Send it compressed."""
    body = await asyncio.to_thread(gzip.compress, parcel.body, 1)
    headers = {**parcel.headers, "Content-Encoding": "gzip"}
    return web.Response(status=parcel.http_status, body=body, headers=headers)


async def chunked(parcel: Parcel) -> web.StreamResponse:
    """Send it in chunks of uneven lengths, without saying how long it is."""
    response = await _begin(parcel, length=None)
    start, size = 0, 1
    while start < len(parcel.body):
        await response.write(parcel.body[start : start + size])
        start, size = start + size, min(size * 3 + 1, _PIECE_BYTES)
    await response.write_eof()
    return response


async def trickle(parcel: Parcel) -> web.StreamResponse:
    """Send it evenly over `seconds`."""
    response = await _begin(parcel, length=len(parcel.body))
    pieces = max(1, min(200, int(parcel.seconds / 0.02), len(parcel.body)))
    size = -(-len(parcel.body) // pieces)
    for start in range(0, len(parcel.body), size):
        await asyncio.sleep(parcel.seconds / pieces)
        await response.write(parcel.body[start : start + size])
    return response


async def late(parcel: Parcel) -> web.StreamResponse:
    """Say nothing for `seconds`, then send it whole."""
    await asyncio.sleep(parcel.seconds)
    return await whole(parcel)


async def hang(parcel: Parcel) -> web.StreamResponse:
    """Say nothing until the client gives up; after `seconds` hang up."""
    await asyncio.sleep(parcel.seconds)
    return _hang_up(parcel)


async def stall(parcel: Parcel) -> web.StreamResponse:
    """Send half, then nothing until the client gives up; after `seconds` hang up."""
    response = await _half(parcel)
    await asyncio.sleep(parcel.seconds)
    _hang_up(parcel)
    return response


async def disconnect(parcel: Parcel) -> web.StreamResponse:
    """Close the connection without a word."""
    return _hang_up(parcel)


async def truncated(parcel: Parcel) -> web.StreamResponse:
    """Promise the whole length, send half, and close."""
    response = await _half(parcel)
    _hang_up(parcel)
    return response


async def truncated_chunks(parcel: Parcel) -> web.StreamResponse:
    """Send half in chunks, and close without the last chunk."""
    response = await _begin(parcel, length=None)
    await response.write(parcel.body[: len(parcel.body) // 2])
    await _flushed(parcel)
    _hang_up(parcel)
    return response


async def cut(parcel: Parcel) -> web.StreamResponse:
    """Send half as if it were all: a right Content-Length around broken JSON."""
    half = parcel.body[: len(parcel.body) // 2]
    return web.Response(status=parcel.http_status, body=half, headers=parcel.headers)


async def reset(parcel: Parcel) -> web.StreamResponse:
    """Send half, then reset the connection (RST)."""
    response = await _half(parcel)
    _reset(parcel)
    return response


async def reset_at_once(parcel: Parcel) -> web.StreamResponse:
    """Reset the connection (RST) in place of an answer."""
    _reset(parcel)
    return web.Response(status=parcel.http_status)


async def redirect(parcel: Parcel) -> web.StreamResponse:
    """Point to another host, in truth this one under another name; a client that follows shows up in the audit."""
    location = parcel.request.url.with_host("localhost").with_path("/redirected").with_query(None)
    return web.Response(status=307, headers={"Location": str(location)})


async def endless(parcel: Parcel) -> web.StreamResponse:
    """Send a picture, or a text where there is none, that does not end until the client does."""
    at = parcel.body.find(b'"data"')
    head = (
        parcel.body[: parcel.body.index(b'"', at + 6) + 1]
        if at >= 0
        else b'{"candidates":[{"content":{"parts":[{"text":"'
    )
    response = await _begin(parcel, length=None)
    await response.write(head)
    for _ in range(_ENDLESS_BYTES // _PIECE_BYTES):
        await response.write(b"A" * _PIECE_BYTES)
    _hang_up(parcel)
    return response


async def closing(parcel: Parcel) -> web.StreamResponse:
    """Send it whole, and close the connection that the client would have used again."""
    response = web.Response(status=parcel.http_status, body=parcel.body, headers=parcel.headers)
    await response.prepare(parcel.request)
    await response.write_eof()
    await _flushed(parcel)
    _hang_up(parcel)
    return response


async def _begin(parcel: Parcel, *, length: int | None) -> web.StreamResponse:
    response = web.StreamResponse(status=parcel.http_status, headers=parcel.headers)
    if length is None:
        response.enable_chunked_encoding()
    else:
        response.content_length = length
    await response.prepare(parcel.request)
    return response


async def _half(parcel: Parcel) -> web.StreamResponse:
    response = await _begin(parcel, length=len(parcel.body))
    await response.write(parcel.body[: len(parcel.body) // 2])
    await _flushed(parcel)
    return response


async def _flushed(parcel: Parcel) -> None:
    """Wait, for a while, until what was written has left."""
    transport = parcel.request.transport
    for _ in range(200):
        if transport is None or transport.is_closing() or not transport.get_write_buffer_size():
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)  # on loopback, time enough for the client to read it


def _hang_up(parcel: Parcel) -> web.StreamResponse:
    if parcel.request.transport is not None:
        parcel.request.transport.close()
    return web.Response(status=parcel.http_status)


def _reset(parcel: Parcel) -> None:
    transport = parcel.request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
    transport.abort()
