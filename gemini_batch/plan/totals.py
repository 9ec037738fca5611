"""All jobs of a manifest, gone over once and added up, with a byte remembered for each call."""

from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from gemini_batch.catalog import prices
from gemini_batch.plan.canonical import image_size, input_tokens, request_sha256
from gemini_batch.plan.planner import JobError, Planner
from gemini_batch.records import InputImage, Job, Request, ids


class CallState(IntEnum):
    """What an earlier run says of a call."""

    NEW = 0
    DONE = 1  # the newest row of its id is final, and of this very request
    EDITED = 2  # finished once, but with another request: it will be paid for again
    RETRY = 3  # not finished the last time, or asked for again
    REUSED = 4  # answered in another output folder: copied from there, at no cost


Judge: TypeAlias = Callable[[str, str], CallState]


@dataclass(frozen=True, slots=True)
class CallTotals:
    """Calls that are still to be sent, added up.

    Attributes:
        calls: How many.
        input_tokens: Of all of them.
        output_tokens: Of all of them.
        cost_usd: Of all of them; None when a price is unknown.
        largest_input_tokens: Of the largest one; it has to fit into the quota of a minute.
        largest_line: The line of the manifest that has it.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    largest_input_tokens: int = 0
    largest_line: int = 0

    def __add__(self, other: "CallTotals") -> "CallTotals":
        largest = max(self, other, key=lambda tally: tally.largest_input_tokens)
        known = self.cost_usd is not None and other.cost_usd is not None
        return CallTotals(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_usd=(self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
            largest_input_tokens=largest.largest_input_tokens,
            largest_line=largest.largest_line,
        )


@dataclass(frozen=True, slots=True)
class DownscaleTotals:
    """Reference images of the calls to be sent that are made smaller; one that is sent twice counts twice.

    Attributes:
        images: How many.
        size_bytes: As they are.
        upload_bytes: About what is sent in their place, by their share of pixels.
    """

    images: int = 0
    size_bytes: int = 0
    upload_bytes: int = 0


@dataclass(slots=True)
class _Group:
    """Calls of one model and size: what has to be counted call by call."""

    calls: int = 0
    input_tokens: int = 0
    largest_input_tokens: int = 0
    largest_line: int = 0


class Plan:
    """All calls of a manifest, at one byte a call and four a job.

    Args:
        planner: Makes the requests.
        judge: Says of a call's id and `request_sha256` what an earlier run made of it; None when there was no earlier run,
            which saves the hashing.

    Attributes:
        shrinking: What `--max-input-pixels` saves.
    """

    def __init__(self, planner: Planner, judge: Judge | None = None) -> None:
        self._groups: dict[tuple[str, str], _Group] = {}
        self._planner = planner
        self._judge = judge
        self.shrinking = DownscaleTotals()
        self._variants = array("H")
        self._verdicts = bytearray()
        self._models: dict[str, int] = {}  # each with its number
        self._model_of = array("H")  # the number of each job's model

    def __len__(self) -> int:
        return len(self._verdicts)

    def add(self, job: Job, line: int) -> None:
        """Take in the next job; its index is that of `Manifest.scan`.

        Raises:
            JobError: The job can't be planned; it counts no calls.
        """
        try:
            request = self._planner.request(job, line)
        except JobError:
            self._variants.append(0)
            self._model_of.append(0)
            raise
        self._variants.append(job.variants)
        number = self._models.get(request.model)
        if number is None:
            number = self._number(request.model)
        self._model_of.append(number)
        verdicts = self._verdicts_on(job, request)
        self._verdicts += verdicts
        todo = len(verdicts) - verdicts.count(CallState.DONE)
        if todo:
            to_send = todo - verdicts.count(CallState.REUSED)
            self._count_shrinking(request, to_send)
            key, tokens = (request.model, image_size(request)), input_tokens(request)
            group = self._groups.get(key)
            if group is None:
                group = self._groups[key] = _Group()
            group.calls += to_send
            group.input_tokens += to_send * tokens
            if tokens > group.largest_input_tokens:
                group.largest_input_tokens, group.largest_line = tokens, line

    def _number(self, model: str) -> int:
        """Return the number of a model that has none yet."""
        number = self._models[model] = len(self._models)
        if number == 1 << 16:
            self._model_of = array("L", self._model_of)
        return number

    def _count_shrinking(self, request: Request, times: int) -> None:
        images = [
            part for part in request.parts if isinstance(part, InputImage) and part.max_pixels
        ]
        if images:
            total = self.shrinking
            self.shrinking = DownscaleTotals(
                total.images + times * len(images),
                total.size_bytes + times * sum(image.size_bytes for image in images),
                total.upload_bytes + times * sum(image.upload_bytes for image in images),
            )

    def _verdicts_on(self, job: Job, request: Request) -> bytes:
        if self._judge is None:
            return bytes(job.variants)
        digest, job_id = request_sha256(request), job.id or ""
        if job.variants == 1:
            return bytes((self._judge(job_id, digest),))
        return bytes(
            self._judge(ids.call_id(job_id, variant), digest)
            for variant in range(1, job.variants + 1)
        )

    def count(self, verdict: CallState) -> int:
        """Return how many calls have this verdict."""
        return self._verdicts.count(verdict)

    @property
    def todo(self) -> int:
        """How many calls are not done: to be sent, or reused."""
        return len(self) - self.count(CallState.DONE)

    @property
    def to_send(self) -> int:
        """How many calls are to be sent, and paid for."""
        return self.todo - self.count(CallState.REUSED)

    @property
    def tallies(self) -> dict[tuple[str, str], CallTotals]:
        """What is still to be sent, by model and size; with no calls where all of them are reused."""
        return {key: self._tally(*key, group) for key, group in self._groups.items()}

    @property
    def total(self) -> CallTotals:
        """What is still to be sent, all models together; its cost is None when one of the prices is unknown."""
        return sum(self.tallies.values(), CallTotals())

    def _tally(self, model: str, size: str, group: _Group) -> CallTotals:
        if not group.calls:
            return CallTotals(
                largest_input_tokens=group.largest_input_tokens, largest_line=group.largest_line
            )
        expected = prices.estimate_all(
            model,
            size,
            calls=group.calls,
            input_tokens=group.input_tokens,
            prices=self._planner.prices,
        )
        return CallTotals(
            calls=group.calls,
            input_tokens=expected.input_tokens,
            output_tokens=expected.output_tokens,
            cost_usd=expected.cost_usd,
            largest_input_tokens=group.largest_input_tokens,
            largest_line=group.largest_line,
        )

    @property
    def models(self) -> tuple[str, ...]:
        """The models that have calls which are not done, in the order of the manifest."""
        left = {model for model, _ in self._groups}
        return tuple(model for model in self._models if model in left)

    def pending(self, model: str) -> Iterator[tuple[int, int]]:
        """Yield (index of the job, variant from 1) of each call of a model that is not done, in the order of the manifest.

        Those to be reused come first: they wait for no quota.
        """
        if self.count(CallState.REUSED):
            yield from self._with_verdict(model, CallState.REUSED)
        yield from self._with_verdict(model, CallState.NEW, CallState.EDITED, CallState.RETRY)

    def _with_verdict(self, model: str, *verdicts: CallState) -> Iterator[tuple[int, int]]:
        wanted, position, seen = bytes(verdicts), 0, 0
        for index in self._jobs_of(model):
            if index > seen:
                position += sum(
                    self._variants[seen:index]
                )  # of the jobs of other models in between
            seen = index + 1
            for variant in range(1, self._variants[index] + 1):
                if self._verdicts[position] in wanted:
                    yield index, variant
                position += 1

    def _jobs_of(self, model: str) -> Iterator[int]:
        number, index = self._models[model], -1
        if len(self._models) == 1:
            yield from range(len(self._variants))
            return
        with suppress(ValueError):  # no more of it
            while True:
                index = self._model_of.index(number, index + 1)
                yield index
