"""A valid manifest, compared with earlier runs, and the calls of it that are still to be made."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gemini_batch.catalog import models
from gemini_batch.manifest import Manifest
from gemini_batch.plan import snapshot
from gemini_batch.plan.again import DISCARDED
from gemini_batch.plan.aliases import aliases
from gemini_batch.plan.canonical import request_sha256
from gemini_batch.plan.chaining import Chaining
from gemini_batch.plan.history import RunHistory
from gemini_batch.plan.open_rows import OpenRows
from gemini_batch.plan.planner import JobError, Planner
from gemini_batch.plan.totals import Plan
from gemini_batch.quota.limits import Duration
from gemini_batch.records import Call, Stop, StopReason, ids
from gemini_batch.records.service_tier import lane_name, model_and_tier

if TYPE_CHECKING:  # it needs pydantic
    from gemini_batch.records.job import Job

# https://ai.google.dev/gemini-api/docs/rate-limits (2026-08-18); unknown of all other tiers.
_WITHOUT_PRIORITY = ("free", "tier-1")


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A valid manifest, and the calls of it that are still to be made.

    Attributes:
        latency_s: Mean time of the last answers of earlier runs; None if there are none.
        out: The folder that the user named, to which the places of rows belong.
    """

    plan: Plan
    history: RunHistory
    duration: Duration
    _manifest: Manifest
    _planner: Planner
    _tier: str = ""
    chaining: Chaining | None = None
    latency_s: float | None = None
    _others: tuple[str, ...] = ()  # manifests of earlier runs, whose calls these replace
    out: Path = Path()
    _open_rows: OpenRows | None = None
    _key: str = ""

    def save(self) -> None:
        """Write the snapshot of this plan for the next run, before this one changes any row."""
        if self._key and self._open_rows is not None and self.chaining is None:
            found = snapshot.Found(self.plan, self.history, self._open_rows)
            snapshot.save(self.out, self._key, self._manifest, found)

    def calls(
        self, is_left: Callable[[str], bool] = lambda _call_id: True
    ) -> dict[str, Iterator[Call | Stop]]:
        """Return the calls to be made of each lane, as far as their ids are left.

        A call is read from the manifest again when its turn comes; a line that was edited since
        yields a `Stop`. One that an open batch may still answer is not among them, nor one that
        uses a picture which is not there yet.
        """
        return {
            lane: (call for call in self._calls(lane, is_left) if call is not None)
            for lane in self.plan.lanes
        }

    def calls_in_turn(
        self, is_left: Callable[[str], bool] = lambda _call_id: True
    ) -> dict[str, Iterator[Call | Stop | None]]:
        """Return the calls as `calls` does, and None while there is none but one may become ready.

        Ready children come before calls that use no other picture.
        """
        return {lane: self._calls(lane, is_left, in_turn=True) for lane in self.plan.lanes}

    def leave(self, call: Call) -> None:
        """Note that a call can't be sent, because a picture that it uses is gone."""
        if self.chaining is not None:
            self.chaining.leave(self._manifest.index_of(call.line))

    def held(self) -> Mapping[str, int]:
        """Return the number of calls that wait in vain for pictures of others, by the reason."""
        return self.chaining.held() if self.chaining is not None else {}

    @property
    def stale(self) -> int:
        """Number of calls that are done, and use pictures that were made again since."""
        return self.chaining.stale if self.chaining is not None else 0

    @property
    def depth(self) -> int:
        """The most calls that follow each other, each with the picture of the one before."""
        return self._manifest.chains.depth

    @property
    def chain_s(self) -> float | None:
        """Time of the calls that follow each other, if the quota allows them; None if unknown."""
        return None if self.latency_s is None else round(self.depth * self.latency_s, 1)

    @property
    def successors(self) -> dict[str, str]:
        """The lane of the announced successor for each lane of the default model.

        There is none if all of its jobs name it.
        """
        successor, default = self.plan.successor, models.bare(self._planner.default_model)
        tiers = [tier for model, tier in map(model_and_tier, self.plan.lanes) if model == default]
        return {lane_name(default, tier): lane_name(successor, tier) for tier in tiers if successor}

    @property
    def submitted_at_first(self) -> int | None:
        """About how many calls the budget lets a run submit at first; None if not in batches."""
        config = self.history.config
        if config.route != "batch" or config.max_cost_usd is None:
            return None
        return self.plan.submitted_at_first(config.max_cost_usd)

    def notices(self) -> tuple[str, ...]:
        """Return the state and the successor of each model that will not stay, and what follows."""
        states = [*filter(None, map(models.warning, self.plan.models)), *self._of_priority()]
        if not (number := self.history.by_alias):
            return tuple(states)
        calls = "1 call was" if number == 1 else f"{number:,} calls were"
        return *states, f"{calls} done by another id of the same model, and will not be sent again"

    def _of_priority(self) -> Iterator[str]:
        has_priority = any(model_and_tier(lane)[1] == "priority" for lane in self.plan.lanes)
        if has_priority and self._tier in _WITHOUT_PRIORITY:
            yield (
                f"priority is for tier-2 and tier-3: with --tier {self._tier} the API may serve "
                "standard, at its price"
            )

    def warnings(self) -> Iterator[str]:
        """Yield a text for each kind of request that the API may refuse."""
        if self._others:
            yield (
                f"{self._manifest.name}: the output folder has calls of {', '.join(self._others)}, "
                "too: where ids are the same, its pictures move to superseded/; to keep both, "
                "choose another folder with --out"
            )
        for field, unknown in self.plan.unusual.unknown_fields.items():
            yield f"{self._manifest.name}:{unknown.first_line}: {unknown.warning(field)}"
        for model, (line, jobs) in self.plan.unusual.many_references.items():
            known = models.known()[model]
            lines = "1 line has" if jobs == 1 else f"{jobs:,} lines have"
            more = f"{lines} more than {known.usual_references} reference images"
            yield f"{self._manifest.name}:{line}: {more}, which {model} may refuse"

        if self._is_none_discarded:
            yield (
                "--redo discarded: no newest picture is discarded; discard some in "
                f"gemini-batch review {self.out}"
            )
        if number := self._fixed_seeds():
            calls = (
                "1 call that is made again has"
                if number == 1
                else f"{number:,} calls that are made again have"
            )
            yield f'{self._manifest.name}: {calls} a fixed "seed", and may bring the same picture'

    @property
    def _is_none_discarded(self) -> bool:
        """True if the run makes discarded pictures again, and there are none."""
        again = self.history.again
        return DISCARDED in self.history.config.redo and (again is None or not again.has_discarded)

    def _fixed_seeds(self) -> int:
        """Return the number of calls with a seed among those of `--redo`."""
        again = self.history.again
        if again is None:
            return 0
        return sum(
            isinstance(call, Call) and call.request.seed is not None and again.redoes(call.id)
            for calls in self.calls().values()
            for call in calls
        )

    def _calls(
        self, lane: str, is_left: Callable[[str], bool], *, in_turn: bool = False
    ) -> Iterator[Call | Stop | None]:
        for place in self._places(lane, in_turn=in_turn):
            if place is None:
                yield None
                continue
            index, variant = place
            line, job = self._manifest.line(index), self._manifest.read(index)
            try:
                if job is not None:
                    if is_left(ids.call_id(job.id or "", variant)):
                        call = self._planner.call(job, line, variant)
                        if not self._waits(job, call, variant):
                            yield call
                    continue
                problem = "was edited during the run"
            except JobError as error:
                problem = str(error)
            yield Stop(
                StopReason.MANIFEST_CHANGED,
                f"{self._manifest.name}:{line}: {problem}; run again to check and plan it again",
            )
            return

    def _places(self, lane: str, *, in_turn: bool) -> Iterator[tuple[int, int] | None]:
        """Yield (index of the job, variant) of each call of a lane, in the order of sending."""
        if self.chaining is None:
            yield from self.plan.pending(lane)
            return
        ready, others = self.chaining.ready(lane), self.plan.pending(lane)
        while True:
            place = next(ready) or next(others, None)
            if place is None and not (in_turn and self.chaining.may_release):
                return
            yield place

    def _waits(self, job: "Job", call: Call, variant: int) -> bool:
        """Return whether an open batch may still answer a call."""
        endpoint = self.history.endpoint
        return any(
            waiting.holds(call.id, call.request_sha256, endpoint)
            or any(
                waiting.holds(other_id, request_sha256(alias), endpoint)
                for other_id, alias in aliases(job, call.request, variant, waiting.has)
            )
            for waiting in (self.history.waiting, self.history.others)
            if waiting
        )
