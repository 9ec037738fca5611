"""Checks a manifest, compares it with earlier runs, and reads the calls to be made again."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemini_batch.catalog import prices
from gemini_batch.catalog.thinking import ANSWERS
from gemini_batch.config import Settings
from gemini_batch.config.endpoints import is_regional, price_factor
from gemini_batch.errors import ConfigError, StorageError, describe_os_error, storage_errors
from gemini_batch.inputs import Inputs
from gemini_batch.manifest import Manifest, PlainJobs, open_manifest
from gemini_batch.output.final_rows import Noting, by_column, note_all
from gemini_batch.output.history import History
from gemini_batch.output.open_batches import open_batches_of
from gemini_batch.output.rowless import RowlessImages
from gemini_batch.output.rows import placed_rows
from gemini_batch.output.runs import other_manifests
from gemini_batch.output.shards import own_part, parts
from gemini_batch.output.unfetched import Unfetched
from gemini_batch.plan import snapshot
from gemini_batch.plan.again import Again
from gemini_batch.plan.built import BuiltPlan
from gemini_batch.plan.call_state import CallState
from gemini_batch.plan.chaining import Chaining
from gemini_batch.plan.history import RunHistory
from gemini_batch.plan.open_rows import OpenRows
from gemini_batch.plan.part import Part
from gemini_batch.plan.planner import JobError, Planner
from gemini_batch.plan.settling import settled
from gemini_batch.plan.sums import CallTotals
from gemini_batch.plan.totals import Plan
from gemini_batch.quota.limits import Duration, LimitSet, Weights, duration, limits_of
from gemini_batch.records import Limits, Load, Status
from gemini_batch.records.service_tier import model_and_tier, quota_name

if TYPE_CHECKING:
    from gemini_batch.output.reuse import Reuse


_ANSWERED = frozenset({Status.SUCCEEDED, Status.BLOCKED})


@contextmanager
def build_plan(
    path: Path, out: Path, config: Settings, *, name: str | None = None, base: Path | None = None
) -> Iterator[BuiltPlan]:
    """Check a manifest and plan it with the rows of earlier runs in `out`; write nothing.

    `out` is the folder that the user named, also for a worker of `config.shard`.
    In messages the manifest has its `name`, else its path. Relative image paths start at `base`,
    else at the manifest's folder.

    Raises:
        ManifestError: Lines of the manifest are wrong.
        ConfigError: A call is larger than the quota, a price is wrong, or a folder of
            `--reuse-from` can't be used, or `--only` or `--redo` names no call.
        StorageError: The results of earlier runs are damaged or can't be read.
    """
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
    key = snapshot.covers(config, planner.prices)
    with open_manifest(path, name) as manifest, ExitStack() as stack:
        found = snapshot.restore(out, key, manifest, planner, config) if key else None
        if found is None:
            found = stack.enter_context(_planned(out, config, manifest, planner))
        plan = found.plan
        if config.max_cost_usd is not None:
            _check_prices(plan)
        time = Duration(0.0, 0, "")  # of batches nothing is known before they end
        if config.route != "batch":
            time = _duration(plan, config.limits, planner.prices, manifest.name)
        others: tuple[str, ...] = ()
        if plan.count(CallState.EDITED):
            with storage_errors(f"{out}: can't be read"):
                others = tuple(other_manifests(out, Path(manifest.name)))
        yield BuiltPlan(
            plan,
            found.history,
            time,
            manifest,
            planner,
            config.tier,
            found.chaining,
            _latency_s(found.recent),
            _others=others,
            out=out,
            _open_rows=found.open_rows,
            _key=key or "",
        )


@contextmanager
def _planned(
    out: Path, config: Settings, manifest: Manifest, planner: Planner
) -> Iterator[snapshot.Found]:
    """Yield the plan of all lines and rows; raises as `build_plan`."""
    open_rows = OpenRows()
    with _history(out, config, open_rows) as (history, recent, again):
        planner.thinking.learn(recent)
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
        chaining = _chaining(manifest, plan, history, planner, out)
        if history.part is not None:
            history.part.check(manifest.name)
        again.check(manifest.name)
        yield snapshot.Found(plan, history, open_rows, recent, chaining)


@contextmanager
def _history(
    out: Path, config: Settings, open_rows: OpenRows
) -> Iterator[tuple[RunHistory, Iterable[dict[str, Any]], Again]]:
    """Yield what earlier runs left, the last rows, and what is made again; see `build_plan`."""
    try:
        own = own_part(out, config.shard)
        waiting, others = open_batches_of(out, config.endpoint, own)
        again = Again(out, config)
        rowless, recent = RowlessImages(out, own), deque[dict[str, Any]](maxlen=ANSWERS)
        unfetched = None if config.retry_unfetched else Unfetched(out, config.endpoint)
        rows = History()
        notings: list[Noting] = [open_rows, rowless, rows]
        if unfetched is not None:
            notings.append(unfetched)
        if waiting or others or len(parts(out)) > 1:
            for place, row in placed_rows(out):
                recent.append(row)
                for noting in notings:
                    noting.note(place, row)
                waiting.note(place, row)
                others.note(place, row)
        else:
            brief = placed_rows(out, brief=True)
            note_all(by_column(brief, has_images=len(rowless) > 0), notings)
            recent.extend(row for _, row in placed_rows(out, open_rows.recent))
        reuse = None
        if config.reuse_from or rows.has_pruned:
            reuse = _reuse(out, config)
        part = Part(config.only, config.limit) if config.is_part else None
        if_any = again if again.is_any else None
        history = RunHistory(rows, config, reuse, rowless, unfetched, if_any, part, waiting, others)
    except OSError as error:
        raise StorageError(f"{out}: can't be read: {describe_os_error(error)}") from error
    with closing(waiting), closing(others):
        yield history, recent, again


def _reuse(out: Path, config: Settings) -> "Reuse":
    from gemini_batch.output.reuse import Reuse

    return Reuse(config.reuse_from, config.endpoint, out)


def _latency_s(rows: Iterable[dict[str, Any]]) -> float | None:
    """Return the mean time of answers to single requests; None for none."""
    found = [
        row.get("latency_s")
        for row in rows
        if row["attempts"] and row.get("route") != "batch" and row["status"] in _ANSWERED
    ]
    known = [each for each in found if isinstance(each, int | float)]
    return sum(known) / len(known) if known else None


def _chaining(
    manifest: Manifest, plan: Plan, history: RunHistory, planner: Planner, out: Path
) -> Chaining | None:
    try:
        return settled(manifest, plan, history, planner, out)
    except OSError as error:
        raise StorageError(f"{out}: can't be read: {describe_os_error(error)}") from error


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
