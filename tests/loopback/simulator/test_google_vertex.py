"""Google's own SDK in Vertex AI mode works against the simulator, with every option that it lets pass."""

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


async def test_every_option_that_passes(style: str, version: str) -> None:
    """Each one alone, and as many as a model takes together."""
    harmless: list[dict[str, Any]] = [
        {"system_instruction": "Be kind."},
        {"temperature": 0.5, "top_p": 0.9, "top_k": 40, "seed": 7},
        {"candidate_count": 1, "max_output_tokens": 4096, "stop_sequences": ["END"]},
        {"presence_penalty": 0.1, "frequency_penalty": 0.1},
        {"response_modalities": ["TEXT", "IMAGE"], "response_mime_type": "text/plain"},
        {"labels": {"team": "art"}, "audio_timestamp": False},
        {"media_resolution": types.MediaResolution.MEDIA_RESOLUTION_LOW},
        {"thinking_config": types.ThinkingConfig(include_thoughts=True)},
        {"tools": [types.Tool(google_search=types.GoogleSearch())]},
        {"service_tier": "flex"},
        {
            "safety_settings": [
                types.SafetySetting(
                    category="HARM_CATEGORY_HATE_SPEECH", threshold="OFF", method="SEVERITY"
                )
            ]
        },
        {
            "model_selection_config": types.ModelSelectionConfig(
                feature_selection_preference="BALANCED"
            )
        },
        {
            "routing_config": types.GenerationConfigRoutingConfig(
                manual_mode=types.GenerationConfigRoutingConfigManualRoutingMode(model_name=PRO)
            )
        },
        *(
            {"image_config": types.ImageConfig(**fields)}
            for fields in (
                {"aspect_ratio": "16:9", "image_size": "2K"},
                {"person_generation": "ALLOW_ADULT"},
                {"prominent_people": "BLOCK_PROMINENT_PEOPLE"},
                {"output_mime_type": "image/jpeg", "output_compression_quality": 80},
            )
        ),
    ]
    together: dict[str, Any] = {}
    for fields in harmless:
        together |= {name: value for name, value in fields.items() if name != "routing_config"}
    armor = types.ModelArmorConfig(prompt_template_name="p", response_template_name="r")
    del together["safety_settings"]  # the SDK lets only one of the two pass
    async with _client(version) as client:
        for fields in (*harmless, {"model_armor_config": armor}, together):
            got = await _call(style, client, asking("A robot", **fields))
            assert got.parts[-1].inline_data.data, fields
        for level in ("MINIMAL", "MEDIUM", "HIGH"):
            thinking = types.ThinkingConfig(thinking_level=level)
            got = await _call(style, client, asking("A robot", NANO, thinking_config=thinking))
            assert got.usage_metadata.thoughts_token_count


async def test_kinds_of_pictures(style: str, version: str) -> None:
    """A PNG comes where one is asked for; other kinds and qualities of another type are a 400."""
    async with _client(version) as client:
        png = types.ImageConfig(output_mime_type="image/png")
        got = await _call(style, client, asking("A robot", image_config=png))
        assert Image.open(io.BytesIO(got.parts[-1].inline_data.data)).format == "PNG"
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
