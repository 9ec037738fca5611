"""Google's own SDK works against the simulator: what it sends is accepted, what it gets it understands."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from PIL import Image

from tests.simulator.client import PRO, calling, image

genai = pytest.importorskip("google.genai")
errors: Any = pytest.importorskip("google.genai.errors")
types: Any = pytest.importorskip("google.genai.types")

pytestmark = [
    pytest.mark.loopback,
    # The SDK's own: how it derives its session from aiohttp's, and its word on a reason that it does not know.
    pytest.mark.filterwarnings(
        "ignore:Inheritance class AiohttpClientSession:DeprecationWarning",
        "ignore:.* is not a valid FinishReason:UserWarning",
    ),
    pytest.mark.parametrize("version", ["v1beta", "v1"]),
    pytest.mark.parametrize("style", ["sync", "async"]),
]

Generate = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def _sdk(style: str, version: str, **config: Any) -> AsyncIterator[Generate]:
    """Yield `generate_content` of a client, in one style."""
    async with calling(**config) as caller:
        options = types.HttpOptions(
            base_url=caller.simulator.base_url, api_version=version, retry_options=types.HttpRetryOptions(attempts=1)
        )
        client = genai.Client(api_key="any", http_options=options)

        async def generate(contents: Any, **fields: Any) -> Any:
            config = types.GenerateContentConfig(**fields)
            if style == "async":
                return await client.aio.models.generate_content(model=PRO, contents=contents, config=config)
            return await asyncio.to_thread(client.models.generate_content, model=PRO, contents=contents, config=config)

        try:
            yield generate
        finally:
            await client.aio.aclose()
            client.close()


async def test_text_to_image(style: str, version: str) -> None:
    """Text to image: the SDK finds text, picture, usage and the reason for the end."""
    async with _sdk(style, version) as generate:
        got = await generate(
            ["A cute robot"],
            response_modalities=["TEXT", "IMAGE"],
            image_config=types.ImageConfig(aspect_ratio="16:9", image_size="2K"),
        )
    assert got.candidates[0].finish_reason == types.FinishReason.STOP
    assert got.parts[0].text.endswith("A cute robot")
    assert Image.open(io.BytesIO(got.parts[1].inline_data.data)).format == "JPEG"
    assert got.usage_metadata.total_token_count == (
        got.usage_metadata.prompt_token_count + got.usage_metadata.candidates_token_count
    )
    assert (got.model_version, bool(got.response_id)) == (PRO, True)


async def test_editing(style: str, version: str) -> None:
    """Editing: images go in as bytes, with everything else that the SDK can set."""
    async with _sdk(style, version) as generate:
        got = await generate(
            [types.Part.from_bytes(data=image(), mime_type="image/png"), image_of(), "Add a rainbow"],
            response_modalities=["IMAGE"],
            system_instruction="Be kind.",
            temperature=0.5,
            seed=7,
            safety_settings=[types.SafetySetting(category="HARM_CATEGORY_HATE_SPEECH", threshold="BLOCK_NONE")],
            thinking_config=types.ThinkingConfig(include_thoughts=True),
        )
    assert [part.inline_data.mime_type for part in got.parts] == ["image/jpeg"]


def image_of() -> Image.Image:
    """Return a picture as the SDK takes it from Pillow."""
    return Image.open(io.BytesIO(image("blue")))


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        ("400", 400, "INVALID_ARGUMENT"),
        ("400-key", 400, "INVALID_ARGUMENT"),
        ("403", 403, "PERMISSION_DENIED"),
        ("404", 404, "NOT_FOUND"),
        ("500", 500, "INTERNAL"),
        ("503", 503, "UNAVAILABLE"),
    ],
)
async def test_errors(style: str, version: str, fault: str, code: int, status: str) -> None:
    """Errors arrive as the SDK's own, with code and status."""
    async with _sdk(style, version) as generate:
        with pytest.raises(errors.ClientError if code < 500 else errors.ServerError) as caught:
            await generate([f"x [[fault:{fault}]]"])
    assert (caught.value.code, caught.value.status) == (code, status)


async def test_details_of_a_429(style: str, version: str) -> None:
    """The details of a real 429 reach the caller: quota, value, delay."""
    async with _sdk(style, version, tier="free", requests_per_min=1) as generate:
        await generate(["x"])
        with pytest.raises(errors.ClientError) as caught:
            await generate(["x"])
    details = {item["@type"].rpartition(".")[2]: item for item in caught.value.details["error"]["details"]}
    violation = details["QuotaFailure"]["violations"][0]
    assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")
    assert violation["quotaId"] == "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
    assert violation["quotaValue"] == "1"
    # The refused request counts too: both have to leave the minute.
    assert details["RetryInfo"]["retryDelay"] == "60s"


@pytest.mark.parametrize(
    "fault", ["prompt-blocked", "image-safety", "unknown-reason", "parts-null", "candidates-absent"]
)
async def test_answers_without_a_picture(style: str, version: str, fault: str) -> None:
    """The SDK reads every answer without a picture."""
    async with _sdk(style, version) as generate:
        got = await generate([f"x [[fault:{fault}]]"])
    assert not got.parts
    assert got.usage_metadata.total_token_count
