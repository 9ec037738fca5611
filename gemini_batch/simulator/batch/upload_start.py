"""Start of a resumable upload: its checks, and the limits of a project."""

from typing import Any

from aiohttp import web

from gemini_batch.errors import ConfigError
from gemini_batch.simulator import bodies, schema
from gemini_batch.simulator.audit import fingerprint
from gemini_batch.simulator.batch import errors
from gemini_batch.simulator.batch.draws import Draws
from gemini_batch.simulator.batch.stored_files import MAX_ID_LENGTH, FileStore
from gemini_batch.simulator.batch.upload import Upload
from gemini_batch.simulator.batch_faults import At
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.incoming import key_problem, read_body, read_json, request_key

_MAX_START_BYTES = 64 * 1024
_START = schema.Message(
    {
        "file": schema.Message(
            {
                "name": schema.STRING,
                "display_name": schema.STRING,
                "mime_type": schema.STRING,
                "size_bytes": schema.INT64,
            }
        )
    }
)


class UploadStarter:
    """Makes an upload of a request that starts one."""

    def __init__(self, config: SimulatorConfig, files: FileStore, draws: Draws) -> None:
        self._config = config
        self._files = files
        self._draws = draws

    async def start(self, request: web.Request) -> Upload | ErrorBody:
        """Return the upload, or the error that refuses it."""
        body = await read_body(request, _MAX_START_BYTES)
        problem = key_problem(request, self._config)
        if problem is not None:
            return problem
        headers = request.headers
        is_start = headers.get("X-Goog-Upload-Command") == "start"
        if headers.get("X-Goog-Upload-Protocol") != "resumable" or not is_start:
            return errors.not_resumable()
        found = read_json(_START, body or b"{}") if isinstance(body, bytes) else body
        if isinstance(found, ErrorBody):
            return found
        file = found.get("file", {})
        upload = self._upload(request, file)
        return self._refusal(upload) or upload

    def _upload(self, request: web.Request, file: dict[str, Any]) -> Upload:
        length = request.headers.get("X-Goog-Upload-Header-Content-Length", "")
        mime_type = request.headers.get("X-Goog-Upload-Header-Content-Type")
        return Upload(
            project=fingerprint(request_key(request)),
            file_id=file.get("name", "").removeprefix("files/") or self._files.new_id(),
            display_name=file.get("display_name", ""),
            mime_type=file.get("mime_type") or mime_type or "application/octet-stream",
            declared_bytes=int(length) if length.isdecimal() else file.get("size_bytes"),
        )

    def _refusal(self, upload: Upload) -> ErrorBody | None:
        """Return the error for an upload that must not start."""
        if len(upload.file_id) > MAX_ID_LENGTH or self._files.get(upload.project, upload.file_id):
            return errors.bad_file_name(upload.file_id)
        try:
            drawn = self._draws.draw(At.START, upload.display_name)
        except ConfigError as problem:
            return bodies.error(400, f"simulator: {problem}")
        if "upload-503" in drawn:
            return errors.empty_503()
        declared = upload.declared_bytes or 0
        if declared > self._config.max_file_bytes:
            return errors.file_too_large(self._config.max_file_bytes)
        if "upload-full" in drawn or not self._files.has_room(upload.project, declared):
            return errors.storage_full()
        return None
