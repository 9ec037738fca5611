import base64
import gzip
import json
import zlib
from typing import Any

import pytest

from tests.loopback.simulator.client import FLASH, FLASH_25, PRO, calling, image, text, with_images

pytestmark = pytest.mark.loopback


def _part(**part: Any) -> dict[str, Any]:
    return {"contents": [{"parts": [part]}]}


UNKNOWN = {
    "at the top": (text("x") | {"foo": 1}, "", 'Unknown name "foo": Cannot find field.'),
    "in generationConfig": (
        text("x", foo=1),
        "generation_config",
        "Unknown name \"foo\" at 'generation_config': Cannot find field.",
    ),
    "in imageConfig": (
        text("x", imageConfig={"size": "2K"}),
        "generation_config.image_config",
        "Unknown name \"size\" at 'generation_config.image_config': Cannot find field.",
    ),
    "in a part": (
        _part(text="x", foo=1),
        "contents[0].parts[0]",
        "Unknown name \"foo\" at 'contents[0].parts[0]': Cannot find field.",
    ),
    "in inlineData": (
        _part(inline_data={"mimetypes": "image/png"}),
        "contents[0].parts[0].inline_data",
        "Unknown name \"mimetypes\" at 'contents[0].parts[0].inline_data': Cannot find field.",
    ),
    "aspectRatio outside of imageConfig": (
        text("x", aspectRatio="1:1"),
        "generation_config",
        "Unknown name \"aspectRatio\" at 'generation_config': Cannot find field.",
    ),
}


@pytest.mark.parametrize("case", UNKNOWN)
async def test_unknown_fields(case: str) -> None:
    """A field that the API does not have is a 400 that names it, in Google's words."""
    request, field, words = UNKNOWN[case]
    async with calling() as caller:
        got = await caller.post(request)
    violation = got.details("BadRequest")["fieldViolations"][0]
    assert (got.status, got.json["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert violation.get("field", "") == field
    assert got.message == violation["description"] == f"Invalid JSON payload received. {words}"


WRONG = {
    "a number for a text": (_part(text=5), "contents[0].parts[0].text", "(TYPE_STRING), 5"),
    "a text for a number": (
        text("x", temperature="hot"),
        "generation_config.temperature",
        '(TYPE_FLOAT), "hot"',
    ),
    "a fraction for a whole number": (
        text("x", seed=1.5),
        "generation_config.seed",
        "(TYPE_INT32), 1.5",
    ),
    "a seed past int32": (
        text("x", seed=2**31),
        "generation_config.seed",
        f"(TYPE_INT32), {2**31}",
    ),
    "a list for a message": (
        text("x") | {"generationConfig": [1]},
        "generation_config",
        "can't start list",
    ),
    "a text for a message": ({"contents": ["x"]}, "contents[0]", "can't be a scalar value"),
    "a modality that is none": (
        text("x", responseModalities=["PICTURE"]),
        "generation_config.response_modalities[0]",
        '(type.googleapis.com/google.ai.generativelanguage.v1beta.GenerationConfig.Modality), "PICTURE"',
    ),
    "a service tier that is none": (text("x") | {"serviceTier": "gold"}, "service_tier", '"gold"'),
    "bad base64": (
        _part(inlineData={"mimeType": "image/png", "data": "a*b"}),
        "contents[0].parts[0].inline_data.data",
        '(TYPE_BYTES), Base64 decoding failed for "a*b"',
    ),
    "text and image in one part": (
        _part(text="x", inlineData={"mimeType": "image/png", "data": "AAAA"}),
        "contents[0].parts[0]",
        "oneof field 'data' is already set. Cannot set 'inlineData'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
async def test_wrong_types(case: str) -> None:
    """A value of the wrong type is a 400 that names the field, the type and the value."""
    request, field, words = WRONG[case]
    async with calling() as caller:
        got = await caller.post(request)
    violation = got.details("BadRequest")["fieldViolations"][0]
    assert (got.status, violation["field"]) == (400, field)
    assert words in got.message


async def test_all_violations_in_one_body() -> None:
    """Several wrong fields are named together."""
    async with calling() as caller:
        got = await caller.post(text("x", foo=1, bar=2, temperature="hot"))
    assert len(got.details("BadRequest")["fieldViolations"]) == len(got.message.splitlines()) == 3


REFUSED: dict[str, tuple[Any, str]] = {
    "no body": (b"", "Expected a value."),
    "not JSON": (b'{"contents": [}', 'Expected a value.\n{"contents": [}\n              ^'),
    "not UTF-8": (b'{"contents": "\xff"}', "not valid UTF-8"),
    "too deep": (b"[" * 100_000, "Message too deep."),
    "NaN": (b'{"generationConfig": {"temperature": NaN}}', "Unexpected token."),
    "a lone surrogate": (text("\ud800"), "Illegal Unicode code point."),
    "no contents": ({}, "* GenerateContentRequest.contents: contents is not specified\n"),
    "empty contents": ({"contents": []}, "contents is not specified"),
    "no parts": (
        {"contents": [{"role": "user"}]},
        "contents[0].parts: contents.parts must not be empty.",
    ),
    "an empty part": (
        {"contents": [{"parts": [{}]}]},
        "required oneof field 'data' must have one initialized field",
    ),
    "an empty text": (text(""), "must have a text parameter"),
    "a role that is none": (
        {"contents": [{"role": "boss", "parts": [{"text": "x"}]}]},
        "Please use a valid role",
    ),
    "two candidates": (
        text("x", candidateCount=2),
        "Multiple candidates is not enabled for this model",
    ),
    "a temperature of 3": (text("x", temperature=3), "must be in the range [0.0, 2.0]"),
    "text alone": (
        text("x", responseModalities=["TEXT"]),
        "accepts the following combination of response modalities",
    ),
    "audio": (
        text("x", responseModalities=["IMAGE", "AUDIO"]),
        "requested combination of response modalities",
    ),
    "an image for a response type": (
        text("x", responseMimeType="image/png"),
        "allowed mimetypes are `text/plain`",
    ),
    "an aspect ratio": (
        text("x", imageConfig={"aspectRatio": "4:5x"}),
        "aspect_ratio must be one of '1:1', '16:9'",
    ),
    "a small k": (
        text("x", imageConfig={"imageSize": "2k"}),
        "image_size must be one of '1K', '2K', '4K'",
    ),
    "no MIME type": (
        _part(inlineData={"data": base64.b64encode(image()).decode()}),
        "empty mimeType parameter",
    ),
    "a bitmap": (
        with_images("x", image(form="BMP"), mime_type="image/bmp"),
        "Unsupported MIME type: image/bmp",
    ),
    "bytes that are no image": (
        with_images("x", b"hello"),
        "Unable to process input image. Please retry or report in",
    ),
    "an empty image": (with_images("x", b""), "Unable to process input image."),
    "15 images": (
        with_images("x", *[image()] * 15),
        "Too many images in the request: got 15, at most 14",
    ),
    "a file without a scheme": (
        _part(fileData={"fileUri": "a.png"}),
        "Invalid or unsupported file uri: a.png",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_refused(case: str) -> None:
    """A request that breaks a rule of the model is a 400 INVALID_ARGUMENT that says which."""
    request, words = REFUSED[case]
    async with calling() as caller:
        got = await caller.post(request)
    assert (got.status, got.json["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert words in got.message


ACCEPTED = {
    "null for what is not meant": {
        "contents": [{"parts": [{"text": "x", "inlineData": None}]}],
        "generationConfig": None,
    },
    "snake_case": {
        "contents": [{"parts": [{"text": "x"}]}],
        "generation_config": {
            "response_modalities": ["IMAGE"],
            "image_config": {"aspect_ratio": "16:9", "image_size": "2K"},
        },
        "system_instruction": {"parts": {"text": "be kind"}},
    },
    "both forms mixed": {
        "contents": [{"parts": [{"text": "x"}]}],
        "generationConfig": {
            "response_modalities": ["TEXT", "IMAGE"],
            "imageConfig": {"aspect_ratio": "1:1"},
        },
    },
    "one content in place of a list": {"contents": {"parts": {"text": "x"}}},
    "everything that is documented": {
        "contents": [{"role": "user", "parts": [{"text": "x", "thoughtSignature": "AAAA"}]}],
        "tools": [{"googleSearch": {}}],
        "toolConfig": {},
        "safetySettings": [{"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "BLOCK_NONE"}],
        "serviceTier": "flex",
        "generationConfig": {
            "candidateCount": 1,
            "temperature": 2,
            "topP": 0.5,
            "topK": 3,
            "seed": -5,
            "maxOutputTokens": 4000,
            "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "high"},
            "mediaResolution": "MEDIA_RESOLUTION_LOW",
        },
    },
    "URIs": {
        "contents": [
            {
                "parts": [
                    {"text": "x"},
                    {"fileData": {"fileUri": "https://example.com/a.png", "mimeType": "image/png"}},
                    {
                        "file_data": {
                            "file_uri": "https://generativelanguage.googleapis.com/v1beta/files/abc"
                        }
                    },
                ]
            }
        ]
    },
    "an HEIC image": with_images("x", b"\0\0\0\x18ftypheic" + bytes(40), mime_type="image/heic"),
    "14 images": with_images("x", *[image()] * 14),
    "a JPEG": with_images("x", image(form="JPEG"), mime_type="image/jpeg"),
    "a WebP": with_images("x", image(form="WEBP"), mime_type="image/webp"),
}


@pytest.mark.parametrize("case", ACCEPTED)
@pytest.mark.parametrize("version", ["v1beta", "v1"])
async def test_accepted(case: str, version: str) -> None:
    """What the API documents is answered with a picture, on both versions."""
    async with calling() as caller:
        got = await caller.post(ACCEPTED[case], version=version)
    assert got.status == 200, got.body
    assert len(got.pictures()) == 1


async def test_base64_in_every_form() -> None:
    """Base64 is read in either alphabet, padded or not, as proto's JSON does."""
    data = base64.b64encode(image("blue", (33, 31)))
    forms = [data, data.rstrip(b"="), base64.urlsafe_b64encode(image("blue", (33, 31)))]
    async with calling() as caller:
        statuses = [
            (
                await caller.post(
                    _part(inlineData={"mimeType": "image/png", "data": form.decode()})
                )
            ).status
            for form in forms
        ]
    assert statuses == [200, 200, 200]


async def test_sizes_per_model() -> None:
    """`512` and `8:1` are of one model and not of another; the oldest model ignores any size."""
    small, wide = (
        text("x", imageConfig={"imageSize": "512"}),
        text("x", imageConfig={"aspectRatio": "8:1"}),
    )
    async with calling() as caller:
        found = {
            (model, name): (await caller.post(request, model=model)).status
            for model in (PRO, FLASH, FLASH_25)
            for name, request in (("512", small), ("8:1", wide))
        }
    assert found == {
        (PRO, "512"): 400,
        (PRO, "8:1"): 400,
        (FLASH, "512"): 200,
        (FLASH, "8:1"): 200,
        (FLASH_25, "512"): 200,
        (FLASH_25, "8:1"): 400,
    }


NANO, LITE = "gemini-nano-banana-2.1", "gemini-3.1-flash-lite-image"
PRO_NAMES = [PRO, "gemini-3-pro-image", "nano-banana-pro-preview"]
EVERY = [*PRO_NAMES, FLASH, LITE, NANO, FLASH_25]


def thinks(level: str) -> dict[str, Any]:
    """Return a request that asks for a level of thinking."""
    return text("x", thinkingConfig={"thinkingLevel": level})


OF_MODELS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "seed": (text("x", seed=1), [NANO]),
    "temperature": (text("x", temperature=1), [NANO]),
    "topP": (text("x", topP=0.5), [NANO]),
    "topK": (text("x", topK=3), [NANO]),
    "logprobs": (text("x", responseLogprobs=True, logprobs=1), [NANO]),
    "candidateCount": (text("x", candidateCount=1), [NANO]),
    "thinkingBudget": (text("x", thinkingConfig={"thinkingBudget": 99}), [NANO]),
    "minimal": (thinks("MINIMAL"), []),
    "low": (thinks("LOW"), [FLASH, LITE, NANO]),
    "medium": (thinks("medium"), [FLASH, LITE]),
    "high": (thinks("HIGH"), []),
    "unspecified": (thinks("THINKING_LEVEL_UNSPECIFIED"), []),
    "googleSearch": (text("x") | {"tools": [{"googleSearch": {}}]}, [LITE]),
    "google_search": (text("x") | {"tools": {"google_search": {}}}, [LITE]),
    "codeExecution": (text("x") | {"tools": [{"codeExecution": {}}]}, EVERY),
    "cachedContent": (text("x") | {"cachedContent": "cachedContents/a"}, EVERY),
    "8:1": (
        text("x", imageConfig={"aspectRatio": "8:1"}),
        [*PRO_NAMES, LITE, FLASH_25],
    ),
    "2K": (text("x", imageConfig={"imageSize": "2K"}), [LITE]),
    "512": (text("x", imageConfig={"imageSize": "512"}), [*PRO_NAMES, LITE, NANO]),
    "a PDF": (
        with_images("x", b"%PDF-1.7", mime_type="application/pdf"),
        [*PRO_NAMES, LITE, FLASH_25],
    ),
    "a video": (
        with_images("x", b"....ftypmp42", mime_type="video/mp4"),
        [*PRO_NAMES, LITE, FLASH_25],
    ),
    "labels": (text("x") | {"labels": {"team": "a"}}, []),
    "UNSPECIFIED": (text("x") | {"serviceTier": "unspecified"}, []),
}


@pytest.mark.parametrize("case", OF_MODELS)
async def test_what_single_models_refuse(case: str) -> None:
    """Settings, tools and inputs that one model takes and another refuses, as the API does."""
    request, refusing = OF_MODELS[case]
    async with calling() as caller:
        statuses = {name: (await caller.post(request, model=name)).status for name in EVERY}
    assert statuses == {name: 400 if name in refusing else 200 for name in EVERY}


async def test_too_large() -> None:
    """A body past the limit is refused in Google's words, and read to its end so that the answer arrives."""
    async with calling(max_request_bytes=100_000) as caller:
        got = await caller.post(json.dumps(text("x" * 3_000_000)).encode())
        again = await caller.ask("x")
    assert (got.status, got.message) == (
        400,
        "Request payload size exceeds the limit: 100000 bytes.",
    )
    assert again.status == 200


async def test_missing_key() -> None:
    """A request without a key is a 403."""
    async with calling() as caller:
        got = await caller.post(text("x"), headers={})
    assert (got.status, got.json["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert "unregistered callers" in got.message


@pytest.mark.parametrize("headers", [{"x-goog-api-key": "other"}, {"x-goog-api-key": "with space"}])
async def test_wrong_key(headers: dict[str, str]) -> None:
    """A key that is not the one, or that no key looks like, is a 400 with ErrorInfo API_KEY_INVALID."""
    async with calling(key="the-one") as caller:
        got = await caller.post(text("x"), headers=headers)
    assert (got.status, got.json["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert got.details("ErrorInfo")["reason"] == "API_KEY_INVALID"
    assert got.message.startswith("API key not valid.")


async def test_token_in_place_of_a_key() -> None:
    """An OAuth token is a 401: this server knows none."""
    async with calling() as caller:
        got = await caller.post(text("x"), headers={"Authorization": "Bearer abc"})
    assert (got.status, got.json["error"]["status"]) == (401, "UNAUTHENTICATED")


async def test_key_in_the_url() -> None:
    """`?key=` works like the header."""
    async with calling(key="the-one") as caller:
        good = await caller.post(text("x"), headers={}, query="?key=the-one")
        bad = await caller.post(text("x"), headers={}, query="?key=other")
    assert (good.status, bad.status) == (200, 400)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_compressed_request(coding: str) -> None:
    """A request may be compressed; its size is that of what it grows to, and counts while it grows."""
    pack = gzip.compress if coding == "gzip" else zlib.compress
    good, bomb = pack(json.dumps(text("x")).encode()), pack(bytes(50_000_000))
    headers = {"x-goog-api-key": "any", "Content-Encoding": coding}
    async with calling(max_request_bytes=1000) as caller:
        got, large = (
            await caller.post(good, headers=headers),
            await caller.post(bomb, headers=headers),
        )
    assert (got.status, large.status, large.message) == (
        200,
        400,
        "Request payload size exceeds the limit: 1000 bytes.",
    )


@pytest.mark.parametrize(
    ("coding", "body", "words"),
    [
        ("gzip", b"x" * 1_000_000, "The request's body is not gzip, as its Content-Encoding says."),
        (
            "gzip",
            gzip.compress(b"{}")[:-4],
            "The request's body is not gzip, as its Content-Encoding says.",
        ),
        (
            "gzip",
            gzip.compress(b"{}") + b"{}",
            "The request's body is not gzip, as its Content-Encoding says.",
        ),
        ("br", b"x", "Content-Encoding 'br' is not supported; allowed: gzip, deflate"),
    ],
    ids=["not at all", "cut", "and more", "unknown"],
)
async def test_falsely_marked_body(coding: str, body: bytes, words: str) -> None:
    """A body that is not what its headers say is a 400 on a connection that goes on."""
    async with calling() as caller:
        got = await caller.post(body, headers={"x-goog-api-key": "any", "Content-Encoding": coding})
    assert (got.status, got.message, got.headers.get("Connection")) == (400, words, None)


@pytest.mark.parametrize("version", ["v1beta", "v1"])
async def test_unknown_model(version: str) -> None:
    """A model that is not served is a 404 that names it and the version."""
    async with calling() as caller:
        got = await caller.ask("x", model="gemini-9", version=version)
    assert (got.status, got.json["error"]["status"]) == (404, "NOT_FOUND")
    assert got.message.startswith(
        f"models/gemini-9 is not found for API version {version}, or is not supported"
    )


async def test_unknown_path() -> None:
    """Any other path is Google's HTML page."""
    async with (
        calling() as caller,
        caller.session.get(f"{caller.simulator.base_url}/v2/models") as response,
    ):
        assert (response.status, response.content_type) == (404, "text/html")


async def test_server_timeout_header() -> None:
    """`X-Server-Timeout` asks for a 504 after that time."""
    async with calling(latency_s=5) as caller:
        got = await caller.post(
            text("x"), headers={"x-goog-api-key": "any", "X-Server-Timeout": "0.02"}
        )
    assert (got.status, got.json["error"]["status"]) == (504, "DEADLINE_EXCEEDED")
