import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.client.response import parse_answer
from gemini_batch.engine.backoff import backoff_s
from gemini_batch.engine.error_kinds import ErrorKind
from gemini_batch.engine.retry import (
    GIVE_UP,
    REJECT,
    CloseDay,
    Decision,
    RetryAfter,
    decide,
    may_be_billed,
)
from gemini_batch.engine.retry_table import TABLE
from gemini_batch.records import Answer, ApiError, Failure, FailureKind, Stop, StopReason

DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
MINUTE = "GenerateRequestsPerMinutePerProjectPerModel"
TOKENS = "GenerateContentInputTokensPerModelPerMinute-FreeTier"
UNEXPLAINED = "Resource has been exhausted (e.g. check quota)."


def half() -> float:
    """Be random in a way that a table can name."""
    return 0.5


@dataclass(frozen=True)
class Case:
    """An answer's bytes, and what is to follow from the first attempt."""

    http_status: int
    expected: Decision | StopReason
    status: str = ""
    message: str = ""
    details: list[dict[str, Any]] = field(default_factory=list)
    raw: bytes | None = None
    retry_after_s: float | None = None

    def error(self) -> ApiError:
        """Return the error as it comes out of its bytes."""
        body = {
            "error": {
                "code": self.http_status,
                "status": self.status,
                "message": self.message,
                "details": self.details,
            }
        }
        answer = Answer(
            self.http_status,
            json.dumps(body).encode() if self.raw is None else self.raw,
            (),
            self.retry_after_s,
        )
        outcome = parse_answer(answer)
        assert isinstance(outcome, ApiError)
        return outcome


def invalid(message: str, *details: dict[str, Any], expected: Decision | StopReason) -> Case:
    """Return a 400 INVALID_ARGUMENT."""
    return Case(400, expected, "INVALID_ARGUMENT", message, list(details))


def exhausted(
    expected: Decision | StopReason,
    *quotas: tuple[str, Any],
    delay: str | None = None,
    message: str = "You exceeded …",
) -> Case:
    """Return a 429 with these violations."""
    violations = [
        {"quotaId": name} | ({} if value is None else {"quotaValue": value})
        for name, value in quotas
    ]
    details = (
        [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations}]
        if quotas
        else []
    )
    if delay:
        details.insert(
            0, {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
        )
    return Case(429, expected, "RESOURCE_EXHAUSTED", message, details)


def info(reason: str) -> dict[str, Any]:
    """Return a detail that names a reason."""
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
    }


def quota_info(**metadata: str) -> dict[str, Any]:
    """Return a detail whose metadata tell of a quota."""
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "metadata": metadata}


BACKOFF = RetryAfter(1.0)  # half of the first two seconds
HTML = b"<html><title>403. That's an error.</title>Your client does not have permission</html>"
ZERO_TEXT = "* Quota exceeded for metric: x/generate_content_free_tier_requests, limit: 0, model: m\nPlease retry in 8.1s."

CASES = {
    # 400
    "key, by its reason": invalid("Bad key", info("API_KEY_INVALID"), expected=StopReason.AUTH),
    "key, by its message": invalid(
        "API key not valid. Please pass a valid API key.", expected=StopReason.AUTH
    ),
    "key not found": invalid(
        "API Key not found. Please pass a valid API key.", expected=StopReason.AUTH
    ),
    "key expired": invalid("API key expired. Please renew the API key.", expected=StopReason.AUTH),
    "a prompt about a key": invalid('Invalid value "draw an API key"', expected=REJECT),
    "a wrong field": invalid(
        "Invalid value",
        {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": "x"}]},
        expected=REJECT,
    ),
    "the brief's 400": invalid("Invalid request format", expected=REJECT),
    "payload size": invalid(
        "Request payload size exceeds the limit: 20971520 bytes.", expected=REJECT
    ),
    "region": Case(
        400,
        StopReason.PRECONDITION,
        "FAILED_PRECONDITION",
        "User location is not supported for the API use without a billing account linked.",
    ),
    "a file that is not ready": Case(
        400,
        BACKOFF,
        "FAILED_PRECONDITION",
        "The File x is not in an ACTIVE state and usage is not allowed.",
    ),
    **{
        f"a URI that the API did not fetch, {text}": Case(400, BACKOFF, "INVALID_ARGUMENT", text)
        for text in (
            "Cannot fetch content from the provided URL.",
            "Cannot fetch content from the provided URL. Please ensure the URL is valid.",
            "URL_REJECTED-REJECTED_PROXY_THROTTLED: https://x/a.png",
            "Invalid file: status URL_REJECTED-REJECTED_FC_TOO_MANY_PENDING",
            "URL_REJECTED-REJECTED_RATE_LIMITED",
        )
    },
    "a URI that may not be fetched": invalid(
        "URL_REJECTED-REJECTED_ROBOTS_DENIED", expected=REJECT
    ),
    "a prompt about fetching": invalid('Invalid value "fetch the content"', expected=REJECT),
    "400 HTML": Case(400, BACKOFF, raw=b"<title>Error 400 (Bad Request)!!1</title>"),
    # 401 … 413
    "the brief's 401": Case(401, StopReason.AUTH, "UNAUTHENTICATED", "API key not valid"),
    "401 without a word": Case(401, StopReason.AUTH, raw=b""),
    "402": Case(
        402, StopReason.BILLING, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted"
    ),
    "403": Case(403, StopReason.NO_ACCESS, "PERMISSION_DENIED", "Permission denied"),
    **{
        f"403, {message}": Case(403, StopReason.NO_ACCESS, "PERMISSION_DENIED", message)
        for message in (
            "The caller does not have permission",
            "Your API key may not use the model x.",
            "Your project does not have access to model x.",
        )
    },
    **{
        f"403, {message}": Case(403, StopReason.AUTH, "PERMISSION_DENIED", message)
        for message in (
            "Your API key was reported as leaked. Please use another API key.",
            "Method doesn't allow unregistered callers (callers without established identity).",
            "Your project has been denied access. Please contact support.",
            "Permission denied: Consumer 'projects/1' has been suspended.",
        )
    },
    **{
        f"403 {reason}": Case(
            403, StopReason.AUTH, "PERMISSION_DENIED", "of the model x", [info(reason)]
        )
        for reason in (
            "API_KEY_SERVICE_BLOCKED",
            "API_KEY_IP_ADDRESS_BLOCKED",
            "SERVICE_DISABLED",
            "BILLING_DISABLED",
            "CONSUMER_SUSPENDED",
            "CREDENTIALS_MISSING",
            "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
            "USER_PROJECT_DENIED",
        )
    },
    "403 IAM_PERMISSION_DENIED": Case(
        403,
        StopReason.NO_ACCESS,
        "PERMISSION_DENIED",
        "Permission denied",
        [info("IAM_PERMISSION_DENIED")],
    ),
    "403 HTML": Case(403, StopReason.AUTH, raw=HTML),
    "403 HTML of a proxy": Case(
        403, StopReason.AUTH, raw=b"<p>You may not see the file you asked for"
    ),
    "403 of a file": Case(
        403,
        REJECT,
        "PERMISSION_DENIED",
        "You do not have permission to access the File abc or it may not exist.",
    ),
    "407 of a proxy": Case(407, StopReason.PROXY, raw=b"<h1>Proxy Authentication Required</h1>"),
    "404 of a model": Case(
        404,
        StopReason.MODEL,
        "NOT_FOUND",
        "models/x is not found for API version v1beta, or is not supported.",
    ),
    "404 of a file": Case(
        404, REJECT, "NOT_FOUND", "Requested entity files/abc-123 was not found."
    ),
    "404 of a gateway": Case(404, StopReason.ADDRESS, raw=b'{"error": {"message": "no route"}}'),
    "404 without a word": Case(404, StopReason.ADDRESS, raw=b""),
    "404 HTML": Case(
        404, StopReason.ADDRESS, raw=b"<p>The file /v1beta/models was not found on this server."
    ),
    "409 of two who write at once": Case(409, BACKOFF, "ABORTED", "The operation was aborted."),
    "409 of what is there already": Case(409, REJECT, "ALREADY_EXISTS", "Entity already exists."),
    "400 empty": Case(400, BACKOFF, raw=b""),
    "400 cut off": Case(400, BACKOFF, raw=b'{"error": {"code": 400, "status": "INVALID_ARG'),
    "400 of another API": Case(
        400, BACKOFF, raw=b'{"error": {"message": "no such channel", "type": "relay_error"}}'
    ),
    "409 of something else": Case(409, BACKOFF, raw=b"Conflict"),
    "413 of the API": Case(413, REJECT, "INVALID_ARGUMENT", "too large"),
    "413 on the way": Case(413, GIVE_UP, raw=b"<html>413 Request Entity Too Large</html>"),
    "another 4xx of the API": Case(422, REJECT, "INVALID_ARGUMENT", "no"),
    "another 4xx of something else": Case(405, BACKOFF, raw=b"Method Not Allowed"),
    # transient
    **{
        f"{status}": Case(status, BACKOFF, "X", "x")
        for status in (408, 425, 499, 500, 502, 503, 504, 529)
    },
    "425 HTML": Case(425, BACKOFF, raw=b"<title>Too Early</title>"),
    "503 HTML": Case(503, BACKOFF, raw=b"<title>503</title>"),
    "503 with Retry-After": Case(
        503, RetryAfter(31.0), "UNAVAILABLE", "overloaded", retry_after_s=30.0
    ),
    "503 with a Retry-After of days": Case(
        503, RetryAfter(3601.0), "UNAVAILABLE", "x", retry_after_s=1e6
    ),
    # a redirect, and what no client asked for
    **{
        f"{status}": Case(status, StopReason.ADDRESS, raw=b"")
        for status in (101, 301, 302, 303, 304, 307, 308)
    },
    # 429
    "minute": exhausted(RetryAfter(35.5, pauses_model=True), (MINUTE, "500"), delay="34s"),
    "minute, tiny": exhausted(
        RetryAfter(2.239, pauses_model=True), (MINUTE, "500"), delay="0.739s"
    ),
    "minute, no value": exhausted(RetryAfter(9.5, pauses_model=True), (MINUTE, None), delay="8s"),
    "minute, no delay": exhausted(RetryAfter(16.5, pauses_model=True), (MINUTE, "500")),
    "tokens": exhausted(RetryAfter(9.5, pauses_model=True), (TOKENS, "2000000"), delay="8s"),
    "unknown quota": exhausted(
        RetryAfter(9.5, pauses_model=True), ("ImagesPerFortnight", "5"), delay="8s"
    ),
    "the larger wait": exhausted(
        RetryAfter(35.786670503, pauses_model=True),
        (MINUTE, "5"),
        delay="34s",
        message="Please retry in 34.286670503s.",
    ),
    "day, tiny delay": exhausted(CloseDay(), (DAY, "1500"), delay="8s"),
    "day and minute": exhausted(CloseDay(), (MINUTE, "15"), (DAY, "1500"), delay="22s"),
    "day and minute, other order": exhausted(
        CloseDay(), (DAY, "1500"), (MINUTE, "15"), delay="22s"
    ),
    "no violation, but hours": exhausted(
        CloseDay(37_025.72), message="Please retry in 10h17m5.72s."
    ),
    "a day that ends at another hour": exhausted(CloseDay(7200.0), (DAY, "1500"), delay="7200s"),
    "hours for another quota": exhausted(CloseDay(3601.0), (MINUTE, "15"), delay="3601s"),
    "an hour at most": exhausted(
        RetryAfter(3601.5, pauses_model=True), (MINUTE, "15"), delay="3600s"
    ),
    "more than any day": exhausted(CloseDay(), delay="172800s"),
    "all of a free project, no values": exhausted(
        StopReason.NO_QUOTA, (f"{MINUTE}-FreeTier", None), (TOKENS, None), (DAY, None), delay="20s"
    ),
    "day of a free project, no value": exhausted(CloseDay(), (DAY, None), delay="20s"),
    "all of a paying project, no values": exhausted(
        CloseDay(), (MINUTE, None), (DAY.removesuffix("-FreeTier"), None), delay="20s"
    ),
    "all of a free project, one value": exhausted(
        CloseDay(), (f"{MINUTE}-FreeTier", "15"), (DAY, None), delay="20s"
    ),
    "the day, only in ErrorInfo": Case(
        429, CloseDay(), "RESOURCE_EXHAUSTED", "x", [quota_info(quota_limit=DAY)]
    ),
    "the day, only as a unit in ErrorInfo": Case(
        429,
        CloseDay(),
        "RESOURCE_EXHAUSTED",
        "x",
        [quota_info(quota_metric="g/requests", quota_unit="1/d/{project}/{model}")],
    ),
    "zero, only in ErrorInfo": Case(
        429,
        StopReason.NO_QUOTA,
        "RESOURCE_EXHAUSTED",
        "x",
        [quota_info(quota_limit=MINUTE, quota_limit_value="0")],
    ),
    "the minute, only in ErrorInfo": Case(
        429,
        RetryAfter(16.5, pauses_model=True),
        "RESOURCE_EXHAUSTED",
        "x",
        [quota_info(quota_limit=MINUTE, quota_limit_value="60")],
    ),
    "a byte order mark": Case(
        429,
        CloseDay(),
        raw=b"\xef\xbb\xbf"
        + json.dumps(
            {
                "error": {
                    "code": 429,
                    "status": "RESOURCE_EXHAUSTED",
                    "message": "x",
                    "details": [quota_info(quota_limit=DAY)],
                }
            }
        ).encode(),
    ),
    "zero value": exhausted(StopReason.NO_QUOTA, (MINUTE, "0"), delay="8s"),
    "zero value as a number": exhausted(StopReason.NO_QUOTA, (MINUTE, 0), delay="8s"),
    "zero value of one": exhausted(StopReason.NO_QUOTA, (TOKENS, "100"), (DAY, "0"), delay="8s"),
    "limit: 0": exhausted(
        StopReason.NO_QUOTA, (DAY, None), (MINUTE, None), delay="8s", message=ZERO_TEXT
    ),
    "limit: 0 at the end": exhausted(StopReason.NO_QUOTA, message="Quota exceeded, limit: 0."),
    "limit: 0.5": exhausted(RetryAfter(9.5, pauses_model=True), delay="8s", message="limit: 0.5"),
    "limit: 05": exhausted(RetryAfter(9.5, pauses_model=True), delay="8s", message="limit: 05"),
    "limit: 500": exhausted(RetryAfter(9.5, pauses_model=True), delay="8s", message="limit: 500"),
    **{
        f"the day, in words: {words}": exhausted(CloseDay(), message=words)
        for words in (
            "You have exceeded your daily limit.",
            "Rate limit: all 250 requests per day are used. Please try again tomorrow.",
            "Quota exceeded for metric: generate_requests_per_model_per_day, limit: 250",
            "Limit 'GenerateContent requests per day' of service 'x' is exhausted.",
            "You've hit your RPD limit, see https://a.test/limits.html",
            "The limit of 100 images a day is reached; buy more.",
            "No requests left for today",
            "You have 0 images remaining for the day.",
            "DailyLimitExceeded",
            "GenerateRequestsPerDayPerProjectPerModel-FreeTier: quota exceeded",
        )
    },
    "the day, in words of a gateway": Case(429, CloseDay(), raw=b"Daily quota exhausted"),
    "the day, in JSON of a gateway": Case(
        429, CloseDay(), raw=b'{"error": "daily_quota_exceeded", "detail": {}}'
    ),
    "the day, in words, and a tiny delay": exhausted(
        CloseDay(), delay="8s", message="Daily limit reached. Please retry in 8s."
    ),
    "the day, in words, and hours": exhausted(
        CloseDay(7200.0), delay="7200s", message="Daily limit reached."
    ),
    "the day, as a violation's description": Case(
        429,
        CloseDay(),
        "RESOURCE_EXHAUSTED",
        "x",
        [
            {
                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [{"subject": "project:1", "description": "Daily limit exceeded"}],
            }
        ],
    ),
    "the day, only in a metric": Case(
        429,
        CloseDay(),
        "RESOURCE_EXHAUSTED",
        "x",
        [quota_info(quota_metric="g/generate_requests_per_model_per_day")],
    ),
    **{
        f"no word of a day alone: {words}": exhausted(RetryAfter(2.5), message=words)
        for words in (
            "You exceeded your current quota, per minute or per day.",
            "You exceeded your quota. To raise your daily limit, upgrade.",
            "You exceeded 15 requests a minute. Your daily limit is 1500.",
            "15 RPM exceeded, RPD: 20 of 1500 used",
            "You have not reached your daily limit, but we are busy.",
            "The model is overloaded today, a rainy day.",
        )
    },
    "the minute, and words of a day": exhausted(
        RetryAfter(9.5, pauses_model=True), (MINUTE, "15"), delay="8s", message="Daily limit hit."
    ),
    "unexplained": exhausted(RetryAfter(2.5), message=UNEXPLAINED),
    "unexplained, no JSON": Case(429, RetryAfter(2.5), raw=b"Too many requests"),
    "unexplained, of Vertex AI": exhausted(
        RetryAfter(2.5), message="Resource exhausted, please try again later."
    ),
    "unexplained, with Retry-After": Case(
        429, RetryAfter(8.5, pauses_model=True), raw=b"", retry_after_s=7.0
    ),
    "no credits": exhausted(StopReason.BILLING, message="Your prepayment credits are depleted."),
}


@pytest.mark.parametrize("name", CASES)
def test_the_table(name: str) -> None:
    """From each error, as its bytes come, follows what the table of the API's errors says."""
    case = CASES[name]

    decision = decide(case.error(), 1, half)

    if isinstance(case.expected, StopReason):
        assert isinstance(decision, Stop)
        assert case.expected == decision.reason
        # That there is no quota at all is a page of Google's, which asks to retry in seconds: it is put in a sentence.
        assert decision.message
        said = "limit: 0" if case.expected is StopReason.NO_QUOTA else case.error().message
        assert said in decision.message
    elif isinstance(case.expected, RetryAfter):
        assert isinstance(decision, RetryAfter)
        assert case.expected.wait_s == pytest.approx(decision.wait_s)
        assert case.expected.pauses_model == decision.pauses_model
    else:
        assert case.expected == decision


FAILURES: dict[FailureKind, Decision | StopReason] = {
    FailureKind.UNREACHABLE: RetryAfter(0.0, was_attempt=False),
    FailureKind.EMPTY: BACKOFF,
    FailureKind.TIMEOUT: BACKOFF,
    FailureKind.DISCONNECTED: BACKOFF,
    FailureKind.MALFORMED: BACKOFF,
    FailureKind.NOT_AN_ANSWER: GIVE_UP,
    FailureKind.NOT_FETCHED: GIVE_UP,
    FailureKind.NO_RESULT: GIVE_UP,
    FailureKind.TOO_LARGE: GIVE_UP,
    FailureKind.INPUT_CHANGED: GIVE_UP,
    FailureKind.INPUT_UNREADABLE: GIVE_UP,
    FailureKind.STORAGE: StopReason.STORAGE,
    FailureKind.LOGIN: StopReason.AUTH,
    FailureKind.CERTIFICATE: StopReason.CERTIFICATE,
    FailureKind.PROXY: StopReason.PROXY,
}


@pytest.mark.parametrize("kind", FailureKind)
def test_every_kind_of_failure_is_in_the_table(kind: FailureKind) -> None:
    """A failure of the way is tried again, one of the disk stops the run, one that comes back each time is given up."""
    decision = decide(Failure(kind, "no space left", may_be_billed=True), 1, half)

    expected = FAILURES[kind]
    if isinstance(expected, StopReason):
        assert isinstance(decision, Stop)
        assert (expected, "no space left") == (decision.reason, decision.message)
    else:
        assert expected == decision


@pytest.mark.parametrize(
    ("http_status", "body", "expected"),
    [
        (524, b"<html>524: A timeout occurred", True),
        (520, b"", True),
        (504, b"<html>Gateway Time-out", True),
        (502, b'{"error": {"message": "upstream", "type": "relay"}}', True),
        (500, b'{"error": "internal"}', True),
        (503, b'{"error": {"code": 503, "status": "UNAVAILABLE", "message": "overloaded"}}', False),
        (504, b'{"error": {"code": 504, "status": "DEADLINE_EXCEEDED", "message": "x"}}', False),
        *[(status, b"<html>", False) for status in (521, 522, 523, 525, 526, 530)],
        (400, b"<html>", False),
        (408, b"", False),
        (429, b"", False),
    ],
)
def test_only_a_gateway_that_reached_the_model_may_have_caused_costs(
    http_status: int,
    body: bytes,
    expected: bool,  # noqa: FBT001 # drawn from the table
) -> None:
    """A 5xx without Google's words may be billed, unless it says that nothing stood behind it."""
    error = parse_answer(Answer(http_status, body))
    assert isinstance(error, ApiError)

    assert may_be_billed(error) is expected


def test_every_kind_has_a_rule() -> None:
    """No error is without a consequence, and none of the API's can be billed by the table but a gateway's."""
    assert set(TABLE) == {*ErrorKind, *FailureKind}
    assert [kind for kind, rule in TABLE.items() if rule.may_be_billed] == [ErrorKind.GATEWAY]


def test_a_second_answer_that_cant_be_used_is_the_last() -> None:
    """A 200 is paid for; what can't be used of it comes again the same."""
    failure = Failure(FailureKind.MALFORMED, "bad base64", may_be_billed=True)

    assert [decide(failure, count, half) for count in (1, 2, 3)] == [BACKOFF, GIVE_UP, GIVE_UP]


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_the_backoff_has_full_jitter_and_a_cap(attempt: int, chance: float) -> None:
    """The wait lies evenly between nothing and twice the last one's bound, and a minute is the most."""
    bound_s = min(60.0, 2.0 * 2 ** min(attempt - 1, 10))

    assert chance * bound_s == pytest.approx(backoff_s(attempt, lambda: chance))


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0, 3600))
def test_a_429_waits_longer_than_it_is_asked_to(
    attempt: int, chance: float, asked_s: float
) -> None:
    """A wait that a server asks for is kept, with one to two seconds on top; when it is asked again, longer still."""
    error = ApiError(429, "RESOURCE_EXHAUSTED", None, "x", asked_s)

    decision = decide(error, attempt, lambda: chance)

    assert isinstance(decision, RetryAfter)
    floor_s = 0.0 if attempt == 1 else min(60.0, 2.0 * 2 ** min(attempt - 1, 10))
    assert max(asked_s, floor_s) + 1.0 + chance == pytest.approx(decision.wait_s)


def test_six_attempts_outlast_a_minute_whatever_the_server_says() -> None:
    """With a delay that is too short each time, the attempts still last until the minute's quota is free again."""
    error = ApiError(429, "RESOURCE_EXHAUSTED", None, "x", 0.0)

    waits = [decide(error, attempt, lambda: 0.0) for attempt in range(1, 6)]

    assert sum(wait.wait_s for wait in waits if isinstance(wait, RetryAfter)) > 60


def test_an_unexplained_429_backs_off_long_but_not_for_ever() -> None:
    """Without details the call alone waits: some seconds twice, then from 15 s doubled to five minutes, with a margin."""
    error = ApiError(429, "RESOURCE_EXHAUSTED", None, UNEXPLAINED)

    waits = [decide(error, attempt, lambda: 0.0) for attempt in range(1, 9)]

    assert not any(wait.pauses_model for wait in waits if isinstance(wait, RetryAfter))
    assert [wait.wait_s for wait in waits if isinstance(wait, RetryAfter)] == [
        1.0,
        1.0,
        16.0,
        31.0,
        61.0,
        121.0,
        241.0,
        301.0,
    ]


@given(
    st.builds(
        ApiError,
        st.integers(100, 999),
        st.sampled_from(["", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"]),
        st.none() | st.text(),
        st.text(),
        st.none() | st.floats(0, 1e300),
    ),
    st.integers(1, 10**6),
    st.floats(0, 1, exclude_max=True),
)
def test_no_error_waits_for_more_than_an_hour(error: ApiError, attempt: int, chance: float) -> None:
    """Any error at all gives a decision, and a wait is never negative and little more than an hour at most."""
    decision = decide(error, attempt, lambda: chance)

    if isinstance(decision, RetryAfter):
        assert 0 <= decision.wait_s <= 3600 + 60 + 2
