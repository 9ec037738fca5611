import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gemini_batch.client.api_error import duration_s
from gemini_batch.client.response import EMPTY, parse_answer
from gemini_batch.client.untrusted_json import MAX_MESSAGE_CHARS
from gemini_batch.records import (
    Answer,
    ApiError,
    Failure,
    FailureKind,
    IncomingImage,
    Outcome,
    QuotaViolation,
    Reply,
    Usage,
)


def image(number: int, size_bytes: int = 10) -> IncomingImage:
    """Return an image as the transport hands it over."""
    return IncomingImage(f"part.{number}", size_bytes, f"{number:064x}", b"\xff\xd8\xff")


IMAGES = tuple(image(number) for number in range(4))


def reply(body: Any, images: tuple[IncomingImage, ...] = IMAGES) -> Reply:
    """Judge a 200 that can be read."""
    outcome = parse_answer(
        Answer(200, body if isinstance(body, bytes) else json.dumps(body).encode(), images)
    )
    assert isinstance(outcome, Reply)
    return outcome


def error(status: int, body: Any, retry_after_s: float | None = None) -> ApiError:
    """Judge an answer that says no."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    outcome = parse_answer(Answer(status, raw, (), retry_after_s))
    assert isinstance(outcome, ApiError)
    return outcome


def written(outcome: Outcome) -> bytes:
    """Write an outcome as JSON, as a row is written."""
    return orjson.dumps(outcome, default=bytes.hex)


def inline(number: int, **more: Any) -> dict[str, Any]:
    """Return a part with an image, as the transport's skeleton has it."""
    return {"inlineData": {"mimeType": "image/jpeg", "data": f"#{number}"}, **more}


def candidate(*parts: Any, finish: str = "STOP") -> dict[str, Any]:
    """Return an answer of one candidate."""
    return {
        "candidates": [
            {"content": {"parts": list(parts), "role": "model"}, "finishReason": finish, "index": 0}
        ]
    }


# --- a 200 with an image ----------------------------------------------------------------------------------------------


def test_a_whole_answer_is_understood() -> None:
    """All that an answer says is taken over."""
    body = {
        **candidate({"text": "Here "}, inline(0, thoughtSignature="c2ln"), {"text": "it is."}),
        "usageMetadata": {
            "promptTokenCount": 16,
            "candidatesTokenCount": 1296,
            "thoughtsTokenCount": 180,
            "totalTokenCount": 1492,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 16}],
            "candidatesTokensDetails": [
                {"modality": "IMAGE", "tokenCount": 1000},
                {"modality": "TEXT", "tokenCount": 6},
                {"modality": "IMAGE", "tokenCount": 290},
            ],
            "serviceTier": "standard",
        },
        "modelVersion": "gemini-3-pro-image-preview-11",
        "responseId": "abc",
    }
    body["candidates"][0] |= {
        "safetyRatings": [{"category": "X", "probability": "LOW"}],
        "finishMessage": "done",
    }

    expected = Reply(
        image=IncomingImage("part.0", 10, "0" * 64, b"\xff\xd8\xff", "image/jpeg"),
        drafts=(),
        text="Here it is.",
        finish_reason="STOP",
        finish_message="done",
        block_reason=None,
        safety_ratings=[{"category": "X", "probability": "LOW"}],
        usage=Usage(
            16, 1296, 180, 1492, {"prompt": {"TEXT": 16}, "candidates": {"IMAGE": 1290, "TEXT": 6}}
        ),
        model_version="gemini-3-pro-image-preview-11",
        response_id="abc",
    )
    assert expected == reply(body)


TWO_CANDIDATES = {
    "candidates": [candidate(inline(0))["candidates"][0], candidate(inline(1))["candidates"][0]]
}
SEVERAL = {
    "one": (candidate(inline(0)), 0, []),
    "plain drafts before it": (candidate(inline(0), inline(1), inline(2)), 2, [0, 1]),
    "thoughts before it": (candidate(inline(0, thought=True), inline(1)), 1, [0]),
    "a thought after it": (candidate(inline(0), inline(1, thought=True)), 0, [1]),
    "no thought at all": (candidate(inline(0, thought=False), inline(1, thought="true")), 1, [0]),
    "thoughts only": (candidate(inline(0, thought=True)), None, [0]),
    "of several candidates": (TWO_CANDIDATES, 1, [0]),
    "equal keys: one was overruled": (candidate(inline(2)), 2, []),
    "named twice": (candidate(inline(0), inline(0)), 0, [0]),
    "not in the order of arrival": (candidate(inline(1), inline(0)), 0, [1]),
    "after a part of null": (candidate(None, 7, inline(0)), 0, []),
    "with another reason": (candidate(inline(0), finish="MAX_TOKENS"), 0, []),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_the_result_is_the_last_image_that_is_no_thought(name: str) -> None:
    """The result is the last image whose part is not a thought; the others are drafts."""
    body, expected, drafts = SEVERAL[name]

    outcome = reply(body)

    assert (None if expected is None else f"part.{expected}") == (
        outcome.image.file if outcome.image else None
    )
    assert [f"part.{number}" for number in drafts] == [draft.file for draft in outcome.drafts]


def test_thoughts_are_not_the_text() -> None:
    """The text is that of all parts but the thoughts; without any it is None."""
    outcome = reply(
        candidate(
            {"text": "hm", "thought": True}, {"text": "a"}, {"text": 7}, {"text": ""}, {"text": "b"}
        )
    )

    assert outcome.text == "ab"
    assert reply(candidate({"text": "hm", "thought": True}, inline(0))).text is None


# --- a 200 without one ------------------------------------------------------------------------------------------------

NO_IMAGE: dict[str, tuple[Any, str | None, str | None]] = {
    "an empty object": ({}, None, EMPTY),
    "candidates absent": ({"usageMetadata": {}}, None, EMPTY),
    "candidates empty": ({"candidates": []}, None, EMPTY),
    "candidates null": ({"candidates": None}, None, EMPTY),
    "blocked prompt": (
        {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}},
        None,
        "PROHIBITED_CONTENT",
    ),
    "an unknown block reason": (
        {"promptFeedback": {"blockReason": "BRAND_NEW"}},
        None,
        "BRAND_NEW",
    ),
    "content absent": ({"candidates": [{"finishReason": "SAFETY"}]}, "SAFETY", None),
    "content absent, STOP": ({"candidates": [{"finishReason": "STOP"}]}, "STOP", EMPTY),
    "content empty": (
        {"candidates": [{"content": {}, "finishReason": "NO_IMAGE"}]},
        "NO_IMAGE",
        None,
    ),
    "parts null": (
        {"candidates": [{"content": {"parts": None}, "finishReason": "IMAGE_SAFETY"}]},
        "IMAGE_SAFETY",
        None,
    ),
    "no part, STOP": (candidate(), "STOP", EMPTY),
    "refusal text, STOP": (candidate({"text": "I can't draw that."}), "STOP", EMPTY),
    "prohibited": (candidate(finish="PROHIBITED_CONTENT"), "PROHIBITED_CONTENT", None),
    "an unknown reason": (candidate(finish="ESCALATED_TO_MARS"), "ESCALATED_TO_MARS", None),
    "a reason by its number": ({"candidates": [{"finishReason": 23}]}, "23", None),
    "an unspecified reason": (
        candidate(finish="FINISH_REASON_UNSPECIFIED"),
        "FINISH_REASON_UNSPECIFIED",
        EMPTY,
    ),
    "no reason": ({"candidates": [{"content": {"parts": []}}]}, None, EMPTY),
    "a reason of a wrong type": ({"candidates": [{"finishReason": ["STOP"]}]}, None, EMPTY),
    "data without bytes": (candidate(inline(3)), "STOP", EMPTY),
    "data that never came": (candidate(inline(9)), "STOP", EMPTY),
    "a mark that is none": (
        candidate({"inlineData": {"data": "#x"}}, {"inlineData": {"data": "#-1"}}),
        "STOP",
        EMPTY,
    ),
    "data of a wrong type": (
        candidate({"inlineData": {"data": 0}}, {"inlineData": "#0"}),
        "STOP",
        EMPTY,
    ),
    "only a thought's image": (candidate(inline(0, thought=True)), "STOP", EMPTY),
}


@pytest.mark.parametrize("name", NO_IMAGE)
def test_a_200_without_an_image_is_a_result(name: str) -> None:
    """Every 200 without an image that was ever seen is a reply that says why, `EMPTY` when the server does not."""
    body, finish_reason, block_reason = NO_IMAGE[name]

    outcome = reply(body, (*IMAGES[:3], image(3, size_bytes=0)))

    assert outcome.image is None
    assert (finish_reason, block_reason) == (outcome.finish_reason, outcome.block_reason)


def test_a_block_keeps_the_words_that_explain_it() -> None:
    """`finishMessage` and the safety ratings are kept, those of the prompt when there is no candidate."""
    rating = {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH"}
    candidates = [
        {
            "finishReason": "IMAGE_SAFETY",
            "finishMessage": "Unable to show …",
            "safetyRatings": [rating],
        }
    ]

    by_candidate = reply({"candidates": candidates})
    by_prompt = reply({"promptFeedback": {"blockReason": "SAFETY", "safetyRatings": [rating]}})

    assert ("Unable to show …", [rating]) == (
        by_candidate.finish_message,
        by_candidate.safety_ratings,
    )
    assert [rating] == by_prompt.safety_ratings


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        ([], None),
        ({}, Usage()),
        ({"promptTokenCount": 0}, Usage(prompt_tokens=0)),
        ({"promptTokenCount": "16", "totalTokenCount": True, "thoughtsTokenCount": 1.5}, Usage()),
        (
            {"promptTokenCount": -1, "candidatesTokenCount": 2**31, "totalTokenCount": 2**80},
            Usage(),
        ),
        ({"promptTokenCount": 2**31 - 1}, Usage(prompt_tokens=2**31 - 1)),
        (
            {
                "promptTokensDetails": [
                    None,
                    {},
                    {"modality": 1, "tokenCount": 1},
                    {"modality": "TEXT"},
                ]
            },
            Usage(),
        ),
        (
            {"candidatesTokensDetails": [{"modality": "HOLOGRAM", "tokenCount": 3}]},
            Usage(by_modality={"candidates": {"HOLOGRAM": 3}}),
        ),
    ],
)
def test_usage_of_any_shape(usage: Any, expected: Usage | None) -> None:
    """A count that is missing, or that no token count can be, is None; an unknown modality is data."""
    assert expected == reply({"usageMetadata": usage}).usage


# --- bytes that are hard to read --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rb'"\ud83d alone"', "� alone"),
        (rb'"\udc00\ud800"', "��"),
        (rb'"\ud83c\udfa8"', "🎨"),
        (b'"\xff\xfe invalid"', "�� invalid"),
        (b'"a\ttab"', "a\ttab"),
        (b'"\xed\xa0\x80"', "���"),
    ],
)
def test_text_that_is_not_unicode_costs_no_answer(text: bytes, expected: str) -> None:
    """Lone surrogates, invalid UTF-8 and raw control characters don't cost a paid image, and can be written down."""
    parts = b'[{"text":%b},{"inlineData":{"data":"#0"}}]' % text
    body = b'{"candidates":[{"content":{"parts":%b},"safetyRatings":[{%b:%b}]}]}' % (
        parts,
        text,
        text,
    )

    outcome = reply(body)

    assert outcome.image is not None
    assert expected == outcome.text
    assert written(outcome)


@pytest.mark.parametrize(
    "number",
    [b"9" * 5_000, b"1e999", b"-1e999", b"18446744073709551616", b"-9223372036854775809", b"NaN"],
)
def test_a_number_without_measure_costs_no_answer(number: bytes) -> None:
    """A number that no parser can hold does not cost a paid image, and what comes out can be written down."""
    body = b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":"#0"}}]},"safetyRatings":[%b],"finishReason":%b}]}'

    outcome = reply(body % (number, number))

    assert outcome.image is not None
    assert written(outcome)


def test_the_deepest_answer_that_the_transport_lets_through_can_be_written() -> None:
    """Ratings as deep as an answer may be, 200 levels, can be written down."""
    ratings = b"[" * 197 + b"]" * 197

    outcome = reply(b'{"candidates":[{"safetyRatings":%b}]}' % ratings)

    assert written(outcome)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"text"',
        b"7",
        b"{",
        b'{"a":1}{',
        b"<html>",
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_is_no_object_is_malformed(body: bytes) -> None:
    """A 200 that is no JSON object is no answer: it may have been billed, and is sent again."""
    expected = Failure(FailureKind.MALFORMED, "the answer is not a JSON object", may_be_billed=True)

    assert expected == parse_answer(Answer(200, body))


def test_a_200_that_holds_an_error_is_no_result() -> None:
    """An error inside a 200 is not an empty result, which would never be sent again."""
    body = b'{"error":{"code":503,"message":"The model is overloaded."}}'

    expected = Failure(
        FailureKind.MALFORMED,
        "a 200 that contains an error: The model is overloaded.",
        may_be_billed=True,
    )
    assert expected == parse_answer(Answer(200, body))


def test_a_row_is_bounded_whatever_is_sent() -> None:
    """Words that no model writes are cut, and ratings that none gives are left out; the image stays."""
    long = "x" * 8_000_000
    many: list[Any] = [[]] * 1_000_000
    candidate = {
        "content": {"parts": [{"text": long}, {"inlineData": {"data": "#0"}}]},
        "finishReason": long,
        "finishMessage": long,
        "safetyRatings": many,
    }
    usage = {
        "promptTokensDetails": [
            {"modality": f"{number}{long[:9000]}", "tokenCount": 1} for number in range(500)
        ]
    }
    body = {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": long,
        "responseId": long,
    }
    reply = parse_answer(Answer(200, orjson.dumps(body), (IncomingImage("part", 7, "", b""),)))
    refusal = parse_answer(
        Answer(400, orjson.dumps({"error": {"message": long, "status": long, "details": many}}))
    )

    assert isinstance(reply, Reply)
    assert reply.image
    assert reply.text == "x" * 999_999 + "…"
    assert len(repr(replace(reply, text=None))) < 100_000
    assert len(repr(refusal)) < 10_000


def test_a_redirect_says_where_to_and_what_to_look_at() -> None:
    """Whatever its page says: it leads elsewhere, is not followed, and the address that was given is likely wrong."""
    outcome = parse_answer(Answer(302, b"<html>moved</html>", redirects_to="sso.test:8443"))

    message = "redirects to sso.test:8443; redirects are not followed, because the key would go along: check --base-url"
    assert outcome == ApiError(302, "", None, message)
    assert parse_answer(Answer(304, b"")) == ApiError(304, "", None, "the answer has no text")


def test_a_failure_stays_what_it_is() -> None:
    """What is a failure already is passed on."""
    failure = Failure(FailureKind.TIMEOUT, "late", may_be_billed=True)

    assert failure is parse_answer(failure)


# --- anything at all --------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    [
        *(
            "candidates",
            "content",
            "parts",
            "inlineData",
            "data",
            "mimeType",
            "text",
            "thought",
            "finishReason",
        ),
        *(
            "safetyRatings",
            "promptFeedback",
            "blockReason",
            "usageMetadata",
            "promptTokenCount",
            "finishMessage",
        ),
        *(
            "promptTokensDetails",
            "modality",
            "tokenCount",
            "modelVersion",
            "responseId",
            "error",
            "code",
            "message",
        ),
        *(
            "status",
            "details",
            "@type",
            "violations",
            "quotaId",
            "quotaValue",
            "retryDelay",
            "reason",
            "field",
        ),
    ]
)
STRINGS = st.sampled_from(
    [
        *(
            "#0",
            "#1",
            "#99",
            "#",
            "STOP",
            "type.googleapis.com/google.rpc.QuotaFailure",
            "google.rpc.RetryInfo",
        ),
        *(
            "google.rpc.ErrorInfo",
            "google.rpc.BadRequest",
            "Please retry in 3.5.5s.",
            "34s",
            "9" * 400 + "s",
            "\ud800",
        ),
    ]
) | st.text(st.characters(exclude_categories=[]), max_size=8)
SCALARS = st.none() | st.booleans() | st.floats() | st.integers() | STRINGS
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=30,
)


def shaped(children: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Return objects with some of these keys, or now and then anything else."""
    return st.fixed_dictionaries({}, optional=children) | JSON


PART = shaped(
    {
        "text": STRINGS,
        "thought": SCALARS,
        "inlineData": shaped({"data": STRINGS, "mimeType": SCALARS}),
    }
)
CANDIDATE = shaped(
    {
        "content": shaped({"parts": st.lists(PART, max_size=4)}),
        "finishReason": SCALARS,
        "finishMessage": SCALARS,
        "safetyRatings": JSON,
    }
)
ANSWER = shaped(
    {
        "candidates": st.lists(CANDIDATE, max_size=3),
        "promptFeedback": shaped({"blockReason": SCALARS, "safetyRatings": JSON}),
        "usageMetadata": shaped(
            {
                "promptTokenCount": SCALARS,
                "totalTokenCount": SCALARS,
                "promptTokensDetails": st.lists(
                    shaped({"modality": SCALARS, "tokenCount": SCALARS}), max_size=3
                ),
            }
        ),
        "modelVersion": SCALARS,
        "responseId": SCALARS,
    }
)
DETAIL = shaped(
    {
        "@type": STRINGS,
        "reason": SCALARS,
        "retryDelay": STRINGS,
        "violations": st.lists(
            shaped({"quotaId": SCALARS, "quotaMetric": SCALARS, "quotaValue": SCALARS}), max_size=3
        ),
        "fieldViolations": st.lists(shaped({"field": SCALARS}), max_size=3),
    }
)
ERROR = shaped(
    {
        "error": shaped(
            {"message": SCALARS, "status": SCALARS, "details": st.lists(DETAIL, max_size=3)}
        )
    }
)


@given(ANSWER)
@example({"candidates": [{"content": {"parts": [{"inlineData": {"data": "#٣"}}]}}]})
def test_any_json_is_an_answer(value: Any) -> None:
    """Any JSON value at all gives a reply or a failure, never an exception, and can be written down."""
    outcome = parse_answer(Answer(200, json.dumps(value).encode(), IMAGES))

    assert isinstance(
        outcome, Reply if isinstance(value, dict) and "error" not in value else Reply | Failure
    )
    assert written(outcome)


@given(st.sampled_from([204, 302, 400, 403, 404, 429, 500, 503, 599]), ERROR)
def test_any_json_is_an_error(status: int, value: Any) -> None:
    """Any JSON value at all as the body of an error is understood, and can be written down."""
    outcome = parse_answer(Answer(status, json.dumps(value).encode()))

    assert isinstance(outcome, ApiError if status >= 300 else Reply | Failure)
    assert written(outcome)
    if isinstance(outcome, ApiError):
        assert outcome.message


@given(st.sampled_from([200, 400, 429, 502]), st.binary())
def test_any_bytes_are_an_outcome(status: int, body: bytes) -> None:
    """Any bytes at all give an outcome that can be written down."""
    assert written(parse_answer(Answer(status, body, IMAGES)))


# --- errors -----------------------------------------------------------------------------------------------------------

QUOTA = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [
        {
            "quotaMetric": "generativelanguage.googleapis.com/generate_requests_per_model",
            "quotaId": "GenerateRequestsPerMinutePerProjectPerModel",
            "quotaDimensions": {"model": "gemini-2.5-flash-preview-image", "location": "global"},
            "quotaValue": "500",
        },
        {"quotaId": "GenerateRequestsPerDayPerProjectPerModel"},
    ],
}
HELP = {
    "@type": "type.googleapis.com/google.rpc.Help",
    "links": [{"url": "https://ai.google.dev/"}],
}
RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}
MESSAGE = (
    "You exceeded your current quota, please check your plan and billing details. \n* Quota exceeded for metric: "
    "generativelanguage.googleapis.com/generate_requests_per_model, limit: 500, model: x\nPlease retry in 34.286670503s."
)


@pytest.mark.parametrize(
    "details", [[HELP, QUOTA, RETRY], [RETRY, QUOTA, HELP], [QUOTA, None, 7, RETRY, {}]]
)
def test_the_details_come_in_any_order(details: list[Any]) -> None:
    """A 429 is understood whatever the order of its details."""
    body = {
        "error": {
            "code": 429,
            "status": "RESOURCE_EXHAUSTED",
            "message": MESSAGE,
            "details": details,
        }
    }

    expected = ApiError(
        http_status=429,
        status="RESOURCE_EXHAUSTED",
        reason=None,
        message=MESSAGE.replace(" \n", " ").replace("\n", " "),
        retry_delay_s=34.286670503,
        violations=(
            QuotaViolation(
                "GenerateRequestsPerMinutePerProjectPerModel",
                "generativelanguage.googleapis.com/generate_requests_per_model",
                "500",
            ),
            QuotaViolation("GenerateRequestsPerDayPerProjectPerModel", "", None),
        ),
    )
    assert expected == error(429, body)
    assert expected == error(429, [body])


@pytest.mark.parametrize(
    ("message", "retry_delay", "header_s", "expected"),
    [
        ("Please retry in 34.286670503s.", "34s", None, 34.286670503),
        ("Please retry in 34.286670503s.", "35s", None, 35.0),
        ("Please retry in 34.286670503s.", "34s", 60.0, 60.0),
        ("Please retry in 34.286670503s.", None, None, 34.286670503),
        ("x", "35.174346048s", None, 35.174346048),
        ("Please retry in 10h17m5.72s.", "8s", None, 37_025.72),
        ("Please retry in 739.5ms.", None, None, 0.7395),
        ("Please retry in 2m3s, or later", None, None, 123.0),
        ("x", None, 7.0, 7.0),
        ("x", None, None, None),
        ("x", "0s", None, 0.0),
        ("x", "soon", None, None),
        ("x", "-1s", None, None),
        ("x", 34, None, None),
        ("Please retry in 1.2.3s.", None, None, None),
        ("Please retry in a while", None, None, None),
        ("Please retry in " + "9" * 400 + "s", None, None, None),
    ],
)
def test_the_largest_wait_wins(
    message: str, retry_delay: Any, header_s: float | None, expected: float | None
) -> None:
    """Of the message, the details and the header the largest wait is taken: they are rounded in different ways."""
    details = [] if retry_delay is None else [HELP, {**RETRY, "retryDelay": retry_delay}]

    outcome = error(429, {"error": {"message": message, "details": details}}, header_s)

    assert outcome.retry_delay_s == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("34s", 34.0),
        ("35.174346048s", 35.174346048),
        ("10h17m5.72s", 37_025.72),
        ("739ms", 0.739),
        ("1m", 60.0),
        (" 3s ", 3.0),
        ("", None),
        ("s", None),
        ("34", None),
        ("3 s", None),
        ("3s!", None),
        ("1.s", None),
        ("-3s", None),
        ("infs", None),
        ("9" * 400 + "s", None),
    ],
)
def test_durations(text: str, expected: float | None) -> None:
    """Every form in which a duration was seen is understood, and nothing else is."""
    assert expected == duration_s(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0", "0"), (0, "0"), (500, "500"), (None, None), (True, None), ({}, None), ([], None)],
)
def test_a_quota_value_is_a_string_or_a_number(value: Any, expected: str | None) -> None:
    """An int64 is a string in Google's JSON, and a plain number means the same."""
    detail = {
        "@type": "google.rpc.QuotaFailure",
        "violations": [{"quotaId": "x", "quotaValue": value}],
    }

    assert (QuotaViolation("x", "", expected),) == error(
        429, {"error": {"details": [detail]}}
    ).violations


def test_the_reason_and_the_fields_are_named() -> None:
    """The reason comes from ErrorInfo alone, the fields from BadRequest."""
    details = [
        {"@type": "type.googleapis.com/google.rpc.PreconditionFailure", "reason": "OTHER"},
        {
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": "a.b"}, {}, {"field": "c"}],
        },
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "API_KEY_INVALID",
            "domain": "googleapis.com",
        },
    ]

    outcome = error(
        400, {"error": {"status": "INVALID_ARGUMENT", "message": "no", "details": details}}
    )

    assert (outcome.status, outcome.reason, outcome.fields) == (
        "INVALID_ARGUMENT",
        "API_KEY_INVALID",
        ("a.b", "c"),
    )


HTML = b"""<!DOCTYPE html><html><head><title>Error 502 (Server Error)!!1</title><style>* { color: red }</style>
<!-- a comment --></head><body><p><b>502.</b> <ins>That&#39;s an error.</ins><script>if (1 < 2) { alert("x") }</script>"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (HTML, "Error 502 (Server Error)!!1 502. That's an error."),
        (b"upstream connect error\r\n  or disconnect", "upstream connect error or disconnect"),
        (b"1 < 2, 3 > 2", "1 < 2, 3 > 2"),
        (b"", "the answer has no text"),
        (b"<br><br>", "the answer has no text"),
        (b"\xff\xfebad", "��bad"),
        (b"\x1b[2Jgone\x07\x00", "[2Jgone"),
        (b'{"error":"invalid_key"}', '{"error":"invalid_key"}'),
        (b"x" * 3_000, "x" * (MAX_MESSAGE_CHARS - 1) + "…"),
        (b"<style" * 4_000, "the answer has no text"),
    ],
)
def test_a_front_end_s_page_becomes_words(body: bytes, expected: str) -> None:
    """What is not Google's JSON becomes one line of words, without tags, scripts and control characters."""
    assert ApiError(502, "", None, expected, 3.0) == error(502, body, 3.0)


def test_a_message_is_one_short_line() -> None:
    """A message can't move a terminal's cursor, and is cut."""
    assert error(400, {"error": {"message": "a\n\x1b[31mb\x9b"}}).message == "a [31mb"
    assert len(error(400, {"error": {"message": "ü " * 9_000}}).message) == MAX_MESSAGE_CHARS
    assert error(503, {"error": {}}).message == "HTTP 503"
    assert error(503, {"error": {"message": "\x00"}}).message == "HTTP 503"
