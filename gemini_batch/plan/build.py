"""Checks a manifest, compares it with earlier runs, and reads the calls to be made again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gemini_batch.catalog import prices
from gemini_batch.config import Settings
from gemini_batch.errors import ConfigError, StorageError
from gemini_batch.hashmap import fingerprint
from gemini_batch.inputs import Inputs
from gemini_batch.manifest import Manifest
from gemini_batch.output.history import History, without_images
from gemini_batch.output.reuse import Reuse
from gemini_batch.output.rows import read_rows
from gemini_batch.plan.history import RunHistory
from gemini_batch.plan.planner import JobError, Planner
from gemini_batch.plan.totals import CallTotals, Plan
from gemini_batch.quota.limits import Duration, Weights, check, duration
from gemini_batch.records import Call, Limits, Load, Stop, StopReason


class BuiltPlan:
    """A valid manifest, and the calls of it that are still to be made."""

    def __init__(
        self, manifest: Manifest, planner: Planner, plan: Plan, history: RunHistory, limits: Limits
    ) -> None:
        self.plan = plan
        self.history = history
        self.duration = _duration(plan, limits, planner.prices, manifest.name)
        self._manifest = manifest
        self._planner = planner

    def calls(self) -> dict[str, Iterator[Call | Stop]]:
        """Return the calls to be made of each model.

        A call is read from the manifest again when its turn comes; a line that was edited since
        yields a `Stop`.
        """
        return {model: self._calls(model) for model in self.plan.models}

    def _calls(self, model: str) -> Iterator[Call | Stop]:
        for index, variant in self.plan.pending(model):
            where = f"{self._manifest.name}:{self._manifest.line(index)}"
            job = self._manifest.read(index)
            if job is None:
                yield _changed(f"{where}: was edited during the run")
                return
            try:
                yield self._planner.call(job, self._manifest.line(index), variant)
            except JobError as error:
                yield _changed(f"{where}: {error}")
                return


def output_folder(manifest: Path, *, is_simulated: bool) -> Path:
    """Return the default output folder: next to the manifest, never the current folder."""
    return manifest.parent / f"{manifest.stem}.{'simulated' if is_simulated else 'out'}"


@contextmanager
def build_plan(
    path: Path, out: Path, config: Settings, *, name: str | None = None, base: Path | None = None
) -> Iterator[BuiltPlan]:
    """Check a manifest and plan it with the rows of earlier runs in `out`; write nothing.

    Args:
        path: The manifest.
        out: The output folder.
        config: The settings.
        name: The manifest's name in messages, if not its path.
        base: The folder of relative image paths, if not the manifest's.

    Raises:
        ManifestError: Lines of the manifest are wrong.
        ConfigError: A call is larger than the quota, a price is wrong, or a folder of
            `--reuse-from` can't be used.
        StorageError: The results of earlier runs are damaged or can't be read.
    """
    try:
        reuse = Reuse(config.reuse_from, config.endpoint, out) if config.reuse_from else None
        missing = without_images(out) if config.retry_missing else frozenset[int]()
        rows = History(read_rows(out))
        history = RunHistory(rows, config, reuse, lambda call_id: fingerprint(call_id) in missing)
    except OSError as error:
        raise StorageError(f"{out}: can't be read: {error.strerror}") from error
    inputs = Inputs(base or path.parent, config.max_input_pixels)
    planner = Planner(config.model, inputs.resolve, price_table(config))
    with Manifest(path, name) as manifest:
        plan = Plan(planner, history.state if len(rows) or reuse else None)
        for index, job in manifest.scan():
            try:
                plan.add(job, manifest.line(index))
            except JobError as error:
                for problem in error.problems:
                    manifest.problem(problem.line, problem.field, problem.message)
        if config.max_cost_usd is not None:
            _check_prices(plan)
        yield BuiltPlan(manifest, planner, plan, history, config.limits)


def price_table(config: Settings) -> prices.PriceTable:
    """Return the built-in prices, overridden by those of the config file.

    Raises:
        ConfigError: The config file's prices are wrong.
    """
    try:
        return prices.merged(prices.built_in(), config.tables.get("prices", {}))
    except ValueError as error:
        raise ConfigError(f"--config: {error}") from error


def loads(plan: Plan) -> dict[str, Load]:
    """Return the calls to be sent of each model, all sizes together."""
    totals: dict[str, CallTotals] = {}
    for (model, _), each in plan.totals.items():
        totals[model] = totals.get(model, CallTotals()) + each
    return {
        model: Load(total.calls, total.input_tokens, total.cost_usd)
        for model, total in totals.items()
    }


def _duration(plan: Plan, limits: Limits, price_table: prices.PriceTable, source: str) -> Duration:
    """Return the longest time that the quota of one model takes; each model has its own quota.

    Raises:
        ConfigError: A call is larger than a limit; the text names its line in `source`.
    """
    longest = Duration(0.0, 0, "")
    for model, load in loads(plan).items():
        where = f"{source}: {model}"
        try:
            for (of, size), total in plan.totals.items():
                if of == model:
                    where = f"{source}:{total.largest_line}: {model}"
                    tokens = total.largest_input_tokens
                    largest = prices.estimate(
                        model, size, calls=1, input_tokens=tokens, prices=price_table
                    )
                    check(limits, Weights.of(largest))
            # 0 calls if all of them are reused.
            time = duration(load.calls or 1, Weights.average(load), limits)
        except ValueError as error:
            raise ConfigError(
                f"{where}: {error}; choose another tier, or smaller inputs"
            ) from error
        longest = max(longest, time, key=lambda each: (each.days, each.sending_s))
    return longest


def _check_prices(plan: Plan) -> None:
    """Make sure that a budget can be enforced.

    Raises:
        ConfigError: The price of a model is unknown.
    """
    for (model, size), total in plan.totals.items():
        if total.calls and total.cost_usd is None:
            raise ConfigError(
                f"--max-cost: the price of {model} at {size} is unknown: "
                f'set it in [prices."{model}"] of a --config file, or run without --max-cost'
            )


def _changed(message: str) -> Stop:
    return Stop(StopReason.MANIFEST_CHANGED, f"{message}; run again to check and plan it again")
