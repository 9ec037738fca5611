"""The plan of a manifest: the state of each call, and what the calls to be sent add up to."""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import compress, repeat
from typing import TYPE_CHECKING

from gemini_batch.catalog import prices
from gemini_batch.errors import Problem
from gemini_batch.hashmap import fingerprints
from gemini_batch.manifest.plain import Kind, PlainJobs
from gemini_batch.plan.aliases import aliases
from gemini_batch.plan.call_state import NOT_TO_DO, OF_OTHERS, AreDone, CallState, StateOf
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
from gemini_batch.plan.pricing import most_usd_in_batches, priced
from gemini_batch.plan.sums import CallTotals
from gemini_batch.plan.unusual import Unusual
from gemini_batch.records import JobPicture, Request, ids
from gemini_batch.records.service_tier import model_and_tier

if TYPE_CHECKING:  # it needs pydantic
    from gemini_batch.records.job import Job


class Plan:
    """All calls of a manifest, in one byte per call and six per job, and 22 per child.

    `state_of` is None when there was no earlier run, which saves the hashing. `are_done` returns
    for many calls at once which ones `state_of` need not be asked for, because they are done. With
    `is_batched` the calls are priced as in a batch.

    Attributes:
        unusual: Facts about requests that the user is warned of.
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
        self.unusual = Unusual()
        # The announced successor of the default model, if a job may continue with it.
        self.successor: str | None = None
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
            self.unusual.note(request, line, todo - states.count(CallState.REUSED))

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

    def _more_thinking(self, request: Request) -> int:
        """Return the expected thinking beyond the model's default level."""
        level, mean = thinking(request), self._planner.thinking.mean
        return mean(request.model, level) - mean(request.model) if level else 0

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

    def submitted_at_first(self, max_cost_usd: float) -> int:
        """Return for about how many calls in batches a budget holds the most that each may cost."""
        left_usd, number = max_cost_usd, 0
        for (lane, size), group in self._groups.items():
            if not group.calls:
                continue
            each_usd = most_usd_in_batches(lane, size, group, self._planner) / group.calls
            calls = min(group.calls, int(left_usd / each_usd + 1e-9) if each_usd else group.calls)
            left_usd, number = left_usd - calls * each_usd, number + calls
        return number

    def _totals(self, *, is_batched: bool) -> dict[tuple[str, str], CallTotals]:
        return {
            key: priced(*key, group, self._planner, is_batched=is_batched)
            for key, group in self._groups.items()
        }

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
