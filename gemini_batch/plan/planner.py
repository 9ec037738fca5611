"""One job: its request, checked against the model's features, and its calls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from gemini_batch.catalog import models
from gemini_batch.catalog.prices import (
    SEARCHES_OF_A_CALL,
    PriceTable,
    built_in,
    estimate,
)
from gemini_batch.catalog.thinking import ThinkingTokens
from gemini_batch.errors import Problem
from gemini_batch.plan import canonical, request_names, service_tiers
from gemini_batch.records import (
    Call,
    Estimate,
    InputImage,
    InputUri,
    JobPicture,
    Part,
    Request,
    ServiceTier,
    Text,
    ids,
    media_types,
    raw_request,
)
from gemini_batch.records.references import referred
from gemini_batch.records.service_tier import SERVICE_TIERS, UNSPECIFIED
from gemini_batch.wording import choices, shown

if TYPE_CHECKING:  # it needs pydantic
    from gemini_batch.records.job import Job

Resolve: TypeAlias = Callable[[str], InputImage | InputUri]
"""Looks up a reference image."""
Problems: TypeAlias = list[tuple[str, str]]
"""Problems of a job: the field, the message."""


_UNSPECIFIED = "thinking_level_unspecified"


class JobError(ValueError):
    """A job that can't be planned, for the reasons in `problems`."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problem.message for problem in problems))


@dataclass(frozen=True, slots=True)
class Planner:
    """Makes calls from jobs; `resolve` raises ValueError with a text for the user.

    Attributes:
        replaces_default: Calls of the default model have a successor, if the job names no model.
        is_batched: Calls may be sent in batches, which have no service tier.
        is_regional: They are sent to a location of Vertex AI other than global.
        service_tier: Of jobs that name none.
    """

    default_model: str
    resolve: Resolve
    prices: PriceTable = field(default_factory=built_in)
    thinking: ThinkingTokens = field(default_factory=ThinkingTokens)
    replaces_default: bool = False
    is_batched: bool = False
    is_regional: bool = False
    service_tier: ServiceTier = "standard"

    def request(self, job: "Job", line: int) -> Request:
        """Return the request of a job.

        Raises:
            JobError: A reference image can't be used, or the model lacks a feature.
        """
        problems: Problems = []
        model = models.bare(job.model or self.default_model)
        if job.request is not None:
            request = _raw_request(job, model, self.service_tier, problems)
        else:
            asked = job.modalities
            modalities = tuple(dict.fromkeys(asked)) if asked else canonical.DEFAULT_MODALITIES
            request = Request(
                model=model,
                parts=self._parts(job, problems),
                system=job.system,
                modalities=modalities,
                aspect_ratio=job.aspect_ratio,
                image_size=job.image_size,
                seed=job.seed,
                temperature=job.temperature,
                thinking=job.thinking,
                service_tier=job.service_tier or self.service_tier,
            )
            if "IMAGE" not in modalities:
                problems.append(
                    ("modalities", f'got {shown(job.modalities)}; must have "IMAGE" in it')
                )
            if job.images or job.parts:
                _check_images(request, "parts" if job.parts else "images", problems)
        problems += _not_offered(request.model, request.aspect_ratio, request.image_size)
        problems += _refused(request)
        if self.is_batched:
            problems += _no_tier(job, request)
        elif fault := service_tiers.fault(
            request.model, request.service_tier, self.prices, is_regional=self.is_regional
        ):
            problems.append(("service_tier", fault))
        if problems:
            raise JobError([Problem(line, *each) for each in problems])
        return request

    def estimate(self, request: Request) -> Estimate:
        """Return the expected usage of one call with this request."""
        return estimate(
            request.model,
            canonical.image_size(request),
            input_tokens=canonical.input_tokens(request),
            thinking_tokens=self.thinking.mean(request.model, canonical.thinking(request)),
            searches=SEARCHES_OF_A_CALL if canonical.searches(request) else 0,
            service_tier=request.service_tier,
            prices=self.prices,
        )

    def call(self, job: "Job", line: int, variant: int) -> Call:
        """Return one call of a job, from 1 to its `variants`.

        Raises:
            JobError: As `request`.
        """
        request = self.request(job, line)
        call = Call(
            id=ids.call_id(job.id or "", variant),
            line=line,
            request=request,
            request_sha256=canonical.request_sha256(request),
            prompt=canonical.prompt_text(request),
            image_size=canonical.image_size(request),
            metadata=job.metadata,
            estimate=self.estimate(request),
        )
        successor = self.successor(job)
        if successor is None:
            return call
        moved = replace(request, model=successor)
        return replace(call, if_gone=replace(call, request=moved, estimate=self.estimate(moved)))

    def successor(self, job: "Job") -> str | None:
        """Return the model of a job that names none, for when the API has the default no more."""
        is_named = job.model or (job.request and "model" in job.request)
        if is_named or not self.replaces_default:
            return None
        return models.successor(models.bare(self.default_model))

    def _parts(self, job: "Job", problems: Problems) -> tuple[Part, ...]:
        if job.prompt is not None and not job.images:  # nearly every line of most manifests
            return (Text(job.prompt),)
        parts: list[Part] = []
        for number, path in enumerate(job.images):
            parts += self._image(path, f"images[{number}]", problems)
        if job.prompt is not None:
            parts.append(Text(job.prompt))
        for number, part in enumerate(job.parts or ()):
            if part.text is not None:
                parts.append(Text(part.text))
            else:
                parts += self._image(part.image or "", f"parts[{number}].image", problems)
        return tuple(parts)

    def _image(self, path: str, field: str, problems: Problems) -> list[Part]:
        if (call_id := referred(path)) is not None:
            return [JobPicture(call_id)]
        try:
            return [self.resolve(path)]
        except ValueError as error:
            problems.append((field, str(error)))
            return []


def _no_tier(job: "Job", request: Request) -> Problems:
    """Return (field, message) for each service tier of a call that may be sent in a batch."""
    advice = "a batch has no service tier: leave it out, or send the line without --route"
    raw = [name for name in ("serviceTier", "service_tier") if name in (job.request or {})]
    found = [f"request.{name}" for name in raw]
    if not raw and request.service_tier != "standard":
        found = ["service_tier"]
    return [(name, advice) for name in found]


def _raw_request(job: "Job", model: str, tier: ServiceTier, problems: Problems) -> Request:
    """Return a GenerateContentRequest unchanged, except that its model goes into the URL.

    `tier` is the service tier of a request that names none.
    """
    body = job.request or {}
    if "model" in body:
        named = body["model"]
        body = {name: value for name, value in body.items() if name != "model"}
        if not isinstance(named, str):
            problems.append(("request.model", f"got {shown(named)}; must be the name of a model"))
        elif job.model and models.bare(named) != model:
            found = f'got {shown(named)}, and "model" is {shown(job.model)}'
            problems.append(("request.model", f"{found}: leave one out"))
        else:
            model = models.bare(named)
    if not body.get("contents"):
        problems.append(("request", 'has no "contents": it must be a whole GenerateContentRequest'))
    wrong, unknown = request_names.check(body)
    problems += wrong
    raw = raw_request.parse(body)
    _check_inline(raw.base64_bytes, "request", problems)
    if raw.service_tiers:
        tier = _raw_tier(raw.service_tiers, problems)
    if unknown:
        raw = replace(raw, unknown=unknown)
    return Request(model=model, raw=raw, service_tier=tier)


def _raw_tier(given: dict[str, Any], problems: Problems) -> ServiceTier:
    """Return the service tier that a raw request names."""
    (name, value), *others = given.items()
    if others:
        problems.append((f"request.{name}", "is there in two spellings: leave one out"))
    for tier in SERVICE_TIERS:
        if value == tier:
            return tier
    if value != UNSPECIFIED:
        allowed = choices((*SERVICE_TIERS, UNSPECIFIED))
        problems.append((f"request.{name}", f"got {shown(value)}; allowed: {allowed}"))
    return "standard"


@lru_cache
def _not_offered(
    model: str, aspect_ratio: str | None, image_size: str | None
) -> tuple[tuple[str, str], ...]:
    """Return (field, message) for each feature that a model lacks; an unknown one may have all."""
    if fault := models.fault(model):
        return (("model", fault),)
    known = models.find(model)
    if known is None:
        return ()
    asked = (
        ("aspect_ratio", aspect_ratio, known.aspect_ratios),
        ("image_size", image_size, known.image_sizes),
    )
    advice = 'use one of these, or write a raw "request"'
    return tuple(
        (name, f"got {shown(value)}; {model} offers {choices(offered)}: {advice}")
        for name, value, offered in asked
        if value is not None and value not in offered
    )


def _refused(request: Request) -> Problems:
    """Return (field, message) for each setting that a model refuses; an unknown one takes all."""
    known, raw = models.find(request.model), request.raw
    if known is None:
        return []
    if raw is None:
        given = (("seed", request.seed), ("temperature", request.temperature))
        refused = [name for name, value in given if value is not None and name in known.refuses]
        problems = [(name, f"{known.id} refuses it: leave it out") for name in refused]
        if request.thinking and request.thinking not in known.thinking:
            allowed = choices(known.thinking) or "no level"
            found = f"got {shown(request.thinking)}; {known.id} offers {allowed}"
            problems.append(("thinking", f"{found}: leave it out for the model's own"))
        return problems
    problems = [
        ("request", f"has {name}, which {known.id} refuses: leave it out")
        for name in known.refuses
        if name in raw.features
    ]
    if raw.thinking and known.thinking and raw.thinking not in (*known.thinking, _UNSPECIFIED):
        found = f"has the thinkingLevel {shown(raw.thinking)}; {known.id} offers"
        problems.append(("request", f"{found} {choices(known.thinking)}"))
    return problems


def _check_images(request: Request, field: str, problems: Problems) -> None:
    images = [part for part in request.parts if not isinstance(part, Text)]
    if len(images) > models.MAX_INPUT_IMAGES:
        limit = f"{models.MAX_INPUT_IMAGES} per request"
        problems.append((field, f"got {len(images)} images; allowed: {limit}"))
    files = [image.upload_bytes for image in images if isinstance(image, InputImage)]
    _check_inline(sum(map(media_types.base64_bytes, files)), field, problems)


def _check_inline(inline_bytes: int, field: str, problems: Problems) -> None:
    if inline_bytes > media_types.MAX_INLINE_BYTES:
        found = f"got {inline_bytes / 1e6:,.1f} MB of images in base64"
        limit = f"{media_types.MAX_INLINE_BYTES // 1_000_000} MB per request"
        advice = "downscale them, or upload them with the Files API and give their https:// URIs"
        problems.append((field, f"{found}; allowed: {limit}: {advice}"))
