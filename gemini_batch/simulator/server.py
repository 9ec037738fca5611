"""The simulator: a Gemini API on loopback over HTTP, without cost or a real key."""

import asyncio
import errno
import random
from email.utils import format_datetime
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from gemini_batch.errors import ConfigError
from gemini_batch.simulator import bodies, quota, vertex
from gemini_batch.simulator.audit import Audit, Entry, fingerprint, shown_prompt
from gemini_batch.simulator.batch.api import BatchApi
from gemini_batch.simulator.batch.counting import counting_middleware
from gemini_batch.simulator.batch.draws import Draws
from gemini_batch.simulator.batch.line_maker import LineMaker
from gemini_batch.simulator.batch_faults import At
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.catalogue import ApiRoutes
from gemini_batch.simulator.checks import ImageRequest
from gemini_batch.simulator.clock import SettableClock
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.failures import SILENT_LOGGER, GuardedConnection, error_middleware
from gemini_batch.simulator.faults import NO_FAULT
from gemini_batch.simulator.incoming import key_problem, parse_request, read_body, request_key
from gemini_batch.simulator.login import Login
from gemini_batch.simulator.models import Model, load_models
from gemini_batch.simulator.own_host import own_host_middleware
from gemini_batch.simulator.pages import PageRoutes
from gemini_batch.simulator.quota import Moment, Quota
from gemini_batch.simulator.reply import ResponseSender
from gemini_batch.simulator.schedule import read_schedule


class Simulator:
    """A Gemini API on loopback, served by the running event loop.

    ::

        async with Simulator(SimulatorConfig(tier="free", minute_s=3)) as simulator:
            await generate_images(simulator.base_url)
            assert simulator.audit.worst_minute() <= 15

    Attributes:
        config: Its configuration.
        audit: Log of the requests that arrived.
        clock: The server's time; `clock.advance(3600)` moves it forward by an hour.
    """

    def __init__(self, config: SimulatorConfig | None = None) -> None:
        """Validate the config; `start` opens the port.

        Raises:
            ConfigError: The faults of the config or of its file are invalid.
        """
        self.config = config or SimulatorConfig()
        self.clock = SettableClock(self.config.clock)
        self.audit = Audit(
            minute_s=self.config.minute_s,
            limits={
                quota.REQUESTS_PER_MIN: self.config.minute_limit,
                quota.REQUESTS_PER_DAY: self.config.day_limit,
                quota.TOKENS_PER_MIN: self.config.tokens_per_min,
                quota.IMAGES_PER_MIN: self.config.images_per_min,
                quota.USD_PER_10MIN: self.config.usd_per_10min,
            },
        )
        self._schedule = read_schedule(self.config.seed, self.config.rates, self.config.faults)
        self._models = load_models()
        self._quota = Quota(self.config)
        self._login = Login(self.config, self.clock) if self.config.vertex else None
        self._rng = random.Random(self.config.seed)
        self._started_s = 0.0
        self._sender: ResponseSender | None = None
        self._batches: BatchApi | None = None
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None
        self._port = 0

    @property
    def base_url(self) -> str:
        """Base URL for clients, without a path: `http://127.0.0.1:8787`."""
        # `0.0.0.0` and `::` are addresses to listen on, not to connect to.
        loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
        host = loopback.get(self.config.host, self.config.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    async def __aenter__(self) -> Self:
        """Start; see `start`."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop; see `stop`."""
        await self.stop()

    async def start(self) -> None:
        """Open the port and serve.

        Raises:
            ConfigError: The port is in use, or the address is not one of this machine.
        """
        counting = counting_middleware(self.audit.count_operation)
        app = web.Application(middlewares=[error_middleware, own_host_middleware, counting])
        path = vertex.MODEL if self._login else "/{version:v1beta|v1}/models/{model}"
        app.router.add_post(f"{path}:generateContent", self._generate)
        app.on_response_prepare.append(self._date)
        self._sender = ResponseSender(self.config, self.clock)
        self._sender.files.add_to(app)
        if self._login:
            vertex.VertexRoutes(self.config, self._login).add_to(app)
        else:
            self._add_api(app, self._sender)
        PageRoutes(self.config, self.audit, self.clock, self.report).add_to(app)
        # Handlers are cancelled when their client disconnects; hanging ones, when the server stops.
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,
            access_log=None,
            logger=SILENT_LOGGER,
            auto_decompress=False,
            shutdown_timeout=0.1,
        )
        self._started_s = self.clock.steady_s()
        await self._runner.setup()
        server = self._runner.server
        assert server is not None, "set up above"  # noqa: S101 - for mypy
        try:
            self._listening = await asyncio.get_running_loop().create_server(
                lambda: GuardedConnection(server()), self.config.host, self.config.port, backlog=128
            )
        except OSError as problem:
            await self.stop()
            where = f"{self.config.host}, port {self.config.port}"
            if problem.errno == errno.EADDRINUSE:
                raise ConfigError(
                    f"{where}: in use by another program; choose another port, or 0 for a free one"
                ) from problem
            raise ConfigError(f"{where}: can't listen: {problem.strerror}") from problem
        self._port = self._listening.sockets[0].getsockname()[1]

    def _add_api(self, app: web.Application, sender: ResponseSender) -> None:
        """Add the routes of the Gemini API next to `generateContent`."""
        draws = Draws(self._schedule.batches, self._offset_s, self.audit.count_fault)
        ApiRoutes(
            self.config, lambda model: "no-batch" not in draws.draw(At.MODEL, "", model=model)
        ).add_to(app)
        maker = LineMaker(self.config, sender, self._schedule, self._offset_s, draws)
        self._batches = BatchApi(self.config, self.clock, maker, draws, self.audit.paid)
        self._batches.add_to(app)

    async def _date(self, _request: web.Request, response: web.StreamResponse) -> None:
        """Set the Date header of every answer to the server's time."""
        response.headers["Date"] = format_datetime(self.clock.utc(), usegmt=True)

    async def stop(self) -> None:
        """Close every connection, including hanging ones, and stop the threads."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._batches is not None:
            await self._batches.close()
        if self._sender is not None:
            self._sender.close()
            self._sender = None

    def report(self) -> dict[str, Any]:
        """Return the content of `GET /audit`."""
        now = Moment(self.clock.steady_s(), self.clock.utc())
        projects = {(entry.project, entry.model) for entry in self.audit.entries}
        batches = self._batches.report() if self._batches else []
        used = {pair: self._quota.used(*pair, now) for pair in projects}
        return self.audit.report(now.utc, used) | {"batches": batches}

    # --- one request --------------------------------------------------------------------------

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        """Answer one `generateContent` and record the outcome in the audit."""
        if self._sender is None:
            raise web.HTTPServiceUnavailable
        key = vertex.project_of(request) if self._login else request_key(request)
        entry = self.audit.record_arrival(
            key, request.match_info["model"], self.clock.utc(), self._offset_s()
        )
        try:
            return await self._answer(request, key, entry, self._sender)
        except (asyncio.CancelledError, ConnectionError):
            entry.abandoned = True
            raise
        finally:
            self.audit.record_end(entry, self._offset_s())

    async def _answer(
        self, request: web.Request, key: str, entry: Entry, sender: ResponseSender
    ) -> web.StreamResponse:
        """Check key, model, request and quota, choose the faults, and answer."""
        body = await read_body(request, self.config.max_request_bytes)
        entry.bytes_in = len(body) if isinstance(body, bytes) else 0
        model = self._admit(request)
        if isinstance(model, ErrorBody):
            return await sender.refuse(request, entry, model)
        found = (
            body
            if isinstance(body, ErrorBody)
            else await parse_request(body, model, vertex=self.config.vertex)
        )
        if self.config.vertex and isinstance(found, ImageRequest):
            found = vertex.with_tier(request, found)
        if isinstance(found, ImageRequest):
            entry.prompt, entry.prompt_tokens = shown_prompt(found.prompt), found.prompt_tokens
        too_many = self._charge(key, model, found)
        if too_many is not None:
            return await sender.refuse(request, entry, too_many)
        if isinstance(found, ErrorBody):
            return await sender.refuse(request, entry, found)
        try:
            fault_set = self._schedule.draw(found, self._offset_s()) or NO_FAULT
        except ConfigError as problem:
            return await sender.refuse(request, entry, bodies.error(400, f"simulator: {problem}"))
        try:
            return await sender.answer(request, entry, found, fault_set)
        finally:
            if entry.images:
                self.audit.paid.add(found)

    def _admit(self, request: web.Request) -> Model | ErrorBody:
        """Return the model of a request, or the refusal of its key, its login or its model."""
        if self._login:
            return self._login.problem(request) or vertex.find_model(request)
        if (refusal := key_problem(request, self.config)) is not None:
            return refusal
        name, version = request.match_info["model"], request.match_info["version"]
        return self._models.get(name) or bodies.model_not_found(name, version)

    def _charge(self, key: str, model: Model, found: ImageRequest | ErrorBody) -> ErrorBody | None:
        """Count a request, even an invalid one; return the 429 if it exceeds a limit."""
        weights = {quota.REQUESTS_PER_MIN: 1.0, quota.REQUESTS_PER_DAY: 1.0}
        name = model.id
        if isinstance(found, ImageRequest):
            weights |= {
                quota.TOKENS_PER_MIN: found.prompt_tokens,
                quota.IMAGES_PER_MIN: 1.0,
                quota.USD_PER_10MIN: found.usd,
            }
            if found.tier == "priority":
                name = quota.priority_of(name)
        now = Moment(self.clock.steady_s(), self.clock.utc())
        violations = self._quota.charge(fingerprint(key), name, now, weights)
        if not violations:
            return None
        # The API names a few seconds even when the daily quota is used up.
        daily = any(violation.kind == quota.REQUESTS_PER_DAY for violation in violations)
        retry_s = self._rng.uniform(8, 40) if daily else None
        return bodies.quota_exceeded(
            violations, model.id, free=self.config.tier == "free", retry_s=retry_s
        )

    def _offset_s(self) -> float:
        return self.clock.steady_s() - self._started_s
