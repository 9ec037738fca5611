import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemini_batch.catalog.models import DEFAULT_MODEL
from gemini_batch.catalog.prices import ModelPrice
from gemini_batch.plan import (
    CallState,
    CallTotals,
    DownscaleTotals,
    JobError,
    Plan,
    Planner,
    request_sha256,
)
from gemini_batch.plan.canonical import CANONICAL_TAG, canonical, image_size, prompt_text
from gemini_batch.records import (
    Call,
    InputImage,
    InputUri,
    Request,
    Text,
    media_types,
    raw_request,
)
from gemini_batch.records.job import Job

SMALL = InputImage("in/a.png", "/jobs/in/a.png", "image/png", 300, 7, "ab" * 32)
LARGE = InputImage(
    "big.jpg",
    "/jobs/big.jpg",
    "image/jpeg",
    4_000_000,
    7,
    "ef" * 32,
    4000,
    1000,
    max_pixels=1_000_000,
)


def resolve(path: str) -> InputImage | InputUri:
    """Take `?` for a missing file, a number for an image of so many bytes, and all else for one small image."""
    if path == "?":
        raise ValueError('got "?"; there is no such file')
    if path.startswith("https:"):
        return InputUri(path)
    if path.startswith("large"):
        return replace(LARGE, path=path)
    size = int(path) if path.isdecimal() else SMALL.size_bytes
    return replace(SMALL, path=path, size_bytes=size)


PLANNER = Planner(DEFAULT_MODEL, resolve)


def job(**fields: Any) -> Job:
    """Return a job, its id `robot` if it has none."""
    return Job.model_validate({"id": "robot", **fields})


def request(**fields: Any) -> Request:
    """Return what a job asks for."""
    return PLANNER.request(job(**fields), 1)


def expanded(job: Job, line: int) -> list[Call]:
    """Return the calls of a job."""
    return [PLANNER.call(job, line, variant) for variant in range(1, job.variants + 1)]


def about(usd: float) -> Any:
    """Return what equals an amount but for rounding."""
    return pytest.approx(usd)


def refusal(**fields: Any) -> list[str]:
    """Return what is said of a job that can't be planned."""
    with pytest.raises(JobError) as refused:
        PLANNER.request(job(**fields), 17)
    return [problem.text("jobs.jsonl") for problem in refused.value.problems]


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
    """These bytes decide what was paid for already: they stay what they are, or their tag changes."""
    asked, form, digest = GOLDEN[name]
    assert canonical(asked) == b"gemini_batch request 1\n" + form
    assert request_sha256(asked) == digest


def test_defaults_are_left_out_of_the_canonical_request() -> None:
    """Spelling out what holds anyway asks for the same."""
    plain = Request("m", (Text("x"),))
    assert canonical(replace(plain, image_size="1K", modalities=("IMAGE",))) == canonical(plain)
    assert canonical(replace(plain, modalities=("IMAGE", "TEXT"))) == canonical(
        replace(plain, modalities=("TEXT", "IMAGE"))
    )


def test_content_counts_and_not_the_path() -> None:
    """An image that was moved is the same image; one that was edited is not."""
    moved = replace(SMALL, path="b.png", file="/b.png", mtime_ns=9)
    assert canonical(Request("m", (moved,))) == canonical(Request("m", (SMALL,)))
    assert canonical(Request("m", (replace(SMALL, sha256="cd" * 32),))) != canonical(
        Request("m", (SMALL,))
    )


def test_what_an_image_is_made_into_does_not_count() -> None:
    """The original and the number of pixels do: what a newer Pillow makes of them is the same request."""
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
    {"request": {"contents": [{"parts": [{"text": "x"}]}]}},
    {"request": {"contents": [{"parts": [{"text": "x"}]}], "model": "models/other"}},
]


def test_every_field_of_a_request_counts() -> None:
    """No two of these ask for the same."""
    assert len({request_sha256(request(**fields)) for fields in DIFFERENT}) == len(DIFFERENT)


def test_metadata_and_variants_do_not_count() -> None:
    """What is not sent, and how often it is sent, changes nothing."""
    calls = expanded(job(prompt="x", variants=3, metadata={"a": 1}), 1)
    assert {call.request_sha256 for call in calls} == {request_sha256(request(prompt="x"))}


# --- one job ---


def test_images_go_before_the_prompt() -> None:
    """The order is images, then prompt, and that of `parts` where they are used."""
    image = replace(SMALL, path="a.png")
    assert request(prompt="x", images=["a.png", "https://x/b"]).parts == (
        image,
        InputUri("https://x/b"),
        Text("x"),
    )
    parts = [{"text": "x"}, {"image": "a.png"}, {"text": "y"}]
    assert request(parts=parts).parts == (Text("x"), image, Text("y"))


def test_request_has_all_fields_of_its_job() -> None:
    """What the line says is what is asked for; the model is the run's where the line has none."""
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


def test_raw_request_is_sent_as_it_stands() -> None:
    """Only the model is lifted out of a GenerateContentRequest, and the manifest's line is left alone."""
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
    """Size, prompt and images of a raw request are known to the plan."""
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
    assert (expected.input_tokens, expected.output_tokens) == (1 + 2 * 560, 2000)


@pytest.mark.parametrize(
    "body",
    [{"contents": "x"}, {"contents": [{"parts": None}]}, {"contents": [1], "generationConfig": 3}],
)
def test_raw_request_of_any_shape_is_no_crash(body: dict[str, Any]) -> None:
    """What the server will refuse is planned without a traceback."""
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
    """Each mistake has its place, what was found, and what is allowed."""
    fields, messages = BAD_JOBS[name]
    assert refusal(**fields) == [f"jobs.jsonl:17: {message}" for message in messages]


def test_raw_request_over_the_inline_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inline data of a raw request counts as it stands."""
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
    """A model that is not in our table may do what it likes, at a price that is not known."""
    line = job(prompt="x", model="gemini-9-image", aspect_ratio="1:8", image_size="512")
    assert PLANNER.call(line, 1, 1).estimate.cost_usd is None


# --- all jobs ---


def plan_of(jobs: list[Job], planned: Plan) -> Plan:
    """Put all jobs into a plan."""
    for line, each in enumerate(jobs, 1):
        planned.add(each, line)
    return planned


def test_plan_without_a_past_has_all_calls_to_make() -> None:
    """On a first run, every call of every job is pending, in the order of the manifest."""
    planned = plan_of([job(prompt="x", variants=2), job(prompt="y")], Plan(PLANNER))
    assert list(planned.pending(DEFAULT_MODEL)) == [(0, 1), (0, 2), (1, 1)]
    assert (len(planned), planned.todo, planned.count(CallState.NEW)) == (3, 3, 3)


def test_a_model_s_calls_are_pending_by_themselves() -> None:
    """Each model has its own calls in the order of the manifest, whatever stands between them, one that can't be planned included."""
    other = "gemini-2.5-flash-image"
    jobs = [
        job(prompt="x", variants=2),
        job(prompt="y", model=other, variants=3),
        job(prompt="z"),
        job(prompt="w", model=other),
    ]
    planned = plan_of(jobs, Plan(PLANNER))
    with pytest.raises(JobError):
        planned.add(job(prompt="x", images=["?"]), 5)
    planned.add(job(prompt="v"), 6)

    assert planned.models == (DEFAULT_MODEL, other)
    assert list(planned.pending(DEFAULT_MODEL)) == [(0, 1), (0, 2), (2, 1), (5, 1)]
    assert list(planned.pending(other)) == [(1, 1), (1, 2), (1, 3), (3, 1)]


def test_plan_counts_verdicts() -> None:
    """Done calls are not pending; edited ones and those to be tried again are."""
    verdicts = {
        "a": CallState.DONE,
        "a.2": CallState.EDITED,
        "b": CallState.RETRY,
        "b.2": CallState.DONE,
        "c": CallState.NEW,
    }
    digests: set[str] = set()

    def judge(call_id: str, digest: str) -> CallState:
        digests.add(digest)
        return verdicts[call_id]

    jobs = [
        job(id="a", prompt="x", variants=2),
        job(id="b", prompt="x", variants=2),
        job(id="c", prompt="x"),
    ]
    planned = plan_of(jobs, Plan(PLANNER, judge))
    assert list(planned.pending(DEFAULT_MODEL)) == [(0, 2), (1, 1), (2, 1)]
    assert [planned.count(verdict) for verdict in CallState] == [1, 2, 1, 1, 0]
    assert (len(planned), planned.todo, planned.total.calls) == (5, 3, 3)
    assert digests == {request_sha256(request(prompt="x"))}


def test_what_is_reused_costs_nothing_and_comes_first() -> None:
    """Reused calls are done without quota, so they wait for none; they are no part of tokens and cost."""
    verdicts = {
        "a": CallState.NEW,
        "b": CallState.REUSED,
        "b.2": CallState.RETRY,
        "c": CallState.DONE,
        "d": CallState.REUSED,
    }
    jobs = [job(id=name, prompt="x", variants=2 if name == "b" else 1) for name in "abcd"]
    planned = plan_of(jobs, Plan(PLANNER, lambda call_id, _: verdicts[call_id]))
    assert list(planned.pending(DEFAULT_MODEL)) == [(1, 1), (3, 1), (0, 1), (1, 2)]
    assert (len(planned), planned.todo, planned.to_send, planned.total.calls) == (5, 4, 2, 2)
    assert planned.total.cost_usd == about(2 * 0.1344 + 2 * 2 / 1e6)


def test_a_plan_of_reused_calls_alone_is_free() -> None:
    """Their model is known, in case that one must be sent after all, but nothing is to be paid, whatever its price."""
    line = job(prompt="x" * 40, model="gemini-9-image")
    planned = plan_of([line], Plan(PLANNER, lambda *_: CallState.REUSED))
    assert planned.totals == {
        ("gemini-9-image", "1K"): CallTotals(largest_input_tokens=10, largest_line=1)
    }
    assert (planned.todo, planned.to_send, planned.total.cost_usd) == (1, 0, 0.0)


def test_plan_says_what_smaller_images_save() -> None:
    """Each sending counts, of the calls that are to be sent."""
    jobs = [
        job(id="a", prompt="x", images=["large.jpg", "a.png", "large2.jpg"], variants=3),
        job(id="b", prompt="x", images=["a.png"]),
        job(id="done", prompt="x", images=["large.jpg"]),
        job(id="reused", prompt="x", images=["large.jpg"]),
    ]
    verdicts = {"done": CallState.DONE, "reused": CallState.REUSED}
    planned = plan_of(jobs, Plan(PLANNER, lambda call_id, _: verdicts.get(call_id, CallState.NEW)))
    assert planned.downscaled == DownscaleTotals(
        images=6, size_bytes=24_000_000, upload_bytes=6_000_000
    )


def test_the_inline_limit_counts_what_is_sent() -> None:
    """Fourteen large photos are one request when they are made smaller."""
    assert len(request(prompt="x", images=["large.jpg"] * 14).parts) == 15
    assert LARGE.upload_bytes == 1_000_000
    assert replace(LARGE, downscaled=SMALL).upload_bytes == 300
    with pytest.raises(JobError, match=r"got 186\.7 MB of images"):
        Planner(DEFAULT_MODEL, lambda _: replace(LARGE, size_bytes=40_000_000)).request(
            job(prompt="x", images=["large.jpg"] * 14), 1
        )


def test_plan_adds_up_by_model_and_size() -> None:
    """Tokens and cost are those of the calls to be made, apart for each model and size."""
    jobs = [
        job(prompt="x" * 80, image_size="1K"),
        job(prompt="x" * 40, variants=3),
        job(prompt="x", image_size="4K"),
        job(id="done", prompt="x", model="gemini-3-pro-image"),
    ]
    planned = plan_of(
        jobs,
        Plan(PLANNER, lambda call_id, _: CallState.DONE if call_id == "done" else CallState.NEW),
    )
    assert planned.totals == {
        (DEFAULT_MODEL, "1K"): CallTotals(4, 50, 4480, about(4 * 0.1344 + 50 * 2 / 1e6), 20, 1),
        (DEFAULT_MODEL, "4K"): CallTotals(1, 1, 2000, about(0.24 + 2 / 1e6), 1, 3),
    }
    assert planned.total == CallTotals(
        5, 51, 6480, about(5 * 0.1344 + 0.1056 + 51 * 2 / 1e6), 20, 1
    )


def test_one_unknown_price_makes_the_total_unknown() -> None:
    """A sum that leaves something out is not given as a sum."""
    planned = plan_of([job(prompt="x"), job(prompt="x", model="gemini-9-image")], Plan(PLANNER))
    assert planned.total.calls == 2
    assert planned.total.cost_usd is None
    assert Plan(PLANNER).total == CallTotals()


def test_plan_uses_the_users_prices() -> None:
    """A price from a config file is the price of the plan."""
    planner = Planner("mine", resolve, {"mine": ModelPrice(image_usd={"1K": 0.5})})
    planned = plan_of([job(prompt="x")] * 3, Plan(planner))
    assert planned.total.cost_usd == 1.5


def test_job_that_cannot_be_planned_keeps_its_place() -> None:
    """After a bad job, the indexes of the others are still those of the manifest."""
    planned = Plan(PLANNER)
    with pytest.raises(JobError):
        planned.add(job(prompt="x", images=["?"]), 1)
    planned.add(job(prompt="x"), 2)
    assert list(planned.pending(DEFAULT_MODEL)) == [(1, 1)]


@settings(deadline=None)
@given(st.lists(st.integers(1, 5), max_size=20), st.randoms(use_true_random=False))
def test_pending_is_what_is_not_done(variants: list[int], chance: random.Random) -> None:
    """Whatever was done before, pending names every other call once, in order."""
    jobs = [
        job(id=str(number), prompt="x", variants=count) for number, count in enumerate(variants)
    ]
    done = {call.id for each in jobs for call in expanded(each, 1) if chance.random() < 0.5}
    planned = plan_of(
        jobs, Plan(PLANNER, lambda call_id, _: CallState.DONE if call_id in done else CallState.NEW)
    )
    pending = [
        PLANNER.call(jobs[index], index + 1, variant).id
        for model in planned.models
        for index, variant in planned.pending(model)
    ]
    assert pending == [
        call.id for each in jobs for call in expanded(each, 1) if call.id not in done
    ]
    assert planned.todo == planned.total.calls == len(pending)


def test_tag_names_the_form() -> None:
    """The tag has the version of the form in it."""
    assert CANONICAL_TAG.endswith(b" 1\n")
