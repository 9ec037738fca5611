"""Routes of the Files API: get, list and delete."""

from aiohttp import web

from gemini_batch.simulator import bodies
from gemini_batch.simulator.audit import fingerprint
from gemini_batch.simulator.batch import errors
from gemini_batch.simulator.batch.stored_files import MAX_ID_LENGTH, FileStore
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.clock import SettableClock
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.failures import error_response
from gemini_batch.simulator.incoming import key_problem, request_key
from gemini_batch.simulator.paging import page

# https://ai.google.dev/api/files#method:-files.list, 2026-11: 10 by default, at most 100.
_PAGE_SIZE, _MAX_PAGE_SIZE = 10, 100


class FileRoutes:
    """Handlers of `/v1beta/files`."""

    def __init__(self, config: SimulatorConfig, clock: SettableClock, files: FileStore) -> None:
        self._config = config
        self._clock = clock
        self._files = files

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        files, one = "/{version:v1beta|v1}/files", "/{file:[^/:]+}"
        app.router.add_get(files, self.list_files)
        app.router.add_get(files + one, self.get_file)
        app.router.add_delete(files + one, self.delete_file)

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


def _bad_name(file_id: str) -> ErrorBody | None:
    """Return the 400 for a name that is too long: that of a result file is."""
    if len(file_id) <= MAX_ID_LENGTH:
        return None
    return bodies.bad_argument(
        f"GetFileRequest.name: file id must be at most {MAX_ID_LENGTH} characters"
    )  # derived
