"""The summary of a run with several workers, made from theirs. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from gemini_batch.errors import ExitCode

_ORDER = (
    ExitCode.BUG,
    ExitCode.INTERRUPTED,
    ExitCode.TERMINATED,
    ExitCode.STORAGE,
    ExitCode.REFUSED,
    ExitCode.USAGE,
    ExitCode.BAD_INPUT,
    ExitCode.BUSY,
    ExitCode.STOPPED,
    ExitCode.INCOMPLETE,
    ExitCode.DONE,
)
_SAME = ("manifest", "tier", "endpoint")
_SUMS = ("calls", "left", "waiting", "committed_usd", "by_status", "this_run")
_NOT_OF_ROWS = ("sent", "retries", "submitted", "retries_by_reason", "possibly_billed")
_MOST_LISTED = 10
_Summary = Mapping[str, Any]


def worst(codes: Sequence[int]) -> int:
    """Return the exit code of a run by those of its workers; one that was killed comes first."""
    unknown = [code for code in codes if code not in _ORDER]
    return unknown[0] if unknown else min(codes, key=_ORDER.index)


def whole(found: Sequence[_Summary]) -> dict[str, Any]:
    """Return one summary of those of all workers; an empty one is of a worker without any yet.

    It is open as long as one of them is. Latencies and the use of windows are left out.
    """
    known = [each for each in found if each]
    if not known:
        return {}
    is_open = len(known) < len(found) or any(each.get("ended_at") is None for each in known)
    codes = [each.get("exit_code") for each in known]
    summary: dict[str, Any] = {name: known[0].get(name) for name in _SAME}
    summary |= {
        "out": _root(known[0].get("out")),
        "exit_code": None,
        "ended_at": None,
        "windows": [],
    }
    if not is_open and all(isinstance(code, int) for code in codes):
        summary["exit_code"] = worst([code for code in codes if isinstance(code, int)])
        summary["ended_at"] = max((str(each["ended_at"]) for each in known), key=_sortable)
    summary["needs_person"] = any(each.get("needs_person") is True for each in known)
    for name in ("stops", "batches"):
        lists = [each[name] for each in known if isinstance(each.get(name), list)]
        summary[name] = _once(item for items in lists for item in items)
    for name in _SUMS:
        summary[name] = _sum([each.get(name) for each in known])
    starts = [str(each.get("started_at")) for each in known]
    summary["started_at"] = min(starts, key=_sortable)
    again = [str(each["run_again_at"]) for each in known if each.get("run_again_at")]
    summary["run_again_at"] = max(again, key=_sortable) if again else None
    summary["duration_s"] = _seconds(summary["started_at"], summary["ended_at"])
    summary["workers"] = len(found)
    return summary


def with_rows(summary: _Summary, totals: Mapping[str, Any]) -> dict[str, Any]:
    """Return `this_run` of a summary of workers, with the totals of all rows that they wrote.

    A worker that was killed and started again counts its last start alone. What rows do not have,
    requests without an answer, is counted by its last start; a kill adds what was in flight.
    """
    counted = summary.get("this_run") or {}
    rows = {name: value for name, value in totals.items() if name not in _NOT_OF_ROWS}
    sent = totals["sent"] + (counted.get("possibly_billed") or 0)
    is_whole = counted.get("finished") == totals["finished"]
    return {
        "this_run": counted
        | rows
        | {
            "sent": max(sent, counted.get("sent") or 0),
            "retries": max(totals["retries"], counted.get("retries") or 0),
            "estimated_answered_usd": counted.get("estimated_answered_usd") if is_whole else 0.0,
        }
    }


def _root(out: Any) -> str | None:
    """Return the output folder by that of a worker, `OUT/shards/0001.16/00003`, as it was given."""
    pieces = out.rsplit("/", 3) if isinstance(out, str) else ()  # OUT may be an address
    if len(pieces) == 4:
        return pieces[0] or "/"
    return "." if len(pieces) == 3 else None


def _sortable(at: str) -> str:
    return at.rstrip("Z")


def _once(items: Any) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found


def _sum(values: Sequence[Any]) -> Any:
    """Return the sum of numbers, or of the numbers in objects; the first items of lists."""
    known = [value for value in values if value is not None]
    if all(isinstance(value, dict) for value in known):
        names = dict.fromkeys(name for value in known for name in value)
        return {
            name: None
            if name.startswith("latency_")
            else _sum([each[name] for each in known if name in each])
            for name in names
        }
    if all(isinstance(value, list) for value in known):
        return [item for value in known for item in value][:_MOST_LISTED]
    if len(known) < len(values):
        return None
    if any(type(value) not in (int, float) for value in known):
        return 0
    total = sum(known)
    return round(total, 6) if isinstance(total, float) else total


def _seconds(start: str, end: str | None) -> float | None:
    try:
        return (datetime.fromisoformat(end or "") - datetime.fromisoformat(start)).total_seconds()
    except (ValueError, TypeError):
        return None
