"""The simulated Vertex AI: its path, its roles, its login, its answers."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from gemini_batch.errors import ConfigError
from gemini_batch.simulator import SimulatorConfig
from tests.loopback.simulator.client import Caller, Got, calling

pytestmark = pytest.mark.loopback

PRO = "gemini-3-pro-image"
PLACE = "v1/projects/my-project/locations/global/publishers/google/models"
WITH_ROLE = {"contents": [{"role": "user", "parts": [{"text": "A robot"}]}]}
BEARER = {"Authorization": "Bearer any"}
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


async def post(
    caller: Caller,
    request: Any = WITH_ROLE,
    path: str = f"{PLACE}/{PRO}:generateContent",
    headers: Mapping[str, str] = BEARER,
) -> Got:
    """Send a request to a path."""
    url = f"{caller.simulator.base_url}/{path}"
    async with caller.session.post(url, json=request, headers=headers) as response:
        return Got(response.status, await response.read(), response.headers)


async def token(caller: Caller, **form: str) -> Got:
    """Ask for a token."""
    url = f"{caller.simulator.base_url}/token"
    async with caller.session.post(url, data=form) as response:
        return Got(response.status, await response.read(), response.headers)


async def test_an_answer() -> None:
    """With the fields that only Vertex AI has, and without those of the Gemini API."""
    async with calling(vertex=True) as caller:
        got = await post(caller)
    assert got.status == 200
    assert got.json["createTime"].endswith("Z")
    assert got.json["usageMetadata"]["trafficType"] == "ON_DEMAND"
    assert "serviceTier" not in got.json["usageMetadata"]
    assert "x-gemini-service-tier" not in got.headers


@pytest.mark.parametrize(
    "contents",
    [
        [{"parts": [{"text": "x"}]}],
        [{"role": "system", "parts": [{"text": "x"}]}],
        [{"role": "user", "parts": [{"text": "x"}]}, {"parts": [{"text": "y"}]}],
    ],
)
async def test_each_content_needs_a_role(contents: list[Any]) -> None:
    """One without is a 400; the Gemini API has a default."""
    async with calling(vertex=True) as caller:
        got = await post(caller, {"contents": contents})
    assert (got.status, got.message) == (400, "Please use a valid role: user, model.")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"v1beta/models/{PRO}:generateContent", 404),
        (f"v1/publishers/google/models/{PRO}:generateContent", 404),
        (f"{PLACE}/{PRO}:streamGenerateContent", 501),
        ("v1/projects/my-project/locations/global/batchPredictionJobs", 501),
        (f"{PLACE}/gemini-3-pro-image-preview:generateContent", 404),
        (f"{PLACE}/gemini-nano-banana-2.1:generateContent", 200),
        (f"{PLACE.replace('global', 'eu')}/gemini-nano-banana-2.1:generateContent", 404),
        (f"{PLACE.replace('v1', 'v1beta1')}/{PRO}:generateContent", 200),
        (f"{PLACE.replace('v1', 'v2')}/{PRO}:generateContent", 404),
    ],
)
async def test_paths_and_models(path: str, status: int) -> None:
    """The path of a project, and the models that it has at its location."""
    async with calling(vertex=True) as caller:
        assert (await post(caller, path=path)).status == status


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "CREDENTIALS_MISSING"),
        ({"x-goog-api-key": "any"}, "CREDENTIALS_MISSING"),
        ({"Authorization": "Bearer"}, "CREDENTIALS_MISSING"),
        ({"Authorization": "Basic any"}, "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
        ({"Authorization": "Bearer a b"}, "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
    ],
)
async def test_a_request_without_a_token(headers: dict[str, str], reason: str) -> None:
    """A 401 with Google's reason, also for a key."""
    async with calling(vertex=True) as caller:
        got = await post(caller, headers=headers)
    assert (got.status, got.details("ErrorInfo")["reason"]) == (401, reason)


async def test_a_token_lives_as_long_as_it_says() -> None:
    """Then it is a 401 that says so; the next one is accepted, and others are not."""
    async with calling(vertex=True, key="the-one", token_s=600) as caller:
        got = (await token(caller, grant_type="refresh_token", refresh_token="x")).json
        assert (got["expires_in"], got["token_type"]) == (600, "Bearer")
        bearer = {"Authorization": f"Bearer {got['access_token']}"}
        caller.simulator.clock.advance(599)
        assert (await post(caller, headers=bearer)).status == 200
        caller.simulator.clock.advance(1)
        expired = await post(caller, headers=bearer)
        assert expired.details("ErrorInfo")["reason"] == "ACCESS_TOKEN_EXPIRED"
        assert (await post(caller)).status == 401
        assert (await post(caller, headers={"Authorization": "Bearer the-one"})).status == 200


def assertion(**claims: Any) -> str:
    """Return a JWT, whose signature is not looked at."""
    whole = {
        "iss": "me@x.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "aud": "https://oauth2.googleapis.com/token",
        "iat": 0,
        "exp": 4_102_444_800,
    } | claims
    return f"h.{base64.urlsafe_b64encode(json.dumps(whole).encode()).decode().rstrip('=')}.s"


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"grant_type": JWT_BEARER, "assertion": assertion()}, 200, None),
        ({"grant_type": EXCHANGE, "subject_token": "proof"}, 200, None),
        ({"grant_type": JWT_BEARER, "assertion": assertion(exp=1)}, 400, "invalid_grant"),
        ({"grant_type": JWT_BEARER, "assertion": assertion(aud="x")}, 400, "invalid_grant"),
        ({"grant_type": JWT_BEARER, "assertion": assertion(scope="")}, 400, "invalid_grant"),
        ({"grant_type": JWT_BEARER, "assertion": assertion(iss="revoked")}, 400, "invalid_grant"),
        ({"grant_type": JWT_BEARER, "assertion": "nonsense"}, 400, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "revoked"}, 400, "invalid_grant"),
        ({"grant_type": "refresh_token"}, 400, "unsupported_grant_type"),
        ({"grant_type": "password", "password": "x"}, 400, "unsupported_grant_type"),
        ({}, 400, "unsupported_grant_type"),
    ],
)
async def test_the_token_endpoint(form: dict[str, str], status: int, error: str | None) -> None:
    """Three grants of OAuth, and its errors."""
    async with calling(vertex=True) as caller:
        got = await token(caller, **form)
    assert (got.status, got.json.get("error")) == (status, error)


async def test_each_api_has_fields_of_its_own() -> None:
    """Who may be drawn is for Vertex AI alone, and `store` for the Gemini API."""
    people = {"generationConfig": {"imageConfig": {"personGeneration": "DONT_ALLOW"}}}
    async with calling(vertex=True) as caller:
        assert (await post(caller, WITH_ROLE | people)).status == 200
        assert (await post(caller, WITH_ROLE | {"store": True})).status == 400
    async with calling() as caller:
        assert (await caller.post(WITH_ROLE | people)).status == 400
        assert (await caller.post(WITH_ROLE | {"store": True})).status == 200


async def test_a_quota_is_of_a_project_and_a_location() -> None:
    """Whatever token is sent."""
    async with calling(vertex=True, tier="free", requests_per_min=1) as caller:
        assert (await post(caller)).status == 200
        assert (await post(caller, headers={"Authorization": "Bearer other"})).status == 429
        elsewhere = f"{PLACE.replace('global', 'us-east1')}/{PRO}:generateContent"
        assert (await post(caller, path=elsewhere)).status == 200


@pytest.mark.parametrize(
    ("model", "location", "status"),
    [
        (PRO, "global", 200),
        (PRO, "us-east1", 400),
        ("gemini-2.5-flash-image", "global", 400),
        ("gemini-2.5-flash-image", "us-east1", 400),
    ],
)
async def test_where_flex_is_served(model: str, location: str, status: int) -> None:
    """Flex is served for its models at the location global, and refused elsewhere, where standard is served."""
    path = f"{PLACE.replace('global', location)}/{model}:generateContent"
    tier = "X-Vertex-AI-LLM-Shared-Request-Type"
    async with calling(vertex=True) as caller:
        got = await post(caller, path=path, headers={**BEARER, tier: "flex"})
        other = await post(caller, path=path, headers={**BEARER, tier: "standard"})
    assert (got.status, other.status) == (status, 200)
    if status != 200:
        assert got.message == f"Flex API is not supported for model: {model}."


async def test_without_vertex_there_is_no_token() -> None:
    """The Gemini API has no such path."""
    async with calling() as caller:
        assert (await token(caller, grant_type="refresh_token", refresh_token="x")).status == 404


def test_the_life_of_a_token_is_checked() -> None:
    """A wrong one is named."""
    with pytest.raises(ConfigError, match="token_s: got -1"):
        SimulatorConfig(token_s=-1)
