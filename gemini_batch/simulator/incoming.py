"""Key and body of a request."""

import asyncio
import json
import zlib
from typing import Any

from aiohttp import web

from gemini_batch.simulator import bodies, schema
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.checks import ImageRequest, check
from gemini_batch.simulator.config import GOOD_KEY, SimulatorConfig
from gemini_batch.simulator.models import Model

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32  # zlib detects the format by the first bytes
_INLINE_CHECK_BYTES = 128 * 1024  # larger bodies are checked in a thread


def request_key(request: web.Request) -> str:
    """Return the key of a request, or an empty string."""
    return request.headers.get("x-goog-api-key") or request.query.get("key", "")


def key_problem(request: web.Request, config: SimulatorConfig) -> ErrorBody | None:
    """Return the API's error for a request's key, or None if the key is valid."""
    key = request_key(request)
    if not key:
        return (
            bodies.unauthenticated() if "Authorization" in request.headers else bodies.key_missing()
        )
    if not GOOD_KEY.fullmatch(key) or config.key not in (None, key):
        return bodies.key_invalid()
    return None


async def read_body(request: web.Request, max_bytes: int) -> bytes | ErrorBody:
    """Return the decompressed body, or the 400 if it is too large or has another encoding.

    The server must not decompress by itself (`auto_decompress=False`): aiohttp closes a connection
    whose body does not match its Content-Encoding.

    Args:
        request: Its body is always read to the end; bytes above the limit are dropped.
        max_bytes: Maximum size of the decompressed body.
    """
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("gzip", "deflate", "identity", ""):
        await drain(request)
        return bodies.error(
            400, f"Content-Encoding {coding!r} is not supported; allowed: gzip, deflate"
        )
    inflater = zlib.decompressobj(_GZIP_OR_ZLIB) if coding in ("gzip", "deflate") else None
    pieces: list[bytes] = []
    size = 0
    try:
        async for raw in request.content.iter_any():
            # At most one byte above the limit: a few KB may decompress to GB.
            piece = raw if inflater is None else inflater.decompress(raw, max_bytes - size + 1)
            size += len(piece)
            if size > max_bytes:
                await drain(request)
                return bodies.too_large(max_bytes)
            pieces.append(piece)
    except zlib.error:
        await drain(request)
        return _not(coding)
    if inflater is not None and (not inflater.eof or inflater.unused_data):
        return _not(coding)
    return b"".join(pieces)


def read_json(kind: schema.Message, body: bytes) -> dict[str, Any] | ErrorBody:
    """Return a body with snake_case names, or the 400 if it is not JSON of this kind."""
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError):
        return bodies.error(400, "Invalid JSON payload received. Unexpected token.")
    violations: schema.Violations = []
    found: dict[str, Any] = schema.read(kind, raw, "", violations)
    return bodies.bad_fields(violations) if violations else found


async def parse_request(
    body: bytes, model: Model, *, counting: bool = False, vertex: bool = False
) -> ImageRequest | ErrorBody:
    """Return the result of `check`; a large body is checked in a thread, to not block others."""
    if len(body) <= _INLINE_CHECK_BYTES:
        return check(body, model, counting=counting, vertex=vertex)
    return await asyncio.to_thread(check, body, model, counting=counting, vertex=vertex)


def _not(coding: str) -> ErrorBody:
    return bodies.error(400, f"The request's body is not {coding}, as its Content-Encoding says.")


async def drain(request: web.Request) -> None:
    """Read a body to its end, and drop it."""
    async for _ in request.content.iter_any():
        pass
