"""The local server of a review: one page and its pictures, for who knows its address.

It listens on 127.0.0.1 alone. A random token in the path keeps other users and pages out; the
checks of Host and Origin keep out pages of other sites, also those whose name leads here (DNS
rebinding).
"""

import asyncio
import hmac
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, TypeVar

import orjson
from aiohttp import web

from gemini_batch.errors import GeminiBatchError, describe_os_error
from gemini_batch.gallery.review.folder import (
    MAX_NOTE_CHARS,
    ReviewedFolder,
    UnknownPictureError,
)
from gemini_batch.gallery.thumbnails import FOLDER
from gemini_batch.output.marks import Marks, mark_of
from gemini_batch.records import media_types

T = TypeVar("T")
_Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

HOST = "127.0.0.1"
_MAX_BODY_BYTES = 64 * 1024
_FOR_EVER = "max-age=31536000, immutable"
_TYPES = {extension: name for name, extension in media_types.EXTENSIONS.items()}
_SAFE = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class ReviewServer:
    """Serves one output folder.

    Attributes:
        url: The address of the page; it has the token, so it must be in no file and no log.
    """

    def __init__(self, out: Path, port: int = 0, marks: Marks | None = None) -> None:
        """Prepare a server; port 0 is any free one; `marks` are the folder's if None."""
        self._folder = ReviewedFolder(out, marks)
        self._token = secrets.token_urlsafe(24)
        self._port = port
        self._one_at_a_time = asyncio.Lock()
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve until the block ends.

        Raises:
            OSError: The port is in use.
        """
        app = web.Application(middlewares=[self._guarded], client_max_size=_MAX_BODY_BYTES)
        app.add_routes(
            [
                web.get("/{token}/", self._page),
                web.get("/{token}/changes", self._changes),
                web.post("/{token}/marks", self._mark),
                web.post("/{token}/notes", self._follow_up),
                web.get("/{token}/{path:.+}", self._file),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, HOST, self._port)
            await site.start()
            self._port = runner.addresses[0][1]
            self.url = f"http://{HOST}:{self._port}/{self._token}/"
            yield
        finally:
            await runner.cleanup()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Refuse what does not come from the page itself; answer errors in text."""
        refusal = self._refusal(request)
        response = await _answered(request, handler) if refusal is None else _text(*refusal)
        for name, value in _SAFE.items():
            response.headers.setdefault(name, value)
        return response

    def _refusal(self, request: web.Request) -> tuple[int, str] | None:
        """Return the status and the reason for a request that the page does not send."""
        hosts = (f"{HOST}:{self._port}", f"localhost:{self._port}")
        if [*request.headers.getall("Host", [])] not in [[host] for host in hosts]:
            return 403, "wrong host"
        token = request.path.split("/", 2)[1]
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return 403, "wrong or missing token: open the address that review printed"
        if request.method in {"GET", "HEAD"}:
            return None
        if request.headers.get("Origin") not in {f"http://{host}" for host in hosts}:
            return 403, "wrong origin"
        return None if request.content_type == "application/json" else (415, "wrong type")

    async def _page(self, _request: web.Request) -> web.Response:
        body = await self._blocking(self._folder.page)
        return web.Response(body=body, content_type="text/html", charset="utf-8")

    async def _changes(self, request: web.Request) -> web.Response:
        after = request.query.get("after", "")
        if not (after.isascii() and after.isdigit() and len(after) < 19):  # of 64 bits
            raise web.HTTPBadRequest(reason="after: must be a number of bytes")
        return _json(await self._blocking(lambda: self._folder.changes(int(after))))

    async def _mark(self, request: web.Request) -> web.Response:
        mark = mark_of(await _object(request))
        if mark is None:
            raise web.HTTPBadRequest(reason="no mark")
        await self._blocking(lambda: self._folder.mark(mark))
        return _json({})

    async def _follow_up(self, request: web.Request) -> web.Response:
        match await _object(request):
            case {"id": str(call_id), "sha256": str(sha256), "note": str(note)} if note.strip():
                note = note.strip()[:MAX_NOTE_CHARS]
                path = await self._blocking(lambda: self._folder.follow_up(call_id, sha256, note))
                return _json({"manifest": path})
        raise web.HTTPBadRequest(reason="no note")

    async def _file(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        kind = _TYPES.get(PurePosixPath(path).suffix.lower(), "application/octet-stream")
        body = await self._blocking(lambda: self._folder.read(path))
        return web.Response(
            body=body,
            content_type=kind,
            headers={
                # A thumbnail has the hash of its picture in its name.
                "Cache-Control": f"private, {_FOR_EVER if path.startswith(FOLDER) else 'no-cache'}",
                "Content-Security-Policy": "default-src 'none'; sandbox",
            },
        )

    async def _blocking(self, work: Callable[[], T]) -> T:
        """Return the result of blocking work on the folder, which is done in a thread."""
        async with self._one_at_a_time:
            return await asyncio.to_thread(work)


async def _object(request: web.Request) -> Any:
    try:
        return orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        raise web.HTTPBadRequest(reason="no JSON") from None


def _json(value: Mapping[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n")


async def _answered(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except UnknownPictureError:
        return _text(404, "the folder has no such picture now; reload the page")
    except OSError as error:
        is_gone = isinstance(error, FileNotFoundError | NotADirectoryError)
        return _text(404 if is_gone else 500, describe_os_error(error))
    except GeminiBatchError as error:
        return _text(500, str(error))
    except web.HTTPException as error:
        return _text(error.status, error.reason)
