import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.client import request_json
from gemini_batch.records import (
    InputImage,
    InputUri,
    Part,
    Request,
    Text,
    exact_json,
    media_types,
    raw_request,
)

MODEL = "gemini-3-pro-image-preview"
PERSON_1 = InputImage("1.png", "/in/1.png", "image/png", 4, 0, "")
PERSON_2 = InputImage("2.png", "/in/2.png", "image/png", 6, 0, "")
PHOTO = InputImage("a.jpg", "/in/a.jpg", "image/jpeg", 5, 0, "")
CONTENT = {"/in/1.png": b"face", "/in/2.png": b"a face", "/in/a.jpg": b"photo"}


def sent(request: Request) -> bytes:
    """Return the whole body, encoded by another library than the client's."""
    pieces = request_json.body(request)
    return b"".join(
        piece if isinstance(piece, bytes) else base64.b64encode(CONTENT[piece.file])
        for piece in pieces
    )


def inline(image: InputImage) -> dict[str, Any]:
    """Return the expected part of an image."""
    data = base64.b64encode(CONTENT[image.file]).decode()
    return {"inlineData": {"mimeType": image.mime_type, "data": data}}


@pytest.mark.parametrize(
    "number",
    ["123456789012345678901234", "-9223372036854775809", "0.1000000000000000055", "1e-400"],
)
def test_a_number_of_a_raw_request_is_sent_as_it_stands(number: str) -> None:
    """Whole numbers beyond 64 bits and long decimals are not rounded."""
    text = f'{{"contents":[{{"role":"user","parts":[{{"text":"x"}}]}}],"labels":{{"n":{number}}}}}'.encode()
    raw = raw_request.parse(exact_json.loads(text))
    assert sent(Request(MODEL, raw=raw)) == text


USE_CASES: dict[str, tuple[Request, Any]] = {
    "text to image": (
        Request(MODEL, (Text("A serene mountain landscape at sunset"),)),
        {
            "contents": [
                {"role": "user", "parts": [{"text": "A serene mountain landscape at sunset"}]}
            ],
            "generationConfig": {"responseModalities": ["IMAGE"]},
        },
    ),
    "editing": (
        Request(MODEL, (PERSON_1, Text("Add a rainbow in the sky"))),
        {
            "contents": [
                {"role": "user", "parts": [inline(PERSON_1), {"text": "Add a rainbow in the sky"}]}
            ],
            "generationConfig": {"responseModalities": ["IMAGE"]},
        },
    ),
    "style transfer": (
        Request(
            MODEL,
            (PHOTO, Text("Transform this into Van Gogh's Starry Night style")),
            modalities=("TEXT", "IMAGE"),
        ),
        {
            "contents": [
                {
                    "role": "user",
                    "parts": [
                        inline(PHOTO),
                        {"text": "Transform this into Van Gogh's Starry Night style"},
                    ],
                },
            ],
            "generationConfig": {"responseModalities": ["TEXT", "IMAGE"]},
        },
    ),
    "composition": (
        Request(
            MODEL,
            (Text("Create a group photo of these people"), PERSON_1, PERSON_2),
            aspect_ratio="16:9",
        ),
        {
            "contents": [
                {
                    "role": "user",
                    "parts": [
                        {"text": "Create a group photo of these people"},
                        inline(PERSON_1),
                        inline(PERSON_2),
                    ],
                }
            ],
            "generationConfig": {
                "responseModalities": ["IMAGE"],
                "imageConfig": {"aspectRatio": "16:9"},
            },
        },
    ),
    "all settings": (
        Request(
            MODEL,
            (Text('Say "Grüße" 🎨\n'),),
            system="Draw flat.",
            aspect_ratio="4:5",
            image_size="2K",
            seed=-7,
            temperature=0.5,
        ),
        {
            "contents": [{"role": "user", "parts": [{"text": 'Say "Grüße" 🎨\n'}]}],
            "systemInstruction": {"parts": [{"text": "Draw flat."}]},
            "generationConfig": {
                "responseModalities": ["IMAGE"],
                "imageConfig": {"aspectRatio": "4:5", "imageSize": "2K"},
                "seed": -7,
                "temperature": 0.5,
            },
        },
    ),
    "the default size": (
        Request(MODEL, (Text("x"),), image_size="1K", aspect_ratio="1:1"),
        {
            "contents": [{"role": "user", "parts": [{"text": "x"}]}],
            "generationConfig": {
                "responseModalities": ["IMAGE"],
                "imageConfig": {"aspectRatio": "1:1"},
            },
        },
    ),
    "thinking": (
        Request(MODEL, (Text("x"),), image_size="1K", thinking="minimal"),
        {
            "contents": [{"role": "user", "parts": [{"text": "x"}]}],
            "generationConfig": {
                "responseModalities": ["IMAGE"],
                "thinkingConfig": {"thinkingLevel": "MINIMAL"},
            },
        },
    ),
    "zero is a setting": (
        Request(MODEL, (Text("x"),), seed=0, temperature=0.0),
        {
            "contents": [{"role": "user", "parts": [{"text": "x"}]}],
            "generationConfig": {"responseModalities": ["IMAGE"], "seed": 0, "temperature": 0.0},
        },
    ),
    "size alone": (
        Request(MODEL, (Text("x"),), image_size="4K"),
        {
            "contents": [{"role": "user", "parts": [{"text": "x"}]}],
            "generationConfig": {
                "responseModalities": ["IMAGE"],
                "imageConfig": {"imageSize": "4K"},
            },
        },
    ),
    "URIs": (
        Request(
            MODEL,
            (
                InputUri("https://x.test/a.png", "image/png"),
                InputUri("https://x.test/b"),
                Text("x"),
            ),
        ),
        {
            "contents": [
                {
                    "role": "user",
                    "parts": [
                        {"fileData": {"mimeType": "image/png", "fileUri": "https://x.test/a.png"}},
                        {"fileData": {"fileUri": "https://x.test/b"}},
                        {"text": "x"},
                    ],
                }
            ],
            "generationConfig": {"responseModalities": ["IMAGE"]},
        },
    ),
}


@pytest.mark.parametrize("name", USE_CASES)
def test_each_use_case_is_sent_as_documented(name: str) -> None:
    """Each use case of the API's reference becomes its documented body, of the announced length."""
    request, expected = USE_CASES[name]

    body = sent(request)

    assert expected == json.loads(body)
    assert len(body) == request_json.content_length(request_json.body(request))


def test_a_smaller_copy_is_sent_in_place_of_its_original() -> None:
    """Type, content and length are the copy's."""
    request = Request(MODEL, (replace(PERSON_1, max_pixels=1, downscaled=PHOTO),))

    body = sent(request)

    assert json.loads(body)["contents"][0]["parts"] == [inline(PHOTO)]
    assert len(body) == request_json.content_length(request_json.body(request))


def test_a_raw_request_is_sent_as_it_stands() -> None:
    """A raw request keeps its spelling, its order and unknown fields; a content without a role gets the default one."""
    raw = {
        "generation_config": {"brandNew": [1, 2.5, None]},
        "contents": [{"parts": [{"text": "ü"}]}, {"role": "model", "parts": []}],
    }

    body = sent(Request(MODEL, raw=raw_request.parse(raw)))

    assert (
        '{"generation_config":{"brandNew":[1,2.5,null]},"contents":'
        '[{"role":"user","parts":[{"text":"ü"}]},{"role":"model","parts":[]}]}'.encode()
        == body
    )


def test_a_raw_request_with_one_content_keeps_its_shape() -> None:
    """As Vertex AI's own samples write it: an object, not a list; what is no content at all is left to the server."""
    for contents, expected in (
        ({"parts": {"text": "x"}}, {"role": "user", "parts": {"text": "x"}}),
        ("x", "x"),
        (["x"], ["x"]),
    ):
        body = sent(Request(MODEL, raw=raw_request.parse({"contents": contents})))

        assert json.loads(body) == {"contents": expected}


def test_a_request_of_texts_is_one_piece() -> None:
    """A body without images is one piece; with one it is three, and the image is a file."""
    assert [bytes] == [
        type(piece)
        for piece in request_json.body(Request(MODEL, (Text("a"), Text("b")), system="c"))
    ]
    assert [bytes, InputImage, bytes] == [
        type(piece)
        for piece in request_json.body(Request(MODEL, (Text("a"), PHOTO, Text("b")), system="c"))
    ]


@given(st.integers(0, 10_000))
def test_the_length_of_base64_is_known_before(size_bytes: int) -> None:
    """The length of an image's base64 is exact for every size."""
    assert len(base64.b64encode(bytes(size_bytes))) == media_types.base64_bytes(size_bytes)


PARTS = st.one_of(
    st.text().map(Text),
    st.sampled_from([PERSON_1, PERSON_2, PHOTO]),
    st.builds(InputUri, st.text(), st.none() | st.text()),
)


@given(parts=st.lists(PARTS), system=st.none() | st.text(), temperature=st.none() | st.floats(0, 2))
def test_any_request_is_json_in_the_written_order(
    parts: list[Part], system: str | None, temperature: float | None
) -> None:
    """Any request is valid JSON of the announced length, with all parts in order."""
    request = Request(MODEL, tuple(parts), system=system, temperature=temperature)

    body = sent(request)
    sent_parts = json.loads(body)["contents"][0]["parts"]

    kinds: dict[type, str] = {Text: "text", InputImage: "inlineData", InputUri: "fileData"}
    assert [kinds[type(part)] for part in parts] == [next(iter(part)) for part in sent_parts]
    assert [part.text for part in parts if isinstance(part, Text)] == [
        part["text"] for part in sent_parts if "text" in part
    ]
    assert len(body) == request_json.content_length(request_json.body(request))


def test_no_image_is_read(tmp_path: Path) -> None:
    """Building the body and its length does not read the image's file."""
    missing = InputImage("a", str(tmp_path / "missing"), "image/png", 10, 0, "")

    pieces = request_json.body(Request(MODEL, (missing,)))

    assert missing == pieces[1]
    assert sum(
        len(piece) for piece in pieces if isinstance(piece, bytes)
    ) + 16 == request_json.content_length(pieces)


@pytest.mark.parametrize(
    ("base_url", "model", "expected"),
    [
        ("https://x.test", "m", "https://x.test/v1beta/models/m:generateContent"),
        ("https://x.test/v1", "m", "https://x.test/v1/models/m:generateContent"),
        ("https://x.test/v1beta", "m", "https://x.test/v1beta/models/m:generateContent"),
        ("https://x.test/v1alpha", "m", "https://x.test/v1alpha/models/m:generateContent"),
        ("https://x.test/v1beta2", "m", "https://x.test/v1beta2/models/m:generateContent"),
        ("https://x.test/gw/tv1", "m", "https://x.test/gw/tv1/v1beta/models/m:generateContent"),
        (
            "https://aiplatform.googleapis.com/v1/publishers/google",
            "m",
            "https://aiplatform.googleapis.com/v1/publishers/google/models/m:generateContent",
        ),
        (
            "https://x.test/v1/ACCOUNT/GATEWAY/google-ai-studio",
            "m",
            "https://x.test/v1/ACCOUNT/GATEWAY/google-ai-studio/models/m:generateContent",
        ),
        ("https://v1", "m", "https://v1/v1beta/models/m:generateContent"),
        ("https://x.test/v1x", "m", "https://x.test/v1x/v1beta/models/m:generateContent"),
        (
            "http://[::1]:80",
            "a/b?c#d e",
            "http://[::1]:80/v1beta/models/a%2Fb%3Fc%23d%20e:generateContent",
        ),
    ],
)
def test_the_address(base_url: str, model: str, expected: str) -> None:
    """The URL has one version, the base URL's if it has one, and a model can't change the path."""
    assert expected == request_json.url(base_url, model)


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://x.test", "https://x.test/upload/v1beta/files"),
        ("https://x.test/v1", "https://x.test/upload/v1/files"),
        ("https://x.test/gw/v1beta", "https://x.test/gw/upload/v1beta/files"),
        ("https://v1.test/gw", "https://v1.test/gw/upload/v1beta/files"),
        ("https://x.test/v1/gw", "https://x.test/upload/v1/gw/files"),
        ("http://[::1]:80", "http://[::1]:80/upload/v1beta/files"),
    ],
)
def test_an_upload_begins_in_front_of_the_version(base_url: str, expected: str) -> None:
    """All routes have the same version; that of uploads has `upload` before it."""
    assert request_json.upload_url(base_url) == expected
    version = request_json.versioned(base_url)
    assert request_json.batch_url(base_url, "a/b") == f"{version}/models/a%2Fb:batchGenerateContent"
    assert request_json.resource_url(base_url, "files/a") == f"{version}/files/a"


def test_a_line_of_a_batch_is_its_key_and_the_body_of_the_call() -> None:
    """A line is one line of JSON, whose request is what is sent for an interactive call."""
    for request in (
        Request(MODEL, (Text('a "b"\n\u2028'), PHOTO, Text("c")), system="d"),
        Request(MODEL, (PHOTO,)),
        Request(MODEL, (Text("a"),), image_size="4K", seed=1),
    ):
        pieces = request_json.line('0."é', request)
        body = b"".join(b"@" if isinstance(each, InputImage) else each for each in pieces)
        alone = b"".join(
            b"@" if isinstance(each, InputImage) else each for each in request_json.body(request)
        )
        assert body == b'{"key":%b,"request":%b}\n' % (orjson.dumps('0."é'), alone)
        assert body.count(b"\n") == 1
        assert orjson.loads(body) == {"key": '0."é', "request": orjson.loads(alone)}
        size_bytes = request_json.content_length(request_json.body(request))
        assert request_json.content_length(pieces) == size_bytes + len(body) - len(alone)
