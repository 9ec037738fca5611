"""The table of the retry policy: what follows from each kind of error, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from gemini_batch.engine.error_kinds import ErrorKind, Kind
from gemini_batch.records import FailureKind, StopReason

# Pages of Google's documentation for the user (collected 2026-11-22, not opened).
KEYS = "https://aistudio.google.com/apikey"
REGIONS = "https://ai.google.dev/gemini-api/docs/available-regions"


class Then(Enum):
    """Consequences of an error that do not stop anything for good."""

    RETRY = auto()  # the call, after a backoff
    BACK_OFF = auto()  # the call, after a backoff that outlasts a minute
    WAIT = auto()  # for the server; it was no attempt, because no byte left
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
    ErrorKind.URI_NOT_FETCHED: _RETRY,
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
