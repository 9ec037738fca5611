"""Routes that are not part of the API: audit, clock, the target of a redirect, all other paths."""

import json
from collections.abc import Callable
from datetime import datetime
from html import escape
from typing import Any, TypeVar

from aiohttp import web

from gemini_batch.simulator import bodies, vertex
from gemini_batch.simulator.audit import Audit
from gemini_batch.simulator.audit_page import as_page
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.catalogue import SIMULATED, unsimulated
from gemini_batch.simulator.clock import SettableClock
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.failures import error_response
from gemini_batch.simulator.incoming import key_problem, read_body
from gemini_batch.simulator.own_host import clock_refusal

T = TypeVar("T")

_MAX_CLOCK_BYTES = 4096


class PageRoutes:
    """Handlers of these routes; `report` returns the content of `GET /audit`."""

    def __init__(
        self,
        config: SimulatorConfig,
        audit: Audit,
        clock: SettableClock,
        report: Callable[[], dict[str, Any]],
    ) -> None:
        self._config = config
        self._audit = audit
        self._clock = clock
        self._report = report

    def add_to(self, app: web.Application) -> None:
        """Add the routes, including the fallback for all other paths."""
        app.router.add_get("/audit", self.show_audit)
        app.router.add_post("/clock", self.set_clock)
        app.router.add_route("*", "/redirected", self.end_redirect)
        app.router.add_route("*", "/{path:.*}", self.miss)

    async def show_audit(self, request: web.Request) -> web.StreamResponse:
        """Answer with the audit: HTML for a browser, JSON for other clients."""
        report = self._report()
        if "text/html" in request.headers.get("Accept", ""):
            return web.Response(text=as_page(report), content_type="text/html")
        return web.json_response(report)

    async def set_clock(self, request: web.Request) -> web.StreamResponse:
        """Move the server's time forward by seconds, or to a given time."""
        if refused := clock_refusal(request):
            return refused
        body = await read_body(request, _MAX_CLOCK_BYTES)
        if isinstance(body, ErrorBody):
            return web.json_response({"error": body.message}, status=400)
        try:
            self._move_clock(json.loads(body))
        except (ValueError, RecursionError) as problem:
            message = (
                f'send {{"advance_s": 3600}} or {{"now": "2026-11-23T00:00:00-08:00"}}: {problem}'
            )
            return web.json_response({"error": message}, status=400)
        return web.json_response({"now": self._clock.utc().isoformat()})

    def _move_clock(self, wanted: Any) -> None:
        if isinstance(wanted, dict) and "advance_s" in wanted:
            self._clock.advance(
                _read(float, wanted["advance_s"], "advance_s", "seconds, 0 or more")
            )
        elif isinstance(wanted, dict) and "now" in wanted:
            self._clock.set(
                _read(datetime.fromisoformat, wanted["now"], "now", "a time with a time zone")
            )
        else:
            raise ValueError("got neither of them")

    async def end_redirect(self, request: web.Request) -> web.StreamResponse:
        """Count a client that followed the fault `redirect`."""
        self._audit.followed_redirects += 1
        return web.json_response(
            {"error": "a client must not follow a redirect: it may carry the key with it"}
        )

    async def miss(self, request: web.Request) -> web.StreamResponse:
        """Answer 501 for parts of the API that are not simulated, else like Google's front end."""
        if self._config.vertex:
            name, problem = vertex.unsimulated(request.path), None
        else:
            name, problem = unsimulated(request.path), key_problem(request, self._config)
        if name is not None:
            return error_response(problem or bodies.unimplemented(name, SIMULATED))
        message = (
            f"The requested URL <code>{escape(request.path)}</code> was not found on this server."
        )
        return error_response(bodies.page(404, "Not Found", message))


def _read(read: Callable[[Any], T], value: Any, name: str, allowed: str) -> T:
    try:
        return read(value)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{name}: got {str(value)[:50]!r}; allowed: {allowed}") from None
