"""`verify`: check every row of an output folder against the files on the disk."""

import sys
from argparse import Namespace
from collections.abc import Iterator
from itertools import chain
from typing import Any

import orjson

from gemini_batch.cli.viewing import viewed
from gemini_batch.errors import ExitCode
from gemini_batch.hashmap import HashMap64, fingerprint
from gemini_batch.output import OutputFolder
from gemini_batch.output.files import (
    MAX_SUMMARY_BYTES,
    WrongKindError,
    read_at_most,
)
from gemini_batch.output.paths import SUMMARY
from gemini_batch.output.rows import marked_rows, read_rows
from gemini_batch.output.shards import Part, parts
from gemini_batch.output.viewed import ViewedFolder
from gemini_batch.progress.formatting import count, plain
from gemini_batch.records import Status
from gemini_batch.wording import usd

# Costs are rounded to a millionth of a dollar, once a row and once in the sum.
ROUNDING_USD = 1e-4


def main(options: Namespace) -> int:
    """Print one line per problem; return 0 if there is none, else 4."""
    with viewed(options.out) as view:
        return _verify(view)


def _verify(view: ViewedFolder) -> int:
    out = view.out
    rows, images, others = 0, 0, 0
    known = HashMap64()
    for is_newest, row in marked_rows(out, brief=True):
        for image in (*row["images"], *row["drafts"]):
            known.put(fingerprint(image["path"]), 1)
        if not is_newest:
            continue
        rows += 1
        for problem in _wrong_images(view, row):
            images += 1
            _print(problem)
    for problem in chain(_orphans(view, known), chain.from_iterable(map(_wrong_sums, parts(out)))):
        others += 1
        _print(problem)
    found = count(images + others, "problem") if images or others else "no problems"
    _print(f"{view.shown}: {count(rows, 'call')}, {found}")
    if images and any(OutputFolder(part.path).has_staged_files() for part in parts(out)):
        _print("a run was killed: run again first, to recover the images that had arrived, at $0")
    elif images and view.is_bucket:
        _print(
            "to generate and pay for images again: run with --retry missing, or for damaged ones "
            "with --redo and the ids of their calls"
        )
    elif images:
        _print(
            "to generate and pay for images again: delete the damaged ones, then run with "
            "--retry missing"
        )
    return ExitCode.INCOMPLETE if images or others else ExitCode.DONE


def _wrong_images(view: ViewedFolder, row: dict[str, Any]) -> Iterator[str]:
    for image in (*row["images"], *row["drafts"]):
        where = f"{row['id']}: {image['path']}"
        try:
            size_bytes, sha256 = view.digest(image["path"])
        except OSError as error:
            yield f"{where}: {(error.strerror or 'unreadable').lower()}"
            continue
        if size_bytes != image["size_bytes"]:
            yield f"{where}: has {size_bytes:,} bytes, expected {image['size_bytes']:,}"
        elif sha256 != image["sha256"]:
            yield f"{where}: has sha256 {sha256[:12]}…, expected {image['sha256'][:12]}…"


def _orphans(view: ViewedFolder, known: HashMap64) -> Iterator[str]:
    """Yield the images that belong to no row, old rows included."""
    for name in view.images():
        if known.get(fingerprint(name)) is None:
            yield f"{name}: belongs to no row"


def _wrong_sums(part: Part) -> Iterator[str]:
    """Compare the summary of a folder's last run with the rows that it wrote there."""
    name = f"{part.prefix}{SUMMARY}"
    try:
        summary = orjson.loads(read_at_most(part.path / SUMMARY, MAX_SUMMARY_BYTES))
    except FileNotFoundError:
        return  # no run has started to send
    except (WrongKindError, orjson.JSONDecodeError):
        yield f"{name}: is not JSON"
        return
    match summary:
        case {"ended_at": None} | {"workers": int()}:
            return  # the run is active, or was killed; or its rows are those of its workers
        case {
            "this_run": {"finished": int(finished), "cost_usd": int() | float() as recorded_usd},
            "started_at": str(started_at),
            "ended_at": str(ended_at),
        }:
            pass
        case _:
            yield f"{name}: is not the summary of a run"
            return
    costs = [
        row["cost_usd"]
        for row in read_rows(part.path, 0, brief=True)
        if started_at <= row["finished_at"] <= ended_at and row["status"] != Status.PRUNED
    ]
    cost_usd = sum(cost for cost in costs if cost is not None)
    run = f"{name}: the last run finished"
    if len(costs) != finished:
        yield f"{run} {count(finished, 'call')}, but {count(len(costs), 'row')} are of its time"
    elif abs(cost_usd - recorded_usd) > ROUNDING_USD:
        difference = f"{usd(abs(cost_usd - recorded_usd))} "
        difference += "more" if cost_usd > recorded_usd else "less"
        yield f"{run} at {usd(recorded_usd)}, but its rows add up to {difference}"


def _print(text: str) -> None:
    sys.stdout.write(plain(text) + "\n")
