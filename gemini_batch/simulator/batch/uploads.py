"""Resumable uploads: start, chunks, query and cancel, at the address that `start` answers with.

That address is a secret: it needs no key.
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from gemini_batch.simulator import bodies, schema
from gemini_batch.simulator.audit import fingerprint
from gemini_batch.simulator.batch import errors
from gemini_batch.simulator.batch.spool import Spool
from gemini_batch.simulator.batch.stored_files import FileStore, StoredFile
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.clock import SettableClock
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.failures import error_response
from gemini_batch.simulator.incoming import key_problem, read_body, read_json, request_key

# Seen in captures of two projects, 2026.
GRANULARITY_BYTES = 8 * 1024 * 1024
MAX_ID_LENGTH = 40
_MAX_START_BYTES = 64 * 1024
_FILE = schema.Message(
    {
        "name": schema.STRING,
        "display_name": schema.STRING,
        "mime_type": schema.STRING,
        "size_bytes": schema.INT64,
    }
)
_START = schema.Message({"file": _FILE})


@dataclass(slots=True)
class Upload:
    """An upload that has been started.

    Attributes:
        project: Fingerprint of the key that started it.
        file_id: Name of the file to be.
        display_name: As requested.
        mime_type: As requested.
        declared_bytes: Size that `start` named, or None.
        data: The bytes that have arrived.
        sha256: Hash of them.
        turn: Number of the newest request for it; older requests must not write any more.
        status: `active`, `final` or `cancelled`.
    """

    project: str
    file_id: str
    display_name: str
    mime_type: str
    declared_bytes: int | None
    data: Spool = field(default_factory=Spool)
    sha256: Any = field(default_factory=hashlib.sha256)
    turn: int = 0
    status: str = "active"


class UploadRoutes:
    """Handlers of `/upload/v1beta/files`."""

    def __init__(self, config: SimulatorConfig, clock: SettableClock, files: FileStore) -> None:
        self._config = config
        self._clock = clock
        self._files = files
        self._uploads: dict[str, Upload] = {}

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        for method in ("POST", "PUT"):
            app.router.add_route(method, "/upload/{version:v1beta|v1}/files", self.upload)

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """Answer a request with an `upload_id`, or start an upload."""
        upload_id = request.query.get("upload_id")
        if upload_id is None:
            return await self._start(request)
        upload = self._uploads.get(upload_id)
        if upload is None:
            return error_response(bodies.error(404, "Upload not found."))  # derived
        commands = request.headers.get("X-Goog-Upload-Command", "").replace(" ", "").split(",")
        if upload.status == "active" and "cancel" in commands:
            upload.status = "cancelled"
        if "query" in commands or "cancel" in commands:
            return web.Response(headers=_headers(upload))
        if upload.status != "active":
            return _refused(upload, bodies.error(400, "Upload has already been terminated."))
        if not {"upload", "finalize"} & {*commands}:
            return _refused(upload, bodies.error(400, "Invalid X-Goog-Upload-Command."))  # derived
        return await self._append(request, upload, is_last="finalize" in commands)

    async def _start(self, request: web.Request) -> web.StreamResponse:
        problem = key_problem(request, self._config)
        if problem is not None:
            return error_response(problem)
        if (
            request.headers.get("X-Goog-Upload-Protocol") != "resumable"
            or request.headers.get("X-Goog-Upload-Command") != "start"
        ):
            return error_response(
                bodies.error(
                    400,
                    "simulator: only resumable uploads are simulated: send X-Goog-Upload-Protocol: "
                    "resumable and X-Goog-Upload-Command: start",
                )
            )
        upload = await self._new(request)
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

    async def _new(self, request: web.Request) -> Upload | ErrorBody:
        body = await read_body(request, _MAX_START_BYTES)
        found = read_json(_START, body or b"{}") if isinstance(body, bytes) else body
        if isinstance(found, ErrorBody):
            return found
        file = found.get("file", {})
        header = request.headers.get("X-Goog-Upload-Header-Content-Length", "")
        declared = int(header) if header.isdecimal() else file.get("size_bytes")
        project = fingerprint(request_key(request))
        file_id = file.get("name", "").removeprefix("files/")
        if file_id and (len(file_id) > MAX_ID_LENGTH or self._files.get(project, file_id)):
            return bodies.error(
                400, f"File files/{file_id} already exists, or its name is too long."
            )  # derived
        if (declared or 0) > self._config.max_file_bytes:
            return errors.file_too_large(self._config.max_file_bytes)
        if not self._files.has_room(project, declared or 0):
            return errors.storage_full()
        mime_type = file.get("mime_type") or request.headers.get(
            "X-Goog-Upload-Header-Content-Type", "application/octet-stream"
        )
        return Upload(
            project,
            file_id or self._files.new_id(),
            file.get("display_name", ""),
            mime_type,
            declared,
        )

    async def _append(
        self, request: web.Request, upload: Upload, *, is_last: bool
    ) -> web.StreamResponse:
        """Add a chunk; what has arrived of it stays if the connection breaks."""
        before = upload.data.size_bytes
        problem = await self._receive(request, upload) or self._incomplete(
            upload, before, is_last=is_last
        )
        if problem is not None:
            return _refused(upload, problem)
        if not is_last:
            return web.Response(headers=_headers(upload))
        file = self._finished(upload)
        content = file.as_json(self._clock.utc(), str(request.url.origin()))
        return web.json_response({"file": content}, headers=_headers(upload))

    async def _receive(self, request: web.Request, upload: Upload) -> ErrorBody | None:
        """Write a chunk as it arrives; return an error if it does not fit."""
        upload.turn += 1
        turn, expected = upload.turn, upload.data.size_bytes
        offset = request.headers.get("X-Goog-Upload-Offset", "")
        if offset != str(expected):
            return bodies.error(
                400, f"Expected X-Goog-Upload-Offset {expected}, got {offset!r}."
            )  # derived
        async for piece in request.content.iter_any():
            if turn != upload.turn or upload.status != "active":
                return bodies.error(400, "Another request continues this upload.")  # derived
            if upload.data.size_bytes + len(piece) > self._config.max_file_bytes:
                return errors.file_too_large(self._config.max_file_bytes)
            upload.data.append(piece)
            upload.sha256.update(piece)
        return None

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

    def _finished(self, upload: Upload) -> StoredFile:
        upload.status = "final"
        return self._files.add(
            upload.project,
            upload.file_id,
            display_name=upload.display_name,
            mime_type=upload.mime_type,
            sha256=upload.sha256.hexdigest(),
            data=upload.data,
        )


def _headers(upload: Upload) -> dict[str, str]:
    return {
        "X-Goog-Upload-Status": upload.status,
        "X-Goog-Upload-Size-Received": str(upload.data.size_bytes),
    }


def _refused(upload: Upload, problem: ErrorBody) -> web.Response:
    response = error_response(problem)
    response.headers.update(_headers(upload))
    return response
