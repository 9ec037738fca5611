"""The values that pass between the stations, from a manifest's line to a result's row.

`Job` one manifest line · `Call` one API request planned from it · `Answer` or `Failure` what came back when it was sent ·
`Reply` or `ApiError` what an answer means · `ResultRow` its line in `results.jsonl` · `Stop` why a whole run ends early.
"""

import math
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from gemini_batch.errors import ExitCode

# What the image models know, https://ai.google.dev/gemini-api/docs/image-generation (collected 2026-11-22). The values of one
# model are in policy/models.toml; a newer value goes through a raw `request`.
AspectRatio: TypeAlias = Literal[
    "1:1", "16:9", "9:16", "4:3", "3:4", "5:4", "4:5", "2:3", "3:2", "21:9", "1:4", "4:1", "1:8", "8:1"
]
ImageSize: TypeAlias = Literal["512", "1K", "2K", "4K"]
Modality: TypeAlias = Literal["TEXT", "IMAGE"]
NonEmpty: TypeAlias = Annotated[str, StringConstraints(min_length=1)]

MAX_VARIANTS = 1000
# int32 in Google's discovery schema, https://generativelanguage.googleapis.com/$discovery/rest?version=v1beta (2026-08).
SEED_MIN, SEED_MAX = -(2**31), 2**31 - 1


# --- what a person writes ---------------------------------------------------------------------------------------------


class JobPart(BaseModel):
    """One piece of a prompt whose order matters: a text or an image, never both."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    text: NonEmpty | None = Field(default=None, description="A piece of the prompt.")
    image: NonEmpty | None = Field(default=None, description="A path relative to the manifest, or an https:// URI.")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.text is None) == (self.image is None):
            raise ValueError('needs exactly one of "text" and "image"')
        return self


class Job(BaseModel):
    """One manifest line: what to ask for, and how often.

    Exactly one of `prompt` (with `images`), `parts` and `request` says what to ask for; the other fields are optional.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: NonEmpty | None = Field(
        default=None,
        validation_alias=AliasChoices("id", "key"),
        description="Names the job and its file (`icons/robot` → `images/icons/robot.jpg`); derived from the line if absent.",
    )
    prompt: NonEmpty | None = Field(default=None, description="What to draw, or what to do with the images.")
    images: list[NonEmpty] = Field(
        default_factory=list,  # a default would be copied, deeply, for each line
        description="Input images, sent before the prompt, at most 14: paths relative to the manifest, or https:// URIs.",
    )
    parts: Annotated[list[JobPart], Field(min_length=1)] | None = Field(
        default=None, description="In place of prompt and images: texts and images in any order."
    )
    request: dict[str, Any] | None = Field(
        default=None,
        description="In place of all that: a GenerateContentRequest, sent as it stands, as in Google's Batch API.",
    )
    system: NonEmpty | None = Field(default=None, description="The system instruction.")
    aspect_ratio: AspectRatio | None = Field(
        default=None,
        description="The picture's shape; the model's choice if absent. The last four are offered by some models.",
    )
    image_size: ImageSize | None = Field(
        default=None, description="The picture's size; 1K if absent. Each model offers some of these."
    )
    modalities: Annotated[list[Modality], Field(min_length=1)] | None = Field(
        default=None, description='What to answer with; `["IMAGE"]` if absent.'
    )
    seed: Annotated[int, Field(ge=SEED_MIN, le=SEED_MAX)] | None = Field(
        default=None, description="Passed on; the same seed need not give the same picture."
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        default=None, description="How freely the model draws; its own default if absent."
    )
    model: NonEmpty | None = Field(default=None, description="The model's id; that of the run if absent.")
    variants: Annotated[int, Field(ge=1, le=MAX_VARIANTS)] = Field(
        default=1, description="How many calls to make of this job: `robot`, `robot.2`, `robot.3`."
    )
    metadata: dict[str, Any] | None = Field(
        default=None, description="Anything; copied to the result's row, never sent."
    )

    @model_validator(mode="after")
    def _one_way_to_ask(self) -> Self:
        if self.prompt is not None and self.parts is None and self.request is None:
            return self  # nearly all jobs
        ways = [name for name in ("prompt", "parts", "request") if getattr(self, name) is not None]
        if len(ways) != 1:
            found = " and ".join(f'"{way}"' for way in ways) or "none of them"
            raise ValueError(f'needs exactly one of "prompt", "parts" and "request"; got {found}')
        if self.images and self.prompt is None:
            raise ValueError(f'"images" goes with "prompt"; with "{ways[0]}", put the images in there')
        if self.request is not None:
            mixed = [name for name in ASKED_BY_FIELD if getattr(self, name) is not None]
            if mixed:
                raise ValueError(f'"request" is sent as it stands: put "{mixed[0]}" into it, or leave it out')
        return self


ASKED_BY_FIELD = ("system", "aspect_ratio", "image_size", "modalities", "seed", "temperature")
"""Fields that say in a word what a raw `request` says itself."""


# --- what is planned from it ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the prompt."""

    text: str


@dataclass(frozen=True, slots=True)
class InputImage:
    """A reference image on disk, as it was when the manifest was checked.

    Attributes:
        path: As the manifest has it.
        file: The absolute path.
        mime_type: From the file's first bytes, never from its name.
        size_bytes: Size of the file.
        mtime_ns: Time of its last change; with the size it tells that the file is still the same.
        sha256: Of its content, in hex.
        width: In pixels, as they are stored; None where nobody asked.
        height: In pixels.
        max_pixels: It has more pixels than this, and is to be sent with at most so many; None is to be sent as it is.
        smaller: What is sent in its place, once it is made; `path` is the same.
    """

    path: str
    file: str
    mime_type: str
    size_bytes: int
    mtime_ns: int
    sha256: str
    width: int | None = None
    height: int | None = None
    max_pixels: int | None = None
    smaller: "InputImage | None" = None

    @property
    def upload_bytes(self) -> int:
        """Bytes that are sent for it, before base64; of one that is still to be made smaller, about how many."""
        if self.smaller:
            return self.smaller.size_bytes
        if not (self.max_pixels and self.width and self.height):
            return self.size_bytes
        return math.ceil(self.size_bytes * self.max_pixels / (self.width * self.height))


@dataclass(frozen=True, slots=True)
class InputUri:
    """A reference image that the API fetches itself: an https:// URI, or one of the Files API."""

    uri: str
    mime_type: str | None = None


Part: TypeAlias = Text | InputImage | InputUri


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask of which model, before it is JSON; `raw` stands in place of all fields but `model`."""

    model: str
    parts: tuple[Part, ...] = ()
    system: str | None = None
    modalities: tuple[Modality, ...] = ("IMAGE",)
    aspect_ratio: AspectRatio | None = None
    image_size: ImageSize | None = None
    seed: int | None = None
    temperature: float | None = None
    raw: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a call is expected to use.

    Attributes:
        input_tokens: Text and reference images.
        output_tokens: The image alone.
        cost_usd: Of these, at list price; None when the model's price is unknown.
        unforeseen_usd: What thinking and text, which no plan can count, may cost on top.
        at_worst_usd: What they cost on top of an answer as long as the API allows.
    """

    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    unforeseen_usd: float = 0.0
    at_worst_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Call:
    """One API request, planned from a job: variant 2 of the job `robot` is the call `robot.2`.

    Attributes:
        id: Unique in the manifest after Unicode NFC and case folding; names the image's file.
        line: The manifest's line, from 1.
        request: What to send.
        request_sha256: Of the canonical request, in hex; equal for all variants of a job.
        prompt: The texts of the prompt, for the row; None for a raw request without text.
        metadata: The job's, untouched.
        estimate: What it is expected to use.
    """

    id: str
    line: int
    request: Request
    request_sha256: str
    prompt: str | None
    metadata: dict[str, Any] | None
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Limits:
    """What a project may use of one model; None is no limit.

    Attributes:
        requests_per_min: RPM.
        tokens_per_min: Input tokens a minute, TPM.
        images_per_min: IPM.
        requests_per_day: RPD, a day of America/Los_Angeles.
        usd_per_10min: Dollars at list price in any ten minutes.
        usd_per_day: Dollars at list price, a day of America/Los_Angeles.
        minute_s: Seconds that the server calls a minute: 60, but for a simulator that is in a hurry. The ten minutes of
            `usd_per_10min` are ten of these.
    """

    requests_per_min: int | None = None
    tokens_per_min: int | None = None
    images_per_min: int | None = None
    requests_per_day: int | None = None
    usd_per_10min: float | None = None
    usd_per_day: float | None = None
    minute_s: float = 60.0


# --- what comes back --------------------------------------------------------------------------------------------------


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
        body: All of an error's body (capped); of a 200 the skeleton: its JSON with each image's base64 replaced by `"#i"`,
            where `i` is the image's place in `images`.
        images: The images of a 200, in the order they arrived.
        retry_after_s: The Retry-After header in seconds, if there was one.
        server_at: The Date header, if there was a valid one.
        redirects_to: The host that a redirect points to; "" without one.
    """

    http_status: int
    body: bytes
    images: tuple[IncomingImage, ...] = ()
    retry_after_s: float | None = None
    server_at: datetime | None = None
    redirects_to: str = ""


class FailureKind(StrEnum):
    """How an attempt ended without an answer that can be used."""

    UNREACHABLE = "UNREACHABLE"  # no connection was made: not a byte of the request left
    TIMEOUT = "TIMEOUT"
    DISCONNECTED = "DISCONNECTED"  # closed or reset before the answer was whole
    MALFORMED = "MALFORMED"  # a 200 that is not the JSON, or the base64, that was promised
    TOO_LARGE = "TOO_LARGE"  # past the cap of a body, a skeleton or the images of one answer
    INPUT_CHANGED = "INPUT_CHANGED"  # a reference image is not the file any more that was planned
    INPUT_UNREADABLE = "INPUT_UNREADABLE"  # a reference image can't be decoded, and so not be made smaller
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


# --- what is written down ---------------------------------------------------------------------------------------------


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


# --- why a run ends ---------------------------------------------------------------------------------------------------


class StopReason(StrEnum):
    """Why a run takes in no more calls."""

    INTERRUPTED = "interrupted"
    TERMINATED = "terminated"
    STORAGE = "storage"
    AUTH = "auth"
    PRECONDITION = "precondition"  # region or project: not a matter of the key alone
    MODEL = "model"
    BILLING = "billing"
    NO_QUOTA = "no_quota"
    DAY_CLOSED = "day_closed"
    BUDGET = "budget"
    DEADLINE = "deadline"
    OUTAGE = "outage"
    MANIFEST_CHANGED = "manifest_changed"


EXIT_OF_STOP = {
    StopReason.INTERRUPTED: ExitCode.INTERRUPTED,
    StopReason.TERMINATED: ExitCode.TERMINATED,
    StopReason.STORAGE: ExitCode.STORAGE,
    StopReason.AUTH: ExitCode.REFUSED,
    StopReason.PRECONDITION: ExitCode.REFUSED,
    StopReason.MODEL: ExitCode.REFUSED,
}


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a whole run ends early: it closes the intake, what is in flight drains and is written.

    Attributes:
        reason: Which kind.
        message: One sentence for a person: what happened and what to do.
        run_again_at: When running again makes sense, UTC; None for at once, or once the person has acted.
    """

    reason: StopReason
    message: str
    run_again_at: datetime | None = None

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a run that ends so."""
        return EXIT_OF_STOP.get(self.reason, ExitCode.STOPPED)
