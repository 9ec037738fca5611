"""Retry policy: one pure table from the kind of an error to what follows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeAlias

from gemini_batch.engine.error_kinds import MAX_ASKED_S, ErrorKind, Kind, kind_of
from gemini_batch.records import ApiError, Failure, FailureKind, Status, Stop, StopReason

FIRST_BACKOFF_S = 2.0
MAX_BACKOFF_S = 60.0
# A 429 without details is the normal one of Vertex AI, whose capacity is shared: twice only the
# call waits, for some seconds (its page error-code-429, collected 2026-11-30). It may mean the
# minute as well: later waits are longer than a quarter of a minute, at last than a whole one.
SHORT_UNEXPLAINED_S = 1.0, 4.0
MAX_SHORT_UNEXPLAINED = 2
LONG_UNEXPLAINED_S = 15.0
MAX_UNEXPLAINED_S = 300.0
# Flex takes what capacity is left, refuses the rest (503, 429) and answers within 1 to 15 minutes:
# https://ai.google.dev/gemini-api/docs/flex-inference (2026-09-22). A call that was refused may be
# sent so many times as often; with 6 attempts it is refused for about a quarter of an hour.
FLEX_PATIENCE = 6
# Added to the wait that a server asks for: bodies round it down, and clients wake together.
MARGIN_S = 1.0
JITTER_S = 1.0
# A day that ends at another hour than the quota's own is believed for so long: users saw quotas
# that ended at 00:00 UTC (collected 2026-11-30). No day is longer.
MAX_DAY_S = 25 * 3600.0

# Pages of Google's documentation for the user (collected 2026-11-22, not opened).
KEYS = "https://aistudio.google.com/apikey"
REGIONS = "https://ai.google.dev/gemini-api/docs/available-regions"
LOWER_LIMITS = (
    "if the project's limits are lower than the tier's, set them with --rpm, --rpd or --tpm"
)


class Then(Enum):
    """Consequences of an error that do not stop anything for good."""

    RETRY = auto()  # the call, after a backoff
    BACK_OFF = auto()  # the call, after a backoff that outlasts a minute
    WAIT = auto()  # for the server; it was no attempt, for no byte left
    PAUSE = auto()  # the model, and retry
    CLOSE_DAY = auto()  # of the model
    REJECT = auto()  # the call: this job is wrong; others may be right
    GIVE_UP = auto()  # the call: another attempt in this run does not help; the next run may try


class Scope(Enum):
    """Reaches of an error: all that it holds back."""

    CALL = auto()
    MODEL = auto()
    RUN = auto()


@dataclass(frozen=True, slots=True)
class Rule:
    """The consequence of one kind of error.

    Attributes:
        then: A reason stops the run, or the model, that `scope` names.
        may_be_billed: Of an `ApiError`; a `Failure` itself knows whether it was sent.
        attempts: How many outcomes of this kind a call may have; None for the limit of the run.
        says: The message of a stop, around `{message}` and `{http_status}` of the error.
        advice: What the user can do.
    """

    then: Then | StopReason
    scope: Scope = Scope.CALL
    may_be_billed: bool = False
    attempts: int | None = None
    says: str = "{message}"
    advice: str = ""


_REFUSED = "the API refused the key ({http_status}): {message}"
_RETRY, _GIVE_UP = Rule(Then.RETRY), Rule(Then.GIVE_UP)
# A 200 that can't be used is billed, and nearly always comes again the same: it is worth one more
# attempt in this run.
_RETRY_ONCE = Rule(Then.RETRY, attempts=2)

Table: TypeAlias = Mapping[Kind, Rule]
TABLE: Table = {
    ErrorKind.KEY_REFUSED: Rule(
        StopReason.AUTH,
        Scope.RUN,
        says=_REFUSED,
        advice=f"a key that may use the model comes from {KEYS}",
    ),
    ErrorKind.NOT_SERVED: Rule(
        StopReason.PRECONDITION,
        Scope.RUN,
        says="the API does not serve this project or place: {message}",
        advice=f"where it does: {REGIONS}",
    ),
    ErrorKind.NO_CREDIT: Rule(
        StopReason.BILLING, Scope.RUN, says="the project can't pay: {message}"
    ),
    ErrorKind.NO_ACCESS: Rule(StopReason.NO_ACCESS, Scope.MODEL, says=_REFUSED),
    ErrorKind.NO_MODEL: Rule(
        StopReason.MODEL, Scope.MODEL, says="the API has no such model: {message}"
    ),
    ErrorKind.NO_QUOTA: Rule(StopReason.NO_QUOTA, Scope.MODEL),
    ErrorKind.OTHER_SERVER: Rule(
        StopReason.ADDRESS,
        Scope.MODEL,
        says="the server that answered {http_status} is not the Gemini API: {message}",
        advice="check --base-url",
    ),
    ErrorKind.PROXY: Rule(
        StopReason.PROXY,
        Scope.RUN,
        says="the proxy refused the request ({http_status}): {message}",
        advice="check the credentials in HTTP_PROXY",
    ),
    ErrorKind.DAY_USED_UP: Rule(Then.CLOSE_DAY, Scope.MODEL),
    ErrorKind.QUOTA: Rule(Then.PAUSE, Scope.MODEL),
    ErrorKind.CAPACITY: Rule(Then.BACK_OFF),
    ErrorKind.BAD_JOB: Rule(Then.REJECT),
    ErrorKind.TOO_LARGE_ON_THE_WAY: _GIVE_UP,
    ErrorKind.NOT_READY: _RETRY,
    ErrorKind.TRANSIENT: _RETRY,
    ErrorKind.OVERLOADED: _RETRY,
    ErrorKind.ON_THE_WAY: _RETRY,
    ErrorKind.GATEWAY_ALONE: _RETRY,
    ErrorKind.GATEWAY: Rule(Then.RETRY, may_be_billed=True),
    FailureKind.UNREACHABLE: Rule(Then.WAIT, Scope.RUN),
    FailureKind.LOGIN: Rule(StopReason.AUTH, Scope.RUN),
    FailureKind.CERTIFICATE: Rule(StopReason.CERTIFICATE, Scope.RUN),
    FailureKind.PROXY: Rule(StopReason.PROXY, Scope.RUN),
    FailureKind.TIMEOUT: _RETRY,
    FailureKind.DISCONNECTED: _RETRY,
    FailureKind.MALFORMED: _RETRY_ONCE,
    FailureKind.EMPTY: _RETRY_ONCE,
    FailureKind.NOT_AN_ANSWER: _GIVE_UP,
    FailureKind.TOO_LARGE: _GIVE_UP,
    FailureKind.NOT_FETCHED: _GIVE_UP,
    FailureKind.INPUT_CHANGED: _GIVE_UP,
    FailureKind.INPUT_UNREADABLE: _GIVE_UP,
    FailureKind.NO_RESULT: _GIVE_UP,
    FailureKind.STORAGE: Rule(StopReason.STORAGE, Scope.RUN),
}

NOT_REACHED = frozenset((ErrorKind.ON_THE_WAY, ErrorKind.GATEWAY_ALONE))
"""Kinds of answers of something between here and the API."""
SERVER_FAILURES = NOT_REACHED | {ErrorKind.OVERLOADED, ErrorKind.GATEWAY, ErrorKind.CAPACITY}
"""Kinds that count for the circuit breaker of a model."""
OF_ONE_MODEL = frozenset(rule.then for rule in TABLE.values() if rule.scope is Scope.MODEL)
"""Reasons of stops that concern one model: calls of others may be accepted."""


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
"""A `Stop` means that no call can succeed until the user acts, or time passes; see `OF_ONE_MODEL`
for those of a single model."""
Random: TypeAlias = Callable[[], float]


@dataclass(frozen=True, slots=True)
class RetryRules:
    """Settings of a run.

    Attributes:
        skip_uncertain: A call that may have been billed ends.
        keeps_going: It does not stop when call after call is rejected alike.
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
            wait_s = _quota_wait_s(asked_s, attempt, random, rule.then)
            return RetryAfter(wait_s, pauses_model=rule.then is Then.PAUSE)
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


def backoff_s(attempt: int, random: Random) -> float:
    """Return a wait in seconds, evenly between 0 and 2 · 2^(attempt-1), capped: "full jitter".

    https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/ (2026-11-22)
    """
    return random() * doubled_s(FIRST_BACKOFF_S, attempt, MAX_BACKOFF_S)


def doubled_s(first_s: float, attempt: int, max_s: float) -> float:
    """Return a wait that doubles with each attempt, from 1."""
    return min(max_s, first_s * 2.0 ** min(attempt - 1, 30))


def with_advice(message: str, advice: str) -> str:
    """Append advice to a server's message, which may or may not end with a full stop."""
    if message.endswith("."):
        return f"{message} {advice[:1].upper()}{advice[1:]}"
    return f"{message}; {advice}"


def _quota_wait_s(asked_s: float | None, attempt: int, random: Random, then: Then) -> float:
    """Return the wait after a 429 that is not of the day."""
    short = MAX_SHORT_UNEXPLAINED if then is Then.BACK_OFF else 0
    if attempt <= short:
        least_s, most_s = SHORT_UNEXPLAINED_S
        return least_s + (most_s - least_s) * random()
    if asked_s is None:
        wait_s = doubled_s(LONG_UNEXPLAINED_S, attempt - short, MAX_UNEXPLAINED_S)
    elif attempt == 1:
        wait_s = asked_s
    else:  # it was too short before; six attempts then last for more than a minute
        wait_s = max(asked_s, doubled_s(FIRST_BACKOFF_S, attempt, MAX_BACKOFF_S))
    return wait_s + MARGIN_S + JITTER_S * random()


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
