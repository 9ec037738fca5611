"""Retry policy: the decision about an attempt without an answer, by one table. Pure."""

from dataclasses import dataclass, field
from typing import TypeAlias

from gemini_batch.engine.backoff import Random, backoff_s, quota_s, unexplained_s
from gemini_batch.engine.error_kinds import MAX_ASKED_S, ErrorKind, kind_of
from gemini_batch.engine.retry_table import KEYS, TABLE, Rule, Table, Then
from gemini_batch.records import ApiError, Failure, Status, Stop, StopReason
from gemini_batch.wording import with_advice

# Flex takes what capacity is left, refuses the rest (503, 429) and answers within 1 to 15 minutes:
# https://ai.google.dev/gemini-api/docs/flex-inference (2026-09-22). A call that was refused may be
# sent this many times as often; with 6 attempts it is refused for about a quarter of an hour.
FLEX_PATIENCE = 6
# A day that ends at another hour than the quota's own is believed for this time: users saw quotas
# that ended at 00:00 UTC (collected 2026-11-30). No day is longer.
MAX_DAY_S = 25 * 3600.0

LOWER_LIMITS = (
    "if the project's limits are lower than the tier's, set them with --rpm, --rpd or --tpm"
)


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Send it again after `wait_s` seconds.

    Attributes:
        pauses_model: The model's other calls are held back as well.
        was_attempt: It counts in the attempts of the call.
    """

    wait_s: float
    pauses_model: bool = False
    was_attempt: bool = True


@dataclass(frozen=True, slots=True)
class CloseDay:
    """The model's quota of the day is used up; it ends in `ends_in_s`, None for at midnight."""

    ends_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class EndCall:
    """The call ends without an answer, with this status in its row."""

    status: Status


REJECT = EndCall(Status.REJECTED)
GIVE_UP = EndCall(Status.FAILED)

Decision: TypeAlias = RetryAfter | EndCall | Stop | CloseDay
"""A `Stop` means that no call can succeed until the user acts, or time passes; those for the
reasons `OF_ONE_MODEL` are of a single model."""


@dataclass(frozen=True, slots=True)
class RetryRules:
    """Settings of a run.

    Attributes:
        skip_uncertain: A call that may have been billed ends.
        keeps_going: It does not stop when call after call is rejected with the same message.
        table: The consequence of each kind, with the messages of the API that it sends to.
    """

    max_attempts: int
    skip_uncertain: bool = False
    keeps_going: bool = False
    table: Table = field(default_factory=lambda: TABLE)


def may_be_billed(error: ApiError | Failure) -> bool:
    """Return whether the attempt may have been billed."""
    if isinstance(error, Failure):
        return error.may_be_billed
    return TABLE[kind_of(error)].may_be_billed


def is_limited(error: ApiError | Failure) -> bool:
    """Return whether a call may have fewer outcomes of this kind than attempts."""
    return TABLE[kind_of(error)].attempts is not None


def is_quota(error: ApiError | Failure) -> bool:
    """Return whether the server refused an attempt because of the quota."""
    return isinstance(error, ApiError) and error.http_status == 429


def follow_up(
    error: ApiError | Failure,
    rules: RetryRules,
    *,
    attempt: int,
    of_kind: int,
    random: Random,
    is_flex: bool = False,
) -> Decision:
    """Return what follows from an attempt without an answer, under the rules of the run.

    Args:
        error: The outcome of the attempt.
        rules: Those of the run.
        attempt: Number of the attempt, from 1.
        of_kind: How many outcomes of the call were of this kind, if `is_limited`.
        random: Returns a number in [0, 1), for the jitter.
        is_flex: The call was sent in the service tier flex.
    """
    is_shed = is_flex and _is_shed(error)
    if is_shed:
        decision: Decision = RetryAfter(_asked_s(error) + backoff_s(attempt, random))
    else:
        number = of_kind if is_limited(error) else attempt
        decision = decide(error, number, random, rules.table)
    if not isinstance(decision, RetryAfter) or not decision.was_attempt:
        return decision
    if rules.skip_uncertain and may_be_billed(error):
        return EndCall(Status.UNCERTAIN)
    if attempt < rules.max_attempts * (FLEX_PATIENCE if is_shed else 1):
        return decision
    if is_shed or not is_quota(error):
        return GIVE_UP
    # Not this job's fault, and the next job would fare no better.
    message = with_advice(f"the server keeps answering 429: {error.message}", LOWER_LIMITS)
    return Stop(StopReason.NO_QUOTA, message)


def decide(
    error: ApiError | Failure, attempt: int, random: Random, table: Table = TABLE
) -> Decision:
    """Return what follows from an attempt without an answer, by a table alone.

    Args:
        error: The outcome of the attempt.
        attempt: Number of the attempt, from 1; of a limited kind only these are counted.
        random: Returns a number in [0, 1), for the jitter.
        table: That of the API.
    """
    rule = table[kind_of(error)]
    asked_s = error.retry_delay_s if isinstance(error, ApiError) else None
    match rule.then:
        case Then.RETRY if rule.attempts is None or attempt < rule.attempts:
            return RetryAfter(_asked_s(error) + backoff_s(attempt, random))
        case Then.RETRY | Then.GIVE_UP | Then.REJECT:
            return REJECT if rule.then is Then.REJECT else GIVE_UP
        case Then.BACK_OFF | Then.PAUSE:
            pauses = rule.then is Then.PAUSE
            wait_s = quota_s(asked_s, attempt, random) if pauses else unexplained_s(attempt, random)
            return RetryAfter(wait_s, pauses_model=pauses)
        case Then.WAIT:
            return RetryAfter(0.0, was_attempt=False)
        case Then.CLOSE_DAY:
            is_believed = asked_s is not None and MAX_ASKED_S < asked_s <= MAX_DAY_S
            return CloseDay(asked_s if is_believed else None)
        case StopReason() as reason:
            return Stop(reason, _message(rule, error))


def _is_shed(error: ApiError | Failure) -> bool:
    """Return whether the server had no capacity left for a call of flex."""
    if not isinstance(error, ApiError):
        return False
    kind = kind_of(error)
    return kind is ErrorKind.CAPACITY or (kind is ErrorKind.OVERLOADED and error.http_status == 503)


def _asked_s(error: ApiError | Failure) -> float:
    """Return the wait that the server asks for, within reason; 0 without any."""
    asked_s = error.retry_delay_s if isinstance(error, ApiError) else None
    return min(asked_s or 0.0, MAX_ASKED_S)


def _message(rule: Rule, error: ApiError | Failure) -> str:
    if isinstance(error, Failure):
        return error.message
    if rule.then is StopReason.NO_QUOTA:
        return _no_quota(error)
    message = rule.says.format(message=error.message, http_status=error.http_status)
    return with_advice(message, rule.advice) if rule.advice else message


def _no_quota(error: ApiError) -> str:
    """Return in a sentence what the server says in a page; its "retry in 34 s" would not help."""
    metrics = dict.fromkeys(
        violation.quota_metric.rpartition("/")[2] for violation in error.violations
    )
    named = f" ({', '.join(filter(None, metrics))})" if any(metrics) else ""
    return (
        f"this project's tier has no quota for the model, limit: 0{named}; image models have no "
        f"free quota: set up billing at {KEYS}, or with billing choose another model with --model"
    )
