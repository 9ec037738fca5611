"""Checks a manifest, compares it with earlier runs, and reads the calls to be made again."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemini_batch.catalog import models, prices
from gemini_batch.catalog.thinking import ANSWERS
from gemini_batch.config import Settings
from gemini_batch.config.endpoints import is_regional, price_factor
from gemini_batch.errors import ConfigError, StorageError, describe_os_error
from gemini_batch.inputs import Inputs
from gemini_batch.manifest import Manifest, PlainJobs, open_manifest
from gemini_batch.output.history import History
from gemini_batch.output.rowless import RowlessImages
from gemini_batch.output.rows import placed_rows
from gemini_batch.output.unfetched import Unfetched
from gemini_batch.output.waiting import open_batches
from gemini_batch.plan.again import Again
from gemini_batch.plan.aliases import aliases
from gemini_batch.plan.canonical import request_sha256
from gemini_batch.plan.history import RunHistory
from gemini_batch.plan.part import Part
from gemini_batch.plan.planner import JobError, Planner
from gemini_batch.plan.sums import CallTotals
from gemini_batch.plan.totals import Plan
from gemini_batch.quota.limits import Duration, LimitSet, Weights, duration, limits_of
from gemini_batch.records import Call, Limits, Load, Stop, StopReason
from gemini_batch.records.service_tier import lane_name, model_and_tier, quota_name

if TYPE_CHECKING:  # it needs pydantic
    from gemini_batch.output.reuse import Reuse
    from gemini_batch.records.job import Job

# https://ai.google.dev/gemini-api/docs/rate-limits (2026-08-18); unknown of all other tiers.
_WITHOUT_PRIORITY = ("free", "tier-1")


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A valid manifest, and the calls of it that are still to be made."""

    plan: Plan
    history: RunHistory
    duration: Duration
    _manifest: Manifest
    _planner: Planner
    _tier: str = ""

    def calls(
        self, is_left: Callable[[Call], bool] = lambda _call: True
    ) -> dict[str, Iterator[Call | Stop]]:
        """Return the calls to be made of each lane, as far as they are left.

        A call is read from the manifest again when its turn comes; a line that was edited since
        yields a `Stop`. One that an open batch may still answer is not among them.
        """
        return {lane: self._calls(lane, is_left) for lane in self.plan.lanes}

    @property
    def successors(self) -> dict[str, str]:
        """The lane of the announced successor for each lane of the default model.

        There is none if all of its jobs name it.
        """
        successor, default = self.plan.successor, models.bare(self._planner.default_model)
        tiers = [tier for model, tier in map(model_and_tier, self.plan.lanes) if model == default]
        return {lane_name(default, tier): lane_name(successor, tier) for tier in tiers if successor}

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
        for field, unknown in self.plan.unknown_fields.items():
            yield f"{self._manifest.name}:{unknown.first_line}: {unknown.warning(field)}"
        for model, (line, jobs) in self.plan.many_references.items():
            known = models.known()[model]
            lines = "1 line has" if jobs == 1 else f"{jobs:,} lines have"
            more = f"{lines} more than {known.usual_references} reference images"
            yield f"{self._manifest.name}:{line}: {more}, which {model} may refuse"

        if number := self._fixed_seeds():
            calls = (
                "1 call that is made again has"
                if number == 1
                else f"{number:,} calls that are made again have"
            )
            yield f'{self._manifest.name}: {calls} a fixed "seed", and may bring the same picture'

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

    def _calls(self, lane: str, is_left: Callable[[Call], bool]) -> Iterator[Call | Stop]:
        for index, variant in self.plan.pending(lane):
            line, job = self._manifest.line(index), self._manifest.read(index)
            try:
                if job is not None:
                    call = self._planner.call(job, line, variant)
                    if is_left(call) and not self._waits(job, call, variant):
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

    def _waits(self, job: "Job", call: Call, variant: int) -> bool:
        """Return whether an open batch may still answer a call."""
        waiting, endpoint = self.history.waiting, self.history.endpoint
        if not waiting:
            return False
        return waiting.holds(call.id, call.request_sha256, endpoint) or any(
            waiting.holds(other_id, request_sha256(alias), endpoint)
            for other_id, alias in aliases(job, call.request, variant, waiting.has)
        )


@contextmanager
def build_plan(
    path: Path, out: Path, config: Settings, *, name: str | None = None, base: Path | None = None
) -> Iterator[BuiltPlan]:
    """Check a manifest and plan it with the rows of earlier runs in `out`; write nothing.

    In messages the manifest has its `name`, else its path. Relative image paths start at `base`,
    else at the manifest's folder.

    Raises:
        ManifestError: Lines of the manifest are wrong.
        ConfigError: A call is larger than the quota, a price is wrong, or a folder of
            `--reuse-from` can't be used, or `--only` or `--redo` names no call.
        StorageError: The results of earlier runs are damaged or can't be read.
    """
    with _history(out, config) as (history, recent, again):
        inputs = Inputs(base or path.parent, config.max_input_pixels)
        planner = Planner(
            config.model,
            inputs.resolve,
            price_table(config),
            replaces_default=not config.is_model_named,
            is_batched=config.route != "interactive",
            is_regional=is_regional(config.base_url or config.endpoint),
            service_tier=config.service_tier,
        )
        planner.thinking.learn(recent)
        with open_manifest(path, name) as manifest:
            plan = Plan(
                planner,
                None if history.is_new else history.state,
                # A batch may hold another request of a call that is done.
                None if history.is_new or history.waiting else history.are_done,
                is_batched=config.route == "batch",
            )
            for index, found in manifest.scan():
                try:
                    if isinstance(found, PlainJobs):
                        plan.add_plain(found, manifest.lines(index, len(found)))
                    else:
                        plan.add(found, manifest.line(index))
                except JobError as error:
                    for problem in error.problems:
                        manifest.problem(problem.line, problem.field, problem.message)
            if history.part is not None:
                history.part.check(manifest.name)
            again.check(manifest.name)
            if config.max_cost_usd is not None:
                _check_prices(plan)
            time = Duration(0.0, 0, "")  # of batches nothing is known before they end
            if config.route != "batch":
                time = _duration(plan, config.limits, planner.prices, manifest.name)
            yield BuiltPlan(plan, history, time, manifest, planner, config.tier)


@contextmanager
def _history(
    out: Path, config: Settings
) -> Iterator[tuple[RunHistory, Iterable[dict[str, Any]], Again]]:
    """Yield what earlier runs left, the last rows, and what is made again; see `build_plan`."""
    try:
        waiting = open_batches(out, config.endpoint)
        again = Again(out, config)
        rowless, recent = RowlessImages(out), deque[dict[str, Any]](maxlen=ANSWERS)
        unfetched = None if config.retry_unfetched else Unfetched(out, config.endpoint)
        placed = waiting.noting(placed_rows(out)) if waiting else placed_rows(out)
        of_file = unfetched.noting(placed) if unfetched else (row for _, row in placed)
        rows = History(_kept(rowless.passing(of_file), recent))
        reuse = None
        if config.reuse_from or rows.has_pruned:
            reuse = _reuse(out, config)
        part = Part(config.only, config.limit) if config.is_part else None
        if_any = again if again.is_any else None
        history = RunHistory(rows, config, reuse, rowless, unfetched, if_any, part, waiting)
    except OSError as error:
        raise StorageError(f"{out}: can't be read: {describe_os_error(error)}") from error
    with closing(waiting):
        yield history, recent, again


def _reuse(out: Path, config: Settings) -> "Reuse":
    from gemini_batch.output.reuse import Reuse

    return Reuse(config.reuse_from, config.endpoint, out)


def _kept(
    rows: Iterable[dict[str, Any]], recent: deque[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield the rows, and keep the last ones."""
    for row in rows:
        recent.append(row)
        yield row


def price_table(config: Settings) -> prices.PriceTable:
    """Return the built-in prices, overridden by those of the config file; raises as `merged`."""
    built_in = prices.scaled(prices.built_in(), price_factor(config.base_url or config.endpoint))
    return prices.merged(built_in, config.tables.get("prices", {}))


def loads(plan: Plan) -> dict[str, Load]:
    """Return the calls to be sent of each lane, all sizes together."""
    totals: dict[str, CallTotals] = {}
    for (lane, _), each in plan.totals.items():
        totals[lane] = totals.get(lane, CallTotals()) + each
    return {
        lane: Load(total.calls, total.input_tokens, total.cost_usd)
        for lane, total in totals.items()
    }


def _duration(plan: Plan, limits: Limits, price_table: prices.PriceTable, source: str) -> Duration:
    """Return the longest time that the quota of one model takes; each model has its own quota.

    Raises:
        ConfigError: A call is larger than a limit; the text names its line in `source`.
    """
    where, times = source, [Duration(0.0, 0, "")]
    try:
        of_quotas: dict[str, Load] = {}
        for (lane, size), total in plan.totals.items():
            where = f"{source}:{total.largest_line}: {lane}"
            (model, tier), tokens = model_and_tier(lane), total.largest_input_tokens
            largest = prices.estimate(
                model,
                size,
                input_tokens=tokens,
                searches=prices.SEARCHES_OF_A_CALL if total.searches else 0,
                service_tier=tier,
                prices=price_table,
            )
            LimitSet.of(limits_of(limits, lane)).check(Weights.of(largest))
        for lane, load in loads(plan).items():
            quota = quota_name(lane)
            of_quotas[quota] = load + of_quotas.get(quota, Load(0, 0, 0.0))
        for quota, load in of_quotas.items():
            where, of_quota = f"{source}: {quota}", limits_of(limits, quota)
            # 0 calls if all of them are reused.
            times.append(duration(load.calls or 1, Weights.average(load), of_quota))
    except ValueError as error:
        raise ConfigError(f"{where}: {error}; choose another tier, or smaller inputs") from error
    return max(times, key=lambda each: (each.days, each.sending_s))


def _check_prices(plan: Plan) -> None:
    """Raise a ConfigError if the price of a model is unknown, so that no budget can be enforced."""
    for (lane, size), total in plan.totals.items():
        model, _ = model_and_tier(lane)
        if total.calls and total.cost_usd is None:
            raise ConfigError(
                f"--max-cost: the price of {model} at {size} is unknown: "
                f'set it in [prices."{model}"] of a --config file, or run without --max-cost'
            )
