"""`quota`: what is used and left of each window, and when it frees."""

import sys
from argparse import Namespace
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.clock import boot_time_s, utc_now
from gemini_batch.errors import ExitCode, GeminiBatchError
from gemini_batch.progress import plain, quantity
from gemini_batch.quota.model_quota import UNKNOWN, Used
from gemini_batch.quota.storage.rows import QuotaStatus, standings
from gemini_batch.quota.storage.statefile import delete, state_path

_MICROS = 1_000_000


def main(options: Namespace) -> int:
    """Print what is used of each quota, or forget it; return the exit code."""
    path = state_path()
    if options.reset:
        found, text = _reset(path)
    else:
        quotas = standings(path, boot_time_s(), utc_now())
        found = {"file": str(path), "quotas": [_as_json(standing) for standing in quotas]}
        text = "\n".join(line for standing in quotas for line in _lines(standing)) or _nothing(path)
    sys.stdout.write(f"{orjson.dumps(found).decode() if options.json else text}\n")
    return ExitCode.DONE


def _reset(path: Path) -> tuple[dict[str, Any], str]:
    try:
        names = [_name(standing) for standing in standings(path, boot_time_s(), utc_now())]
    except GeminiBatchError:
        names = ["a file that could not be read"]  # to get rid of it is what this is for
    if not delete(path):
        return {"file": str(path), "deleted": []}, _nothing(path)
    return {"file": str(path), "deleted": names}, "\n".join(
        [f"{path}: deleted", *(f"  {name}" for name in names)]
    )


def _nothing(path: Path) -> str:
    return f"{path}: nothing is used"


def _name(standing: QuotaStatus) -> str:
    return plain(f"{standing.model} · {standing.endpoint} · {standing.project}")


def _lines(standing: QuotaStatus) -> Iterator[str]:
    yield _name(standing)
    if standing.paused_s:
        yield f"  paused until {_moment(standing, standing.paused_s)}: {standing.paused_why}"
    if standing.is_day_closed:
        yield "  today: closed by the server"
    for used in standing.used:
        if used.bound.limit is not None:
            line = f"  {used.bound.words:<28} {_used(used):>12} used {_left(used):>12} left   {_frees(standing, used)}"
            yield line.rstrip()


def _used(used: Used) -> str:
    return "unknown" if used.used >= UNKNOWN else quantity(used.bound, used.used)


def _left(used: Used) -> str:
    return quantity(used.bound, max(0, (used.bound.limit or 0) - used.used))


def _frees(standing: QuotaStatus, used: Used) -> str:
    if not used.frees_in_s:
        return ""
    return f"{'resets' if used.bound.span == 'a day' else 'all free'} {_moment(standing, used.frees_in_s)}"


def _moment(standing: QuotaStatus, after_s: float) -> str:
    """Return a moment by the clock of UTC, and of the person where that is another."""
    at = standing.at + timedelta(seconds=after_s)
    local, words = at.astimezone(), f"{at:%Y-%m-%d %H:%M:%S} UTC"
    return f"{words} ({local:%H:%M:%S %Z})" if local.utcoffset() else words


def _as_json(standing: QuotaStatus) -> dict[str, Any]:
    is_paused = standing.paused_s > 0
    return {
        "endpoint": standing.endpoint,
        "project": standing.project,
        "model": standing.model,
        "paused_until": standing.at + timedelta(seconds=standing.paused_s) if is_paused else None,
        "paused_why": standing.paused_why if is_paused else None,
        "is_day_closed": standing.is_day_closed,
        "limits": [_limit_as_json(used, standing.at) for used in standing.used],
    }


def _limit_as_json(used: Used, utc: datetime) -> dict[str, Any]:
    """Return one limit; dollars are in `usd`, and what nobody knows is null."""
    is_usd, limit = used.bound.of == "usd_micros", used.bound.limit

    def amount(number: int) -> float:
        return number / _MICROS if is_usd else number

    return {
        "of": "usd" if is_usd else used.bound.of,
        "span": used.bound.span,
        "limit": None if limit is None else amount(limit),
        "used": None if used.used >= UNKNOWN else amount(used.used),
        "left": None if limit is None else amount(max(0, limit - used.used)),
        "frees_at": utc + timedelta(seconds=used.frees_in_s) if used.frees_in_s else None,
    }
