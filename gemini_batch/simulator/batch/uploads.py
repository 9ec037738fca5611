"""Resumable uploads: start, chunks, query and cancel, at the address that `start` answers with.

That address is a secret: it needs no key.
"""

import json
import secrets

from aiohttp import web

from gemini_batch.simulator import bodies
from gemini_batch.simulator.batch import errors
from gemini_batch.simulator.batch.draws import Draws
from gemini_batch.simulator.batch.stored_files import FileStore
from gemini_batch.simulator.batch.upload import Upload
from gemini_batch.simulator.batch.upload_start import UploadStarter
from gemini_batch.simulator.batch_faults import At
from gemini_batch.simulator.batch_schedule import Drawn
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.clock import SettableClock
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.delivery import reset_connection
from gemini_batch.simulator.failures import error_response
from gemini_batch.simulator.incoming import drain

# Seen in captures of two projects, 2026.
GRANULARITY_BYTES = 8 * 1024 * 1024
_KEPT_BYTES = 256 * 1024  # a server stores an upload in pieces of this size


class UploadRoutes:
    """Handlers of `/upload/v1beta/files`."""

    def __init__(
        self, config: SimulatorConfig, clock: SettableClock, files: FileStore, draws: Draws
    ) -> None:
        self._config = config
        self._clock = clock
        self._files = files
        self._draws = draws
        self._starter = UploadStarter(config, files, draws)
        self._uploads: dict[str, Upload] = {}
        self._ended: dict[str, dict[str, str]] = {}  # headers of the uploads that have ended

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        for method in ("POST", "PUT"):
            app.router.add_route(method, "/upload/{version:v1beta|v1}/files", self.upload)

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """Answer a request with an `upload_id`, or start an upload."""
        upload_id = request.query.get("upload_id")
        if upload_id is None:
            return await self._start(request)
        commands = request.headers.get("X-Goog-Upload-Command", "").replace(" ", "").split(",")
        upload = self._uploads.get(upload_id)
        if upload is None:
            return self._after_end(upload_id, commands)
        if "cancel" in commands:
            upload.status = "cancelled"
            self._forget(upload_id, upload)
        if "query" in commands or "cancel" in commands:
            return web.Response(headers=upload.headers)
        if {"upload", "finalize"}.isdisjoint(commands):
            return _refused(upload.headers, errors.upload_ended())
        drawn = self._draws.draw(At.CHUNK, upload.display_name)
        if "upload-gone" in drawn:
            del self._uploads[upload_id]
            return error_response(errors.no_upload())
        response = await self._append(request, upload, drawn, is_last="finalize" in commands)
        if upload.status != "active":
            self._forget(upload_id, upload)
        return response

    def _after_end(self, upload_id: str, commands: list[str]) -> web.Response:
        """Answer a request for an upload that is final, cancelled or unknown."""
        headers = self._ended.get(upload_id)
        if headers is None:
            return error_response(errors.no_upload())
        if "query" in commands or "cancel" in commands:
            return web.Response(headers=headers)
        return _refused(headers, errors.upload_ended())

    def _forget(self, upload_id: str, upload: Upload) -> None:
        """Keep only the state of an upload that has ended, so that its data can be deleted."""
        self._uploads.pop(upload_id, None)
        self._ended[upload_id] = upload.headers

    async def _start(self, request: web.Request) -> web.StreamResponse:
        upload = await self._starter.start(request)
        if isinstance(upload, ErrorBody):
            return error_response(upload)
        upload_id = secrets.token_urlsafe(48)
        self._uploads[upload_id] = upload
        version = request.match_info["version"]
        url = (
            f"{request.url.origin()}/upload/{version}/files"
            f"?upload_id={upload_id}&upload_protocol=resumable"
        )
        return web.Response(
            headers={
                "X-Goog-Upload-URL": url,
                "X-Goog-Upload-Control-URL": url,
                "X-Goog-Upload-Chunk-Granularity": str(GRANULARITY_BYTES),
                "X-Goog-Upload-Status": "active",
            }
        )

    async def _append(
        self, request: web.Request, upload: Upload, drawn: Drawn, *, is_last: bool
    ) -> web.StreamResponse:
        """Add a chunk; what has arrived of it stays if the connection breaks."""
        before = upload.data.size_bytes
        problem = await self._receive(request, upload, drawn)
        if "upload-lost" in drawn:
            upload.forget(min(_KEPT_BYTES, upload.data.size_bytes - before))
        if {"upload-cut", "upload-lost"} & {*drawn}:
            return reset_connection(request)
        problem = problem or self._incomplete(upload, before, is_last=is_last)
        if problem is not None:
            return _refused(upload.headers, problem)
        if "upload-silent" in drawn:
            return error_response(errors.unavailable())
        return self._end(request, upload) if is_last else web.Response(headers=upload.headers)

    def _end(self, request: web.Request, upload: Upload) -> web.StreamResponse:
        """Keep the file, and answer with it."""
        drawn = self._draws.draw(At.FILE, upload.display_name)
        upload.status = "final"
        if "upload-mime" in drawn:
            refused = json.loads(errors.bad_mime_type(upload.mime_type).body)
            return web.json_response(refused, headers=upload.headers)
        file = self._files.add(
            upload.project,
            upload.file_id,
            display_name=upload.display_name,
            mime_type=upload.mime_type,
            sha256=upload.sha256.hexdigest(),
            data=upload.data,
            processing_s=drawn.get("file-processing") or 0.0,
        )
        if "upload-final-lost" in drawn:
            return reset_connection(request)
        content = file.as_json(self._clock.utc(), str(request.url.origin()))
        return web.json_response({"file": content}, headers=upload.headers)

    async def _receive(
        self, request: web.Request, upload: Upload, drawn: Drawn
    ) -> ErrorBody | None:
        """Write a chunk as it arrives; return an error if it does not fit."""
        expected = upload.data.size_bytes
        offset = request.headers.get("X-Goog-Upload-Offset", "")
        problem = None if offset == str(expected) else errors.wrong_offset(expected, offset)
        if problem or "upload-chunk-503" in drawn:
            await drain(request)
            return problem or errors.unavailable()
        upload.turn += 1
        turn = upload.turn
        length = request.content_length or 0
        left = length // 2 if "upload-cut" in drawn else self._config.max_file_bytes - expected
        async for piece in request.content.iter_any():
            if turn != upload.turn or upload.status != "active":
                return errors.two_requests()
            upload.append(piece[:left])
            left -= len(piece)
            if left < 0:
                break
        is_too_large = left < 0 and "upload-cut" not in drawn
        return errors.file_too_large(self._config.max_file_bytes) if is_too_large else None

    def _incomplete(self, upload: Upload, before: int, *, is_last: bool) -> ErrorBody | None:
        """Return an error if a chunk, or the whole file, has a wrong size; the texts are derived.

        Args:
            upload: With the chunk.
            before: Its size before the chunk.
            is_last: Whether the chunk ends the file.
        """
        size_bytes, declared = upload.data.size_bytes, upload.declared_bytes
        if not is_last and (size_bytes - before) % GRANULARITY_BYTES:
            return bodies.error(400, f"A chunk must be a multiple of {GRANULARITY_BYTES} bytes.")
        if is_last and declared not in (None, size_bytes):
            return bodies.error(400, f"Expected {declared} bytes in total, got {size_bytes}.")
        if is_last and not self._files.has_room(upload.project, size_bytes):
            return errors.storage_full()
        return None


def _refused(headers: dict[str, str], problem: ErrorBody) -> web.Response:
    response = error_response(problem)
    response.headers.update(headers)
    return response
