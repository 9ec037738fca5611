"""What becomes of a request that nothing was written for: an answer to its client, and no traceback on a person's terminal."""

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
        told = bodies.error(500, f"simulator: failed, which is a bug of its own: {type(problem).__name__}: {problem}")
    if request.writer.output_size:
        raise ConnectionResetError("a part of another answer is sent already")
    return refusal(told)


def refusal(told: ErrorBody) -> web.Response:
    """Return an error as it is sent."""
    return web.Response(status=told.http_status, body=told.body, headers={"Content-Type": told.content_type})
