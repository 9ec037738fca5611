"""Lines of a batch's results: whose they are, and what they mean."""

import json
from typing import Any

import pytest

from gemini_batch.client.response import EMPTY, parse_answer
from gemini_batch.client.response_lines import parse_line
from gemini_batch.records import Answer, ApiError, Failure, FailureKind, Reply
from tests.unit.client.responses import IMAGES, candidate, inline

ANSWER = candidate({"text": "Here."}, inline(0))


def line(**members: Any) -> tuple[str | None, Any]:
    """Parse a line."""
    return parse_line(json.dumps(members).encode(), IMAGES)


def test_a_response_is_what_an_interactive_answer_is() -> None:
    """The reply of a line is that of the same answer over HTTP; its key comes first or last."""
    interactive = parse_answer(Answer(200, json.dumps(ANSWER).encode(), IMAGES))
    assert line(response=ANSWER, key="0.ab") == ("0.ab", interactive)
    assert line(key="0.ab", response=ANSWER) == ("0.ab", interactive)


@pytest.mark.parametrize(
    ("members", "key"),
    [
        ({"key": "k"}, "k"),
        ({"metadata": {"key": "k"}}, "k"),
        ({"key": 7}, "7"),
        ({"key": None, "metadata": {"key": "k"}}, "k"),
        ({"key": "k", "metadata": {"key": "other"}}, "k"),
        ({"key": ""}, None),
        ({"key": ["k"]}, None),
        ({"metadata": "k"}, None),
        ({}, None),
    ],
)
def test_the_key_of_a_line(members: dict[str, Any], key: str | None) -> None:
    """The key is at the top level, or in the metadata as that of inline requests."""
    assert line(response=ANSWER, **members)[0] == key


@pytest.mark.parametrize(
    ("code", "status", "name"),
    [
        (1, 499, "CANCELLED"),
        (2, 500, "UNKNOWN"),
        (3, 400, "INVALID_ARGUMENT"),
        (4, 504, "DEADLINE_EXCEEDED"),
        (5, 404, "NOT_FOUND"),
        (7, 403, "PERMISSION_DENIED"),
        (8, 429, "RESOURCE_EXHAUSTED"),
        (9, 400, "FAILED_PRECONDITION"),
        (13, 500, "INTERNAL"),
        (14, 503, "UNAVAILABLE"),
        (16, 401, "UNAUTHENTICATED"),
        (400, 400, ""),
        (429, 429, "RESOURCE_EXHAUSTED"),
        ("3", 400, "INVALID_ARGUMENT"),
        (99, 500, "UNKNOWN"),
        (None, 500, "UNKNOWN"),
    ],
)
@pytest.mark.parametrize("member", ["error", "status"])
def test_an_error_has_the_http_status_of_its_code(
    member: str, code: Any, status: int, name: str
) -> None:
    """Codes of gRPC, as Google's errors have them, become HTTP statuses."""
    error = {"code": code, "message": "Please retry."}
    assert line(key="k", **{member: error}) == ("k", ApiError(status, name, None, "Please retry."))


@pytest.mark.parametrize(
    "error",
    [
        "it failed",
        {"message": "it failed"},
        {"message": "it failed", "details": []},
    ],
)
def test_an_error_without_a_code_is_an_error(error: Any) -> None:
    """An error line is never a line without a result."""
    assert line(key="k", error=error) == ("k", ApiError(500, "UNKNOWN", None, "it failed"))


def test_the_details_of_an_error_are_read() -> None:
    """A line's error has the same details as one over HTTP."""
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "R"}
    _, outcome = line(key="k", error={"code": 8, "message": "x", "details": [info]})
    assert outcome == ApiError(429, "RESOURCE_EXHAUSTED", "R", "x")


@pytest.mark.parametrize(
    "members",
    [
        {"error": None},
        {"error": {}},
        {"error": {"code": 0, "message": ""}},
        {"status": "OK"},
        {"status": ""},
        {"status": {"code": 0}},
        {"error": {"code": 13, "message": "x"}},
    ],
)
def test_an_image_outweighs_an_error(members: dict[str, Any]) -> None:
    """An answer that arrived is kept, whatever else its line says."""
    _, outcome = line(response=ANSWER, key="k", **members)
    assert isinstance(outcome, Reply)
    assert outcome.image is not None


def test_a_refusal_is_a_reply() -> None:
    """A safety block is no error line, but a response without an image."""
    _, blocked = line(response={"promptFeedback": {"blockReason": "SAFETY"}}, key="k")
    assert isinstance(blocked, Reply)
    assert (blocked.image, blocked.block_reason) == (None, "SAFETY")
    _, empty = line(response=candidate({"text": "No."}), key="k", status="OK")
    assert isinstance(empty, Reply)
    assert empty.block_reason == EMPTY
    _, error = line(response=candidate(), key="k", error={"code": 13, "message": "x"})
    assert error == ApiError(500, "INTERNAL", None, "x")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"[1]", FailureKind.MALFORMED),
        (b"7", FailureKind.MALFORMED),
        (b"{]", FailureKind.MALFORMED),
        (b"", FailureKind.MALFORMED),
        (b'{"key":"k"}', FailureKind.NOT_AN_ANSWER),
        (b'{"key":"k","response":{}}', FailureKind.NOT_AN_ANSWER),
        (b'{"key":"k","response":"text"}', FailureKind.NOT_AN_ANSWER),
        (b'{"key":"k","response":null}', FailureKind.NOT_AN_ANSWER),
    ],
)
def test_a_line_that_says_nothing_is_a_failure(body: bytes, kind: FailureKind) -> None:
    """A line without an answer and without an error may have been billed."""
    _, outcome = parse_line(body, ())
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.may_be_billed) == (kind, True)


@pytest.mark.parametrize(
    "body",
    [
        b'{"key":"k","response":{"candidates":[{"content":{"parts":[{"inlineData":{"data":"#0"},"inlineData":{}}]}}]}}',
        b'{"response":{"candidates":[{"content":{"parts":[{"inlineData":{"data":"#0"}}]}}],"candidates":[]},"key":"k"}',
        b'{"response":{"candidates":[{"content":{"parts":[{"inlineData":{"data":"#0"}}]}}]},"key":"k","response":{}}',
    ],
)
def test_no_empty_field_of_a_line_hides_a_picture(body: bytes) -> None:
    """A field that is there twice, the second time empty, costs no image."""
    key, outcome = parse_line(body, IMAGES[:1])
    assert isinstance(outcome, Reply)
    assert (key, outcome.image is not None) == ("k", True)


def test_a_line_of_too_many_objects_is_refused() -> None:
    """A line that would take a long time to be read is not read."""
    _, outcome = parse_line(b"[" + b"{}," * 200_000 + b"{}]", ())
    assert isinstance(outcome, Failure)
