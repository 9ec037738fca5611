"""Routes and rules of Vertex AI, which differ from those of the Gemini API."""

import re
from dataclasses import replace

from aiohttp import web

from gemini_batch.simulator import answers, bodies, vertex_bodies
from gemini_batch.simulator.answers import Json
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.checks import ImageRequest
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.failures import error_response
from gemini_batch.simulator.incoming import parse_request, read_body
from gemini_batch.simulator.login import Login
from gemini_batch.simulator.models import Model, load_models

_VERSION = "/{version:v1|v1beta1}"
# anomalyco/opencode#48886, collected 2026-11-30.
_TIER_HEADER = "X-Vertex-AI-LLM-Shared-Request-Type"
_BASE_MODELS = f"{_VERSION}/publishers/google/models"
MODEL = f"{_VERSION}/projects/{{project}}/locations/{{location}}/publishers/google/models/{{model}}"
"""Path of a model of a project."""
# No longer there: theopenco/llmgateway#3833 (2026-08-27).
_GONE = frozenset({"gemini-3-pro-image-preview"})
# Google Cloud's model pages, collected 2026-11-30.
_GLOBAL_ONLY = frozenset({"gemini-nano-banana-2.1"})
SIMULATED = ("generateContent", "countTokens", "models.get", "models.list")
_OTHER_METHOD = re.compile(
    r"/v1(?:beta1)?/(?:projects/[^/]+/locations/[^/]+/)?"
    r"(?:publishers/google/models/[^/:]+:(?P<method>\w+)|(?P<collection>[a-z]+[A-Z]\w+).*)"
)


def unsimulated(path: str) -> str | None:
    """Return the method or collection that a path names if it is not simulated, else None."""
    found = _OTHER_METHOD.fullmatch(path)
    name = next(filter(None, found.groups())) if found else None
    return None if name in SIMULATED else name


def project_of(request: web.Request) -> str:
    """Return the project and the location whose quota a request uses."""
    return f"{request.match_info['project']}/{request.match_info['location']}"


def find_model(request: web.Request) -> Model | ErrorBody:
    """Return the model of a request at its location, or the 404."""
    name, location = request.match_info["model"], request.match_info["location"]
    model = load_models().get(name)
    is_elsewhere = name in _GLOBAL_ONLY and location != "global"
    if model is None or name in _GONE or is_elsewhere:
        return vertex_bodies.publisher_model_not_found(
            request.match_info["project"], location, name
        )
    return model


def with_tier(request: web.Request, found: ImageRequest) -> ImageRequest | ErrorBody:
    """Return a request with the service tier that its header asks for, or the 400 for flex.

    The field in the body is ignored. Flex is served at the location global alone.
    """
    tier = request.headers.get(_TIER_HEADER, "").lower()
    is_offered = tier in found.model.tiers
    if tier == "flex" and not (is_offered and request.match_info["location"] == "global"):
        return bodies.error(400, f"Flex API is not supported for model: {found.model.id}.")
    return replace(found, tier=tier if is_offered else "standard")


class VertexRoutes:
    """Handlers of `countTokens` and of the models."""

    def __init__(self, config: SimulatorConfig, login: Login) -> None:
        self._config = config
        self._login = login

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get(_BASE_MODELS, self.list_models)
        app.router.add_get(f"{_BASE_MODELS}/{{model:[^/:]+}}", self.get_model)
        app.router.add_post(f"{MODEL}:countTokens", self.count_tokens)
        self._login.add_to(app)

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        """Answer with all models."""
        if (problem := self._login.problem(request)) is not None:
            return error_response(problem)
        names = (name for name in load_models() if name not in _GONE)
        return web.json_response({"publisherModels": [_model_json(name) for name in names]})

    async def get_model(self, request: web.Request) -> web.StreamResponse:
        """Answer with one model."""
        name = request.match_info["model"]
        problem = self._login.problem(request)
        if problem is None and (name not in load_models() or name in _GONE):
            problem = bodies.error(
                404, f"Publisher Model `publishers/google/models/{name}` not found."
            )
        return web.json_response(_model_json(name)) if problem is None else error_response(problem)

    async def count_tokens(self, request: web.Request) -> web.StreamResponse:
        """Answer with the token count that the usage of the answer would have."""
        body = await read_body(request, self._config.max_request_bytes)
        problem = self._login.problem(request)
        model = find_model(request)
        for each in (problem, model, body):
            if isinstance(each, ErrorBody):
                return error_response(each)
        assert isinstance(model, Model)  # noqa: S101 - for mypy
        assert isinstance(body, bytes)  # noqa: S101 - for mypy
        found = await parse_request(body, model, counting=True, vertex=True)
        if isinstance(found, ErrorBody):
            return error_response(found)
        return web.json_response(_counted(found))


def _counted(found: ImageRequest) -> Json:
    details = answers.prompt_details(found)
    return {"totalTokens": found.prompt_tokens, "promptTokensDetails": details}


def _model_json(name: str) -> Json:
    return {"name": f"publishers/google/models/{name}", "versionId": "default", "launchStage": "GA"}
