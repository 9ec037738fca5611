"""Routes of the Files API: get, list, delete, and the download of result files."""

import asyncio
import re
from collections.abc import Callable

from aiohttp import web

from gemini_batch.simulator import bodies
from gemini_batch.simulator.audit import fingerprint
from gemini_batch.simulator.batch import errors
from gemini_batch.simulator.batch.results import Results
from gemini_batch.simulator.batch.stored_files import FileStore
from gemini_batch.simulator.batch.uploads import MAX_ID_LENGTH
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.clock import SettableClock
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.failures import error_response
from gemini_batch.simulator.incoming import key_problem, request_key
from gemini_batch.simulator.paging import page

# https://ai.google.dev/api/files#method:-files.list, 2026-11: 10 by default, at most 100.
_PAGE_SIZE, _MAX_PAGE_SIZE = 10, 100
_BLOCK_BYTES = 1024 * 1024
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")

# Project and id of a result file -> the file, or None.
FindResults = Callable[[str, str], Results | None]


class FileRoutes:
    """Handlers of `/v1beta/files`."""

    def __init__(
        self,
        config: SimulatorConfig,
        clock: SettableClock,
        files: FileStore,
        find_results: FindResults,
    ) -> None:
        self._config = config
        self._clock = clock
        self._files = files
        self._find_results = find_results

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        files, one = "/{version:v1beta|v1}/files", "/{file:[^/:]+}"
        app.router.add_get(files, self.list_files)
        app.router.add_get(files + one, self.get_file)
        app.router.add_delete(files + one, self.delete_file)
        for prefix in ("", "/download"):
            app.router.add_get(prefix + files + one + ":download", self.download)

    async def list_files(self, request: web.Request) -> web.StreamResponse:
        """Answer with one page of the project's files, newest first."""
        problem = key_problem(request, self._config)
        if problem is not None:
            return error_response(problem)
        found = page(
            self._files.of(fingerprint(request_key(request))),
            lambda file: file.number,
            request.query,
            method="ListFilesRequest",
            size=_PAGE_SIZE,
            max_size=_MAX_PAGE_SIZE,
        )
        if isinstance(found, ErrorBody):
            return error_response(found)
        files, token = found
        now, url = self._clock.utc(), str(request.url.origin())
        listed = {"files": [file.as_json(now, url) for file in files]} if files else {}
        return web.json_response(listed | ({"nextPageToken": token} if token else {}))

    async def get_file(self, request: web.Request) -> web.StreamResponse:
        """Answer with one file."""
        file_id = request.match_info["file"]
        problem = key_problem(request, self._config) or _bad_name(file_id)
        if problem is not None:
            return error_response(problem)
        file = self._files.get(fingerprint(request_key(request)), file_id)
        if file is None:
            return error_response(errors.no_file(file_id))
        return web.json_response(file.as_json(self._clock.utc(), str(request.url.origin())))

    async def delete_file(self, request: web.Request) -> web.StreamResponse:
        """Forget one file."""
        file_id = request.match_info["file"]
        problem = key_problem(request, self._config) or _bad_name(file_id)
        if problem is not None:
            return error_response(problem)
        file = self._files.get(fingerprint(request_key(request)), file_id)
        if file is None:
            return error_response(errors.no_file(file_id))
        self._files.delete(file)
        return web.json_response({})

    async def download(self, request: web.Request) -> web.StreamResponse:
        """Send a result file, or a range of it."""
        problem = key_problem(request, self._config)
        if problem is not None:
            return error_response(problem)
        project, file_id = fingerprint(request_key(request)), request.match_info["file"]
        if self._files.get(project, file_id) is not None:
            return error_response(
                bodies.error(400, "Only generated files can be downloaded.")  # derived
            )
        results = self._find_results(project, file_id)
        if results is None:
            return error_response(errors.not_found())
        return await self._send(request, results)

    async def _send(self, request: web.Request, results: Results) -> web.StreamResponse:
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        wanted = _RANGE.fullmatch(request.headers.get("Range", ""))
        if wanted is not None:
            await results.complete()
        total = results.made.size_bytes if results.is_complete else None
        start, end, status = 0, total, 200
        if wanted is not None and total is not None:
            start, status = int(wanted[1]), 206
            end = min(int(wanted[2]) + 1, total) if wanted[2] else total
            if start >= end:
                return web.Response(status=416, headers={"Content-Range": f"bytes */{total}"})
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{total}"
        response = web.StreamResponse(status=status, headers=headers)
        if end is not None:
            response.content_length = end - start
        await response.prepare(request)
        await _copy(response, results, start, end)
        await response.write_eof()
        return response


async def _copy(
    response: web.StreamResponse, results: Results, start: int, end: int | None
) -> None:
    """Send the bytes from `start` to `end`, or to the end of the file; make lines on the way."""
    while end is None or start < end:
        if start >= results.made.size_bytes:
            if results.is_complete:
                return
            await results.extend(start)
            continue
        size = _BLOCK_BYTES if end is None else min(_BLOCK_BYTES, end - start)
        block = await asyncio.to_thread(results.made.read, start, size)
        await response.write(block)
        start += len(block)


def _bad_name(file_id: str) -> ErrorBody | None:
    """Return the 400 for a name that is too long: that of a result file is."""
    if len(file_id) <= MAX_ID_LENGTH:
        return None
    return bodies.bad_argument(
        f"GetFileRequest.name: file id must be at most {MAX_ID_LENGTH} characters"
    )  # derived
