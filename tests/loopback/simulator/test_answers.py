import asyncio
import base64
import io
import json
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
from PIL import Image

from gemini_batch.simulator.checks import ImageRequest, check
from gemini_batch.simulator.models import load_models
from gemini_batch.simulator.pictures import EncodedImage, draw
from tests.loopback.simulator.client import (
    FLASH_25,
    PRO,
    SetTime,
    calling,
    image,
    text,
    with_images,
)

pytestmark = pytest.mark.loopback

MODELS = load_models()


async def test_good_answer() -> None:
    """The answer has the documented fields, in the API's form."""
    async with calling() as caller:
        got = await caller.ask("A cute robot")
    candidate = got.json["candidates"][0]
    assert (got.status, candidate["finishReason"], candidate["index"]) == (200, "STOP", 0)
    assert candidate["content"]["role"] == "model"
    assert got.json["modelVersion"] == PRO
    assert len(got.json["responseId"]) > 10
    assert got.body.startswith(b'{\n  "candidates": [\n')
    assert got.parts[-1]["inlineData"]["mimeType"] == "image/jpeg"
    assert base64.b64decode(got.parts[-1]["thoughtSignature"])
    assert got.headers["Content-Type"] == "application/json; charset=UTF-8"


@pytest.mark.parametrize(
    ("modalities", "kinds"),
    [
        (None, ["text", "inlineData"]),
        (["TEXT", "IMAGE"], ["text", "inlineData"]),
        (["IMAGE"], ["inlineData"]),
    ],
)
async def test_modalities(modalities: list[str] | None, kinds: list[str]) -> None:
    """Text comes unless `["IMAGE"]` was asked for."""
    request = text("x") if modalities is None else text("x", responseModalities=modalities)
    async with calling() as caller:
        got = await caller.post(request)
    assert [next(iter(part)) for part in got.parts] == kinds


async def test_usage() -> None:
    """Usage adds up as it does in reality: the candidates' count exceeds its details, thoughts are of Pro only."""
    async with calling() as caller:
        pro = (await caller.post(with_images("x" * 40, image(), image()))).json["usageMetadata"]
        old = (await caller.ask("x", model=FLASH_25)).json["usageMetadata"]
    assert (
        pro["promptTokenCount"]
        == sum(item["tokenCount"] for item in pro["promptTokensDetails"])
        == 10 + 2 * 560
    )
    assert pro["totalTokenCount"] == pro["promptTokenCount"] + pro["candidatesTokenCount"]
    assert pro["candidatesTokensDetails"] == [{"modality": "IMAGE", "tokenCount": 1120}]
    assert 88 <= pro["candidatesTokenCount"] - 1120 <= 630
    assert pro["thoughtsTokenCount"] > 0
    assert "thoughtsTokenCount" not in old


@pytest.mark.parametrize(
    ("model", "level", "mean"),
    [
        (PRO, None, 300),
        ("gemini-3.1-flash-image", None, 150),
        ("gemini-3.1-flash-lite-image", "HIGH", 900),
        ("gemini-nano-banana-2.1", "MINIMAL", 200),
        ("gemini-nano-banana-2.1", None, 900),
        ("gemini-nano-banana-2.1", "high", 1800),
    ],
)
async def test_thinking_is_drawn_around_its_mean(model: str, level: str | None, mean: int) -> None:
    """An answer thinks for half to one and a half times the mean of its level, and the total has it once."""
    config = {"thinkingConfig": {"thinkingLevel": level}} if level else {}
    request = text("x", responseModalities=["IMAGE"], **config)
    async with calling() as caller:
        usages = [
            (await caller.post(request, model=model)).json["usageMetadata"] for _ in range(12)
        ]
    thoughts = [usage["thoughtsTokenCount"] for usage in usages]
    assert mean / 2 <= min(thoughts) < max(thoughts) <= mean * 3 / 2
    assert [
        usage["totalTokenCount"] - usage["promptTokenCount"] - 1120 for usage in usages
    ] == thoughts


async def test_largest_image_of_the_newest_model_has_its_documented_tokens() -> None:
    """A 4K image of Nano Banana 2.1 has 3,780 tokens and is a JPEG; a reference image has 1,120."""
    request = with_images("x", image())
    request["generationConfig"] = {"imageConfig": {"imageSize": "4K"}}
    async with calling() as caller:
        got = await caller.post(request, model="gemini-nano-banana-2.1")
    usage = got.json["usageMetadata"]
    assert usage["candidatesTokensDetails"] == [{"modality": "IMAGE", "tokenCount": 3780}]
    assert usage["promptTokensDetails"][1] == {"modality": "IMAGE", "tokenCount": 1120}
    assert got.parts[-1]["inlineData"]["mimeType"] == "image/jpeg"


@pytest.mark.parametrize(
    ("model", "asked", "served"),
    [
        (PRO, None, "standard"),
        (PRO, "flex", "flex"),
        (PRO, "PRIORITY", "priority"),
        (PRO, "unspecified", "standard"),
        ("gemini-3.1-flash-image", "flex", "standard"),
    ],
)
async def test_service_tier_that_was_served(model: str, asked: str | None, served: str) -> None:
    """Header and usage say which tier was served: one that the model does not have is standard."""
    async with calling() as caller:
        got = await caller.post(text("x") | ({"serviceTier": asked} if asked else {}), model=model)
    assert got.headers["x-gemini-service-tier"] == served
    assert got.json["usageMetadata"]["serviceTier"] == served


async def test_answer_shows_what_was_asked_for() -> None:
    """Thoughts come as parts, searches with their queries, and too few output tokens give no image."""
    async with calling() as caller:
        thought = (await caller.post(text("x", thinkingConfig={"includeThoughts": True}))).parts
        found = await caller.post(text("x") | {"tools": [{"googleSearch": {}}]})
        cut = await caller.post(text("x", maxOutputTokens=10))
    assert [part.get("thought", False) for part in thought] == [True, False, False]
    assert 1 <= len(found.json["candidates"][0]["groundingMetadata"]["webSearchQueries"]) <= 3
    assert cut.json["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert "content" not in cut.json["candidates"][0]


async def test_date_is_the_servers() -> None:
    """The Date header tells the server's time, also when that was set, whatever was asked."""
    time = SetTime(datetime(2026, 12, 24, 18, 0, 0, tzinfo=UTC))
    async with calling(clock=time()) as caller:
        got = await caller.ask("x")
        nothing = await caller.session.head(caller.simulator.base_url)
    assert parsedate_to_datetime(got.headers["Date"]) == time.began
    assert parsedate_to_datetime(nothing.headers["Date"]) == time.began


async def test_latency() -> None:
    """An answer takes at least `latency_s`."""
    async with calling(latency_s=0.1) as caller:
        began_s = asyncio.get_running_loop().time()
        await caller.ask("x")
        assert 0.1 <= asyncio.get_running_loop().time() - began_s < 1


async def test_same_request_same_picture() -> None:
    """The same request, seed and turn give the same answer, byte by byte; a second time it is another picture."""
    async with calling() as caller:
        first = [(await caller.ask("x")).body for _ in range(2)]
    async with calling() as caller:
        again = [(await caller.ask("x")).body for _ in range(2)]
    async with calling(seed=1) as caller:
        other = (await caller.ask("x")).body
    assert first == again
    assert len({first[0], first[1], other}) == 3


async def test_pictures_that_do_not_vary() -> None:
    """Without `vary`, and with a tally of one, the same request always gets the same picture."""
    async with calling(vary=False) as caller:
        bodies = [(await caller.ask("x")).parts[-1]["inlineData"]["data"] for _ in range(2)]
    assert bodies[0] == bodies[1]


async def test_compact_by_option() -> None:
    """JSON can be sent compact."""
    async with calling(pretty=False) as caller:
        got = await caller.ask("x")
    assert got.body.startswith(b'{"candidates":[{"content"')


# --- pictures, without a socket ---------------------------------------------------------------------------------------


def _ask(prompt: str, *images: bytes, model: str = PRO, **image_config: str) -> ImageRequest:
    request = with_images(prompt, *images) | {"generationConfig": {"imageConfig": image_config}}
    found = check(json.dumps(request).encode(), MODELS[model])
    assert isinstance(found, ImageRequest)
    return found


def _open(picture: EncodedImage) -> Image.Image:
    return Image.open(io.BytesIO(picture.data))


@pytest.mark.parametrize(
    ("ratio", "size", "pixels"),
    [
        ("1:1", "1K", (1024, 1024)),
        ("16:9", "1K", (1376, 768)),
        ("4:5", "2K", (1856, 2304)),
        ("9:16", "1K", (768, 1376)),
    ],
)
def test_documented_pixels(ratio: str, size: str, pixels: tuple[int, int]) -> None:
    """A picture has the documented pixels."""
    assert _open(draw(_ask("x", aspectRatio=ratio, imageSize=size))).size == pixels


@pytest.mark.parametrize("name", MODELS)
def test_every_model_and_ratio(name: str) -> None:
    """Every model draws each of its ratios, near what the ratio says, in its own format."""
    model = MODELS[name]
    for ratio in model.pixels:
        width, height = model.dimensions(ratio, "1K")
        wanted = [int(side) for side in ratio.split(":")]
        assert width / height == pytest.approx(wanted[0] / wanted[1], rel=0.07)
        picture = draw(_ask("x", model=name, aspectRatio=ratio), longest=32)
        assert (
            f"image/{(_open(picture).format or '').lower()}" == picture.mime_type == model.mime_type
        )


def test_4k_is_four_times() -> None:
    """4K is documented as four times 1K."""
    assert MODELS[PRO].dimensions("16:9", "4K") == (5504, 3072)


def test_a_real_file_of_a_modest_size() -> None:
    """A 1K JPEG is real, and between 60 and 300 KB."""
    picture = draw(_ask("A serene mountain landscape at sunset", aspectRatio="16:9"))
    assert 60_000 <= len(picture.data) <= 300_000
    _open(picture).load()


@pytest.mark.parametrize("model", [PRO, FLASH_25])
def test_filled_up(model: str) -> None:
    """A file can be filled up to a real one's size, and still decodes to the same picture."""
    plain = draw(_ask("x", model=model), longest=64)
    filled = draw(_ask("x", model=model), longest=64, image_bytes=700_000)
    assert len(filled.data) == pytest.approx(700_000, abs=200)
    assert _open(filled).tobytes() == _open(plain).tobytes()


def test_reference_images_are_in_the_picture() -> None:
    """A person sees which images arrived: each is pasted in, and none in a picture without them."""

    def has(picture: EncodedImage, wanted: tuple[int, int, int]) -> bool:
        small = _open(picture).convert("RGB").resize((128, 128), Image.Resampling.NEAREST)
        near = [
            all(abs(a - b) < 12 for a, b in zip(pixel, wanted, strict=True))
            for pixel in _pixels(small)
        ]
        return sum(near) > 100

    both = draw(_ask("x", image("#ff00ff", (200, 200)), image("#00ff00", (200, 200))), longest=256)
    none = draw(_ask("x"), longest=256)
    assert [has(both, (255, 0, 255)), has(both, (0, 255, 0))] == [True, True]
    assert [has(none, (255, 0, 255)), has(none, (0, 255, 0))] == [False, False]


def _pixels(picture: Image.Image) -> list[tuple[int, int, int]]:
    data = picture.tobytes()
    return [(data[at], data[at + 1], data[at + 2]) for at in range(0, len(data), 3)]


def test_own_ratio() -> None:
    """Without an aspect ratio the picture has the first reference image's, or is square."""
    wide = draw(_ask("x", image(size=(160, 90))), longest=64)
    square = draw(_ask("x"), longest=64)
    assert _open(wide).width / _open(wide).height == pytest.approx(16 / 9, rel=0.05)
    assert _open(square).size == (64, 64)


@pytest.mark.parametrize(
    "prompt", ["", "word " * 3000, "x" * 5000, "東京 \u2013 großes Bild\n\nΩ", "[[fault:gzip]]"]
)
def test_any_prompt_can_be_drawn(prompt: str) -> None:
    """Long, empty, foreign and broken prompts make a picture too."""
    assert _open(draw(_ask(prompt, image()), longest=256)).size == (256, 191)


def test_broken_reference_is_a_card() -> None:
    """An image whose end is missing still leaves a picture."""
    assert draw(_ask("x", image(size=(300, 300))[:120]), longest=256).data


def test_realistic_latency_follows_the_model() -> None:
    """Models differ in their medians: Pro is slower than lite, and 4K slower than 1K."""
    assert (
        MODELS[PRO].size("1K").latency_s
        > MODELS["gemini-3.1-flash-lite-image"].size("1K").latency_s
    )
    assert MODELS[PRO].size("4K").latency_s > MODELS[PRO].size("1K").latency_s


def test_set_time_moves() -> None:
    """The tests' own clock moves both times alike."""
    time = SetTime()
    time.passed_s = 5
    assert time().utc() - time.began == timedelta(seconds=5)
