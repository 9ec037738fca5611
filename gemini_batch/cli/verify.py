"""`verify`: holds every row of an output folder against what is on the disk."""

import hashlib
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.cli.options import folder_of_rows
from gemini_batch.errors import ExitCode
from gemini_batch.output import OutputFolder
from gemini_batch.output.paths import DRAFTS, IMAGES, SUMMARY
from gemini_batch.output.rows import newest_rows, read_rows
from gemini_batch.progress import count, plain

IMAGE_FOLDERS = (IMAGES, DRAFTS)
# Costs are rounded to a millionth of a dollar, once a row and once in the sum.
CENTS_OFF_USD = 1e-4


def main(options: Namespace) -> int:
    """Print what is wrong, one line each; return 0 if nothing is, else 4."""
    out = folder_of_rows(options)
    rows, images, others = 0, 0, 0
    for row in newest_rows(out):
        rows += 1
        for problem in _wrong_images(out, row):
            images += 1
            _say(problem)
    for problem in (*_orphans(out), *_wrong_sums(out)):
        others += 1
        _say(problem)
    found = count(images + others, "problem") if images or others else "all as their rows say"
    _say(f"{out}: {count(rows, 'call')}, {found}")
    if images and OutputFolder(out).has_staged_files():
        _say(
            "a run was killed: run again first, which gives what had arrived its name and costs nothing"
        )
    elif images:
        _say(
            "to have images made again, and pay for them again: delete the damaged ones, and run with --retry missing"
        )
    return ExitCode.INCOMPLETE if images or others else ExitCode.DONE


def _wrong_images(out: Path, row: dict[str, Any]) -> Iterator[str]:
    for image in (*row["images"], *row["drafts"]):
        where = f"{row['id']}: {image['path']}"
        try:
            with (out / image["path"]).open("rb") as file:
                size_bytes = os.fstat(file.fileno()).st_size
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            yield f"{where}: {(error.strerror or 'unreadable').lower()}"
            continue
        if size_bytes != image["size_bytes"]:
            yield f"{where}: has {size_bytes:,} bytes, its row says {image['size_bytes']:,}"
        elif sha256 != image["sha256"]:
            yield f"{where}: other bytes than its row says (sha256 {sha256[:12]}…, not {image['sha256'][:12]}…)"


def _orphans(out: Path) -> Iterator[str]:
    """Name the images that no row, the older ones included, knows of."""
    known = {image["path"] for row in read_rows(out) for image in (*row["images"], *row["drafts"])}
    for folder in IMAGE_FOLDERS:
        for path in sorted((out / folder).rglob("*")):
            name = path.relative_to(out).as_posix()
            if path.is_file() and name not in known:
                yield f"{name}: no row knows of this file"


def _wrong_sums(out: Path) -> Iterator[str]:
    """Hold the last run's summary against the rows that it wrote."""
    try:
        summary = orjson.loads((out / SUMMARY).read_bytes())
    except FileNotFoundError:
        return  # no run has begun to send
    except orjson.JSONDecodeError:
        yield f"{SUMMARY}: is no JSON"
        return
    if isinstance(summary, dict) and summary.get("ended_at", "") is None:
        return  # a run that goes on, or was killed
    if (said := _said(summary)) is None:
        yield f"{SUMMARY}: is no summary of a run"
        return
    finished, said_usd, started_at, ended_at = said
    costs = [
        row["cost_usd"] for row in read_rows(out) if started_at <= row["finished_at"] <= ended_at
    ]
    cost_usd = sum(cost for cost in costs if cost is not None)
    if len(costs) != finished:
        yield f"{SUMMARY}: says that the last run finished {count(finished, 'call')}; {count(len(costs), 'row')} of its time"
    elif abs(cost_usd - said_usd) > CENTS_OFF_USD:
        yield f"{SUMMARY}: says ${said_usd:.6f} for the last run; its rows add up to ${cost_usd:.6f}"


def _said(summary: Any) -> tuple[int, float, str, str] | None:
    """Return how many calls the last run finished, for how much, from when and to when; None where it does not say so."""
    match summary:
        case {
            "this_run": {"finished": int(finished), "cost_usd": int() | float() as cost_usd},
            "started_at": str(started_at),
            "ended_at": str(ended_at),
        }:
            return finished, float(cost_usd), started_at, ended_at
        case _:
            return None


def _say(words: str) -> None:
    sys.stdout.write(plain(words) + "\n")
