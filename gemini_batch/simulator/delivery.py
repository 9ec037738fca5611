"""Delivery of an answer's bytes: complete, slow, partial or none."""

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
class OutgoingAnswer:
    """An answer that is ready to be sent.

    Attributes:
        request: The request that it answers.
        http_status: Its HTTP status.
        body: The complete body.
        headers: Its headers, including Content-Type.
        seconds: Maximum duration of a slow delivery.
    """

    request: web.Request
    http_status: int
    body: bytes
    headers: Mapping[str, str]
    seconds: float


Deliver: TypeAlias = Callable[[OutgoingAnswer], Awaitable[web.StreamResponse]]


async def whole(answer: OutgoingAnswer) -> web.StreamResponse:
    """Send the whole answer with its length."""
    return web.Response(status=answer.http_status, body=answer.body, headers=answer.headers)


async def gzipped(answer: OutgoingAnswer) -> web.StreamResponse:
    """Send the answer compressed."""
    body = await asyncio.to_thread(gzip.compress, answer.body, 1)
    headers = {**answer.headers, "Content-Encoding": "gzip"}
    return web.Response(status=answer.http_status, body=body, headers=headers)


async def chunked(answer: OutgoingAnswer) -> web.StreamResponse:
    """Send the answer in chunks of uneven lengths, without Content-Length."""
    response = await _begin(answer, length=None)
    start, size = 0, 1
    while start < len(answer.body):
        await response.write(answer.body[start : start + size])
        start, size = start + size, min(size * 3 + 1, _PIECE_BYTES)
    await response.write_eof()
    return response


async def trickle(answer: OutgoingAnswer) -> web.StreamResponse:
    """Send the answer evenly over `seconds`."""
    response = await _begin(answer, length=len(answer.body))
    pieces = max(1, min(200, int(answer.seconds / 0.02), len(answer.body)))
    size = -(-len(answer.body) // pieces)
    for start in range(0, len(answer.body), size):
        await asyncio.sleep(answer.seconds / pieces)
        await response.write(answer.body[start : start + size])
    return response


async def late(answer: OutgoingAnswer) -> web.StreamResponse:
    """Send nothing for `seconds`, then the whole answer."""
    await asyncio.sleep(answer.seconds)
    return await whole(answer)


async def hang(answer: OutgoingAnswer) -> web.StreamResponse:
    """Send nothing until the client gives up; disconnect after `seconds`."""
    await asyncio.sleep(answer.seconds)
    return _disconnect(answer)


async def stall(answer: OutgoingAnswer) -> web.StreamResponse:
    """Send half, then nothing until the client gives up; disconnect after `seconds`."""
    response = await _half(answer)
    await asyncio.sleep(answer.seconds)
    _disconnect(answer)
    return response


async def disconnect(answer: OutgoingAnswer) -> web.StreamResponse:
    """Close the connection without an answer."""
    return _disconnect(answer)


async def truncated(answer: OutgoingAnswer) -> web.StreamResponse:
    """Announce the whole length, send half of the picture, and close the connection."""
    response = await _half(answer)
    _disconnect(answer)
    return response


async def truncated_chunks(answer: OutgoingAnswer) -> web.StreamResponse:
    """Send half of the picture in chunks, and close the connection without the last chunk."""
    response = await _begin(answer, length=None)
    await response.write(_first_half(answer.body))
    await flushed(answer.request)
    _disconnect(answer)
    return response


async def cut(answer: OutgoingAnswer) -> web.StreamResponse:
    """Send half of the picture with a Content-Length that matches."""
    half = _first_half(answer.body)
    return web.Response(status=answer.http_status, body=half, headers=answer.headers)


async def reset(answer: OutgoingAnswer) -> web.StreamResponse:
    """Send half of the picture, then reset the connection (RST)."""
    response = await _half(answer)
    reset_connection(answer.request)
    return response


async def reset_at_once(answer: OutgoingAnswer) -> web.StreamResponse:
    """Reset the connection (RST) instead of an answer."""
    reset_connection(answer.request)
    return web.Response(status=answer.http_status)


async def redirect(answer: OutgoingAnswer) -> web.StreamResponse:
    """Redirect to another host name of this server."""
    return redirected(answer.request)


def redirected(request: web.Request) -> web.Response:
    """Return a redirect to another host name of this server.

    The audit counts the clients that follow.
    """
    location = request.url.with_host("localhost").with_path("/redirected").with_query(None)
    return web.Response(status=307, headers={"Location": str(location)})


async def endless(answer: OutgoingAnswer) -> web.StreamResponse:
    """Send an image without end, or a text if there is no image, until the client disconnects."""
    at = answer.body.find(b'"data"')
    head = (
        answer.body[: answer.body.index(b'"', at + 6) + 1]
        if at >= 0
        else b'{"candidates":[{"content":{"parts":[{"text":"'
    )
    response = await _begin(answer, length=None)
    await response.write(head)
    for _ in range(_ENDLESS_BYTES // _PIECE_BYTES):
        await response.write(b"A" * _PIECE_BYTES)
    _disconnect(answer)
    return response


async def closing(answer: OutgoingAnswer) -> web.StreamResponse:
    """Send the whole answer, then close the connection that the client would reuse."""
    response = web.Response(status=answer.http_status, body=answer.body, headers=answer.headers)
    await response.prepare(answer.request)
    await response.write_eof()
    await flushed(answer.request)
    _disconnect(answer)
    return response


async def _begin(answer: OutgoingAnswer, *, length: int | None) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.http_status, headers=answer.headers)
    if length is None:
        response.enable_chunked_encoding()
    else:
        response.content_length = length
    await response.prepare(answer.request)
    return response


async def _half(answer: OutgoingAnswer) -> web.StreamResponse:
    response = await _begin(answer, length=len(answer.body))
    await response.write(_first_half(answer.body))
    await flushed(answer.request)
    return response


def _first_half(body: bytes) -> bytes:
    """Return a body up to the middle of its last picture, or to its own middle."""
    start = body.rfind(b'"data":')
    stop = body.find(b'"', start + len(b'"data": "')) if start >= 0 else len(body)
    return body[: (max(start, 0) + stop) // 2]


async def flushed(request: web.Request) -> None:
    """Wait until the write buffer is empty, for at most 2 s."""
    transport = request.transport
    for _ in range(200):
        if transport is None or transport.is_closing() or not transport.get_write_buffer_size():
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)  # on loopback, enough time for the client to read it


def _disconnect(answer: OutgoingAnswer) -> web.StreamResponse:
    if answer.request.transport is not None:
        answer.request.transport.close()
    return web.Response(status=answer.http_status)


def reset_connection(request: web.Request) -> web.Response:
    """Reset the connection of a request (RST); the response that is returned is never sent."""
    transport = request.transport
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
    if transport is not None:
        transport.abort()
    return web.Response()
