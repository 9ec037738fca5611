"""From a job to its calls: what exactly is asked, what it is expected to cost, and whether it is still to be done.

`Planner` makes requests and calls of one job; `Plan` goes over all jobs once, adds up, and remembers a byte a call.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import lru_cache
from typing import Any, TypeAlias

import orjson

from gemini_batch.errors import Problem
from gemini_batch.policy import ids, media, models, prices, raw
from gemini_batch.policy.prices import PriceTable, built_in
from gemini_batch.policy.wording import choices, shown
from gemini_batch.records import Call, Estimate, InputImage, InputUri, Job, Modality, Part, Request, Text

# A new form of `canonical` gets a new tag: with it, every finished call would be paid for again.
CANONICAL_TAG = b"gemini_batch request 1\n"
_DEFAULT_MODALITIES: tuple[Modality, ...] = ("IMAGE",)

Resolve: TypeAlias = Callable[[str], InputImage | InputUri]


class JobError(ValueError):
    """A job that can't be planned, for the reasons in `problems`."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problem.message for problem in problems))


# --- what a request is ------------------------------------------------------------------------------------------------


def canonical(request: Request) -> bytes:
    """Return the bytes that are equal for two requests that ask one model for the same.

    They do not depend on the endpoint, the path of an image (its content counts), the order of modalities, or on whether a
    default is spelt out.
    """
    form: dict[str, Any] = {"model": request.model}
    if request.raw is not None:
        form["raw"] = request.raw
        return CANONICAL_TAG + orjson.dumps(form, option=orjson.OPT_SORT_KEYS)
    form["parts"] = [_canonical_part(part) for part in request.parts]
    if request.modalities != _DEFAULT_MODALITIES:
        form["modalities"] = sorted(set(request.modalities))
    if request.image_size != models.DEFAULT_IMAGE_SIZE:
        form["image_size"] = request.image_size
    form["system"] = request.system
    form["aspect_ratio"] = request.aspect_ratio
    form["seed"] = request.seed
    form["temperature"] = request.temperature
    said = {name: value for name, value in form.items() if value is not None}
    return CANONICAL_TAG + orjson.dumps(said, option=orjson.OPT_SORT_KEYS)


def _canonical_part(part: Part) -> dict[str, str]:
    match part:
        case Text(text):
            return {"text": text}
        case InputImage():
            return {"sha256": part.sha256}
        case InputUri():
            return {"uri": part.uri}


def request_sha256(request: Request) -> str:
    """Return the SHA-256 of the canonical request, in hex."""
    return hashlib.sha256(canonical(request)).hexdigest()


def image_size(request: Request) -> str:
    """Return the size that a request asks for, raw or not; 1K if it names none."""
    asked = raw.facts(request.raw).image_size if request.raw is not None else request.image_size
    return asked or models.DEFAULT_IMAGE_SIZE


def input_tokens(request: Request) -> int:
    """Return about how many tokens a request's input counts."""
    if request.raw is not None:
        facts = raw.facts(request.raw)
        return prices.input_tokens(request.model, input_images=facts.images, prompt_bytes=_utf8_bytes(facts.prompt))
    images, prompt_bytes = 0, _utf8_bytes(request.system)
    for part in request.parts:
        if isinstance(part, Text):
            prompt_bytes += _utf8_bytes(part.text)
        else:
            images += 1
    return prices.input_tokens(request.model, input_images=images, prompt_bytes=prompt_bytes)


def prompt_text(request: Request) -> str | None:
    """Return the texts of a request, one a line; None for a raw one without text."""
    if request.raw is not None:
        return raw.facts(request.raw).prompt
    return "\n".join(part.text for part in request.parts if isinstance(part, Text)) or None


# --- one job ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Planner:
    """Makes calls of jobs.

    Attributes:
        default_model: For jobs that name none.
        resolve: Looks up a reference image; raises ValueError with a text for a person.
        prices: What things cost.
    """

    default_model: str
    resolve: Resolve
    prices: PriceTable = field(default_factory=built_in)

    def request(self, job: Job, line: int) -> Request:
        """Return what a job asks for.

        Raises:
            JobError: A reference image can't be used, or the model does not offer what is asked for.
        """
        problems: list[Problem] = []
        model = models.bare(job.model or self.default_model)
        if job.request is not None:
            request = _raw_request(job, model, problems, line)
        else:
            request = Request(
                model=model,
                parts=tuple(self._parts(job, problems, line)),
                system=job.system,
                modalities=tuple(dict.fromkeys(job.modalities)) if job.modalities else _DEFAULT_MODALITIES,
                aspect_ratio=job.aspect_ratio,
                image_size=job.image_size,
                seed=job.seed,
                temperature=job.temperature,
            )
            problems += [Problem(line, *found) for found in _not_offered(model, job.aspect_ratio, job.image_size)]
            if job.images or job.parts:
                _check_images(request, "parts" if job.parts else "images", problems, line)
        if problems:
            raise JobError(problems)
        return request

    def estimate(self, request: Request) -> Estimate:
        """Return what one call with this request is expected to use."""
        return prices.estimate_all(
            request.model, image_size(request), calls=1, input_tokens=input_tokens(request), prices=self.prices
        )

    def expand(self, job: Job, line: int) -> Iterator[Call]:
        """Yield the calls of a job whose id is final: `robot`, `robot.2`, `robot.3`.

        Raises:
            JobError: As `request`.
        """
        first = self.call(job, line, 1)
        yield first
        for variant in range(2, job.variants + 1):
            yield replace(first, id=ids.call_id(job.id or "", variant))

    def call(self, job: Job, line: int, variant: int) -> Call:
        """Return one call of a job, from 1 to its `variants`.

        Raises:
            JobError: As `request`.
        """
        request = self.request(job, line)
        return Call(
            id=ids.call_id(job.id or "", variant),
            line=line,
            request=request,
            request_sha256=request_sha256(request),
            prompt=prompt_text(request),
            metadata=job.metadata,
            estimate=self.estimate(request),
        )

    def _parts(self, job: Job, problems: list[Problem], line: int) -> list[Part]:
        parts: list[Part] = []
        for number, path in enumerate(job.images):
            parts += self._image(path, f"images[{number}]", problems, line)
        if job.prompt is not None:
            parts.append(Text(job.prompt))
        for number, part in enumerate(job.parts or ()):
            if part.text is not None:
                parts.append(Text(part.text))
            else:
                parts += self._image(part.image or "", f"parts[{number}].image", problems, line)
        return parts

    def _image(self, path: str, where: str, problems: list[Problem], line: int) -> list[Part]:
        try:
            return [self.resolve(path)]
        except ValueError as error:
            problems.append(Problem(line, where, str(error)))
            return []


def _raw_request(job: Job, model: str, problems: list[Problem], line: int) -> Request:
    """Take a GenerateContentRequest as it stands; only its `model` goes where it belongs, into the URL."""
    body = job.request or {}
    if "model" in body:
        named = body["model"]
        body = {name: value for name, value in body.items() if name != "model"}
        if not isinstance(named, str) or not models.bare(named):
            problems.append(Problem(line, "request.model", f"got {shown(named)}; must be the name of a model"))
        elif job.model and models.bare(named) != model:
            problems.append(
                Problem(line, "request.model", f'got {shown(named)}, and "model" is {shown(job.model)}: leave one out')
            )
        else:
            model = models.bare(named)
    if not body.get("contents"):
        problems.append(Problem(line, "request", 'has no "contents": it must be a whole GenerateContentRequest'))
    inline_bytes = raw.facts(body).base64_bytes
    if inline_bytes > media.MAX_INLINE_BYTES:
        problems.append(Problem(line, "request", _too_large(inline_bytes)))
    return Request(model=model, raw=body)


@lru_cache
def _not_offered(model: str, aspect_ratio: str | None, image_size: str | None) -> tuple[tuple[str, str], ...]:
    """Return (field, message) for what a known model does not do; of another model nothing is known."""
    known = models.find(model)
    if known is None:
        return ()
    asked = (("aspect_ratio", aspect_ratio, known.aspect_ratios), ("image_size", image_size, known.image_sizes))
    return tuple(
        (name, f'got {shown(value)}; {model} offers {choices(offered)}: take one of these, or write a raw "request"')
        for name, value, offered in asked
        if value is not None and value not in offered
    )


def _check_images(request: Request, where: str, problems: list[Problem], line: int) -> None:
    images = [part for part in request.parts if not isinstance(part, Text)]
    if len(images) > models.MAX_INPUT_IMAGES:
        problems.append(Problem(line, where, f"got {len(images)} images; allowed: {models.MAX_INPUT_IMAGES} a request"))
    inline_bytes = sum(media.base64_bytes(image.size_bytes) for image in images if isinstance(image, InputImage))
    if inline_bytes > media.MAX_INLINE_BYTES:
        problems.append(Problem(line, where, _too_large(inline_bytes)))


def _too_large(inline_bytes: int) -> str:
    return (
        f"got {inline_bytes / 1e6:,.1f} MB of images in base64; allowed: {media.MAX_INLINE_BYTES // 1_000_000} MB a request: "
        "make them smaller, or upload them with the Files API and give their https:// URIs"
    )


def _utf8_bytes(text: str | None) -> int:
    if text is None:
        return 0
    return len(text) if text.isascii() else len(text.encode())


# --- all jobs ---------------------------------------------------------------------------------------------------------


class Verdict(IntEnum):
    """What an earlier run says of a call."""

    NEW = 0
    DONE = 1  # the newest row of its id is final, and of this very request
    EDITED = 2  # finished once, but with another request: it will be paid for again
    RETRY = 3  # not finished the last time, or asked for again


Judge: TypeAlias = Callable[[str, str], Verdict]


@dataclass(frozen=True, slots=True)
class Tally:
    """Calls that are still to be made, added up.

    Attributes:
        calls: How many.
        input_tokens: Of all of them.
        output_tokens: Of all of them.
        cost_usd: Of all of them; None when a price is unknown.
        largest_input_tokens: Of the largest one; it has to fit into the quota of a minute.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    largest_input_tokens: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        known = self.cost_usd is not None and other.cost_usd is not None
        return Tally(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_usd=(self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
            largest_input_tokens=max(self.largest_input_tokens, other.largest_input_tokens),
        )


@dataclass(slots=True)
class _Group:
    """Calls of one model and size: what has to be counted call by call."""

    calls: int = 0
    input_tokens: int = 0
    largest_input_tokens: int = 0


class Plan:
    """All calls of a manifest, at one byte a call and two a job.

    Args:
        planner: Makes the requests.
        judge: Says of a call's id and `request_sha256` what an earlier run made of it; None when there was no earlier run,
            which saves the hashing.
    """

    def __init__(self, planner: Planner, judge: Judge | None = None) -> None:
        self._groups: dict[tuple[str, str], _Group] = {}
        self._planner = planner
        self._judge = judge
        self._variants = array("H")
        self._verdicts = bytearray()

    def __len__(self) -> int:
        return len(self._verdicts)

    def add(self, job: Job, line: int) -> None:
        """Take in the next job; its index is that of `Manifest.scan`.

        Raises:
            JobError: The job can't be planned; it counts no calls.
        """
        self._variants.append(0)
        request = self._planner.request(job, line)
        self._variants[-1] = job.variants
        verdicts = self._verdicts_on(job, request)
        self._verdicts += verdicts
        todo = len(verdicts) - verdicts.count(Verdict.DONE)
        if todo:
            key, tokens = (request.model, image_size(request)), input_tokens(request)
            group = self._groups.get(key)
            if group is None:
                group = self._groups[key] = _Group()
            group.calls += todo
            group.input_tokens += todo * tokens
            group.largest_input_tokens = max(group.largest_input_tokens, tokens)

    def _verdicts_on(self, job: Job, request: Request) -> bytes:
        if self._judge is None:
            return bytes(job.variants)
        digest, job_id = request_sha256(request), job.id or ""
        return bytes(self._judge(ids.call_id(job_id, variant), digest) for variant in range(1, job.variants + 1))

    def count(self, verdict: Verdict) -> int:
        """Return how many calls have this verdict."""
        return self._verdicts.count(verdict)

    @property
    def todo(self) -> int:
        """How many calls are to be made: all that are not done."""
        return len(self) - self.count(Verdict.DONE)

    @property
    def tallies(self) -> dict[tuple[str, str], Tally]:
        """What is still to be made, by model and size."""
        return {key: self._tally(*key, group) for key, group in self._groups.items()}

    @property
    def total(self) -> Tally:
        """What is still to be made, all models together; its cost is None when one of the prices is unknown."""
        return sum(self.tallies.values(), Tally())

    def _tally(self, model: str, size: str, group: _Group) -> Tally:
        expected = prices.estimate_all(
            model, size, calls=group.calls, input_tokens=group.input_tokens, prices=self._planner.prices
        )
        return Tally(
            calls=group.calls,
            input_tokens=expected.input_tokens,
            output_tokens=expected.output_tokens,
            cost_usd=expected.cost_usd,
            largest_input_tokens=group.largest_input_tokens,
        )

    def pending(self) -> Iterator[tuple[int, int]]:
        """Yield (index of the job, variant from 1) of each call to be made, in the order of the manifest."""
        position = 0
        for index, variants in enumerate(self._variants):
            for variant in range(1, variants + 1):
                if self._verdicts[position] != Verdict.DONE:
                    yield index, variant
                position += 1
