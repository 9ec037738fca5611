"""What a request carries beside its path: its key and its body."""

import asyncio
import zlib

from aiohttp import web

from gemini_batch.simulator import bodies
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.checks import Ask, check
from gemini_batch.simulator.config import GOOD_KEY, SimulatorConfig
from gemini_batch.simulator.models import Model

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32  # zlib's word for: whichever of them the first bytes are
_INLINE_CHECK_BYTES = 128 * 1024  # larger bodies are checked in a thread


def key_of(request: web.Request) -> str:
    """Return the key that a request brings, or nothing."""
    return request.headers.get("x-goog-api-key") or request.query.get("key", "")


def key_problem(request: web.Request, config: SimulatorConfig) -> ErrorBody | None:
    """Return what the API says of a request's key, or None if it is good."""
    key = key_of(request)
    if not key:
        return (
            bodies.unauthenticated() if "Authorization" in request.headers else bodies.key_missing()
        )
    if not GOOD_KEY.fullmatch(key) or config.key not in (None, key):
        return bodies.key_invalid()
    return None


async def body_of(request: web.Request, most_bytes: int) -> bytes | ErrorBody:
    """Return a request's body, decompressed, or the 400 for one that is too large or not what its headers say.

    The server must not decompress by itself (`auto_decompress=False`): aiohttp ends a connection whose body is falsely marked.

    Args:
        request: Its body is read to the end, whatever it is; what is too much is forgotten.
        most_bytes: The longest body, decompressed.
    """
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("gzip", "deflate", "identity", ""):
        await _drain(request)
        return bodies.error(
            400, f"Content-Encoding {coding!r} is not supported; allowed: gzip, deflate"
        )
    inflater = zlib.decompressobj(_GZIP_OR_ZLIB) if coding in ("gzip", "deflate") else None
    pieces: list[bytes] = []
    size = 0
    try:
        async for raw in request.content.iter_any():
            # Never more than one byte too many: a body of a few KB may grow to GB.
            piece = raw if inflater is None else inflater.decompress(raw, most_bytes - size + 1)
            size += len(piece)
            if size > most_bytes:
                await _drain(request)
                return bodies.too_large(most_bytes)
            pieces.append(piece)
    except zlib.error:
        await _drain(request)
        return _not(coding)
    if inflater is not None and (not inflater.eof or inflater.unused_data):
        return _not(coding)
    return b"".join(pieces)


async def ask_of(body: bytes, model: Model, *, counting: bool = False) -> Ask | ErrorBody:
    """Return what `check` says of a body; a large one holds up nobody else meanwhile."""
    if len(body) <= _INLINE_CHECK_BYTES:
        return check(body, model, counting=counting)
    return await asyncio.to_thread(check, body, model, counting=counting)


def _not(coding: str) -> ErrorBody:
    return bodies.error(400, f"The request's body is not {coding}, as its Content-Encoding says.")


async def _drain(request: web.Request) -> None:
    async for _ in request.content.iter_any():
        pass
