"""`costs`: what output folders cost, by day, model, manifest or run."""

from argparse import Namespace
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from gemini_batch.cli.options import print_result
from gemini_batch.cli.viewing import viewed
from gemini_batch.errors import ConfigError, ExitCode
from gemini_batch.output.history import Cost
from gemini_batch.output.paths import RESULTS
from gemini_batch.output.rows import read_rows
from gemini_batch.output.runs import is_open, read_runs, read_summary
from gemini_batch.output.shards import has_results, parts
from gemini_batch.progress.formatting import count
from gemini_batch.records import Status
from gemini_batch.wording import local_time, usd

_UNKNOWN = "unknown"
_GAP = "  "  # between the start of a run and its manifest
_Row: TypeAlias = Mapping[str, Any]


@dataclass(slots=True)
class Group:
    """The rows of one day, model, manifest or run."""

    calls: int = 0
    images: int = 0
    total_tokens: int = 0
    cost: Cost = field(default_factory=Cost)

    def add(self, row: _Row) -> None:
        """Add a row; that of a pruned call says nothing of cost."""
        if row["status"] == Status.PRUNED:
            return
        self.calls += 1
        self.images += len(row["images"]) + len(row["drafts"])
        if not row.get("reused_from"):  # else its tokens were used, and paid for, elsewhere
            self.total_tokens += (row["usage"] or {}).get("total_tokens") or 0
        self.cost.add(row)


def main(options: Namespace) -> int:
    """Print the cost of each group and of all; return the exit code."""
    outs = options.out or sorted(
        path for path in Path().iterdir() if path.is_dir() and has_results(path)
    )
    if not outs:
        raise ConfigError(f"no folder here has a {RESULTS}; name the output folder of a run")
    groups: defaultdict[str, Group] = defaultdict(Group)
    total = Group()
    for out in outs:
        with viewed(out) as view:
            for part in parts(view.out):
                group_of = _NAMES[options.by](part.path)
                for row in read_rows(part.path, 0, brief=True):
                    groups[group_of(row)].add(row)
                    total.add(row)
    found = {
        "by": options.by,
        "folders": [str(out) for out in outs],
        "groups": [{"name": name, **_as_json(groups[name])} for name in sorted(groups)],
        "total": _as_json(total),
    }
    print_result(found, _lines(groups, total, len(outs)), as_json=options.json)
    return ExitCode.DONE


def _as_json(group: Group) -> dict[str, Any]:
    fields: dict[str, Any] = asdict(group)
    cost: dict[str, Any] = fields.pop("cost")
    return fields | cost


def _lines(groups: Mapping[str, Group], total: Group, folders: int) -> Iterator[str]:
    if not groups:
        yield f"no answers yet: {usd(0)}"
        return
    names = {name: _in_local_time(name) for name in sorted(groups)}
    width = max(map(len, names.values()))
    for name, shown in names.items():
        yield f"{shown:<{width}}  {_numbers(groups[name])}"
    if len(groups) > 1 or folders > 1:
        yield f"{'total':<{width}}  {_numbers(total)}   ({count(folders, 'folder')})"


def _in_local_time(name: str) -> str:
    """Return the name of a run with its start in local time, and any other name as it is."""
    started_at, gap, manifest = name.partition(_GAP)
    try:
        return f"{local_time(datetime.fromisoformat(started_at))}{gap}{manifest}" if gap else name
    except (ValueError, OverflowError):
        return name


def _numbers(group: Group) -> str:
    calls, images = count(group.calls, "call"), count(group.images, "image")
    unpriced = f" + {group.cost.unpriced:,} of unknown cost" if group.cost.unpriced else ""
    return f"{calls:>15} {images:>16} {usd(group.cost.cost_usd):>12}{unpriced}"


def _by_day(_out: Path) -> Callable[[_Row], str]:
    @lru_cache
    def local_date(minute: datetime) -> str:
        return f"{minute.astimezone():%Y-%m-%d}"

    def day(row: _Row) -> str:
        """Return the local date on which an answer arrived."""
        try:
            at = datetime.fromisoformat(row["finished_at"])
            return local_date(at.replace(second=0, microsecond=0))
        except (ValueError, OverflowError):
            return _UNKNOWN

    return day


def _by_model(_out: Path) -> Callable[[_Row], str]:
    def model(row: _Row) -> str:
        name = row.get("model")
        return name if isinstance(name, str) else _UNKNOWN

    return model


def _by_run(out: Path) -> Callable[[_Row], str]:
    return _of_runs(out, lambda run: f"{run['started_at']}{_GAP}{run.get('manifest')}")


def _by_manifest(out: Path) -> Callable[[_Row], str]:
    return _of_runs(out, lambda run: str(run.get("manifest")))


def _of_runs(out: Path, name_of: Callable[[_Row], str]) -> Callable[[_Row], str]:
    """Return what names the run of a row: the last one that had started when the row arrived."""
    runs, last = [*read_runs(out)], read_summary(out)
    if is_open(last) and isinstance(last.get("started_at"), str):
        runs.append(last)
    runs.sort(key=lambda run: _sortable(run["started_at"]))
    starts = [_sortable(run["started_at"]) for run in runs]

    def name(row: _Row) -> str:
        number = bisect_right(starts, _sortable(row["finished_at"]))
        return name_of(runs[number - 1]) if number else _UNKNOWN

    return name


def _sortable(at: str) -> str:
    """Return a time in UTC so that times sort as text, those without a fraction of a second too."""
    return at.rstrip("Z")


_NAMES = {"day": _by_day, "model": _by_model, "manifest": _by_manifest, "run": _by_run}
