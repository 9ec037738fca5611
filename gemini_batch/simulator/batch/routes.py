"""Routes of the Batch API: create, get, list, cancel, delete."""

from aiohttp import web

from gemini_batch.simulator import bodies, schema
from gemini_batch.simulator.audit import fingerprint
from gemini_batch.simulator.batch import errors
from gemini_batch.simulator.batch.batch import Batch, operation
from gemini_batch.simulator.batch.creation import BatchStore, Creator
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.clock import SettableClock
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.failures import error_response
from gemini_batch.simulator.incoming import key_problem, read_body, read_json, request_key
from gemini_batch.simulator.models import load_models
from gemini_batch.simulator.paging import page

# https://ai.google.dev/gemini-api/docs/batch-api, 2026-09: inlined requests below 20 MB.
_MAX_INLINED_BYTES = 20 * 1024 * 1024
_PAGE_SIZE, _MAX_PAGE_SIZE = 50, 100  # unknown; 100 is used in the wild
_CREATE = schema.Message(
    {
        "batch": schema.Message(
            {
                "name": schema.STRING,
                "model": schema.STRING,
                "display_name": schema.STRING,
                "input_config": schema.Message(
                    {
                        "file_name": schema.STRING,
                        "requests": schema.Message({"requests": schema.Repeated(schema.ANY)}),
                    }
                ),
                "priority": schema.INT64,
                "webhook_config": schema.ANY,
            }
        )
    }
)


class BatchRoutes:
    """Handlers of `batchGenerateContent` and `/v1beta/batches`."""

    def __init__(
        self, config: SimulatorConfig, clock: SettableClock, store: BatchStore, creator: Creator
    ) -> None:
        self._config = config
        self._clock = clock
        self._store = store
        self._creator = creator

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        batches, one = "/{version:v1beta|v1}/batches", "/{batch:[^/:]+}"
        app.router.add_post("/{version:v1beta|v1}/models/{model}:batchGenerateContent", self.create)
        app.router.add_get(batches, self.list_batches)
        app.router.add_get(batches + one, self.get_batch)
        app.router.add_delete(batches + one, self.delete_batch)
        app.router.add_post(batches + one + ":cancel", self.cancel_batch)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Make a batch; sending the same request again makes another one."""
        body = await read_body(request, _MAX_INLINED_BYTES)
        problem = key_problem(request, self._config)
        if problem is not None:
            return error_response(problem)
        name, version = request.match_info["model"], request.match_info["version"]
        model = load_models().get(name)
        if model is None or not model.batch_tokens:
            return error_response(bodies.model_not_found(name, version, "batchGenerateContent"))
        found = read_json(_CREATE, body) if isinstance(body, bytes) else body
        if isinstance(found, ErrorBody):
            return error_response(found)
        batch = await self._creator.create(
            fingerprint(request_key(request)),
            model,
            found.get("batch", {}),
            str(request.url.origin()),
        )
        if isinstance(batch, ErrorBody):
            return error_response(batch)
        return web.json_response(operation(batch, self._clock.utc()))

    async def get_batch(self, request: web.Request) -> web.StreamResponse:
        """Answer with one batch, and with its answers if its requests are inlined."""
        batch = self._find(request)
        if isinstance(batch, ErrorBody):
            return error_response(batch)
        inlined = await self._creator.inlined(batch) if batch.input_file is None else None
        return web.json_response(operation(batch, self._clock.utc(), inlined=inlined))

    async def list_batches(self, request: web.Request) -> web.StreamResponse:
        """Answer with one page of the project's batches, newest first."""
        problem = key_problem(request, self._config)
        if problem is not None:
            return error_response(problem)
        found = page(
            self._store.of(fingerprint(request_key(request))),
            lambda batch: batch.number,
            request.query,
            method="ListBatchesRequest",
            size=_PAGE_SIZE,
            max_size=_MAX_PAGE_SIZE,
        )
        if isinstance(found, ErrorBody):
            return error_response(found)
        batches, token = found
        now = self._clock.utc()
        listed = {"operations": [operation(batch, now) for batch in batches]} if batches else {}
        return web.json_response(listed | ({"nextPageToken": token} if token else {}))

    async def cancel_batch(self, request: web.Request) -> web.StreamResponse:
        """Cancel a batch that has not ended; otherwise nothing changes."""
        batch = self._find(request)
        if isinstance(batch, ErrorBody):
            return error_response(batch)
        if batch.cancelled_at is None:
            batch.cancelled_at = self._clock.utc()
        return web.json_response({})

    async def delete_batch(self, request: web.Request) -> web.StreamResponse:
        """Remove a batch from the list; it continues if it has not ended."""
        batch = self._find(request)
        if isinstance(batch, ErrorBody):
            return error_response(batch)
        batch.is_deleted = True
        return web.json_response({})

    def _find(self, request: web.Request) -> Batch | ErrorBody:
        problem = key_problem(request, self._config)
        if problem is not None:
            return problem
        project = fingerprint(request_key(request))
        return self._store.get(project, request.match_info["batch"]) or errors.not_found()
