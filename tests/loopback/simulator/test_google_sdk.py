"""Google's own SDK works against the simulator: what it sends is accepted, what it gets it understands."""

import asyncio
import inspect
import io
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from PIL import Image

from gemini_batch.simulator.models import load_models
from tests.loopback.simulator.client import PRO, calling, image


class _Late:
    """A module that is imported when it is used: the SDK takes longer than all other imports."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):  # pytest asks each name of a test module for such ones
            raise AttributeError(attribute)
        return getattr(pytest.importorskip(self._name), attribute)


genai, errors, types = map(_Late, ("google.genai", "google.genai.errors", "google.genai.types"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.loopback,
    # The SDK's own: how it derives its session from aiohttp's, and its word on a reason that it does not know.
    pytest.mark.filterwarnings(
        "ignore:Inheritance class AiohttpClientSession:DeprecationWarning",
        "ignore:.* is not a valid FinishReason:UserWarning",
    ),
    # Each version and each style: they have nothing to do with each other.
    pytest.mark.parametrize(("version", "style"), [("v1beta", "sync"), ("v1", "async")]),
]

# Loaded once: a client of its own loads all certificates twice, which takes a tenth of a second.
TLS = dict.fromkeys(("verify", "ssl"), ssl.create_default_context())
Generate = Callable[..., Awaitable[Any]]
# What to call of the SDK, given its surface: sync or async.
Ask = Callable[[Any], Any]


@asynccontextmanager
async def _client(version: str, *, sent_key: str = "any", **config: Any) -> AsyncIterator[Any]:
    """Yield the SDK's client of a simulator."""
    async with calling(**config) as caller:
        options = types.HttpOptions(
            base_url=caller.simulator.base_url,
            api_version=version,
            retry_options=types.HttpRetryOptions(attempts=1),
            client_args=TLS,
            async_client_args=TLS,
        )
        client = genai.Client(api_key=sent_key, http_options=options)
        try:
            yield client
        finally:
            await client.aio.aclose()
            client.close()


@asynccontextmanager
async def _sdk(style: str, version: str, **config: Any) -> AsyncIterator[Generate]:
    """Yield `generate_content` of a client, in one style."""
    async with _client(version, **config) as client:

        async def generate(contents: Any, **fields: Any) -> Any:
            config = types.GenerateContentConfig(**fields)
            return await _call(
                style,
                client,
                lambda sdk: sdk.models.generate_content(
                    model=PRO, contents=contents, config=config
                ),
            )

        yield generate


async def _call(style: str, client: Any, ask: Ask) -> Any:
    """Return what a call of the SDK comes to; a list or a stream is read to its end."""

    def wait() -> Any:
        got = ask(client)
        return list(got) if hasattr(got, "__next__") else got

    if style == "sync":
        return await asyncio.to_thread(wait)
    got = ask(client.aio)
    got = await got if inspect.isawaitable(got) else got
    return [item async for item in got] if hasattr(got, "__aiter__") else got


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
            [
                types.Part.from_bytes(data=image(), mime_type="image/png"),
                image_of(),
                "Add a rainbow",
            ],
            response_modalities=["IMAGE"],
            system_instruction="Be kind.",
            temperature=0.5,
            seed=7,
            safety_settings=[
                types.SafetySetting(category="HARM_CATEGORY_HATE_SPEECH", threshold="BLOCK_NONE")
            ],
            thinking_config=types.ThinkingConfig(include_thoughts=True),
        )
    thought, picture = got.parts
    assert (thought.thought, thought.text[:13]) == (True, "**Composing**")
    assert picture.inline_data.mime_type == "image/jpeg"


@pytest.mark.parametrize("tier", ["unspecified", "standard", "flex", "priority"])
async def test_service_tiers_and_levels(style: str, version: str, tier: str) -> None:
    """Every service tier and level of the SDK passes, and the usage says what was served."""
    async with _client(version) as client:

        async def ask(model: str, level: str | None) -> Any:
            config = types.GenerateContentConfig(
                service_tier=tier,
                image_config=types.ImageConfig(aspect_ratio="21:9", image_size="1K"),
                thinking_config=types.ThinkingConfig(thinking_level=level) if level else None,
            )
            return await _call(
                style,
                client,
                lambda sdk: sdk.models.generate_content(model=model, contents="x", config=config),
            )

        pro = await ask(PRO, None)
        levels = [
            (await ask("gemini-nano-banana-2.1", level)).usage_metadata.thoughts_token_count
            for level in ("MINIMAL", "MEDIUM", "HIGH")
        ]
    served = pro.sdk_http_response.headers["x-gemini-service-tier"]
    assert served == ("standard" if tier == "unspecified" else tier)
    assert 100 <= levels[0] <= 300
    assert 450 <= levels[1] <= 1350
    assert 900 <= levels[2] <= 2700


async def test_searches_are_named(style: str, version: str) -> None:
    """With Google Search the answer names its queries, each of which is paid for, and the tier that was served."""
    async with _sdk(style, version) as generate:
        got = await generate(
            "x", tools=[types.Tool(google_search=types.GoogleSearch())], service_tier="flex"
        )
    assert 1 <= len(got.candidates[0].grounding_metadata.web_search_queries) <= 3
    assert got.sdk_http_response.headers["x-gemini-service-tier"] == "flex"


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
    details = {
        item["@type"].rpartition(".")[2]: item for item in caught.value.details["error"]["details"]
    }
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


async def test_models(style: str, version: str) -> None:
    """The models are listed page by page, each can be asked for, and an unknown one is not found."""
    async with _client(version) as client:
        listed = await _call(style, client, lambda sdk: sdk.models.list(config={"page_size": 2}))
        one = await _call(style, client, lambda sdk: sdk.models.get(model=PRO))
        with pytest.raises(errors.ClientError) as caught:
            await _call(style, client, lambda sdk: sdk.models.get(model="gemini-9"))
    assert [model.name for model in listed] == [f"models/{name}" for name in load_models()]
    assert one == next(model for model in listed if model.name == f"models/{PRO}")
    assert (one.display_name, one.supported_actions) == (
        PRO,
        ["generateContent", "countTokens", "batchGenerateContent"],
    )
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
    assert caught.value.message == f"Model is not found: models/gemini-9 for api version {version}"


async def test_count_tokens(style: str, version: str) -> None:
    """Tokens are counted as the usage of an answer counts them, without using up the quota."""
    contents = [types.Part.from_bytes(data=image(), mime_type="image/png"), "Add a rainbow"]
    async with _client(version, tier="free", requests_per_min=1) as client:
        counted = await _call(
            style, client, lambda sdk: sdk.models.count_tokens(model=PRO, contents=contents)
        )
        got = await _call(
            style, client, lambda sdk: sdk.models.generate_content(model=PRO, contents=contents)
        )
    assert counted.total_tokens == got.usage_metadata.prompt_token_count == 564


UNSIMULATED: dict[str, tuple[Ask, str]] = {
    "stream": (
        lambda sdk: sdk.models.generate_content_stream(model=PRO, contents="x"),
        "streamGenerateContent",
    ),
    "chat": (
        lambda sdk: sdk.chats.create(model=PRO).send_message_stream("x"),
        "streamGenerateContent",
    ),
    "embed": (lambda sdk: sdk.models.embed_content(model=PRO, contents="x"), "batchEmbedContents"),
    "cache": (lambda sdk: sdk.caches.create(model=PRO, config={"contents": "x"}), "cachedContents"),
    "a cache": (lambda sdk: sdk.caches.get(name="cachedContents/x"), "cachedContents"),
    "tuned": (lambda sdk: sdk.models.list(config={"query_base": False}), "tunedModels"),
}


@pytest.mark.parametrize(("ask", "name"), UNSIMULATED.values(), ids=UNSIMULATED)
async def test_what_is_not_simulated(style: str, version: str, ask: Ask, name: str) -> None:
    """What the API has and the simulator has not is an error of the SDK's own that says so."""
    async with _client(version) as client:
        with pytest.raises(errors.ServerError) as caught:
            await _call(style, client, ask)
    assert (caught.value.code, caught.value.status) == (501, "UNIMPLEMENTED")
    assert caught.value.message == (
        f"simulator: {name} is not simulated; available: generateContent, batchGenerateContent, countTokens, models, files and batches"
    )


@pytest.mark.parametrize(
    "ask",
    [
        lambda sdk: sdk.models.list(),
        lambda sdk: sdk.models.get(model=PRO),
        lambda sdk: sdk.models.count_tokens(model=PRO, contents="x"),
        lambda sdk: sdk.files.list(),
    ],
    ids=["list", "get", "count", "files"],
)
async def test_wrong_key_everywhere(style: str, version: str, ask: Ask) -> None:
    """A wrong key is refused by every method alike."""
    async with _client(version, key="the-one", sent_key="other") as client:
        with pytest.raises(errors.ClientError) as caught:
            await _call(style, client, ask)
    assert (caught.value.code, caught.value.details["error"]["details"][0]["reason"]) == (
        400,
        "API_KEY_INVALID",
    )
