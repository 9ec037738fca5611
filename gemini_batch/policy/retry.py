"""What to do when an attempt did not give an answer: one table, as one pure function.

The table is that of Google's error codes, https://ai.google.dev/gemini-api/docs/troubleshooting, with what has been measured of the
429 bodies (collected 2026-11-22).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from gemini_batch.records import ApiError, Failure, FailureKind, Stop, StopReason

FIRST_BACKOFF_S = 2.0
MAX_BACKOFF_S = 60.0
# A 429 without details may mean the minute or the day: the first wait is past a quarter of a minute, the later ones past all of it.
FIRST_UNEXPLAINED_S = 15.0
MAX_UNEXPLAINED_S = 300.0
# On top of the wait that a server asks for: bodies round it down, and many clients wake at the same moment.
MARGIN_S = 1.0
JITTER_S = 1.0

_ZERO_LIMIT = re.compile(r"\blimit:\s*0(?![\d.])")
_ABOUT_A_FILE = re.compile(r"\bfiles/|\bthe file\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Send it again after `wait_s` seconds; `pauses_model` holds every call of the model back for as long."""

    wait_s: float
    pauses_model: bool = False


@dataclass(frozen=True, slots=True)
class Reject:
    """This job is wrong, the others may be right."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Another attempt in this run can't help; the next run may."""


@dataclass(frozen=True, slots=True)
class StopRun:
    """No call can succeed until a person, or time, mends it."""

    stop: Stop


@dataclass(frozen=True, slots=True)
class CloseDay:
    """The model's quota of the day is used up."""


Decision: TypeAlias = RetryAfter | Reject | GiveUp | StopRun | CloseDay
Random: TypeAlias = Callable[[], float]


def decide(error: ApiError | Failure, attempt: int, random: Random) -> Decision:
    """Decide what follows from an attempt that gave no reply.

    Args:
        error: What came back.
        attempt: Which attempt of the call this was, from 1.
        random: A number in [0, 1), for the jitter.
    """
    if isinstance(error, Failure):
        return _on_failure(error, attempt, random)
    match error.http_status:
        case 400:
            return _on_bad_request(error)
        case 401:
            return _auth(error)
        case 402:
            return _billing(error)
        case 403:
            # A file that has expired, or is somebody else's, is a 403 too: "You do not have permission to access the File …".
            return Reject() if _ABOUT_A_FILE.search(error.message) else _auth(error)
        case 404:
            return Reject() if _ABOUT_A_FILE.search(error.message) else _no_model(error)
        case 429:
            return _on_quota(error, attempt, random)
        case 408 | 499:
            return RetryAfter(backoff_s(attempt, random))
        case status if 400 <= status < 500:
            return Reject()
        case _:
            wait_s = backoff_s(attempt, random)
            return RetryAfter(max(wait_s, error.retry_delay_s or 0.0))


def backoff_s(attempt: int, random: Random) -> float:
    """Return a wait in seconds, evenly between 0 and 2 · 2^(attempt − 1), capped: "full jitter".

    https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/ (2026-11-22)
    """
    return random() * min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(attempt - 1, 30))


def _on_failure(failure: Failure, attempt: int, random: Random) -> Decision:
    match failure.kind:
        case FailureKind.STORAGE:
            return StopRun(Stop(StopReason.STORAGE, failure.message))
        case FailureKind.INPUT_CHANGED | FailureKind.TOO_LARGE:
            return GiveUp()
        case FailureKind.UNREACHABLE:
            return RetryAfter(backoff_s(attempt, random), pauses_model=True)
        case FailureKind.TIMEOUT | FailureKind.DISCONNECTED | FailureKind.MALFORMED:
            return RetryAfter(backoff_s(attempt, random))


def _on_bad_request(error: ApiError) -> Decision:
    if error.reason == "API_KEY_INVALID" or "API key" in error.message:
        return _auth(error)
    if error.status == "FAILED_PRECONDITION":
        return StopRun(Stop(StopReason.PRECONDITION, f"the API does not serve this project or place: {error.message}"))
    return Reject()


def _on_quota(error: ApiError, attempt: int, random: Random) -> Decision:
    if "credits are depleted" in error.message:
        return _billing(error)
    if _ZERO_LIMIT.search(error.message) or any(violation.quota_value == "0" for violation in error.violations):
        message = (
            f"this project's tier has no quota for the model; choose another model, or set up billing: {error.message}"
        )
        return StopRun(Stop(StopReason.NO_QUOTA, message))
    if any("PerDay" in violation.quota_id for violation in error.violations):
        return CloseDay()  # whatever its retryDelay says: real bodies say "8s"
    margin_s = MARGIN_S + JITTER_S * random()
    if error.retry_delay_s is not None:
        return RetryAfter(error.retry_delay_s + margin_s, pauses_model=True)
    wait_s = min(MAX_UNEXPLAINED_S, FIRST_UNEXPLAINED_S * 2.0 ** min(attempt - 1, 30))
    return RetryAfter(wait_s + margin_s, pauses_model=True)


def _auth(error: ApiError) -> StopRun:
    message = f"the API refused the key ({error.http_status}): {error.message}"
    return StopRun(Stop(StopReason.AUTH, message))


def _billing(error: ApiError) -> StopRun:
    return StopRun(Stop(StopReason.BILLING, f"the project can't pay: {error.message}"))


def _no_model(error: ApiError) -> StopRun:
    return StopRun(Stop(StopReason.MODEL, f"the API has no such model: {error.message}"))
