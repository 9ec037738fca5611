"""`ResultRow`: one line of `results.jsonl`."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from gemini_batch.records.status import Status
from gemini_batch.records.usage import Usage

Route: TypeAlias = Literal["interactive", "batch"]
"""The way in which a call reaches the model."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image of a result; `path` is relative to the output folder, the size is in pixels."""

    path: str
    mime_type: str
    size_bytes: int
    width: int | None
    height: int | None
    sha256: str


@dataclass(frozen=True, slots=True)
class SentFile:
    """The downscaled copy of a reference image that was sent; width and height are pixels."""

    mime_type: str
    size_bytes: int
    width: int | None
    height: int | None
    sha256: str


@dataclass(frozen=True, slots=True)
class InputRef:
    """A reference image of a call.

    Attributes:
        path: The path or URI, as the manifest has it.
        sha256: Of the file at `path`, also if a downscaled copy was sent; None for a URI.
        sent: The downscaled copy that was sent (`--max-input-pixels`); None without one.
    """

    path: str
    sha256: str | None
    sent: SentFile | None = None


@dataclass(frozen=True, slots=True)
class ReusedFrom:
    """The answer that was copied: its output folder, as the user named it, and its call's id."""

    out: str
    id: str


@dataclass(frozen=True, slots=True)
class BatchRef:
    """The batch of a row, and the call in it.

    Attributes:
        name: The server's, `batches/…`; None if the server never named it.
        key: Of the call's line.
        created_at: When the server created the batch, UTC; None if unknown, as `ended_at`.
        ended_at: When the batch ended, UTC.
    """

    name: str | None
    key: str
    created_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RowError:
    """The error of the last attempt; `http_status` is None when there was no answer."""

    http_status: int | None
    status: str
    reason: str | None
    message: str

    @property
    def name(self) -> str:
        """Name in statistics: `503 UNAVAILABLE`, or `TIMEOUT` when there was no answer."""
        return f"{self.http_status or ''} {self.status}".strip()


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One line of `results.jsonl`: a finished call. The newest row of an id counts.

    Attributes:
        id: The call's, which names its image: `robot`, or `robot.2` for the second variant.
        line: The manifest's line, from 1.
        status: `succeeded`; `blocked`: an answer without an image, a result and no error;
            `rejected`: the server says that this job is wrong; `failed`: all attempts failed, the
            next run tries again; `uncertain`: it may have been billed and has no answer, and
            `--on-uncertain skip` leaves it so; `lost`: its image did not survive a power cut, it
            runs again; `late`: the answer of a batch to a call that has another one by now, or
            whose line was edited. It was paid for, its image is in `superseded/`, and it is never
            the newest row of its id; `pruned`: the call was no longer in the manifest. Its
            image is in `superseded/`, and is taken from there if the line comes back.
        images: The image; empty unless `succeeded`. Its path is relative to the output folder.
        drafts: Interim images of the answer, paid for as well.
        text: The text of the answer; None without any.
        prompt: The prompt's texts; None for a raw request without text.
        inputs: The reference images, and the copies that were sent of them.
        finish_reason: The answer's own: `STOP`, `IMAGE_SAFETY`, or any other.
        finish_message: The answer's explanation of `finish_reason`.
        block_reason: The reason why there is no image; `EMPTY` if the answer gives none.
        safety_ratings: As served.
        usage: Tokens as the server counts them; None without an answer.
        cost_usd: Cost at list price of all attempts that were answered; None if the model's price
            is unknown; 0 for an answer that an earlier row has paid for, whose image was fetched
            later.
        model: The model that was called: the one that was asked for, or the successor of a
            default model that the API no longer has.
        model_version: The model that answered, as served.
        response_id: The answer's own id, as served.
        endpoint: The base URL that the request was sent to; `simulator` for `--simulate`.
        request_sha256: Hash of the request, with inputs by content; an edited line has another one,
            and is sent again.
        attempts: Number of attempts in this run; 0 if it was not sent, because its answer was
            reused, its image was fetched later, or an input can't be read.
        latency_s: Duration of the last attempt, from sending to the last byte.
        sent_at: Start of the last attempt, UTC.
        finished_at: Arrival of the whole answer, UTC.
        error: The error of the last attempt if `rejected`, `failed` or `uncertain`; else None.
        metadata: The job's, unchanged.
        reused_from: The answer that was copied at no cost, of this folder if its image was there
            and its row was gone (`--adopt-images`); None for a call of its own.
        remote_images: URIs of images of the answer that could not be fetched, the result last;
            else empty. For a `failed` call the next run fetches them before it pays again.
        thinking: The level that was asked for; None for the model's own.
        service_tier: The tier that was served, and is in `cost_usd`; None if the answer names none:
            then the cost is of the more expensive of the one that was asked for and `standard`.
        route: `interactive`, or `batch`, which costs half.
        batch: The batch of the Batch API that the call was in; None for a request of its own.
        is_smaller: The image of a batch has much fewer pixels than the size that was asked for.
        is_cut: The answer broke off after its image, which is whole. Without a `usage`, `cost_usd`
            is an estimate.
    """

    id: str
    line: int
    status: Status
    images: list[ImageFile]
    drafts: list[ImageFile]
    text: str | None
    prompt: str | None
    inputs: list[InputRef]
    finish_reason: str | None
    finish_message: str | None
    block_reason: str | None
    safety_ratings: list[Any]
    usage: Usage | None
    cost_usd: float | None
    model: str
    model_version: str | None
    response_id: str | None
    endpoint: str
    request_sha256: str
    attempts: int
    latency_s: float
    sent_at: datetime
    finished_at: datetime
    error: RowError | None
    metadata: dict[str, Any] | None
    reused_from: ReusedFrom | None = None
    remote_images: list[str] = field(default_factory=list)
    thinking: str | None = None
    service_tier: str | None = None
    route: Route = "interactive"
    batch: BatchRef | None = None
    is_smaller: bool = False
    is_cut: bool = False

    @property
    def is_given_back(self) -> bool:
        """True if a batch has ended without an answer of the call, which may be sent again."""
        return self.route == "batch" and self.status is Status.FAILED and not self.remote_images
