"""`status`: show the contents of an output folder."""

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.cli.options import folder_of_rows, print_result
from gemini_batch.errors import ExitCode
from gemini_batch.output.files import MAX_SUMMARY_BYTES, WrongKindError, read_at_most
from gemini_batch.output.history import Cost
from gemini_batch.output.paths import SUMMARY
from gemini_batch.output.rows import marked_rows
from gemini_batch.progress.formatting import usd


def main(options: Namespace) -> int:
    """Print counts, tokens, cost and missing images of a folder; return the exit code."""
    out = folder_of_rows(options)
    by_status: Counter[str] = Counter()
    missing: list[str] = []
    cost, of_all, tokens = Cost(), Cost(), 0
    for is_newest, row in marked_rows(out):
        of_all.add(row)
        if not is_newest:
            continue
        cost.add(row)
        by_status[row["status"]] += 1
        missing += [image["path"] for image in row["images"] if not (out / image["path"]).exists()]
        tokens += (row["usage"] or {}).get("total_tokens") or 0
    found = {
        "out": str(out),
        "by_status": dict(by_status),
        "total_tokens": tokens,
        **asdict(cost),
        "all_rows": asdict(of_all),
        "missing_images": missing,
        "last_run": _last_run(out),
    }
    print_result(found, _lines(found, cost, of_all), as_json=options.json)
    return ExitCode.DONE


def _last_run(out: Path) -> dict[str, Any] | None:
    try:
        summary = orjson.loads(read_at_most(out / SUMMARY, MAX_SUMMARY_BYTES))
    except (FileNotFoundError, WrongKindError, orjson.JSONDecodeError):
        return None
    match summary:
        case {"left": int(), "calls": int()}:
            wanted = ("manifest", "exit_code", "calls", "left", "run_again_at", "ended_at")
            found = {name: summary.get(name) for name in wanted}
            # Of a damaged one, which may be nested more deeply than can be printed.
            is_damaged = any(isinstance(value, dict | list) for value in found.values())
            return None if is_damaged else found
    return None


def _lines(found: dict[str, Any], cost: Cost, of_all: Cost) -> Iterator[str]:
    yield f"{found['out']}: {found['total_tokens']:,} tokens, {_priced(cost)}"
    if of_all != cost:
        yield f"  including superseded answers: {_priced(of_all)}"
    for status, number in found["by_status"].items():
        yield f"  {number:>6,}  {status}"
    if last := found["last_run"]:
        left = f"{last['left']:,} of {last['calls']:,} left"
        code = last["exit_code"]
        is_open = f"still running, or killed; started with {left}"
        end = is_open if code is None else f"exit {code}, {left}"
        yield f"  last run of {last['manifest']}: {end}"
    for path in found["missing_images"]:
        yield f"  missing: {path}"


def _priced(cost: Cost) -> str:
    unpriced = f", and {cost.unpriced:,} of unknown cost" if cost.unpriced else ""
    return f"{usd(cost.cost_usd)} at list price{unpriced}"
