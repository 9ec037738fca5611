"""Result of one attempt, `Answer` or `Failure`, and its meaning, `Reply` or `ApiError`."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

from gemini_batch.records.incoming import IncomingImage
from gemini_batch.records.usage import Usage


@dataclass(frozen=True, slots=True)
class Timing:
    """Start and end of an attempt; `latency_s` is measured on the steady clock."""

    sent_at: datetime
    finished_at: datetime
    latency_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer of any status.

    Attributes:
        body: The body of an error (capped); of a 200 its JSON with each image's base64 replaced
            by `"#i"`, where `i` is the image's index in `images`.
        redirects_to: The host that a redirect points to; "" without one.
        service_tier: The tier that a header names as served; None without it.
    """

    http_status: int
    body: bytes
    images: tuple[IncomingImage, ...] = ()
    retry_after_s: float | None = None
    redirects_to: str = ""
    service_tier: str | None = None


class FailureKind(StrEnum):
    """Kinds of attempts without a usable answer."""

    UNREACHABLE = "UNREACHABLE"  # no connection was made: not a byte of the request was sent
    LOGIN = "LOGIN"  # the login is refused, or there is none: nothing was sent
    CERTIFICATE = "CERTIFICATE"  # the server's certificate is not trusted here
    PROXY = "PROXY"  # the proxy refused to connect
    TIMEOUT = "TIMEOUT"
    DISCONNECTED = "DISCONNECTED"  # closed or reset before the answer was whole
    MALFORMED = "MALFORMED"  # a 200 that is not the JSON, or the base64, that it should be
    EMPTY = "EMPTY"  # a 200 without any part, and without a reason; it is not charged
    NOT_AN_ANSWER = "NOT_AN_ANSWER"  # a 200 with JSON that is not a GenerateContentResponse
    TOO_LARGE = "TOO_LARGE"  # over the limit of a body, of its JSON or of the images of one answer
    INPUT_CHANGED = "INPUT_CHANGED"  # a reference image is no longer the file that was planned
    INPUT_UNREADABLE = "INPUT_UNREADABLE"  # a reference image can't be decoded to downscale it
    NOT_FETCHED = "NOT_FETCHED"  # the answer is whole, but not its image, which has a URI
    NO_RESULT = "NO_RESULT"  # its batch has ended, or is gone, without an answer of the call
    STORAGE = "STORAGE"  # the answer could not be written here


NOT_SENT = frozenset(
    (FailureKind.UNREACHABLE, FailureKind.LOGIN, FailureKind.CERTIFICATE, FailureKind.PROXY)
)
"""Kinds of attempts of which not a byte was sent."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt without a usable answer; `may_be_billed` is true once the request was sent."""

    kind: FailureKind
    message: str
    may_be_billed: bool

    @property
    def name(self) -> str:
        """Name in statistics: `TIMEOUT`."""
        return self.kind.value


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """One violation of a 429's `google.rpc.QuotaFailure`; a value that is left out is None.

    Without an id, `quota_id` is the description.
    """

    quota_id: str
    quota_metric: str
    quota_value: str | None


@dataclass(frozen=True, slots=True)
class ApiError:
    """An error answer of the API.

    Attributes:
        status: Google's name of it (`RESOURCE_EXHAUSTED`); `""` if the body is not Google's JSON.
        reason: `google.rpc.ErrorInfo.reason` (`API_KEY_INVALID`), if there was one.
        message: For the user; from the body, shortened.
        retry_delay_s: The longest wait that the body or the Retry-After header asks for.
        fields: The request's fields that a 400 names.
    """

    http_status: int
    status: str
    reason: str | None
    message: str
    retry_delay_s: float | None = None
    violations: tuple[QuotaViolation, ...] = ()
    fields: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name in statistics: `503 UNAVAILABLE`."""
        return f"{self.http_status} {self.status}".rstrip()


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image that an answer names by its URI; `mime_type` is "" if the answer has none."""

    uri: str
    mime_type: str
    is_thought: bool


class FetchProblem(StrEnum):
    """Kinds of problems with an image that is fetched by its URI."""

    TRANSIENT = "transient"  # another time it may succeed
    GONE = "gone"  # the server says that there is no such image, or no longer
    REFUSED = "refused"  # by the rules here or there: it fails each time


@dataclass(frozen=True, slots=True)
class NotFetched:
    """An image that could not be fetched; a server may ask for a wait of `wait_s` seconds."""

    problem: FetchProblem
    message: str
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A parsed 200: with an image (`succeeded`), or with the reason for none (`blocked`).

    Attributes:
        image: The result, or None: the last image whose part is not a thought.
        drafts: The other images, in order; paid for as well.
        text: All texts that are not thoughts, joined; None if there was none.
        finish_reason: The first candidate's, any string; as `finish_message`.
        block_reason: `promptFeedback.blockReason`, or `EMPTY` when no reason for the missing image
            is given.
        is_empty: There is nothing in it, not even a thought, and no reason is given.
        remote: The images that are not in the answer, in order; they are paid for as well.
        service_tier: The tier that was served, in lower case; None if the answer names none.
        searches: Its queries of the web, each of which is paid for.
        is_cut: It broke off after its picture; what would have followed is unknown.
    """

    image: IncomingImage | None
    drafts: tuple[IncomingImage, ...]
    text: str | None
    finish_reason: str | None
    finish_message: str | None
    block_reason: str | None
    safety_ratings: list[Any]
    usage: Usage | None
    model_version: str | None
    response_id: str | None
    is_empty: bool = False
    remote: tuple[RemoteImage, ...] = ()
    service_tier: str | None = None
    searches: int = 0
    is_cut: bool = False


Outcome: TypeAlias = Reply | ApiError | Failure
