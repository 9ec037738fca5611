"""Handling of unexpected errors: the client gets an answer, and the terminal no traceback."""

import asyncio
import logging

from aiohttp import web
from aiohttp.typedefs import Handler

from gemini_batch.simulator import bodies
from gemini_batch.simulator.bodies import ErrorBody

# Bugs of the simulator, for users who set up logging; silent otherwise.
_log = logging.getLogger("gemini_batch.simulator")
_log.addHandler(logging.NullHandler())

# For aiohttp's server, which logs tracebacks of client errors. The client gets an answer instead.
SILENT_LOGGER = logging.getLogger("gemini_batch.simulator.http")
SILENT_LOGGER.setLevel(logging.CRITICAL + 1)


@web.middleware
async def error_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with the error instead of aiohttp's "Server got itself in trouble"."""
    try:
        return await handler(request)
    except (web.HTTPException, ConnectionError):
        raise
    except web.RequestPayloadError as problem:
        error = bodies.error(400, f"The request's body can't be read: {problem}")
    except Exception as problem:  # noqa: BLE001 - the client waits for an answer
        _log.exception("the simulator failed at %s %s", request.method, request.path)
        error = bodies.error(
            500,
            f"simulator: internal error, please report it: {type(problem).__name__}: {problem}",
        )
    if request.writer.output_size:
        raise ConnectionResetError("part of another answer has already been sent")
    return error_response(error)


def error_response(error: ErrorBody) -> web.Response:
    """Return the HTTP response for an error."""
    return web.Response(
        status=error.http_status, body=error.body, headers={"Content-Type": error.content_type}
    )


class GuardedConnection(asyncio.Protocol):
    """A connection of aiohttp's server that answers 400 if aiohttp's parser raises ValueError.

    `GET http://[:: HTTP/1.1` is such a request (aiohttp 3.13). Without this, asyncio would print a
    traceback.
    """

    def __init__(self, server: asyncio.Protocol) -> None:
        self._server = server
        self._transport: asyncio.BaseTransport | None = None
        self.connection_lost = server.connection_lost  # type: ignore[method-assign]
        self.eof_received = server.eof_received  # type: ignore[method-assign]
        self.pause_writing = server.pause_writing  # type: ignore[method-assign]
        self.resume_writing = server.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass the transport on to the server."""
        self._transport = transport
        self._server.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Pass data on to the server; answer 400 if it can't be parsed."""
        try:
            self._server.data_received(data)
        except ValueError as problem:
            error = bodies.error(400, f"The request can't be read: {problem}")
            head = (
                f"HTTP/1.1 400 Bad Request\r\nContent-Type: {error.content_type}\r\n"
                f"Connection: close\r\nContent-Length: {len(error.body)}\r\n\r\n"
            )
            if isinstance(self._transport, asyncio.WriteTransport):
                self._transport.write(head.encode() + error.body)
                self._transport.close()
