"""What is written down: `ResultRow`, one line of `results.jsonl`."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from gemini_batch.records.answer import Usage


class Status(StrEnum):
    """How a call ended."""

    SUCCEEDED = "succeeded"
    BLOCKED = "blocked"  # an answer without an image: a result, not an error
    REJECTED = "rejected"  # the server says that this job is wrong
    FAILED = "failed"  # the attempts are used up; the next run tries again
    UNCERTAIN = "uncertain"  # sent by a run that was killed; may have been billed
    LOST = "lost"  # a row whose image did not survive; it runs again


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image of a result; `path` is relative to the output folder, `width` and `height` are pixels if known."""

    path: str
    mime_type: str
    size_bytes: int
    width: int | None
    height: int | None
    sha256: str


@dataclass(frozen=True, slots=True)
class SentFile:
    """The smaller copy that was sent in place of a reference image; width and height are pixels."""

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
        sha256: Of the file that it names, whatever was sent of it; None for a URI.
        sent: What was sent in its place (`--max-input-pixels`); None when it was sent as it is.
    """

    path: str
    sha256: str | None
    sent: SentFile | None = None


@dataclass(frozen=True, slots=True)
class ReusedFrom:
    """Where an answer was paid for: another output folder, as the person named it, and the call's id there."""

    out: str
    id: str


@dataclass(frozen=True, slots=True)
class RowError:
    """What went wrong at the last attempt; `http_status` is None when there was no answer."""

    http_status: int | None
    status: str
    reason: str | None
    message: str

    @property
    def name(self) -> str:
        """What it is counted under: `503 UNAVAILABLE`, or `TIMEOUT` when there was no answer."""
        return f"{self.http_status or ''} {self.status}".strip()


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One line of `results.jsonl`: a finished call. The newest row of an id counts.

    Attributes:
        id: The call's, which names its image: `robot`, or `robot.2` for the second of its variants.
        line: The manifest's line, from 1.
        status: `succeeded`; `blocked`: an answer without an image, a result and no error; `rejected`: the server says that
            this job is wrong; `failed`: the attempts are used up, the next run tries again; `uncertain`: it may have been
            billed and gave nothing, and `--on-uncertain skip` leaves it so; `lost`: its image did not survive a power cut,
            it runs again.
        images: The image; empty unless `succeeded`. Its path is relative to the output folder.
        drafts: Interim images of the answer, paid for as well.
        text: What the answer says beside the image; None if nothing.
        prompt: The prompt's texts; None for a raw request without text.
        inputs: The reference images, and what was sent of them.
        finish_reason: The answer's own word for how it ended: `STOP`, `IMAGE_SAFETY`, or any other.
        finish_message: The answer's sentence on that.
        block_reason: Why there is no image, where the answer says so; `EMPTY` where it says nothing.
        safety_ratings: As served.
        usage: Tokens as the server counts them; None without an answer.
        cost_usd: At list price, all attempts that answered; None when the model's price is unknown.
        model: The model that was asked.
        model_version: The model that answered, as served.
        response_id: The answer's own id, as served.
        endpoint: The base URL that it was sent to; `simulator` for `--simulate`.
        request_sha256: Of the request, inputs by content; a line that is edited has another one, and is sent again.
        attempts: How often it was sent in this run; 0 when it was not, for its answer was reused or an input can't be read.
        latency_s: Of the last attempt, from sending to the last byte.
        sent_at: When the last attempt was sent, UTC.
        finished_at: When its answer was whole, UTC.
        error: What went wrong at the last attempt of one that is `rejected`, `failed` or `uncertain`; else None.
        metadata: The job's, untouched.
        reused_from: Whose answer this is, copied at no cost; None for one of its own.
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
