"""Errors of the API, and of the servers in front of it."""

import json
from typing import Any

import pytest

from gemini_batch.client.api_error import duration_s
from gemini_batch.client.response import parse_answer
from gemini_batch.client.untrusted_json import MAX_MESSAGE_CHARS
from gemini_batch.records import Answer, ApiError, QuotaViolation
from tests.unit.client.responses import error

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
    """The details of a 429 are found in any order."""
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
        ("x", 34, None, 34.0),
        ("x", 34.5, 7.0, 34.5),
        ("x", "34", None, 34.0),
        ("x", {"seconds": "34"}, None, 34.0),
        ("x", True, None, None),
        ("x", -34, None, None),
        ("x", [34], None, None),
        ("Please retry in 1.2.3s.", None, None, None),
        ("Please retry in a while", None, None, None),
        ("Please retry in " + "9" * 400 + "s", None, None, None),
    ],
)
def test_the_largest_wait_wins(
    message: str, retry_delay: Any, header_s: float | None, expected: float | None
) -> None:
    """The longest wait of message, details and header wins: their rounding differs."""
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
    """Every known form of a duration is parsed, and nothing else."""
    assert expected == duration_s(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0", "0"), (0, "0"), (500, "500"), (None, None), (True, None), ({}, None), ([], None)],
)
def test_a_quota_value_is_a_string_or_a_number(value: Any, expected: str | None) -> None:
    """An int64 is a string in Google's JSON; a number means the same."""
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


OF_THE_DAY = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerDayPerProject", "quotaValue": "100"}],
}
DAY_USED_UP = {
    "error": {"code": 429, "message": "no", "status": "RESOURCE_EXHAUSTED", "details": [OF_THE_DAY]}
}
QUOTED = {
    "as its message": {"code": 429, "message": json.dumps(DAY_USED_UP, indent=1), "status": "Busy"},
    "within its message": {"message": f"got status: 429. {json.dumps(DAY_USED_UP)}: try later"},
    "as the error": json.dumps(DAY_USED_UP),
    "twice": {"message": json.dumps({"error": {"message": json.dumps(DAY_USED_UP)}})},
    "in an array": {"message": json.dumps([DAY_USED_UP])},
}


@pytest.mark.parametrize("status", [429, 400, 500, 502])
@pytest.mark.parametrize("name", QUOTED)
def test_an_error_that_another_one_quotes_is_read(name: str, status: int) -> None:
    """A gateway passes the API's error on as text, with a status of its own."""
    expected = error(429, DAY_USED_UP)
    assert expected.violations

    assert error(status, {"error": QUOTED[name]}) == expected


def test_an_error_passed_on_with_another_status_is_itself() -> None:
    """A quota within a 400 rejects no job, and a bad key within a 502 is no outage."""
    assert error(400, DAY_USED_UP) == error(503, DAY_USED_UP) == error(429, DAY_USED_UP)
    mixed = {"error": {"code": 413, "message": "no", "status": "INVALID_ARGUMENT"}}
    assert error(413, mixed).http_status == 413


@pytest.mark.parametrize("status", ["Bad Request", "error", "400", "invalid_argument", 400, None])
def test_a_status_that_google_does_not_have_is_none(status: Any) -> None:
    """It shows that the error is a gateway's, which can't reject a job, and may hide a bill."""
    assert error(400, {"error": {"code": 400, "message": "no", "status": status}}).status == ""


def test_an_error_with_details_is_the_api_s_own() -> None:
    """What its message quotes, such as a prompt, is not taken for an error."""
    body = {"error": {**DAY_USED_UP["error"], "message": '{"error": {"message": "hi"}}'}}

    assert error(429, body).violations == error(429, DAY_USED_UP).violations


def test_details_have_proto_names_too() -> None:
    """Gateways that dump the objects of a library write them so."""
    details = [
        {
            "@type": "google.rpc.QuotaFailure",
            "violations": [{"quota_id": "a", "quota_metric": "b", "quota_value": 7}],
        },
        {"@type": "google.rpc.RetryInfo", "retry_delay": {"seconds": "34", "nanos": 5}},
    ]

    outcome = error(429, {"error": {"details": details}})

    assert outcome.violations == (QuotaViolation("a", "b", "7"),)
    assert outcome.retry_delay_s == 34.0


def test_a_quota_in_the_metadata_counts_next_to_violations_without_a_name() -> None:
    """Vertex AI writes a subject and a description into these."""
    idle = {"@type": QUOTA["@type"], "violations": [{"subject": "project:1", "description": "x"}]}
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "metadata": {"quota_limit": "PerDay", "quota_metric": "m", "quota_limit_value": "0"},
    }

    outcome = error(429, {"error": {"details": [idle, info]}})
    named = error(429, {"error": {"details": [QUOTA, info]}})

    assert outcome.violations == (QuotaViolation("x", "", None), QuotaViolation("PerDay", "m", "0"))
    assert len(named.violations) == 2


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
def test_a_page_of_a_front_end_becomes_text(body: bytes, expected: str) -> None:
    """Another body becomes one line of text, without tags, scripts and control characters."""
    assert ApiError(502, "", None, expected, 3.0) == error(502, body, 3.0)


def test_a_message_is_one_short_line() -> None:
    """A message can't move a terminal's cursor, and is cut."""
    assert error(400, {"error": {"message": "a\n\x1b[31mb\x9b"}}).message == "a [31mb"
    assert len(error(400, {"error": {"message": "ü " * 9_000}}).message) == MAX_MESSAGE_CHARS
    assert error(503, {"error": {}}).message == "HTTP 503"
    assert error(503, {"error": {"message": "\x00"}}).message == "HTTP 503"


def test_a_redirect_names_its_host() -> None:
    """A redirect is not followed, and the message names its host and --base-url."""
    outcome = parse_answer(Answer(302, b"<html>moved</html>", redirects_to="sso.test:8443"))

    message = (
        "redirects to sso.test:8443; redirects are not followed, because the key would go along"
    )
    assert outcome == ApiError(302, "", None, message)
    assert parse_answer(Answer(304, b"")) == ApiError(304, "", None, "the answer has no text")
