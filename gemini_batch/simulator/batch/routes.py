"""Routes of the Batch API: create, get, list, cancel, delete."""

import asyncio

from aiohttp import web

from gemini_batch.simulator import bodies, schema
from gemini_batch.simulator.audit import fingerprint
from gemini_batch.simulator.batch import errors
from gemini_batch.simulator.batch.batch import Batch, operation
from gemini_batch.simulator.batch.creation import Created, Creator
from gemini_batch.simulator.batch.draws import Draws
from gemini_batch.simulator.batch.inlined import inlined_answers
from gemini_batch.simulator.batch.line_maker import LineMaker
from gemini_batch.simulator.batch.store import BatchStore
from gemini_batch.simulator.batch_faults import At
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.clock import SettableClock
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.delivery import reset_connection
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
        self,
        config: SimulatorConfig,
        clock: SettableClock,
        store: BatchStore,
        creator: Creator,
        maker: LineMaker,
        *,
        draws: Draws,
    ) -> None:
        self._config = config
        self._clock = clock
        self._store = store
        self._creator = creator
        self._maker = maker
        self._draws = draws
        self._creations: set[asyncio.Future[Created | ErrorBody]] = set()

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        batches, one = "/{version:v1beta|v1}/batches", "/{batch:[^/:]+}"
        app.router.add_post("/{version:v1beta|v1}/models/{model}:batchGenerateContent", self.create)
        app.router.add_get(batches, self.list_batches)
        app.router.add_get(batches + one, self.get_batch)
        app.router.add_delete(batches + one, self.delete_batch)
        app.router.add_post(batches + one + ":cancel", self.cancel_batch)

    async def close(self) -> None:
        """Wait for the batches that are being made."""
        await asyncio.gather(*self._creations, return_exceptions=True)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Make a batch; sending the same request again makes another one."""
        body = await read_body(request, _MAX_INLINED_BYTES)
        problem = key_problem(request, self._config)
        if problem is not None:
            return error_response(problem)
        name, version = request.match_info["model"], request.match_info["version"]
        model = load_models().get(name)
        if model is None or "no-batch" in self._draws.draw(At.MODEL, "", model=name):
            return error_response(bodies.model_not_found(name, version, "batchGenerateContent"))
        found = read_json(_CREATE, body) if isinstance(body, bytes) else body
        if isinstance(found, ErrorBody):
            return error_response(found)
        project, origin = fingerprint(request_key(request)), str(request.url.origin())
        # As at a real server, a batch is made although the client has gone meanwhile.
        creation = asyncio.ensure_future(
            self._creator.create(project, model, found.get("batch", {}), origin)
        )
        self._creations.add(creation)
        creation.add_done_callback(self._creations.discard)
        made = await asyncio.shield(creation)
        if isinstance(made, ErrorBody):
            return error_response(made)
        return await self._created(request, made)

    async def _created(self, request: web.Request, made: Created) -> web.StreamResponse:
        """Answer with a new batch, or fail although it is made."""
        if "create-hang-after" in made.drawn:
            await asyncio.sleep(min(made.drawn["create-hang-after"] or 0.0, self._config.hang_s))
        if {"create-hang-after", "create-reset-after"} & {*made.drawn}:
            return reset_connection(request)
        if "create-503-after" in made.drawn:
            return error_response(errors.unavailable())
        return web.json_response(operation(made.batch, self._clock.utc()))

    async def get_batch(self, request: web.Request) -> web.StreamResponse:
        """Answer with one batch, and with its answers if its requests are inlined."""
        batch = self._find(request)
        if isinstance(batch, ErrorBody):
            return error_response(batch)
        drawn = self._store.draw(At.GET, batch)
        if "get-404" in drawn:
            return error_response(errors.not_found())
        if "get-429" in drawn:
            return error_response(errors.no_batch_quota())
        if "get-503" in drawn or ("inlined-503" in drawn and batch.input.file is None):
            return error_response(errors.unavailable())
        now = self._clock.utc()
        inlined = await inlined_answers(batch, self._maker, now)
        return web.json_response(operation(batch, now, inlined=inlined))

    async def list_batches(self, request: web.Request) -> web.StreamResponse:
        """Answer with one page of the project's batches, newest first."""
        problem = key_problem(request, self._config)
        if problem is not None:
            return error_response(problem)
        drawn = self._draws.draw(At.LIST, "")
        if "list-429" in drawn:
            return error_response(errors.no_batch_quota())
        if "list-503" in drawn:
            return error_response(errors.unavailable())
        found = page(
            self._store.listed(fingerprint(request_key(request))),
            lambda batch: batch.number,
            request.query,
            method="ListBatchesRequest",
            size=_PAGE_SIZE,
            max_size=_MAX_PAGE_SIZE,
        )
        if isinstance(found, ErrorBody):
            return error_response(found)
        batches, token = found[0], None if "list-cut" in drawn else found[1]
        now = self._clock.utc()
        listed = {"operations": [operation(batch, now) for batch in batches]} if batches else {}
        return web.json_response(listed | ({"nextPageToken": token} if token else {}))

    async def cancel_batch(self, request: web.Request) -> web.StreamResponse:
        """Cancel a batch that has not ended; otherwise nothing changes."""
        batch = self._find(request)
        if isinstance(batch, ErrorBody):
            return error_response(batch)
        batch.cancel(self._clock.utc())
        return web.json_response({})

    async def delete_batch(self, request: web.Request) -> web.StreamResponse:
        """Remove a batch from the list; it continues if it has not ended."""
        batch = self._find(request)
        if isinstance(batch, ErrorBody):
            return error_response(batch)
        batch.is_deleted = True
        if "delete-cancels" in batch.faults:
            batch.cancel(self._clock.utc())
        return web.json_response({})

    def _find(self, request: web.Request) -> Batch | ErrorBody:
        problem = key_problem(request, self._config)
        if problem is not None:
            return problem
        project = fingerprint(request_key(request))
        return self._store.get(project, request.match_info["batch"]) or errors.not_found()
