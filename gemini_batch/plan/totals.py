"""The plan of a manifest: the state of each call, and what the calls to be sent add up to."""

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from enum import IntEnum
from functools import partial
from itertools import compress, repeat
from typing import TYPE_CHECKING, TypeAlias

from gemini_batch.catalog import models, prices
from gemini_batch.errors import Problem
from gemini_batch.hashmap import fingerprints
from gemini_batch.manifest.plain import Kind, PlainJobs
from gemini_batch.plan.aliases import aliases
from gemini_batch.plan.canonical import (
    image_size,
    input_tokens,
    request_sha256,
    searches,
    thinking,
)
from gemini_batch.plan.places import CallLoad, Children, Places
from gemini_batch.plan.plain import PlainRequest
from gemini_batch.plan.planner import JobError, Planner
from gemini_batch.plan.sums import (
    MAX_UNKNOWN_FIELDS,
    CallTotals,
    DownscaleTotals,
    UnknownField,
)
from gemini_batch.records import InputImage, JobPicture, Request, Text, ids
from gemini_batch.records.service_tier import model_and_tier

if TYPE_CHECKING:  # it needs pydantic
    from gemini_batch.records.job import Job


class CallState(IntEnum):
    """The state of a call after earlier runs."""

    NEW = 0
    DONE = 1  # the newest row of its id is final, and of this very request
    EDITED = 2  # finished once, but with another request: it will be paid for again
    RETRY = 3  # not finished the last time, or requested again
    REUSED = 4  # answered in another output folder: copied from there, at no cost
    UNFETCHED = 5  # paid for, but its image was not fetched: fetched now, and sent if it is gone
    WAITING = 6  # an open batch may still answer it
    LATER = 7  # not done, and not in the part that this run is for
    HELD = 8  # not done, and it uses a picture that this run can't bring
    ELSEWHERE = 9  # another worker's, and not done
    DONE_ELSEWHERE = 10  # another worker's, and done


OF_OTHERS = frozenset({CallState.ELSEWHERE, CallState.DONE_ELSEWHERE})
NOT_TO_DO = OF_OTHERS | {CallState.DONE, CallState.WAITING, CallState.LATER, CallState.HELD}


Aliases: TypeAlias = Callable[[Callable[[str], bool]], Iterable[tuple[str, Request]]]
"""Returns the id and the request of the same call by the other ids of its model, of known ids."""
StateOf: TypeAlias = Callable[[str, str, Aliases], CallState]
"""Returns the state of a call by its id, its `request_sha256` and its aliases."""
AreDone: TypeAlias = Callable[[Sequence[str], Sequence[str]], Sequence[bool]]
"""Returns which calls are done, by their ids and each `request_sha256`."""


class Plan:
    """All calls of a manifest, in one byte per call and six per job, and 22 per child.

    `state_of` is None when there was no earlier run, which saves the hashing. `are_done` returns
    for many calls at once which ones `state_of` need not be asked for, because they are done. With
    `is_batched` the calls are priced as in a batch.

    Attributes:
        is_plain: All jobs were of plain lines.
        done_before: Calls of which is only known that they are done.
    """

    def __init__(
        self,
        planner: Planner,
        state_of: StateOf | None = None,
        are_done: AreDone | None = None,
        *,
        is_batched: bool = False,
    ) -> None:
        self._is_batched = is_batched
        self._groups = defaultdict[tuple[str, str], CallTotals](CallTotals)
        self._planner = planner
        self._state_of = state_of
        self._are_done = are_done
        self.downscaled = DownscaleTotals()
        self.unknown_fields: dict[str, UnknownField] = {}
        # The announced successor of the default model, if a job may continue with it.
        self.successor: str | None = None
        self.many_references: dict[str, tuple[int, int]] = {}  # model → first line, jobs
        self._variants = array("H")
        self._states = bytearray()
        self._lanes: dict[str, int] = {}  # lane → its number
        self._lane_of = array("I")  # index of a job → number of its lane
        self._plain: dict[Kind, PlainRequest] = {}
        self._waiting_lanes: set[str] = set()
        self._places = Places()
        self._children = Children()
        self.is_plain = True
        self.done_before = 0

    def __len__(self) -> int:
        return self.done_before + len(self._states)

    def expect(self, lanes: Iterable[str], successor: str | None) -> None:
        """Take lanes, in their order, and the successor from an earlier plan of the manifest."""
        self._lanes = {lane: number for number, lane in enumerate(lanes)}
        self.successor = successor

    def not_done(self) -> list[int]:
        """Return the indexes of the jobs that are not done, where each job has one call."""
        return [index for index, state in enumerate(self._states) if state != CallState.DONE]

    @property
    def all_lanes(self) -> tuple[str, ...]:
        """The lanes of all calls, in the order of the manifest."""
        return tuple(self._lanes)

    def add(self, job: "Job", line: int) -> None:
        """Add the next job; its index is that of `Manifest.scan`.

        Raises:
            JobError: The job can't be planned; it counts no calls.
        """
        self.is_plain = False
        try:
            self._add(job, line)
        except JobError:
            self._places.add(len(self._variants), 0)
            self._variants.append(0)
            self._lane_of.append(0)
            raise

    def _add(self, job: "Job", line: int) -> None:
        request = self._planner.request(job, line)
        self.successor = self.successor or self._planner.successor(job)
        index = len(self._variants)
        self._places.add(index, job.variants)
        self._variants.append(job.variants)
        self._lane_of.append(self._lanes.setdefault(request.lane, len(self._lanes)))
        states = self._states_of(job, request)
        self._states += states
        if CallState.WAITING in states:
            self._waiting_lanes.add(request.lane)
        todo = sum(state not in NOT_TO_DO for state in states)
        load = self._load(request, line)
        if any(isinstance(part, JobPicture) for part in request.parts):
            self._children.add(index, load, fingerprints(ids.of_calls(job)))
        elif todo:
            self._count(load, todo - states.count(CallState.REUSED))
        if todo:
            self._count_unknown(request, line)
            self._count_references(request, line)
            self._count_downscaled(request, todo - states.count(CallState.REUSED))

    def _load(self, request: Request, line: int) -> CallLoad:
        return CallLoad(
            (request.lane, image_size(request)),
            line,
            input_tokens(request),
            self._more_thinking(request),
            prices.SEARCHES_OF_A_CALL * searches(request),
        )

    def _count(self, load: CallLoad, calls: int) -> None:
        """Add calls to be sent; 0 if all of a job's are reused."""
        group = self._groups[load.group]
        group.add(calls, load.input_tokens, load.line)
        group.searches += calls * load.searches
        group.thinking_tokens += calls * load.more_thinking

    def add_plain(self, jobs: PlainJobs, lines: Sequence[int]) -> None:
        """Add the next jobs, which are of plain lines.

        Raises:
            JobError: Some of the jobs can't be planned; these count no calls.
        """
        try:
            requests = [
                self._plain.get(kind) or self._plain_request(kind, line)
                for kind, line in zip(jobs.kinds, lines, strict=True)
            ]
        except JobError:
            self._add_one_by_one(jobs, lines)
            raise
        states = self._plain_states(jobs, requests)
        self._states += states
        self._variants.extend([1] * len(jobs))
        self._lane_of.extend([self._lanes[each.lane] for each in requests])
        each_bytes = [len(each) if each.isascii() else len(each.encode()) for each in jobs.prompts]
        calls = list(zip(requests, each_bytes, states, strict=True))
        if CallState.WAITING in states:
            of_all = zip(requests, states, strict=True)
            self._waiting_lanes |= {
                each.lane for each, state in of_all if state == CallState.WAITING
            }
        if not NOT_TO_DO.isdisjoint(states):
            is_todo = [state not in NOT_TO_DO for state in states]
            calls, lines = list(compress(calls, is_todo)), list(compress(lines, is_todo))
        counted: dict[tuple[PlainRequest, int, int], int] = {}
        for call in calls:  # a Counter takes 2 µs more where plain lines are scattered
            counted[call] = counted.get(call, 0) + 1
        for call, number in counted.items():
            request, prompt_bytes, state = call
            group, tokens = self._groups[request.group], request.input_tokens(prompt_bytes)
            is_largest = tokens > group.largest_input_tokens
            line = lines[calls.index(call)] if is_largest else group.largest_line
            group.add(number if state != CallState.REUSED else 0, tokens, line)

    def _add_one_by_one(self, jobs: PlainJobs, lines: Sequence[int]) -> None:
        """Add jobs of which some can't be planned; raise as `add_plain`."""
        if len(jobs) == 1:
            self._places.add(len(self._variants), 0)
            self._variants.append(0)
            self._lane_of.append(0)
            return
        problems: list[Problem] = []
        for place in range(len(jobs)):
            one = slice(place, place + 1)
            try:
                self.add_plain(jobs[one], lines[one])
            except JobError as error:
                problems += error.problems
        raise JobError(problems)

    def _plain_states(self, jobs: PlainJobs, requests: Sequence[PlainRequest]) -> bytes:
        if self._state_of is None:
            return bytes(len(jobs))
        of_calls = zip(requests, jobs.prompts, jobs.seeds, strict=True)
        digests = [request.sha256(prompt, seed) for request, prompt, seed in of_calls]
        are_done = self._are_done(jobs.ids, digests) if self._are_done else repeat(False)
        calls = zip(jobs.ids, digests, requests, jobs.prompts, jobs.seeds, are_done, strict=False)
        return bytes(
            CallState.DONE
            if is_done
            else self._state_of(job_id, digest, partial(request.aliases, job_id, prompt, seed))
            for job_id, digest, request, prompt, seed, is_done in calls
        )

    def _plain_request(self, kind: Kind, line: int) -> PlainRequest:
        request = self._plain[kind] = PlainRequest(self._planner, kind, line)
        self.successor = self.successor or self._planner.successor(kind.job)
        self._lanes.setdefault(request.lane, len(self._lanes))
        return request

    def _states_of(self, job: "Job", request: Request) -> bytes:
        if self._state_of is None:
            return bytes(job.variants)
        digest, job_id = request_sha256(request), job.id or ""
        if job.variants == 1:
            return bytes((self._state_of(job_id, digest, partial(aliases, job, request, 1)),))
        return bytes(
            self._state_of(ids.call_id(job_id, each), digest, partial(aliases, job, request, each))
            for each in range(1, job.variants + 1)
        )

    def _count_unknown(self, request: Request, line: int) -> None:
        for name in request.raw.unknown if request.raw else ():
            if name in self.unknown_fields or len(self.unknown_fields) < MAX_UNKNOWN_FIELDS:
                self.unknown_fields.setdefault(name, UnknownField(0, line)).jobs += 1

    def _more_thinking(self, request: Request) -> int:
        """Return the expected thinking beyond the model's default level."""
        level, mean = thinking(request), self._planner.thinking.mean
        return mean(request.model, level) - mean(request.model) if level else 0

    def _count_downscaled(self, request: Request, calls: int) -> None:
        total = self.downscaled
        for image in request.parts:
            if isinstance(image, InputImage) and image.max_pixels:
                total.images += calls
                total.size_bytes += calls * image.size_bytes
                total.upload_bytes += calls * image.upload_bytes

    def _count_references(self, request: Request, line: int) -> None:
        """Note a request with more reference images than its model usually takes."""
        known = models.find(request.model)
        images = (
            request.raw.images
            if request.raw
            else sum(not isinstance(part, Text) for part in request.parts)
        )
        if known and images > known.usual_references:
            first, jobs = self.many_references.get(request.model, (line, 0))
            self.many_references[request.model] = first, jobs + 1

    def count(self, state: CallState) -> int:
        """Return the number of calls in a state."""
        before = self.done_before if state is CallState.DONE else 0
        return before + self._states.count(state)

    @property
    def own(self) -> int:
        """Number of calls that are not another worker's."""
        return len(self) - sum(map(self.count, OF_OTHERS))

    @property
    def todo(self) -> int:
        """Number of calls to be done by this run: to be sent, or reused."""
        return len(self) - sum(map(self.count, NOT_TO_DO))

    @property
    def to_send(self) -> int:
        """Number of calls to be sent, and paid for."""
        return self.todo - self.count(CallState.REUSED)

    @property
    def totals(self) -> dict[tuple[str, str], CallTotals]:
        """Sums of the calls to be sent, by lane and size; of no calls if all are reused."""
        return self._totals(is_batched=self._is_batched)

    def cost_usd(self, *, is_batched: bool) -> float | None:
        """Return the cost of the calls to be sent, in batches or not; None if it is unknown."""
        totals = self._totals(is_batched=is_batched)
        return sum(totals.values(), CallTotals()).cost_usd

    def _totals(self, *, is_batched: bool) -> dict[tuple[str, str], CallTotals]:
        return {
            key: self._priced(*key, group, is_batched=is_batched)
            for key, group in self._groups.items()
        }

    def _priced(self, lane: str, size: str, group: CallTotals, *, is_batched: bool) -> CallTotals:
        calls, planner = group.calls, self._planner
        model, tier = model_and_tier(lane)
        expected = prices.estimate(
            model,
            size,
            calls=calls,
            input_tokens=group.input_tokens,
            thinking_tokens=calls * planner.thinking.mean(model) + group.thinking_tokens,
            searches=group.searches,
            service_tier="standard" if is_batched else tier,
            prices=planner.prices,
        )
        cost_usd = expected.cost_usd if calls else 0.0
        if is_batched and cost_usd is not None:
            cost_usd *= prices.factor(model, "batch", planner.prices) or 1.0
        return replace(group, output_tokens=expected.output_tokens, cost_usd=cost_usd)

    @property
    def total(self) -> CallTotals:
        """Sum over all models; its cost is None when one of the prices is unknown."""
        return sum(self.totals.values(), CallTotals())

    @property
    def lanes(self) -> tuple[str, ...]:
        """The lanes that have calls to be made or awaited, in the order of the manifest."""
        left = {lane for lane, _ in self._groups} | self._waiting_lanes
        return tuple(lane for lane in self._lanes if lane in left)

    @property
    def models(self) -> tuple[str, ...]:
        """The models of these."""
        return tuple(dict.fromkeys(model_and_tier(lane)[0] for lane in self.lanes))

    def state(self, index: int, variant: int) -> int:
        """Return the `CallState` of a call, of the job's index and its variant, from 1."""
        return self._states[self._places.of(index) + variant - 1]

    def states(self, index: int) -> bytes:
        """Return the states of all calls of a job."""
        place = self._places.of(index)
        return bytes(self._states[place : place + self._variants[index]])

    def settle_child(self, number: int, states: bytes) -> None:
        """Set the states of a child, by its rank among them, and count what it is to send."""
        index, load = self._children.indexes[number], self._children.load(number)
        place = self._places.of(index)
        self._states[place : place + len(states)] = states
        if todo := sum(state not in NOT_TO_DO for state in states):
            self._count(load, todo - states.count(CallState.REUSED))

    def later(self) -> Iterator[tuple[int, int]]:
        """Yield (index of the job, variant) of each call that is left for other runs."""
        place = 0
        for index, variants in enumerate(self._variants):
            for variant in range(variants):
                if self._states[place + variant] == CallState.LATER:
                    yield index, variant + 1
            place += variants

    def take_later(
        self, job: "Job", line: int, index: int, variant: int, state_of: StateOf
    ) -> None:
        """Ask again for the state of a call that was left for other runs, and count it."""
        request, call_id = self._planner.request(job, line), ids.call_id(job.id or "", variant)
        same = partial(aliases, job, request, variant)
        state = state_of(call_id, request_sha256(request), same)
        self._states[self._places.of(index) + variant - 1] = state
        if state not in NOT_TO_DO:
            self._count(self._load(request, line), int(state != CallState.REUSED))

    def child_key(self, number: int, place: int) -> int:
        """Return the fingerprint of the id of a child's call, by its place in the job."""
        return self._children.key(number, place)

    def is_of(self, lane: str, index: int) -> bool:
        """Return whether a job is in a lane."""
        return self._lane_of[index] == self._lanes[lane]

    def pending(self, lane: str) -> Iterator[tuple[int, int]]:
        """Yield (index of the job, variant from 1) of each call of a lane that is not done.

        The order is the manifest's, but calls that need no quota come first: reused ones, and those
        whose image is fetched, before its URI expires. Last come those that wait in a batch, which
        may give them back. Children are not among them: see `Chaining`.
        """
        for state in (CallState.REUSED, CallState.UNFETCHED):
            if self.count(state):
                yield from self._in_state(lane, state)
        yield from self._in_state(lane, CallState.NEW, CallState.EDITED, CallState.RETRY)
        if self.count(CallState.WAITING):
            yield from self._in_state(lane, CallState.WAITING)

    def _in_state(self, lane: str, *states: CallState) -> Iterator[tuple[int, int]]:
        number, wanted, position = self._lanes[lane], bytes(states), 0
        children = iter(self._children.indexes)
        child = next(children, -1)
        for index, variants in enumerate(self._variants):
            if index == child:
                child = next(children, -1)
            elif self._lane_of[index] == number:
                for variant in range(variants):
                    if self._states[position + variant] in wanted:
                        yield index, variant + 1
            position += variants
