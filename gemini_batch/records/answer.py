"""What comes back of one sending: `Answer` or `Failure`; and what an answer means: `Reply` or `ApiError`."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class IncomingImage:
    """One image of an answer, on disk but not yet committed.

    Attributes:
        file: Path of the incoming part.
        size_bytes: Decoded bytes written to it.
        sha256: Of these bytes, in hex.
        head: Its first 64 bytes, which tell the format.
        mime_type: What the answer calls it; "" until the answer is whole.
    """

    file: str
    size_bytes: int
    sha256: str
    head: bytes
    mime_type: str = ""


@dataclass(frozen=True, slots=True)
class Timing:
    """When an attempt was sent and when it ended; `latency_s` is measured on the steady clock."""

    sent_at: datetime
    finished_at: datetime
    latency_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer of any status.

    Attributes:
        http_status: The status code.
        body: All of an error's body (capped); of a 200 the envelope: its JSON with each image's base64 replaced by `"#i"`,
            where `i` is the image's place in `images`.
        images: The images of a 200, in the order they arrived.
        retry_after_s: The Retry-After header in seconds, if there was one.
        redirects_to: The host that a redirect points to; "" without one.
    """

    http_status: int
    body: bytes
    images: tuple[IncomingImage, ...] = ()
    retry_after_s: float | None = None
    redirects_to: str = ""


class FailureKind(StrEnum):
    """How an attempt ended without an answer that can be used."""

    UNREACHABLE = "UNREACHABLE"  # no connection was made: not a byte of the request left
    TIMEOUT = "TIMEOUT"
    DISCONNECTED = "DISCONNECTED"  # closed or reset before the answer was whole
    MALFORMED = "MALFORMED"  # a 200 that is not the JSON, or the base64, that was promised
    TOO_LARGE = "TOO_LARGE"  # past the cap of a body, an envelope or the images of one answer
    INPUT_CHANGED = "INPUT_CHANGED"  # a reference image is not the file any more that was planned
    INPUT_UNREADABLE = (
        "INPUT_UNREADABLE"  # a reference image can't be decoded, and so not be made smaller
    )
    STORAGE = "STORAGE"  # the answer could not be written here


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt without a usable answer; `may_be_billed` is true once the request has left."""

    kind: FailureKind
    message: str
    may_be_billed: bool

    @property
    def name(self) -> str:
        """What it is counted under: `TIMEOUT`."""
        return self.kind.value


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """One violation of a 429's `google.rpc.QuotaFailure`; `quota_value` is None when the server left it out."""

    quota_id: str
    quota_metric: str
    quota_value: str | None


@dataclass(frozen=True, slots=True)
class ApiError:
    """An answer that says no.

    Attributes:
        http_status: The HTTP status.
        status: Google's name of it (`RESOURCE_EXHAUSTED`); `""` when the body was not Google's JSON.
        reason: `google.rpc.ErrorInfo.reason` (`API_KEY_INVALID`), if there was one.
        message: For a person; from the body, shortened.
        retry_delay_s: The largest wait that the body or the Retry-After header asks for, in seconds.
        violations: The quotas that a 429 names.
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
        """What it is counted under: `503 UNAVAILABLE`."""
        return f"{self.http_status} {self.status}".rstrip()


@dataclass(frozen=True, slots=True)
class Usage:
    """Token usage as the server counts it; a number that it left out is None."""

    prompt_tokens: int | None = None
    candidates_tokens: int | None = None
    thoughts_tokens: int | None = None
    total_tokens: int | None = None
    by_modality: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """A 200, understood: with an image (`succeeded`), or with a reason why there is none (`blocked`).

    Attributes:
        image: The result, or None: the last image whose part is not a thought.
        drafts: The other images, in order; paid for as well.
        text: All texts that are not thoughts, joined; None if there was none.
        finish_reason: The first candidate's, any string.
        finish_message: The first candidate's words on it.
        block_reason: `promptFeedback.blockReason`, or `EMPTY` when nothing says why there is no image.
        safety_ratings: As served.
        usage: Token usage, or None.
        model_version: As served.
        response_id: As served.
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


Outcome: TypeAlias = Reply | ApiError | Failure
