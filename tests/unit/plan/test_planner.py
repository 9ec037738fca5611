from dataclasses import replace
from typing import Any

import pytest

from gemini_batch.catalog.models import DEFAULT_MODEL
from gemini_batch.plan import (
    Planner,
    request_sha256,
)
from gemini_batch.plan.canonical import CANONICAL_TAG, canonical, image_size, prompt_text
from gemini_batch.records import (
    Call,
    InputUri,
    Request,
    Text,
    exact_json,
    media_types,
    raw_request,
)
from tests.unit.plan.jobs import (
    LARGE,
    PLANNER,
    SMALL,
    expanded,
    job,
    refusal,
    request,
    resolve,
)

NANO = "gemini-nano-banana-2.1"

# --- the canonical request ---

GOLDEN = {
    "prompt": (
        Request("m", (Text("A cute robot"),)),
        b'{"model":"m","parts":[{"text":"A cute robot"}]}',
        "79c33405ebbd22b914284878b0cfe0fe591e07e3ad5b6020feb8bcd38a5a35fa",
    ),
    "all fields": (
        Request(
            "m",
            (SMALL, Text("é"), InputUri("https://x/a", "image/png")),
            "s",
            ("TEXT", "IMAGE"),
            "16:9",
            "2K",
            0,
            1.0,
        ),
        b'{"aspect_ratio":"16:9","image_size":"2K","modalities":["IMAGE","TEXT"],"model":"m","parts":[{"sha256":"'
        + b"ab" * 32
        + b'"},{"text":"\xc3\xa9"},{"uri":"https://x/a"}],"seed":0,"system":"s","temperature":1.0}',
        "296d081638780e12fb4807d1453effab918cd3fa7f3120dd39aa1b3a45f7861e",
    ),
    "smaller image": (
        Request("m", (LARGE, SMALL)),
        b'{"model":"m","parts":[{"max_pixels":1000000,"sha256":"'
        + b"ef" * 32
        + b'"},{"sha256":"'
        + b"ab" * 32
        + b'"}]}',
        "5e097b28b46769d6f53dae89b83e1fb2c54debe9b11bc9761a32bf969004ac24",
    ),
    "raw": (
        Request(
            "m",
            raw=raw_request.parse(
                {
                    "generationConfig": {"b": 1, "a": [2, None]},
                    "contents": [{"parts": [{"text": "x"}]}],
                }
            ),
        ),
        b'{"model":"m","raw":{"contents":[{"parts":[{"text":"x"}]}],"generationConfig":{"a":[2,null],"b":1}}}',
        "69d6f318af0dafa8f0f3b9ea49a1394ba1b7d5cf860082f2151f69187f4b865f",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_canonical_request_never_changes(name: str) -> None:
    """These bytes decide whether a call was paid for: they never change without a new tag."""
    asked, form, digest = GOLDEN[name]
    assert canonical(asked) == b"gemini_batch request 1\n" + form
    assert request_sha256(asked) == digest


def test_defaults_are_left_out_of_the_canonical_request() -> None:
    """A request that writes out a default is the same request."""
    plain = Request("m", (Text("x"),))
    assert canonical(replace(plain, image_size="1K", modalities=("IMAGE",))) == canonical(plain)
    assert canonical(replace(plain, modalities=("IMAGE", "TEXT"))) == canonical(
        replace(plain, modalities=("TEXT", "IMAGE"))
    )


def test_content_counts_and_not_the_path() -> None:
    """A moved image is the same image; an edited one is not."""
    moved = replace(SMALL, path="b.png", file="/b.png", mtime_ns=9)
    assert canonical(Request("m", (moved,))) == canonical(Request("m", (SMALL,)))
    assert canonical(Request("m", (replace(SMALL, sha256="cd" * 32),))) != canonical(
        Request("m", (SMALL,))
    )


def test_the_bytes_of_a_downscaled_copy_do_not_count() -> None:
    """The original and the number of pixels count, so a newer Pillow makes the same request."""
    copy = replace(SMALL, sha256="cd" * 32)
    assert canonical(Request("m", (replace(LARGE, downscaled=copy),))) == canonical(
        Request("m", (LARGE,))
    )
    assert canonical(Request("m", (replace(LARGE, max_pixels=999_999),))) != canonical(
        Request("m", (LARGE,))
    )
    assert canonical(Request("m", (replace(LARGE, max_pixels=None),))) != canonical(
        Request("m", (LARGE,))
    )


DIFFERENT: list[dict[str, Any]] = [
    {"prompt": "x"},
    {"prompt": "y"},
    {"prompt": "x", "model": "other"},
    {"prompt": "x", "images": ["a.png"]},
    {"prompt": "x", "images": ["a.png", "a.png"]},
    {"parts": [{"text": "x"}, {"image": "a.png"}]},
    {"parts": [{"text": "x"}, {"text": "x"}]},
    {"prompt": "x", "images": ["https://x/a"]},
    {"prompt": "x", "system": "x"},
    {"prompt": "x", "aspect_ratio": "1:1"},
    {"prompt": "x", "image_size": "2K"},
    {"prompt": "x", "modalities": ["TEXT", "IMAGE"]},
    {"prompt": "x", "seed": 0},
    {"prompt": "x", "temperature": 0.0},
    {"prompt": "x", "temperature": 1.0},
    {"prompt": "x", "thinking": "minimal", "model": NANO},
    {"prompt": "x", "thinking": "high", "model": NANO},
    {"prompt": "x", "model": NANO},
    {"request": {"contents": [{"parts": [{"text": "x"}]}]}},
    {"request": {"contents": [{"parts": [{"text": "x"}]}], "model": "models/other"}},
]


def test_every_field_of_a_request_counts() -> None:
    """No two of these are the same request."""
    assert len({request_sha256(request(**fields)) for fields in DIFFERENT}) == len(DIFFERENT)


def test_metadata_and_variants_do_not_count() -> None:
    """Data that is not sent, and the number of calls, do not change the request."""
    calls = expanded(job(prompt="x", variants=3, metadata={"a": 1}), 1)
    assert {call.request_sha256 for call in calls} == {request_sha256(request(prompt="x"))}


# --- what a model refuses ---

RAW = {"contents": [{"parts": [{"text": "x"}]}]}
LITE, FLASH = "gemini-3.1-flash-lite-image", "gemini-3.1-flash-image"
TEN_SHAPES = "1:1, 16:9, 9:16, 4:3, 3:4, 5:4, 4:5, 2:3, 3:2, 21:9"
REFUSED_BY: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"model": NANO, "seed": 0}, f"seed: {NANO} refuses it: leave it out"),
    "temperature": (
        {"model": NANO, "temperature": 0.0},
        f"temperature: {NANO} refuses it: leave it out",
    ),
    "a level that it lacks": (
        {"model": NANO, "thinking": "low"},
        f'thinking: got "low"; {NANO} offers minimal, medium, high: leave it out for the model\'s own',
    ),
    "a level of another model": (
        {"model": FLASH, "thinking": "medium"},
        f'thinking: got "medium"; {FLASH} offers minimal, high: leave it out for the model\'s own',
    ),
    "a level where thinking is fixed": (
        {"thinking": "high"},
        f'thinking: got "high"; {DEFAULT_MODEL} offers no level: leave it out for the model\'s own',
    ),
    "a shape": (
        {"model": LITE, "aspect_ratio": "8:1"},
        f'aspect_ratio: got "8:1"; {LITE} offers {TEN_SHAPES}: use one of these, or write a raw "request"',
    ),
}
RAW_REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "seed": (NANO, {"generationConfig": {"seed": 1}}, "seed"),
    "snake case": (NANO, {"generation_config": {"top_k": 1}}, "top_k"),
    "topP": (NANO, {"generationConfig": {"topP": 1}}, "top_p"),
    "candidateCount": (NANO, {"generationConfig": {"candidateCount": 1}}, "candidate_count"),
    "responseLogprobs": (
        NANO,
        {"generationConfig": {"responseLogprobs": True}},
        "response_logprobs",
    ),
    "thinkingBudget": (
        NANO,
        {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}},
        "thinking_budget",
    ),
    "googleSearch": (LITE, {"tools": [{"googleSearch": {}}]}, "google_search"),
    "codeExecution": (FLASH, {"tools": [{"codeExecution": {}}]}, "code_execution"),
    "cachedContent": (FLASH, {"cachedContent": "cachedContents/x"}, "cached_content"),
}


@pytest.mark.parametrize("name", REFUSED_BY)
def test_what_the_model_refuses_is_refused_before_anything_is_sent(name: str) -> None:
    """The field, the model, and what to do."""
    fields, message = REFUSED_BY[name]
    assert refusal(prompt="x", **fields) == [f"jobs.jsonl:17: {message}"]


@pytest.mark.parametrize("name", RAW_REFUSED)
def test_a_raw_request_has_nothing_that_the_model_refuses(name: str) -> None:
    """Either spelling is read; null counts as absent."""
    model, more, found = RAW_REFUSED[name]
    expected = [f"jobs.jsonl:17: request: has {found}, which {model} refuses: leave it out"]
    assert refusal(request=RAW | more, model=model) == expected


def test_a_raw_request_asks_for_a_level_that_the_model_has() -> None:
    """A level is read in any case; where the levels are not documented, any passes."""
    low = RAW | {"generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW"}}}
    expected = (
        f'jobs.jsonl:17: request: has the thinkingLevel "low"; {NANO} offers minimal, medium, high'
    )
    assert refusal(request=low, model=NANO) == [expected]
    assert request(request=low).raw is not None
    for level in ("HIGH", "minimal", "THINKING_LEVEL_UNSPECIFIED"):
        config = {"thinkingConfig": {"thinkingLevel": level}}
        assert request(request=RAW | {"generationConfig": config}, model=NANO).raw is not None


@pytest.mark.parametrize("model", ["gemini-9-image", DEFAULT_MODEL, FLASH])
def test_other_models_take_seed_and_temperature(model: str) -> None:
    """Only what is known to be refused is refused."""
    asked = request(prompt="x", model=model, seed=1, temperature=1.0)
    assert (asked.seed, asked.temperature) == (1, 1.0)
    nulls = {"generationConfig": {"seed": None}}
    assert request(request=RAW | nulls, model=NANO).model == NANO


@pytest.mark.parametrize("level", ["minimal", "medium", "high"])
def test_a_level_is_in_the_request_and_in_its_estimate(level: str) -> None:
    """More thinking costs more, by field or raw, and is another request."""
    raw = {"generationConfig": {"thinkingConfig": {"thinkingLevel": level.upper()}}}
    for asked in (
        request(prompt="x", model=NANO, thinking=level),
        request(request=RAW | raw, model=NANO),
    ):
        tokens = {"minimal": 200, "medium": 900, "high": 1800}[level]
        assert PLANNER.estimate(asked).output_tokens == 1120 + tokens


# --- one job ---


def test_images_go_before_the_prompt() -> None:
    """The order is images, then prompt; with `parts`, their own."""
    image = replace(SMALL, path="a.png")
    assert request(prompt="x", images=["a.png", "https://x/b"]).parts == (
        image,
        InputUri("https://x/b"),
        Text("x"),
    )
    parts = [{"text": "x"}, {"image": "a.png"}, {"text": "y"}]
    assert request(parts=parts).parts == (Text("x"), image, Text("y"))


def test_request_has_all_fields_of_its_job() -> None:
    """A request has the fields of its line; the model is the run's if the line has none."""
    fields: dict[str, Any] = {
        "system": "s",
        "aspect_ratio": "21:9",
        "image_size": "4K",
        "seed": 7,
        "temperature": 0.5,
    }
    expected = Request(DEFAULT_MODEL, (Text("x"),), "s", ("TEXT", "IMAGE"), "21:9", "4K", 7, 0.5)
    assert request(prompt="x", modalities=["TEXT", "IMAGE", "TEXT"], **fields) == expected
    assert request(prompt="x", model="models/gemini-3-pro-image").model == "gemini-3-pro-image"
    assert (
        Planner("models/gemini-3-pro-image", resolve).request(job(prompt="x"), 1).model
        == "gemini-3-pro-image"
    )


def test_raw_request_is_sent_unchanged() -> None:
    """Only the model is removed from a GenerateContentRequest; the manifest's line is not changed."""
    body = {
        "contents": [{"parts": [{"text": "x"}]}],
        "model": "models/gemini-3-pro-image",
        "safety_settings": [],
    }
    line = job(request=body)
    asked = PLANNER.request(line, 1)
    assert asked == Request(
        "gemini-3-pro-image",
        raw=raw_request.parse({"contents": body["contents"], "safety_settings": []}),
    )
    assert line.request == body
    assert request(request={"contents": [{}]}).model == DEFAULT_MODEL
    assert request(request=body, model="gemini-3-pro-image").model == "gemini-3-pro-image"


@pytest.mark.parametrize(
    "names",
    [
        ("generationConfig", "imageConfig", "imageSize"),
        ("generation_config", "image_config", "image_size"),
    ],
)
def test_raw_request_is_read_in_either_spelling(names: tuple[str, str, str]) -> None:
    """The plan knows size, prompt and images of a raw request."""
    outer, middle, inner = names
    parts = [
        {"text": "x"},
        {"inline_data": {"data": "AAAA"}},
        {"fileData": {}},
        {"text": "y"},
        3,
        {"text": 4},
    ]
    asked = request(request={"contents": [{"parts": parts}, 5], outer: {middle: {inner: "4K"}}})
    assert image_size(asked) == "4K"
    assert prompt_text(asked) == "x\ny"
    expected = PLANNER.estimate(asked)
    assert (expected.input_tokens, expected.output_tokens) == (1 + 2 * 560, 2000 + 300)


IMAGES = [{"text": "x"}, {"inline_data": {"data": "A" * 4_000}}, {"file_data": {"file_uri": "u"}}]


@pytest.mark.parametrize(
    ("contents", "images"),
    [
        ({"role": "user", "parts": {"text": "x"}}, 0),
        ({"parts": IMAGES}, 2),
        ([{"parts": {"text": "x"}}, {"parts": {"inlineData": {"data": "A" * 4_000}}}], 1),
        ([{"parts": IMAGES[:1]}, {"parts": IMAGES[1]}], 1),
    ],
)
def test_a_single_object_is_a_list_of_one(contents: Any, images: int) -> None:
    """As the API takes it: its prompt, tokens and inline data count, and it is sent as it stands."""
    asked = request(request={"contents": contents})
    assert prompt_text(asked) == "x"
    assert PLANNER.estimate(asked).input_tokens == 1 + images * 560
    assert asked.raw
    assert asked.raw.base64_bytes == (4_000 if images else 0)
    assert asked.raw.body == {"contents": contents}


def test_inline_data_of_a_single_object_has_the_same_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too large for the API is refused however it is written."""
    monkeypatch.setattr(media_types, "MAX_INLINE_BYTES", 3_999)
    for contents in ({"parts": IMAGES}, [{"parts": IMAGES[1]}], {"parts": IMAGES[1]}):
        assert "of images in base64" in refusal(request={"contents": contents})[0]


def test_a_whole_number_counts_as_it_is_and_a_decimal_as_a_double() -> None:
    """An edit of any digit of a whole number is noticed; a decimal is to the API what it was before."""

    def digest(number: str) -> str:
        body = exact_json.loads(f'{{"contents":[1],"labels":{{"n":{number}}}}}'.encode())
        return request_sha256(Request("m", raw=raw_request.parse(body)))

    assert digest("123456789012345678901234") != digest("123456789012345678901235")
    assert digest("0.69999999999999996") == digest("0.7")
    assert digest("1e-400") == digest("0.0")


@pytest.mark.parametrize(
    "body",
    [{"contents": "x"}, {"contents": [{"parts": None}]}, {"contents": [1], "generationConfig": 3}],
)
def test_raw_request_of_any_shape_is_no_crash(body: dict[str, Any]) -> None:
    """A request that the server will refuse is planned without a traceback."""
    call = PLANNER.call(job(request=body), 1, 1)
    assert (call.prompt, call.image_size) == (None, "1K")


def test_variants_are_calls_of_one_request() -> None:
    """`variants: 3` of the job `robot` is the calls `robot`, `robot.2`, `robot.3`."""
    line = job(prompt="A\nrobot", images=["a.png"], variants=3, metadata={"n": 1})
    calls = expanded(line, 17)
    assert [call.id for call in calls] == ["robot", "robot.2", "robot.3"]
    asked = PLANNER.request(line, 17)
    assert calls[0] == Call(
        id="robot",
        line=17,
        request=asked,
        request_sha256=request_sha256(asked),
        prompt="A\nrobot",
        image_size="1K",
        metadata={"n": 1},
        estimate=PLANNER.estimate(asked),
    )


BAD_JOBS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "missing images, all of them": (
        {"prompt": "x", "images": ["?", "a.png", "?"]},
        ['images[0]: got "?"; there is no such file', 'images[2]: got "?"; there is no such file'],
    ),
    "missing image of a part": (
        {"parts": [{"text": "x"}, {"image": "?"}]},
        ['parts[1].image: got "?"; there is no such file'],
    ),
    "too many images": (
        {"prompt": "x", "images": ["a.png"] * 15},
        ["images: got 15 images; allowed: 14 per request"],
    ),
    "too many images in parts": (
        {"parts": [{"image": "https://x/a"}] * 15},
        ["parts: got 15 images; allowed: 14 per request"],
    ),
    "too large together": (
        {"prompt": "x", "images": ["37500000", "37500003"]},
        [
            (
                "images: got 100.0 MB of images in base64; allowed: 100 MB per request: downscale them, or upload them with "
                "the Files API and give their https:// URIs"
            )
        ],
    ),
    "aspect ratio that the model does not have": (
        {"prompt": "x", "aspect_ratio": "1:8"},
        [
            (
                'aspect_ratio: got "1:8"; gemini-3-pro-image-preview offers 1:1, 16:9, 9:16, 4:3, 3:4, 5:4, 4:5, 2:3, 3:2, '
                '21:9: use one of these, or write a raw "request"'
            )
        ],
    ),
    "size that the model does not have": (
        {"prompt": "x", "image_size": "2K", "model": "models/gemini-2.5-flash-image"},
        [
            'image_size: got "2K"; gemini-2.5-flash-image offers 1K: use one of these, or write a raw "request"'
        ],
    ),
    "model that is no name": (
        {"prompt": "x", "model": "a/../b"},
        [
            'model: got "a/../b"; a model\'s id has letters, digits, dots and hyphens, as gemini-3-pro-image-preview has'
        ],
    ),
    "no image asked for": (
        {"prompt": "x", "modalities": ["TEXT"]},
        ['modalities: got ["TEXT"]; must have "IMAGE" in it'],
    ),
    "raw request without contents": (
        {"request": {"generationConfig": {}}},
        ['request: has no "contents": it must be a whole GenerateContentRequest'],
    ),
    "raw request whose model is no text": (
        {"request": {"contents": [1], "model": 3}},
        ["request.model: got 3; must be the name of a model"],
    ),
    "two models": (
        {"request": {"contents": [1], "model": "models/a"}, "model": "b"},
        ['request.model: got "models/a", and "model" is "b": leave one out'],
    ),
}


@pytest.mark.parametrize("name", BAD_JOBS)
def test_job_that_cannot_be_planned_says_why(name: str) -> None:
    """The message has the place, the value found, and the values allowed."""
    fields, messages = BAD_JOBS[name]
    assert refusal(**fields) == [f"jobs.jsonl:17: {message}" for message in messages]


def test_raw_request_over_the_inline_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inline data of a raw request counts with its length in base64."""
    monkeypatch.setattr(media_types, "MAX_INLINE_BYTES", 4_000_000)
    part = {"inlineData": {"mimeType": "image/png", "data": "A" * 4_100_000}}
    assert refusal(request={"contents": [{"parts": [part]}]}) == [
        (
            "jobs.jsonl:17: request: got 4.1 MB of images in base64; allowed: 4 MB per request: downscale them, or upload "
            "them with the Files API and give their https:// URIs"
        )
    ]


def test_limits_themselves_are_allowed() -> None:
    """Fourteen images, and a hundred million bytes, are a request."""
    assert len(request(prompt="x", images=["a.png"] * 14).parts) == 15
    assert len(request(prompt="x", images=["37500000", "37500000"]).parts) == 3


def test_new_model_is_not_checked() -> None:
    """An unknown model is not checked, and its price is unknown."""
    line = job(prompt="x", model="gemini-9-image", aspect_ratio="1:8", image_size="512")
    assert PLANNER.call(line, 1, 1).estimate.cost_usd is None


def test_tag_names_the_form() -> None:
    """The tag has the version of the form in it."""
    assert CANONICAL_TAG.endswith(b" 1\n")
