"""Routes of the API next to `generateContent`: models and `countTokens`; names of all others."""

import base64
import re
from collections.abc import Callable

from aiohttp import web

from gemini_batch.simulator import answers, bodies, schema
from gemini_batch.simulator.answers import Json
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.checks import ImageRequest
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.failures import error_response
from gemini_batch.simulator.incoming import key_problem, parse_request, read_body
from gemini_batch.simulator.models import load_models

SIMULATED = (
    "generateContent",
    "batchGenerateContent",
    "countTokens",
    "models",
    "files",
    "batches",
)
# https://ai.google.dev/api/models#method:-models.list, 2026-11-29: 50 models per page by default,
# at most 1000.
_PAGE_SIZE, _MAX_PAGE_SIZE = 50, 1000

# The API's methods and collections: Google's discovery document (v1beta, 2026-08) and the paths of
# google-genai 3.6.1.
_METHODS = (
    "asyncBatchEmbedContent",
    "batchEmbedContents",
    "batchGenerateContent",
    "computeTokens",
    "embedContent",
    "generateAnswer",
    "predict",
    "predictLongRunning",
    "streamGenerateContent",
)
_COLLECTIONS = (
    "agents",
    "auth_tokens",
    "batches",
    "cachedContents",
    "corpora",
    "credentials",
    "decisions",
    "dynamic",
    "environments",
    "fileSearchStores",
    "files",
    "generatedFiles",
    "interactions",
    "operations",
    "ragStores",
    "triggers",
    "tunedModels",
    "voices",
    "webhooks",
)
_UNSIMULATED = re.compile(
    r"/(?:(?:upload|download)/)?v1(?:beta|alpha)?/"
    rf"(?:[^/:]+/[^/:]+:(?P<method>{'|'.join(_METHODS)})|"
    rf"(?P<collection>{'|'.join(_COLLECTIONS)})(?![^/:]).*)"
)
_LIVE = re.compile(r"/ws/google\.ai\.generativelanguage\..*\.(?P<method>\w+)")


def unsimulated(path: str) -> str | None:
    """Return the method or collection that a path names if it is not simulated, else None."""
    found = _UNSIMULATED.fullmatch(path) or _LIVE.fullmatch(path)
    return next(filter(None, found.groups())) if found else None


class ApiRoutes:
    """Handlers of `models` and `countTokens`."""

    def __init__(self, config: SimulatorConfig, has_batches: Callable[[str], bool]) -> None:
        """Use a config; `has_batches` returns whether a model has `batchGenerateContent`."""
        self._config = config
        self._has_batches = has_batches

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/{version:v1beta|v1}/models", self.list_models)
        app.router.add_get("/{version:v1beta|v1}/models/{model:[^/:]+}", self.get_model)
        app.router.add_post("/{version:v1beta|v1}/models/{model}:countTokens", self.count_tokens)

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        """Answer with one page of the models."""
        problem = key_problem(request, self._config)
        if problem is not None:
            return error_response(problem)
        violations: schema.Violations = []
        size = schema.read(
            schema.INT32, request.query.get("pageSize") or "0", "page_size", violations
        )
        if violations:
            return error_response(bodies.bad_fields(violations))
        if size < 0:
            return error_response(
                bodies.bad_argument("ListModelsRequest.page_size: must not be negative")
            )  # derived
        names = list(load_models())
        starts = {_token(name): place for place, name in enumerate(names)} | {"": 0}
        start = starts.get(request.query.get("pageToken", ""))
        if start is None:
            return error_response(
                bodies.bad_argument("ListModelsRequest.page_token: is none of this method's")
            )  # derived
        end = start + min(size or _PAGE_SIZE, _MAX_PAGE_SIZE)
        more = {"nextPageToken": _token(names[end])} if end < len(names) else {}
        return web.json_response(
            {"models": [self._json(name) for name in names[start:end]], **more}
        )

    async def get_model(self, request: web.Request) -> web.StreamResponse:
        """Answer with one model."""
        model, version = request.match_info["model"], request.match_info["version"]
        problem = key_problem(request, self._config)
        if problem is None and model not in load_models():
            problem = bodies.error(
                404, f"Model is not found: models/{model} for api version {version}"
            )
        return web.json_response(self._json(model)) if problem is None else error_response(problem)

    def _json(self, model: str) -> Json:
        return _model_json(model, has_batches=self._has_batches(model))

    async def count_tokens(self, request: web.Request) -> web.StreamResponse:
        """Answer with the token count that the usage of the answer would have."""
        counted = await self._count(request)
        return (
            error_response(counted)
            if isinstance(counted, ErrorBody)
            else web.json_response(counted)
        )

    async def _count(self, request: web.Request) -> Json | ErrorBody:
        body = await read_body(request, self._config.max_request_bytes)
        problem = key_problem(request, self._config)
        if problem is not None:
            return problem
        name = request.match_info["model"]
        if name not in load_models():
            return bodies.model_not_found(name, request.match_info["version"], "countTokens")
        found = (
            body
            if isinstance(body, ErrorBody)
            else await parse_request(body, load_models()[name], counting=True)
        )
        if isinstance(found, ImageRequest):
            return {
                "totalTokens": found.prompt_tokens,
                "promptTokensDetails": answers.prompt_details(found),
            }
        return found


def _model_json(name: str, *, has_batches: bool) -> Json:
    return {
        "name": f"models/{name}",
        "displayName": name,
        "supportedGenerationMethods": [
            "generateContent",
            "countTokens",
            *(["batchGenerateContent"] if has_batches else []),
        ],
    }


def _token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")
