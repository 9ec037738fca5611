"""Google's own SDK in Vertex AI mode works against the simulator."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from PIL import Image

from tests.loopback.simulator.client import calling, image
from tests.loopback.simulator.test_google_sdk import TLS, Ask, _call, _Late

genai, errors, types = map(_Late, ("google.genai", "google.genai.errors", "google.genai.types"))
oauth2 = _Late("google.oauth2.credentials")

PREVIEW, PRO, NANO = "gemini-3-pro-image-preview", "gemini-3-pro-image", "gemini-nano-banana-2.1"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.loopback,
    # The SDK's own: how it derives its session from aiohttp's.
    pytest.mark.filterwarnings(
        "ignore:Inheritance class AiohttpClientSession:DeprecationWarning",
    ),
    pytest.mark.parametrize(("version", "style"), [("v1beta1", "sync"), ("v1", "async")]),
]


@asynccontextmanager
async def _client(
    version: str, *, token: str = "any", location: str = "global", **config: Any
) -> AsyncIterator[Any]:
    """Yield the SDK's client of a project, at a simulator."""
    async with calling(vertex=True, **config) as caller:
        client = genai.Client(
            vertexai=True,
            project="my-project",
            location=location,
            credentials=oauth2.Credentials(token=token),
            http_options=types.HttpOptions(
                base_url=caller.simulator.base_url,
                api_version=version,
                retry_options=types.HttpRetryOptions(attempts=1),
                client_args=TLS,
                async_client_args=TLS,
            ),
        )
        try:
            yield client
        finally:
            await client.aio.aclose()
            client.close()


def asking(contents: Any, model: str = PRO, **fields: Any) -> Ask:
    """Return a call of `generate_content`."""
    return lambda sdk: sdk.models.generate_content(
        model=model, contents=contents, config=types.GenerateContentConfig(**fields)
    )


async def test_text_to_image(style: str, version: str) -> None:
    """The SDK finds picture, usage, kind of traffic and time; the header of the Gemini API is not there."""
    async with _client(version) as client:
        got = await _call(style, client, asking(["A cute robot"], response_modalities=["IMAGE"]))

    assert Image.open(io.BytesIO(got.parts[0].inline_data.data)).format == "JPEG"
    assert got.usage_metadata.traffic_type == types.TrafficType.ON_DEMAND
    assert got.create_time is not None
    assert (got.model_version, bool(got.response_id)) == (PRO, True)
    assert "x-gemini-service-tier" not in got.sdk_http_response.headers


async def test_kinds_of_pictures(style: str, version: str) -> None:
    """A kind of picture that the API does not make is a 400."""
    async with _client(version) as client:
        bmp = types.ImageConfig(output_mime_type="image/bmp")
        with pytest.raises(errors.ClientError) as caught:
            await _call(style, client, asking("A robot", image_config=bmp))
    assert caught.value.code == 400


@pytest.mark.parametrize("tier", ["flex", "priority", "standard"])
async def test_service_tiers(style: str, version: str, tier: str) -> None:
    """A header asks for it, and the usage says what was served."""
    options = types.HttpOptions(headers={"X-Vertex-AI-LLM-Shared-Request-Type": tier})
    async with _client(version) as client:
        got = await _call(style, client, asking("A robot", http_options=options))
    suffix = "" if tier == "standard" else f"_{tier.upper()}"
    assert got.usage_metadata.traffic_type == f"ON_DEMAND{suffix}"


async def test_editing_and_files(style: str, version: str) -> None:
    """Images go in as bytes and by Google Cloud Storage."""
    contents = [
        types.Part.from_bytes(data=image(), mime_type="image/png"),
        types.Part.from_uri(file_uri="gs://bucket/a.png", mime_type="image/png"),
        "Add a rainbow",
    ]
    async with _client(version) as client:
        got = await _call(style, client, asking(contents))
        counted = await _call(
            style, client, lambda sdk: sdk.models.count_tokens(model=PRO, contents=contents)
        )
    assert got.parts[-1].inline_data.mime_type == "image/jpeg"
    assert counted.total_tokens == got.usage_metadata.prompt_token_count


async def test_models(style: str, version: str) -> None:
    """Each can be asked for; the preview is gone, and the newest one is served globally alone."""
    async with _client(version, location="us-central1") as client:
        one = await _call(style, client, lambda sdk: sdk.models.get(model=PRO))
        for model in (PREVIEW, NANO, "gemini-9"):
            with pytest.raises(errors.ClientError) as caught:
                await _call(style, client, asking("A robot", model))
            assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
            place = f"projects/my-project/locations/us-central1/publishers/google/models/{model}"
            assert str(caught.value.message).startswith(f"Publisher Model `{place}` was not found")
    assert one.name == f"publishers/google/models/{PRO}"


@pytest.mark.parametrize(
    "ask",
    [
        lambda sdk: sdk.models.get(model=PRO),
        lambda sdk: sdk.models.count_tokens(model=PRO, contents="x"),
        lambda sdk: sdk.models.generate_content(model=PRO, contents="x"),
    ],
    ids=["get", "count", "generate"],
)
async def test_a_wrong_token_everywhere(style: str, version: str, ask: Ask) -> None:
    """A token that is not the one is refused by every method alike."""
    async with _client(version, token="other", key="the-one") as client:
        with pytest.raises(errors.ClientError) as caught:
            await _call(style, client, ask)
    assert (caught.value.code, caught.value.status) == (401, "UNAUTHENTICATED")


async def test_the_login_of_the_sdk(style: str, version: str) -> None:
    """The SDK gets its token where it is told to, by the file that the simulator offers."""
    external = _Late("google.auth.identity_pool")
    async with calling(vertex=True, key="no-other-token") as caller:
        url = caller.simulator.base_url
        async with caller.session.get(f"{url}/credentials.json") as response:
            info = await response.json()
        scopes = ["https://www.googleapis.com/auth/cloud-platform"]
        client = genai.Client(
            vertexai=True,
            project="my-project",
            location="global",
            credentials=external.Credentials.from_info(info, scopes=scopes),
            http_options=types.HttpOptions(base_url=url, api_version=version, client_args=TLS),
        )
        ask = asking("A robot")
        # In both styles: its login is a thread's work for the SDK as well.
        got = await (asyncio.to_thread(ask, client) if style == "sync" else ask(client.aio))
        await client.aio.aclose()
        client.close()
    assert got.parts[-1].inline_data.data
