"""What becomes of a request that nothing was written for: an answer to its client, and no traceback on a person's terminal."""

import asyncio
import logging

from aiohttp import web
from aiohttp.typedefs import Handler

from gemini_batch.simulator import bodies
from gemini_batch.simulator.bodies import ErrorBody

# A bug of the simulator, for those who set up logging; silent for all others.
_log = logging.getLogger("gemini_batch.simulator")
_log.addHandler(logging.NullHandler())

# For aiohttp's server, whose records are tracebacks of what clients did wrong. The client is told; nobody else needs them.
SILENT = logging.getLogger("gemini_batch.simulator.http")
SILENT.setLevel(logging.CRITICAL + 1)


@web.middleware
async def tell_the_client(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with what went wrong in place of aiohttp's "Server got itself in trouble"."""
    try:
        return await handler(request)
    except (web.HTTPException, ConnectionError):
        raise
    except web.RequestPayloadError as problem:
        told = bodies.error(400, f"The request's body can't be read: {problem}")
    except Exception as problem:  # noqa: BLE001 - whatever it is, the client waits for an answer
        _log.exception("the simulator failed at %s %s", request.method, request.path)
        told = bodies.error(
            500,
            f"simulator: failed, which is a bug of its own: {type(problem).__name__}: {problem}",
        )
    if request.writer.output_size:
        raise ConnectionResetError("a part of another answer is sent already")
    return refusal(told)


def refusal(told: ErrorBody) -> web.Response:
    """Return an error as it is sent."""
    return web.Response(
        status=told.http_status, body=told.body, headers={"Content-Type": told.content_type}
    )


class Connection(asyncio.Protocol):
    """A connection of aiohttp's server, closed with a 400 where aiohttp's parser raises what asyncio would print.

    Such a request is `GET http://[:: HTTP/1.1` (aiohttp 3.13).
    """

    def __init__(self, server: asyncio.Protocol) -> None:
        self._server = server
        self._transport: asyncio.BaseTransport | None = None
        self.connection_lost = server.connection_lost  # type: ignore[method-assign]
        self.eof_received = server.eof_received  # type: ignore[method-assign]
        self.pause_writing = server.pause_writing  # type: ignore[method-assign]
        self.resume_writing = server.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport
        self._server.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Hand on what arrived."""
        try:
            self._server.data_received(data)
        except ValueError as problem:
            told = bodies.error(400, f"The request can't be read: {problem}")
            head = f"HTTP/1.1 400 Bad Request\r\nContent-Type: {told.content_type}\r\nConnection: close\r\n"
            if isinstance(self._transport, asyncio.WriteTransport):
                self._transport.write(
                    f"{head}Content-Length: {len(told.body)}\r\n\r\n".encode() + told.body
                )
                self._transport.close()
