"""`status`: show the contents of an output folder."""

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from gemini_batch.cli.options import print_result
from gemini_batch.cli.viewing import viewed
from gemini_batch.clock import utc_now
from gemini_batch.errors import ExitCode, StorageError
from gemini_batch.output.history import Cost
from gemini_batch.output.open_batches import line_of, read_open_batches
from gemini_batch.output.rows import marked_rows
from gemini_batch.output.runs import is_open, read_summary
from gemini_batch.output.viewed import ViewedFolder
from gemini_batch.progress.formatting import about, count, held
from gemini_batch.records import Status
from gemini_batch.wording import usd

_LISTED = 20
_MAX_UNFINISHED = 10_000
# A run begins with a minute's quota at once: its pace says nothing before.
_PACE_AFTER_S = 60
_LAST_RUN = ("manifest", "exit_code", "calls", "left", "run_again_at", "ended_at")
_Row = Mapping[str, Any]


@dataclass(slots=True)
class Contents:
    """Contents of a folder, by its rows.

    Attributes:
        by_tier: Newest rows by the service tier that was served, where the answer named it.
        unfinished: Calls without an image and why, by their newest rows, up to 10,000.
        missing: Paths of images that are not there, up to 10,000.
        missing_number: All of these.
        newest: Cost of the newest rows.
        all_rows: Cost of all rows, superseded answers included.
        since: Rows that arrived since the start of a run that has not ended.
    """

    by_status: Counter[str] = field(default_factory=Counter)
    by_tier: Counter[str] = field(default_factory=Counter)
    unfinished: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    missing_number: int = 0
    total_tokens: int = 0
    newest: Cost = field(default_factory=Cost)
    all_rows: Cost = field(default_factory=Cost)
    since: int = 0

    def count_missing(self, path: str) -> None:
        """Count an image that is not there, and keep its path if there are not too many."""
        self.missing_number += 1
        if len(self.missing) < _MAX_UNFINISHED:
            self.missing.append(path)


def main(options: Namespace) -> int:
    """Print counts, failures, cost, missing images and the last run; return the exit code."""
    with viewed(options.out) as view:
        return _show(view, as_json=options.json)


def _show(view: ViewedFolder, *, as_json: bool) -> int:
    out = view.out
    summary = read_summary(out)
    contents = _read(view, str(summary.get("started_at")) if is_open(summary) else None)
    found = {
        "out": view.shown,
        "by_status": dict(contents.by_status),
        "service_tiers": dict(contents.by_tier),
        "total_tokens": contents.total_tokens,
        **asdict(contents.newest),
        "all_rows": asdict(contents.all_rows),
        "unfinished": contents.unfinished,
        "missing_images": contents.missing,
        "missing": contents.missing_number,
        "batches": read_open_batches(out),
        "last_run": _last_run(summary),
        "held": _held(summary),
        "running": _running(view, summary, contents.since),
    }
    print_result(found, _lines(found, contents, summary), as_json=as_json)
    return ExitCode.DONE


def _read(view: ViewedFolder, started_at: str | None) -> Contents:
    contents, older = Contents(), Cost()
    for is_newest, row in marked_rows(view.out, brief=True):
        if started_at is not None and row["finished_at"] >= started_at:
            contents.since += 1
        if not is_newest:
            older.add(row)
            continue
        contents.newest.add(row)
        contents.by_status[row["status"]] += 1
        if isinstance(tier := row.get("service_tier"), str):
            contents.by_tier[tier] += 1
        contents.total_tokens += (row["usage"] or {}).get("total_tokens") or 0
        for image in row["images"]:
            if not view.has_image(image["path"]):
                contents.count_missing(image["path"])
        if row["status"] != Status.SUCCEEDED and len(contents.unfinished) < _MAX_UNFINISHED:
            unfinished = {name: row.get(name) for name in ("id", "line", "status")}
            contents.unfinished.append(unfinished | {"message": _why(row)})
    contents.all_rows = contents.newest + older
    return contents


def _why(row: _Row) -> str:
    """Return why a call has no image, as far as its row says so in text."""
    error = row["error"] if isinstance(row.get("error"), dict) else {}
    number = error.get("http_status")
    texts = (number and str(number), error.get("status"), error.get("message"))
    if not any(texts):
        texts = (row.get("block_reason"), row.get("finish_reason"), row.get("finish_message"))
    return " ".join(dict.fromkeys(text for text in texts if text and isinstance(text, str)))


def _last_run(summary: _Row) -> dict[str, Any] | None:
    match summary:
        case {"left": int(), "calls": int()}:
            found = {name: summary.get(name) for name in _LAST_RUN}
            # Of a damaged one, which may be nested more deeply than can be printed.
            is_damaged = any(isinstance(value, dict | list) for value in found.values())
            return None if is_damaged else found
    return None


def _held(summary: _Row) -> dict[str, int]:
    """Return how many calls the last run held, by the reason; none of a damaged summary."""
    found = summary.get("held")
    if not isinstance(found, dict):
        return {}
    return {
        reason: number
        for reason, number in found.items()
        if reason.isalpha() and type(number) is int
    }


def _running(view: ViewedFolder, summary: _Row, done: int) -> dict[str, Any] | None:
    """Return the pace and the end of a run that holds the folder; None if none does."""
    with suppress(OSError, StorageError):
        if (process := view.running()) is not None:
            left, per_min, left_s = summary.get("left"), None, None
            started_at = _moment(summary.get("started_at")) if is_open(summary) else None
            lasted_s = (utc_now() - started_at).total_seconds() if started_at else 0.0
            if lasted_s >= _PACE_AFTER_S and isinstance(left, int) and done:
                per_min = 60 * done / lasted_s
                left_s = round(60 * max(0, left - done) / per_min)
            return {
                "process": process,
                "done": done,
                "calls_per_min": per_min and round(per_min, 1),
                "left_s": left_s,
            }
    return None


def _moment(text: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo else None


def _lines(found: dict[str, Any], contents: Contents, summary: _Row) -> Iterator[str]:
    yield f"{found['out']}: {found['total_tokens']:,} tokens, {_priced(contents.newest)}"
    if contents.all_rows != contents.newest:
        yield f"  including superseded answers: {_priced(contents.all_rows)}"
    for status, number in found["by_status"].items():
        yield f"  {number:>6,}  {status}"
    if contents.by_tier.keys() - {"standard"}:
        for tier, number in contents.by_tier.items():
            yield f"  {number:>6,}  served as {tier}"
    for call in contents.unfinished[:_LISTED]:
        yield f"  {call['status']}: {call['id']}: {call['message']}"
    if (more := len(contents.unfinished) - _LISTED) > 0:
        yield f"  and {count(more, 'more call')} without an image; --json lists them"
    yield from (f"  waiting: {line_of(batch)}" for batch in found["batches"])
    if (last := found["last_run"]) and (running := found["running"]):
        yield f"  running now ({running['process']}): {last['manifest']}: {_pace(running, last)}"
    elif last:
        yield f"  last run of {last['manifest']}: {_end(last, summary)}"
    if found["held"]:
        yield f"  {held(found['held'])}"
    yield from _missing(contents)


def _missing(contents: Contents) -> Iterator[str]:
    yield from (f"  missing: {path}" for path in contents.missing[:_LISTED])
    if (more := contents.missing_number - _LISTED) > 0:
        yield f"  and {count(more, 'more image')} missing; --json lists them"


def _pace(running: dict[str, Any], last: _Row) -> str:
    pace = f"{running['done']:,} of {count(last['left'], 'call')} done"
    if running["calls_per_min"]:
        pace += f", {running['calls_per_min']:g} a minute"
        pace += f", about {about(running['left_s'])} left" if running["left_s"] else ""
    return pace


def _end(last: _Row, summary: _Row) -> str:
    left = f"{last['left']:,} of {count(last['calls'], 'call')} left"
    if is_open(summary):
        return f"was killed; at its start {left}"
    stops = summary.get("stops")
    reasons = [
        str(stop["reason"])
        for stop in (stops if isinstance(stops, list) else [])
        if isinstance(stop, dict) and isinstance(stop.get("reason"), str)
    ]
    why = f"stopped ({', '.join(dict.fromkeys(reasons))}), " if reasons else ""
    return f"{why}exit {last['exit_code']}, {left}"


def _priced(cost: Cost) -> str:
    unpriced = f", and {cost.unpriced:,} of unknown cost" if cost.unpriced else ""
    return f"{usd(cost.cost_usd)} at list price{unpriced}"
