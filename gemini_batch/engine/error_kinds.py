"""Kinds of errors: what the status and the body of an error answer say. Pure.

Google's error codes: https://ai.google.dev/gemini-api/docs/troubleshooting; bodies of 429 that were
measured (collected 2026-11-22). Errors of gateways: public reports (collected 2026-11-30).
"""

import re
from enum import StrEnum
from typing import TypeAlias

from gemini_batch.records import ApiError, Failure, FailureKind, QuotaViolation

MAX_ASKED_S = 3600.0
"""Longest wait that is not for the quota of a day."""


class ErrorKind(StrEnum):
    """Kinds of error answers. `ON_THE_WAY` and after: without Google's error body."""

    KEY_REFUSED = "the key, or the project, is refused for all models"
    NO_ACCESS = "the key may not use this model"
    NOT_SERVED = "the API does not serve this project or place"
    NO_CREDIT = "the project can't pay"
    NO_MODEL = "the API has no such model"
    NO_QUOTA = "the project has no quota for this model"
    DAY_USED_UP = "the quota of the day is used up"
    QUOTA = "the quota is used up for now"
    CAPACITY = "a 429 that names no quota: for this request there was no room"
    BAD_JOB = "the API says that the job is wrong"
    NOT_READY = "a file of the job is not ready yet"
    URI_NOT_FETCHED = "the API did not get an image by its URI"
    TRANSIENT = "the client or the server took too long, or the request came too early"
    OVERLOADED = "the server failed"
    PROXY = "the proxy wants other credentials"
    ON_THE_WAY = "something between here and the API refused the request"
    TOO_LARGE_ON_THE_WAY = "the request is too large for something between here and the API"
    OTHER_SERVER = "the server at the address is not the API"
    GATEWAY = "a gateway gave up waiting; the API may have answered it"
    GATEWAY_ALONE = "a gateway did not reach the API"


Kind: TypeAlias = ErrorKind | FailureKind

# 408, 425 (RFC 8470) and 499: the client or the server took too long, or the request came too soon.
_BY_STATUS = {
    401: ErrorKind.KEY_REFUSED,
    402: ErrorKind.NO_CREDIT,
    407: ErrorKind.PROXY,
    408: ErrorKind.TRANSIENT,
    425: ErrorKind.TRANSIENT,
    499: ErrorKind.TRANSIENT,
}
# A 409 with this status is a conflict of two requests that are both right; Google's clients retry
# it: https://cloud.google.com/apis/design/errors (2026-11-22).
_CONFLICT = "ABORTED"
# Cloudflare did not reach the server behind it: down, no route, no TLS, no name. With 520 and 524
# it did. https://developers.cloudflare.com/support/troubleshooting/http-status-codes/ (2026-11-30).
_ORIGIN_NOT_REACHED = (521, 522, 523, 525, 526, 527, 530)
_ZERO_LIMIT = re.compile(r"\blimit:\s*0(?!\d|\.\d)")
_FREE = re.compile(r"free[_-]?tier", re.IGNORECASE)
_PER_DAY = re.compile(
    r"(?i:(?<![a-z])per[\s_-]?day(?![a-z]))|PerDay|(?i:/d/|/day\b|(?<![a-z])daily)"
)
_PER_MINUTE = re.compile(r"(?i:(?<![a-z])per[\s_-]?min(?:ute)?(?![a-z]))|PerMinute|/min\b")
# Gateways, and messages without details, name the quota of a day in text: "You have exceeded your
# daily limit", "250 requests per day used". Not "to raise your daily limit, …", and no message that
# names a shorter window as well.
_SENTENCE = re.compile(r"[^.!?;\n]+(?:[.!?;](?!\s)[^.!?;\n]+)*")
_DAY_IN_TEXT = re.compile(rf"{_PER_DAY.pattern}|(?i:\b(?:a|this|the|each) day\b|\btoday|\bRPD\b)")
_USED_UP = re.compile(
    r"exceed|exhaust|deplet|\b(?:used|reached|hit|spent|over)\b|\br[au]n out\b"
    r"|\b(?:no|none|0)\b.*\b(?:left|remain)",
    re.IGNORECASE,
)
_NOT_USED_UP = re.compile(r"\b(?:not|higher|raise|increase|upgrade)\b", re.IGNORECASE)
_SHORTER_WINDOW = re.compile(
    rf"{_PER_MINUTE.pattern}|(?i:\b[RTI]PM\b|\b(?:a|this|the|each) (?:minute|hour)\b|hourly"
    r"|(?<![a-z])per[\s_-]?(?:second|hour))"
)
# Not `projects/my-files/locations/…`, as Vertex AI names a model.
_ABOUT_A_FILE = re.compile(r"(?<!-)\bfiles/|\bthe file\b", re.IGNORECASE)
# Google's fetcher of URIs fails now and then, and is throttled, with a 400 that a moment later is
# none (googleapis/js-genai#1385, vertesia/llumiverse#520, collected 2026-12-01). Others stay, as a
# refusal by robots.txt.
_NOT_FETCHED = re.compile(
    r"\bcan(?:not|'t) fetch content\b"
    r"|URL_REJECTED.*(?:THROTTLED|RATE_LIMITED|TOO_MANY_PENDING)",
    re.IGNORECASE | re.DOTALL,
)
# "API key not valid. Please pass a valid API key.", "API Key not found.", "API key expired."; not a
# prompt that mentions one.
_ABOUT_THE_KEY = re.compile(r"\A\W*API key\b|\bvalid API key\b", re.IGNORECASE)
# A 403 that concerns all models: by its reason (google.api.ErrorReason,
# https://cloud.google.com/apis/design/errors), or by its message if that names no model: "Your API
# key was reported as leaked.", "Your project has been denied access." (2026-11-22).
_OF_ALL_MODELS = re.compile(
    r"API_KEY|SERVICE_DISABLED|BILLING_DISABLED|CONSUMER|USER_PROJECT|CREDENTIALS|ACCESS_TOKEN"
    r"|ACCOUNT"
)
_ABOUT_WHO_ASKS = re.compile(
    r"\bAPI[ _]key\b|\bunregistered callers\b|\bproject\b|\bconsumer\b|\bbilling\b", re.IGNORECASE
)
_ABOUT_A_MODEL = re.compile(r"\bmodels?\b", re.IGNORECASE)


def kind_of(error: ApiError | Failure) -> Kind:
    """Return the kind of an attempt without an answer."""
    if isinstance(error, Failure):
        return error.kind
    status = error.http_status
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status == 403:
        return _of_forbidden(error)
    if status == 429:
        return _of_quota(error)
    if not error.status or status < 400:
        return _without_google(status)
    return ErrorKind.OVERLOADED if status >= 500 else _of_bad_request(error)


def _without_google(http_status: int) -> ErrorKind:
    """Return the kind of an error without Google's error body: only the API can reject a job."""
    # A redirect leads to the same place each time, and is never followed. A 404 is of a web server,
    # or of a gateway that does not know this path.
    if http_status < 400 or http_status == 404:
        return ErrorKind.OTHER_SERVER
    if http_status == 413:
        return ErrorKind.TOO_LARGE_ON_THE_WAY
    if http_status < 500:
        return ErrorKind.ON_THE_WAY
    return ErrorKind.GATEWAY_ALONE if http_status in _ORIGIN_NOT_REACHED else ErrorKind.GATEWAY


def _of_bad_request(error: ApiError) -> ErrorKind:
    is_about_a_file = _ABOUT_A_FILE.search(error.message)
    if error.http_status == 404 and not is_about_a_file:
        return ErrorKind.NO_MODEL
    if error.http_status == 409 and error.status == _CONFLICT:
        return ErrorKind.TRANSIENT
    if error.http_status != 400:
        return ErrorKind.BAD_JOB
    if error.reason == "API_KEY_INVALID" or _ABOUT_THE_KEY.search(error.message):
        return ErrorKind.KEY_REFUSED
    if error.status != "FAILED_PRECONDITION":
        is_passing = _NOT_FETCHED.search(error.message)
        return ErrorKind.URI_NOT_FETCHED if is_passing else ErrorKind.BAD_JOB
    # "The File … is not in an ACTIVE state and usage is not allowed.": just uploaded.
    return ErrorKind.NOT_READY if is_about_a_file else ErrorKind.NOT_SERVED


def _of_forbidden(error: ApiError) -> ErrorKind:
    """Return the kind of a 403: a key that is bad after all costs one request a model."""
    if error.status and _ABOUT_A_FILE.search(error.message):
        # A file that expired, or belongs to another project: "You do not have permission to access
        # the File …".
        return ErrorKind.BAD_JOB
    if _OF_ALL_MODELS.match(error.reason or "") or not error.status:
        return ErrorKind.KEY_REFUSED
    if _ABOUT_WHO_ASKS.search(error.message) and not _ABOUT_A_MODEL.search(error.message):
        return ErrorKind.KEY_REFUSED
    return ErrorKind.NO_ACCESS


def _of_quota(error: ApiError) -> ErrorKind:
    if "credits are depleted" in error.message:
        return ErrorKind.NO_CREDIT
    if _ZERO_LIMIT.search(error.message) or _has_zero_limit(error.violations):
        return ErrorKind.NO_QUOTA
    # Of a violation of the day the retryDelay is ignored: real bodies say "8s". Any longer one than
    # an hour is until the day ends: "Please retry in 10h17m5.72s.".
    if (error.retry_delay_s or 0.0) > MAX_ASKED_S or any(map(_is_of_day, error.violations)):
        return ErrorKind.DAY_USED_UP
    if _says_day(error):
        return ErrorKind.DAY_USED_UP
    is_explained = error.violations or error.retry_delay_s is not None
    return ErrorKind.QUOTA if is_explained else ErrorKind.CAPACITY


def _has_zero_limit(violations: tuple[QuotaViolation, ...]) -> bool:
    """Return whether a violation names a limit of 0, in one of the two ways of doing so.

    Protobuf JSON leaves out a value of 0. Then a free project without any quota for a model
    violates the quotas of its minute and of its day at once, and none of them has a value
    (google-gemini/gemini-cli#8437, collected 2026-11-30).
    """
    if any(violation.quota_value == "0" for violation in violations):
        return True
    return (
        not any(violation.quota_value for violation in violations)
        and any(map(_is_of_day, violations))
        and any(_PER_MINUTE.search(violation.quota_id) for violation in violations)
        and all(
            _FREE.search(f"{violation.quota_metric} {violation.quota_id}")
            for violation in violations
        )
    )


def _is_of_day(violation: QuotaViolation) -> bool:
    return bool(_PER_DAY.search(f"{violation.quota_id} {violation.quota_metric}"))


def _says_day(error: ApiError) -> bool:
    """Return whether the message alone says that the quota of the day is used up."""
    names = (f"{each.quota_id} {each.quota_metric}" for each in error.violations)
    if any(map(_SHORTER_WINDOW.search, (error.message, *names))):
        return False
    return any(
        _DAY_IN_TEXT.search(sentence)
        and _USED_UP.search(sentence)
        and not _NOT_USED_UP.search(sentence)
        for sentence in _SENTENCE.findall(error.message)
    )
