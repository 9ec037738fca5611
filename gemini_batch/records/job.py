"""`Job`: one manifest line."""

from typing import Annotated, Any, Self, TypeAlias

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from gemini_batch.records.call import (
    SEED_MAX,
    SEED_MIN,
    AspectRatio,
    ImageSize,
    Modality,
    Thinking,
)
from gemini_batch.records.service_tier import ServiceTier

NonEmpty: TypeAlias = Annotated[str, StringConstraints(min_length=1)]

MAX_VARIANTS = 1000
ASKED_BY_FIELD = (
    "system",
    "aspect_ratio",
    "image_size",
    "modalities",
    "seed",
    "temperature",
    "thinking",
    "service_tier",
)
"""Fields that a raw `request` has inside itself."""


def _number(value: Any) -> Any:
    """Return Python's number for one of numpy."""
    return value.item() if hasattr(value, "item") else value


def _whole(value: Any) -> Any:
    """Return 42 for 42.0, which is a whole number in JSON, and for a number of numpy."""
    value = _number(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


class JobPart(BaseModel):
    """One piece of a prompt whose order matters: a text or an image, never both."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    text: NonEmpty | None = Field(default=None, description="A piece of the prompt.")
    image: NonEmpty | None = Field(
        default=None,
        description="A path relative to the manifest, an https:// URI, "
        "or job:ID for the picture of another call.",
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.text is None) == (self.image is None):
            raise ValueError('needs exactly one of "text" and "image"')
        return self


class Job(BaseModel):
    """One manifest line: a prompt, and the number of calls to make of it.

    Exactly one of `prompt` (with `images`), `parts` and `request` is required; the other fields are
    optional.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: NonEmpty | None = Field(
        default=None,
        validation_alias=AliasChoices("id", "key"),
        description="Names the job and its file (`icons/robot` → `images/icons/robot.jpg`), "
        "in visible characters; derived from the line if absent.",
    )
    prompt: NonEmpty | None = Field(
        default=None, description="The picture to draw, or the task for the images."
    )
    images: Annotated[
        list[NonEmpty], BeforeValidator(lambda value: [] if value is None else value)
    ] = Field(
        default_factory=list,  # a default would be copied, deeply, for each line
        description="Input images, sent before the prompt, at most 14: paths relative to the "
        "manifest, https:// URIs, or job:ID for the picture of another call.",
    )
    parts: Annotated[list[JobPart], Field(min_length=1)] | None = Field(
        default=None, description="Instead of prompt and images: texts and images in any order."
    )
    request: dict[str, Any] | None = Field(
        default=None,
        description="Instead of all these: a GenerateContentRequest, sent unchanged, as in "
        "Google's Batch API.",
    )
    system: NonEmpty | None = Field(default=None, description="The system instruction.")
    aspect_ratio: AspectRatio | None = Field(
        default=None,
        description="The picture's shape; the model's choice if absent. "
        "Only some models offer the last four.",
    )
    image_size: ImageSize | None = Field(
        default=None,
        description="The picture's size; 1K if absent. Each model offers some of these.",
    )
    modalities: Annotated[list[Modality], Field(min_length=1)] | None = Field(
        default=None, description='Kinds of output; `["IMAGE"]` if absent.'
    )
    seed: Annotated[int, Field(ge=SEED_MIN, le=SEED_MAX), BeforeValidator(_whole)] | None = Field(
        default=None, description="Passed to the model; it does not guarantee the same picture."
    )
    temperature: Annotated[float, Field(ge=0, le=2), BeforeValidator(_number)] | None = Field(
        default=None, description="The sampling temperature; the model's default if absent."
    )
    thinking: Thinking | None = Field(
        default=None,
        description="How long the model thinks before it draws; its default if absent. "
        "Each model offers some of these, or none.",
    )
    service_tier: ServiceTier | None = Field(
        default=None,
        description="`flex` costs less and takes longer, `priority` costs more; that of the run if "
        "absent. A finished call is not sent again in another one.",
    )
    model: NonEmpty | None = Field(
        default=None, description="The model's id; that of the run if absent."
    )
    variants: Annotated[
        int,
        Field(ge=1, le=MAX_VARIANTS),
        BeforeValidator(lambda value: 1 if value is None else _whole(value)),
    ] = Field(default=1, description="Number of calls of this job: `robot`, `robot.2`, `robot.3`.")
    metadata: dict[str, Any] | None = Field(
        default=None, description="Any data; copied to the result's row, never sent."
    )

    @model_validator(mode="before")
    @classmethod
    def _one_name(cls, data: Any) -> Any:
        """Leave out `id` or `key` if it is null, and the other one is there."""
        if isinstance(data, dict) and "key" in data and "id" in data:
            for name in ("id", "key"):
                if data[name] is None:
                    return {each: value for each, value in data.items() if each != name}
        return data

    @model_validator(mode="after")
    def _one_way_to_ask(self) -> Self:
        if self.prompt is not None and self.parts is None and self.request is None:
            return self  # nearly all jobs
        ways = [name for name in ("prompt", "parts", "request") if getattr(self, name) is not None]
        if len(ways) != 1:
            found = " and ".join(f'"{way}"' for way in ways) or "none of them"
            raise ValueError(f'needs exactly one of "prompt", "parts" and "request"; got {found}')
        if self.images and self.prompt is None:
            raise ValueError(
                f'"images" goes with "prompt"; with "{ways[0]}", put the images in there'
            )
        mixed = [name for name in ASKED_BY_FIELD if getattr(self, name) is not None]
        if self.request is not None and mixed:
            raise ValueError(
                f'"request" is sent unchanged: put "{mixed[0]}" into it, or leave it out'
            )
        return self
