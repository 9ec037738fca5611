"""`Call`: one API request planned from a job, and its expected usage."""

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from gemini_batch.records.raw_request import RawRequest
from gemini_batch.records.service_tier import ServiceTier, lane_name

# All values of the image models, https://ai.google.dev/gemini-api/docs/image-generation (collected
# 2026-11-22). Those of one model are in catalog/models.toml; a newer value needs a raw `request`.
AspectRatio: TypeAlias = Literal[
    "1:1", "16:9", "9:16", "4:3", "3:4", "5:4", "4:5",
    "2:3", "3:2", "21:9", "1:4", "4:1", "1:8", "8:1",
]  # fmt: skip
ImageSize: TypeAlias = Literal["512", "1K", "2K", "4K"]
Modality: TypeAlias = Literal["TEXT", "IMAGE"]
# int32 in Google's discovery schema (2026-08):
# https://generativelanguage.googleapis.com/$discovery/rest?version=v1beta
SEED_MIN, SEED_MAX = -(2**31), 2**31 - 1
# ThinkingConfig.thinkingLevel, in lower case (discovery document, 2026-08).
Thinking: TypeAlias = Literal["minimal", "low", "medium", "high"]


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the prompt."""

    text: str


@dataclass(frozen=True, slots=True)
class InputImage:
    """A reference image on disk or in a bucket, as it was when the manifest was checked.

    Attributes:
        path: As the manifest has it; `file` is absolute, and "" for an image in a bucket.
        mime_type: From the file's first bytes, never from its name.
        mtime_ns: Time of its last change; with the size it shows that the file is still the same.
        width: In pixels, as `height`; None where it is not needed.
        max_pixels: Set if the image has more pixels: it is downscaled to at most this number.
        downscaled: The copy that is sent instead, once it is made; `path` is the same.
        version: Of an image in a bucket, whose `sha256` is not known and "".
        job: The id of the call whose picture it is, for `job:robot`; "" for any other.
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
    downscaled: "InputImage | None" = None
    version: str = ""
    job: str = ""

    @property
    def upload_bytes(self) -> int:
        """Bytes that are sent for it, before base64; an estimate until it is downscaled."""
        if self.downscaled:
            return self.downscaled.size_bytes
        if not (self.max_pixels and self.width and self.height):
            return self.size_bytes
        return math.ceil(self.size_bytes * self.max_pixels / (self.width * self.height))


@dataclass(frozen=True, slots=True)
class InputUri:
    """A reference image that the API fetches itself: an https:// URI, or one of the Files API."""

    uri: str
    mime_type: str | None = None


@dataclass(frozen=True, slots=True)
class JobPicture:
    """The picture of another call, which may not exist yet; an `InputImage` when it is sent."""

    call_id: str


Part: TypeAlias = Text | InputImage | InputUri | JobPicture


@dataclass(frozen=True, slots=True)
class Request:
    """A request before it is JSON; `raw` replaces all fields but `model` and `service_tier`."""

    model: str
    parts: tuple[Part, ...] = ()
    system: str | None = None
    modalities: tuple[Modality, ...] = ("IMAGE",)
    aspect_ratio: AspectRatio | None = None
    image_size: ImageSize | None = None
    seed: int | None = None
    temperature: float | None = None
    thinking: Thinking | None = None
    raw: RawRequest | None = None
    service_tier: ServiceTier = "standard"

    @property
    def lane(self) -> str:
        """The name of its lane: its model and service tier."""
        return lane_name(self.model, self.service_tier)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Expected usage of a call.

    Attributes:
        input_tokens: Text and reference images.
        output_tokens: The image, and the mean of thinking and text.
        cost_usd: Of these, at list price, of the service tier that is asked for; None when the
            model's price is unknown.
        extra_usd: Likely cost of more thinking and text than that, on top.
        max_extra_usd: Their cost in the longest answer that the API allows.
        standard_usd: The cost in the standard tier, where that is more expensive, because it may be
            served. The other two are of the more expensive tier as well.
    """

    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    extra_usd: float = 0.0
    max_extra_usd: float = 0.0
    standard_usd: float | None = None

    @property
    def reserved_usd(self) -> float:
        """The cost to count until the answer says what was served; 0 for an unknown price."""
        return (self.cost_usd or 0.0) if self.standard_usd is None else self.standard_usd


@dataclass(frozen=True, slots=True)
class Call:
    """One API request, planned from a job: variant 2 of the job `robot` is the call `robot.2`.

    Attributes:
        id: Unique in the manifest after Unicode NFC and case folding; names the image's file.
        line: The manifest's line, from 1.
        request_sha256: Of the canonical request, in hex; equal for all variants of a job.
        prompt: The texts of the prompt, for the row; None for a raw request without text.
        image_size: The size that the request asks for, raw or not; `1K` if it names none.
        if_gone: The same call of the announced successor, for the case that the API no longer has
            the model; None if the user named the model, or there is no successor.
    """

    id: str
    line: int
    request: Request
    request_sha256: str
    prompt: str | None
    image_size: str
    metadata: dict[str, Any] | None
    estimate: Estimate
    if_gone: "Call | None" = None


@dataclass(frozen=True, slots=True)
class Load:
    """Sums over the calls of one model to be sent; an unknown price is None."""

    calls: int
    input_tokens: int
    cost_usd: float | None

    def __add__(self, other: "Load") -> "Load":
        unknown = self.cost_usd is None or other.cost_usd is None
        return Load(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            None if unknown else (self.cost_usd or 0.0) + (other.cost_usd or 0.0),
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a project for one model; None means no limit.

    Tokens are input tokens, dollars are at list price, and days are those of America/Los_Angeles.
    A "minute" has `minute_s` seconds: 60, but fewer for tests with a simulator.
    """

    requests_per_min: int | None = None
    tokens_per_min: int | None = None
    images_per_min: int | None = None
    requests_per_day: int | None = None
    usd_per_10min: float | None = None
    usd_per_day: float | None = None
    minute_s: float = 60.0
