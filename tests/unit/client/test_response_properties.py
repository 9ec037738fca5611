"""Answers of any shape: none of them raises."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from gemini_batch.client.response import parse_answer
from gemini_batch.records import Answer, ApiError, Failure, Reply
from tests.unit.client.responses import IMAGES, written

NAMES = st.sampled_from(
    [
        "candidates",
        "content",
        "parts",
        "inlineData",
        "data",
        "mimeType",
        "text",
        "thought",
        "finishReason",
        "safetyRatings",
        "promptFeedback",
        "blockReason",
        "usageMetadata",
        "promptTokenCount",
        "finishMessage",
        "promptTokensDetails",
        "modality",
        "tokenCount",
        "modelVersion",
        "responseId",
        "error",
        "code",
        "message",
        "status",
        "details",
        "@type",
        "violations",
        "quotaId",
        "quotaValue",
        "retryDelay",
        "reason",
        "field",
    ]
)
STRINGS = st.sampled_from(
    [
        *[
            "#0",
            "#1",
            "#99",
            "#",
            "STOP",
            "34s",
            "google.rpc.RetryInfo",
            "google.rpc.ErrorInfo",
            "google.rpc.BadRequest",
        ],
        "type.googleapis.com/google.rpc.QuotaFailure",
        "Please retry in 3.5.5s.",
        "![](data:image/png;base64,#0)",
        "![](https://a.test/b.png)",
        "9" * 400 + "s",
        "\ud800",
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
    """Return objects with some of these keys, and sometimes anything else."""
    return st.fixed_dictionaries({}, optional=children) | JSON


PART = shaped(
    {
        "text": STRINGS,
        "thought": SCALARS,
        "inlineData": shaped({"data": STRINGS, "mimeType": SCALARS}),
        "file_data": shaped({"file_uri": STRINGS, "mimeType": SCALARS}),
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
            {
                "code": SCALARS,
                "message": SCALARS,
                "status": SCALARS,
                "details": st.lists(DETAIL, max_size=3),
            }
        )
    }
)


@given(ANSWER | st.lists(ANSWER | ERROR, max_size=3) | ERROR)
@example({"candidates": [{"content": {"parts": [{"inlineData": {"data": "#٣"}}]}}]})
def test_any_json_is_an_answer(value: Any) -> None:
    """Any JSON is a reply or a failure, never an exception, and can be written."""
    outcome = parse_answer(Answer(200, json.dumps(value).encode(), IMAGES))

    assert isinstance(outcome, Reply | Failure | ApiError)
    assert written(outcome)


@given(st.sampled_from([204, 302, 400, 403, 404, 429, 500, 503, 599]), ERROR)
def test_any_json_is_an_error(status: int, value: Any) -> None:
    """Any JSON as the body of an error is an error, and can be written."""
    outcome = parse_answer(Answer(status, json.dumps(value).encode()))

    assert isinstance(outcome, ApiError if status >= 300 else Reply | Failure | ApiError)
    assert written(outcome)
    if isinstance(outcome, ApiError):
        assert outcome.message


@given(st.sampled_from([200, 400, 429, 502]), st.binary())
def test_any_bytes_are_an_outcome(status: int, body: bytes) -> None:
    """Any bytes give an outcome that can be written."""
    assert written(parse_answer(Answer(status, body, IMAGES)))
