"""From a manifest to what of it is still to be done: checked whole, held against earlier runs, and read again call by call."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gemini_batch.catalog import prices
from gemini_batch.config import Settings
from gemini_batch.errors import ConfigError, StorageError
from gemini_batch.events import Load
from gemini_batch.hashmap import fingerprint
from gemini_batch.inputs import Inputs
from gemini_batch.manifest import Manifest
from gemini_batch.output.history import History, read_history, without_images
from gemini_batch.output.reuse import Reuse
from gemini_batch.plan import CallState, CallTotals, JobError, Plan, Planner
from gemini_batch.quota.limits import Duration, Weights, check, duration
from gemini_batch.records import Call, Limits, ResultRow, Status, Stop, StopReason

FINAL = frozenset({Status.SUCCEEDED, Status.BLOCKED, Status.REJECTED, Status.UNCERTAIN})
"""A call whose newest row has one of these is done, unless it is asked for again by `Settings.retry`."""


class RunHistory:
    """What earlier runs made of each call of a manifest.

    Attributes:
        reuse: The answers of other folders, for calls that are not done; None without any.
        statuses: The newest rows of these calls by status, but for those of another request; a row of this run takes its
            predecessor out.
    """

    def __init__(
        self,
        history: History,
        config: Settings,
        reuse: Reuse | None = None,
        missing: Callable[[str], bool] = lambda _call_id: False,
    ) -> None:
        self._history = history
        self._endpoint = config.endpoint
        self._again = config.retry
        self._is_missing = missing
        self.reuse = reuse
        self.statuses: Counter[Status] = Counter()

    def __call__(self, call_id: str, request_sha256: str) -> CallState:
        """Return the verdict on a call, and count its status."""
        verdict = self._own(call_id, request_sha256)
        if (
            verdict is not CallState.DONE
            and self.reuse
            and self.reuse.reserve(call_id, request_sha256)
        ):
            return CallState.REUSED
        return verdict

    def _own(self, call_id: str, request_sha256: str) -> CallState:
        status = self._history.status(call_id, request_sha256, self._endpoint)
        if status is None:
            return CallState.EDITED if self._history.was_answered(call_id) else CallState.NEW
        self.statuses[status] += 1
        is_done = status in FINAL and status not in self._again and not self._is_missing(call_id)
        return CallState.DONE if is_done else CallState.RETRY

    def replace(self, row: ResultRow) -> None:
        """Take out the status of the row that `row` stands in place of."""
        status = self._history.status(row.id, row.request_sha256, row.endpoint)
        if status is not None:
            self.statuses[status] -= 1


class BuiltPlan:
    """A manifest that is valid, and what of it is still to be done."""

    def __init__(
        self, manifest: Manifest, planner: Planner, plan: Plan, past: RunHistory, limits: Limits
    ) -> None:
        self.plan = plan
        self.past = past
        self.duration = _duration(plan, limits, planner.prices, manifest.name)
        self._manifest = manifest
        self._planner = planner

    def calls(self) -> dict[str, Iterator[Call | Stop]]:
        """Return the calls to be made of each model, each read again when its turn comes; a line that was edited since stops the run."""
        return {model: self._calls(model) for model in self.plan.models}

    def _calls(self, model: str) -> Iterator[Call | Stop]:
        for index, variant in self.plan.pending(model):
            line = self._manifest.line(index)
            job = self._manifest.read(index)
            if job is None:
                yield _changed(f"{self._manifest.name}:{line}: was edited while the run went on")
                return
            try:
                yield self._planner.call(job, line, variant)
            except JobError as error:
                yield _changed(f"{self._manifest.name}:{line}: {error}")
                return


def output_folder(manifest: Path, *, is_simulated: bool) -> Path:
    """Return where a run writes unless it is told: beside the manifest, never the current folder."""
    return manifest.parent / f"{manifest.stem}.{'simulated' if is_simulated else 'out'}"


@contextmanager
def build_plan(
    path: Path, out: Path, config: Settings, *, name: str | None = None, base: Path | None = None
) -> Iterator[BuiltPlan]:
    """Check and plan a manifest against what earlier runs wrote into `out`; sends nothing, writes nothing.

    Args:
        path: The manifest.
        out: The output folder.
        config: The settings.
        name: How messages name the manifest, if not by its path.
        base: Where relative paths of images start, if not beside the manifest.

    Raises:
        ManifestError: Lines of the manifest are wrong.
        ConfigError: A call is larger than the quota, a price is wrong, or a folder of `--reuse-from` can't be used.
        StorageError: The results of earlier runs are damaged, or can't be read.
    """
    try:
        reuse = Reuse(config.reuse_from, config.endpoint, out) if config.reuse_from else None
        missing = without_images(out) if config.retry_missing else frozenset[int]()
        history = read_history(out)
        past = RunHistory(history, config, reuse, lambda call_id: fingerprint(call_id) in missing)
    except OSError as error:
        raise StorageError(f"{out}: can't be read: {error.strerror}") from error
    planner = Planner(
        config.model,
        Inputs(base or path.parent, config.max_input_pixels).resolve,
        price_table(config),
    )
    with Manifest(path, name) as manifest:
        plan = Plan(planner, past if len(history) or reuse else None)
        for index, job in manifest.scan():
            try:
                plan.add(job, manifest.line(index))
            except JobError as error:
                for problem in error.problems:
                    manifest.problem(problem.line, problem.field, problem.message)
        if config.max_cost_usd is not None:
            _check_prices(plan)
        yield BuiltPlan(manifest, planner, plan, past, config.limits)


def price_table(config: Settings) -> prices.PriceTable:
    """Return the built-in prices with the config file's over them.

    Raises:
        ConfigError: The config file's are wrong.
    """
    try:
        return prices.built_in().merged(config.tables.get("prices", {}))
    except ValueError as error:
        raise ConfigError(f"--config: {error}") from error


def loads(plan: Plan) -> dict[str, Load]:
    """Return what is to be sent of each model, all sizes together."""
    totals: dict[str, CallTotals] = {}
    for (model, _), tally in plan.tallies.items():
        totals[model] = totals.get(model, CallTotals()) + tally
    return {
        model: Load(total.calls, total.input_tokens, total.cost_usd)
        for model, total in totals.items()
    }


def _duration(plan: Plan, limits: Limits, price_table: prices.PriceTable, source: str) -> Duration:
    """Return how long the quota takes for what is to be done; the models of a manifest have quotas of their own.

    Raises:
        ConfigError: A call is larger than a limit; the text names its line in `source`.
    """
    longest = Duration(0.0, 0, "")
    for model, load in loads(plan).items():
        where = source
        try:
            for size, tally in (
                (size, tally) for (of, size), tally in plan.tallies.items() if of == model
            ):
                where = f"{source}:{tally.largest_line}"
                most = tally.largest_input_tokens
                largest = prices.estimate_all(
                    model, size, calls=1, input_tokens=most, prices=price_table
                )
                check(limits, Weights.of(largest))
            time = duration(
                load.calls or 1, Weights.average(load), limits
            )  # no calls, when all of them are reused
            longest = max(longest, time, key=lambda each: (each.days, each.sending_s))
        except ValueError as error:
            raise ConfigError(
                f"{where}: {model}: {error}; choose another tier, or smaller inputs"
            ) from error
    return longest


def _check_prices(plan: Plan) -> None:
    """Make sure that a budget can be held.

    Raises:
        ConfigError: The price of a model is not known.
    """
    for (model, size), tally in plan.tallies.items():
        if tally.calls and tally.cost_usd is None:
            raise ConfigError(
                f'--max-cost: what {model} costs at {size} is not known: give its price in [prices."{model}"] of a --config file, '
                "or run without --max-cost"
            )


def _changed(message: str) -> Stop:
    return Stop(StopReason.MANIFEST_CHANGED, f"{message}; run again to check and plan it anew")
