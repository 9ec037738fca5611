"""Retry policy: one pure table from an attempt without an answer to what follows.

The table follows Google's error codes (https://ai.google.dev/gemini-api/docs/troubleshooting) and
bodies of 429 that were measured (collected 2026-11-22).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from gemini_batch.catalog import models
from gemini_batch.records import ApiError, Failure, FailureKind, Status, Stop, StopReason
from gemini_batch.wording import suggest

OF_ONE_MODEL = frozenset(
    {
        StopReason.NO_QUOTA,
        StopReason.ADDRESS,
        StopReason.MODEL,
        StopReason.NO_ACCESS,
        StopReason.DAY_CLOSED,
    }
)
"""Reasons that concern one model: calls of others may be accepted."""

FIRST_BACKOFF_S = 2.0
MAX_BACKOFF_S = 60.0
# A 429 without details may mean the minute or the day: the first wait is longer than a quarter of a
# minute, the later ones longer than a whole one.
FIRST_UNEXPLAINED_S = 15.0
MAX_UNEXPLAINED_S = 300.0
# A 200 that can't be used is billed, and nearly always comes again the same: it is worth one more
# attempt in this run.
MAX_MALFORMED = 2
# Added to the wait that a server asks for: bodies round it down, and clients wake together.
MARGIN_S = 1.0
JITTER_S = 1.0
# Only the quota of a day asks for a longer wait.
MAX_ASKED_S = 3600.0

# Pages of Google's documentation for the user (collected 2026-11-22, not opened).
KEYS = "https://aistudio.google.com/apikey"
REGIONS = "https://ai.google.dev/gemini-api/docs/available-regions"
LOWER_LIMITS = (
    "if the project's limits are lower than the tier's, set them with --rpm, --rpd or --tpm"
)

# Client errors that are transient: the client or the server took too long, or the request came too
# early (RFC 8470).
_TRANSIENT = (408, 425, 499)
# A 409 with this status is a conflict of two requests that are both right; Google's clients retry
# it: https://cloud.google.com/apis/design/errors (2026-11-22).
_CONFLICT = "ABORTED"
_ZERO_LIMIT = re.compile(r"\blimit:\s*0(?!\d|\.\d)")
_ABOUT_A_FILE = re.compile(r"\bfiles/|\bthe file\b", re.IGNORECASE)
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


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Send it again after `wait_s` seconds; `pauses_model` holds back the model's other calls."""

    wait_s: float
    pauses_model: bool = False


@dataclass(frozen=True, slots=True)
class CloseDay:
    """The model's quota of the day is used up."""


@dataclass(frozen=True, slots=True)
class EndCall:
    """The call ends without an answer, with this status in its row."""

    status: Status


REJECT = EndCall(Status.REJECTED)
"""This job is wrong; others may be right."""
GIVE_UP = EndCall(Status.FAILED)
"""Another attempt in this run does not help; the next run may try."""

Decision: TypeAlias = RetryAfter | EndCall | Stop | CloseDay
"""A `Stop` means that no call can succeed until the user acts, or time passes; see `OF_ONE_MODEL`
for those of a single model."""
Random: TypeAlias = Callable[[], float]


@dataclass(frozen=True, slots=True)
class RetryRules:
    """Settings of a run; `skip_uncertain` ends a call that may have been billed."""

    max_attempts: int
    skip_uncertain: bool = False


def follow_up(
    error: ApiError | Failure,
    rules: RetryRules,
    *,
    model: str,
    attempt: int,
    malformed_answers: int,
    random: Random,
) -> Decision:
    """Return what follows from an attempt without an answer, under the rules of the run.

    Args are those of `decide`, and `malformed_answers`: how many answers of the call could not be
    used, this one included.
    """
    is_malformed = isinstance(error, Failure) and error.kind is FailureKind.MALFORMED
    decision = decide(error, malformed_answers if is_malformed else attempt, random)
    if isinstance(decision, Stop):
        return _advised(decision, model)
    if not isinstance(decision, RetryAfter):
        return decision
    if rules.skip_uncertain and isinstance(error, Failure) and error.may_be_billed:
        return EndCall(Status.UNCERTAIN)
    if attempt < rules.max_attempts:
        return decision
    if not is_quota(error):
        return GIVE_UP
    # Not this job's fault, and the next job would fare no better.
    message = _with_advice(f"the server keeps answering 429: {error.message}", LOWER_LIMITS)
    return Stop(StopReason.NO_QUOTA, message)


def is_quota(error: ApiError | Failure) -> bool:
    """Return whether the server refused an attempt because of the quota."""
    return isinstance(error, ApiError) and error.http_status == 429


def decide(error: ApiError | Failure, attempt: int, random: Random) -> Decision:
    """Return what follows from an attempt without an answer.

    Args:
        error: The outcome of the attempt.
        attempt: Number of the attempt, from 1; of `MALFORMED` answers only these are counted.
        random: Returns a number in [0, 1), for the jitter.
    """
    if isinstance(error, Failure):
        return _on_failure(error, attempt, random)
    asked_s = min(error.retry_delay_s or 0.0, MAX_ASKED_S)
    transient = RetryAfter(asked_s + backoff_s(attempt, random))
    decision: Decision
    match error.http_status:
        case 400:
            decision = _on_bad_request(error, transient)
        case 401:
            decision = _auth(error)
        case 402:
            decision = _billing(error)
        case 403 | 404 if _is_about_a_file(error):
            # A file that expired, or belongs to another project, is a 403 too: "You do not have
            # permission to access the File …".
            decision = REJECT
        case 403:
            decision = _on_forbidden(error)
        case 404:
            decision = _no_model(error)
        case 429:
            decision = _on_quota(error, attempt, random)
        case status if status < 500 and not _is_transient(error):
            # Without a status of Google it was refused on the way, and the job may be right. A
            # redirect leads to the same place each time, and is never followed.
            is_rejected = status == 413 or (status >= 400 and error.status)
            decision = REJECT if is_rejected else GIVE_UP
        case _:
            decision = transient
    return decision


def backoff_s(attempt: int, random: Random) -> float:
    """Return a wait in seconds, evenly between 0 and 2 · 2^(attempt-1), capped: "full jitter".

    https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/ (2026-11-22)
    """
    return random() * doubled_s(FIRST_BACKOFF_S, attempt, MAX_BACKOFF_S)


def doubled_s(first_s: float, attempt: int, max_s: float) -> float:
    """Return a wait that doubles with each attempt, from 1."""
    return min(max_s, first_s * 2.0 ** min(attempt - 1, 30))


def _on_failure(failure: Failure, attempt: int, random: Random) -> Decision:
    match failure.kind:
        case FailureKind.STORAGE:
            return Stop(StopReason.STORAGE, failure.message)
        case FailureKind.INPUT_CHANGED | FailureKind.INPUT_UNREADABLE:
            return GIVE_UP
        case FailureKind.TOO_LARGE | FailureKind.NOT_AN_ANSWER:
            return GIVE_UP
        case FailureKind.UNREACHABLE:
            return RetryAfter(backoff_s(attempt, random), pauses_model=True)
        case FailureKind.MALFORMED if attempt >= MAX_MALFORMED:
            return GIVE_UP
        case FailureKind.TIMEOUT | FailureKind.DISCONNECTED | FailureKind.MALFORMED:
            return RetryAfter(backoff_s(attempt, random))


def _on_bad_request(error: ApiError, transient: RetryAfter) -> Decision:
    if error.reason == "API_KEY_INVALID" or _ABOUT_THE_KEY.search(error.message):
        return _auth(error)
    if error.status != "FAILED_PRECONDITION":
        return REJECT
    if _is_about_a_file(error):
        # "The File … is not in an ACTIVE state and usage is not allowed.": just uploaded.
        return transient
    message = f"the API does not serve this project or place: {error.message}"
    return Stop(StopReason.PRECONDITION, _with_advice(message, f"where it does: {REGIONS}"))


def _on_quota(error: ApiError, attempt: int, random: Random) -> Decision:
    if "credits are depleted" in error.message:
        return _billing(error)
    if _ZERO_LIMIT.search(error.message) or any(
        violation.quota_value == "0" for violation in error.violations
    ):
        return Stop(StopReason.NO_QUOTA, _no_quota(error))
    if any("PerDay" in violation.quota_id for violation in error.violations):
        return CloseDay()  # its retryDelay is ignored: real bodies say "8s"
    asked_s = error.retry_delay_s
    if asked_s is not None and asked_s > MAX_ASKED_S:
        return CloseDay()  # "Please retry in 10h17m5.72s.": that is when the day ends
    if asked_s is None:
        wait_s = doubled_s(FIRST_UNEXPLAINED_S, attempt, MAX_UNEXPLAINED_S)
    elif attempt == 1:
        wait_s = asked_s
    else:  # it was too short before; six attempts then last for more than a minute
        wait_s = max(asked_s, doubled_s(FIRST_BACKOFF_S, attempt, MAX_BACKOFF_S))
    return RetryAfter(wait_s + MARGIN_S + JITTER_S * random(), pauses_model=True)


def _is_transient(error: ApiError) -> bool:
    is_conflict = error.http_status == 409 and error.status == _CONFLICT
    return is_conflict or error.http_status in _TRANSIENT


def _is_about_a_file(error: ApiError) -> bool:
    return bool(error.status and _ABOUT_A_FILE.search(error.message))


def _on_forbidden(error: ApiError) -> Stop:
    """Stop all models if the key or the project is refused; otherwise only this one.

    A key that is bad after all then costs one request a model.
    """
    if _OF_ALL_MODELS.match(error.reason or "") or not error.status:
        return _auth(error)
    if _ABOUT_WHO_ASKS.search(error.message) and not _ABOUT_A_MODEL.search(error.message):
        return _auth(error)
    return Stop(StopReason.NO_ACCESS, _refused(error))


def _auth(error: ApiError) -> Stop:
    advice = f"a key that may use the model comes from {KEYS}"
    return Stop(StopReason.AUTH, _with_advice(_refused(error), advice))


def _refused(error: ApiError) -> str:
    return f"the API refused the key ({error.http_status}): {error.message}"


def _billing(error: ApiError) -> Stop:
    return Stop(StopReason.BILLING, f"the project can't pay: {error.message}")


def _no_quota(error: ApiError) -> str:
    """Return in a sentence what the server says in a page; its "retry in 34 s" would not help."""
    metrics = dict.fromkeys(
        violation.quota_metric.rpartition("/")[2] for violation in error.violations
    )
    named = f" ({', '.join(metrics)})" if metrics else ""
    return (
        f"this project's tier has no quota for the model, limit: 0{named}; set up billing at "
        f"{KEYS}, or choose another model with --model"
    )


def _no_model(error: ApiError) -> Stop:
    if not error.status:  # a web server, or a gateway that does not know this path
        message = f"the server that answered 404 is not the Gemini API: {error.message}"
        return Stop(StopReason.ADDRESS, _with_advice(message, "check --base-url"))
    return Stop(StopReason.MODEL, f"the API has no such model: {error.message}")


def _with_advice(message: str, advice: str) -> str:
    """Append advice to a server's message, which may or may not end with a full stop."""
    if message.endswith("."):
        return f"{message} {advice[:1].upper()}{advice[1:]}"
    return f"{message}; {advice}"


def _advised(stop: Stop, model: str) -> Stop:
    """Append to the refusal of a model where to get a key, its successor, or the known models."""
    match stop.reason:
        case StopReason.NO_ACCESS:
            advice = f"a key that may use {model} comes from {KEYS}"
        case StopReason.MODEL if named := models.successor(model):
            advice = f"its announced successor: --model {named}"
        case StopReason.MODEL:
            advice = suggest(model, models.known())
        case _:
            return stop
    return replace(stop, message=_with_advice(stop.message, advice))
