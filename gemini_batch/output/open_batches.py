"""The open batches of an output folder as their notes and rows have them, for people."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemini_batch.config.endpoints import SIMULATOR
from gemini_batch.errors import storage_errors
from gemini_batch.output.paths import has_batches
from gemini_batch.output.rows import place_of, placed_rows
from gemini_batch.output.shards import Part, parts
from gemini_batch.wording import local_time

if TYPE_CHECKING:  # most folders have no batches
    from gemini_batch.output.batch_note import BatchNote
    from gemini_batch.output.waiting import OpenBatch, Waiting


def read_open_batches(out: Path) -> list[dict[str, Any]]:
    """Return the batches that hold calls back, the oldest first; nothing is asked of a server.

    Raises:
        StorageError: The notes or the rows are damaged, or can't be read.
    """
    if not any(has_batches(part.path) for part in parts(out)):
        return []
    with closing(marked(out)) as waiting:
        return [described(batch) for batch in held(waiting)]


def marked(out: Path) -> "Waiting":
    """Return the batches of a folder and of its workers, marked by their rows; raise as above."""
    with storage_errors(f"{out}: its batches can't be read"):
        waiting = open_batches(out, "")
        for place, row in placed_rows(out) if waiting else ():
            waiting.note(place, row)
    return waiting


def open_batches(out: Path, endpoint: str) -> "Waiting":
    """Return the batches of a folder and of all its workers; see `open_batches_of`."""
    from gemini_batch.output.waiting import Waiting

    return Waiting(chain.from_iterable(_by_part(out, endpoint).values()))


def open_batches_of(out: Path, endpoint: str, own: Part | None) -> "tuple[Waiting, Waiting]":
    """Return the batches of the worker that writes into `own`, and those of others.

    The caller closes them. One whose note is damaged counts as made at `endpoint`.

    Raises:
        StorageError: The calls of a batch that may exist can't be known: nothing may be sent.
        OSError: The disk refused.
    """
    from gemini_batch.output.waiting import Waiting

    found = _by_part(out, endpoint)
    number = own.number if own else -1
    mine = found.pop(number, [])
    others = sorted(chain.from_iterable(found.values()), key=lambda batch: batch.note.since)
    return Waiting(mine, place_of(number, 0) if own else 0), Waiting(others)


def _by_part(out: Path, endpoint: str) -> "dict[int, list[OpenBatch]]":
    """Return the batches of each part of a folder, by the number of the part."""
    found = [part for part in parts(out) if has_batches(part.path)]
    if not found:
        return {}
    from gemini_batch.output.batches import find_batches
    from gemini_batch.output.waiting import OpenBatch

    starts = {part.prefix: place_of(part.number, 0) for part in parts(out)}
    return {
        part.number: [
            OpenBatch(
                _as_found(each.note, endpoint),
                each.lines,
                each.problem,
                starts.get(part.prefix if each.note.made_in is None else each.note.made_in, 0),
                part.path,
            )
            for each in find_batches(part.path)
        ]
        for part in found
    }


def _as_found(note: "BatchNote", endpoint: str) -> "BatchNote":
    from gemini_batch.output.batch_note import Step

    if note.endpoint == SIMULATOR:  # its server ended with the run
        return replace(note, step=Step.PLANNED)
    return replace(note, endpoint=note.endpoint or endpoint)


def held(waiting: "Waiting") -> "Iterator[OpenBatch]":
    """Yield the batches that hold calls back."""
    for batch in waiting.batches:
        if batch.is_awaited and batch.waiting and batch.note.endpoint != SIMULATOR:
            yield batch


def described(batch: "OpenBatch") -> dict[str, Any]:
    """Return what is known of a batch."""
    note = batch.note
    return {
        "name": note.name or None,
        "display_name": note.display_name,
        "endpoint": note.endpoint or None,
        "model": note.model or None,
        "step": note.step.value,
        "state": note.state or None,
        "calls": note.calls,
        "waiting": batch.waiting,
        "done": note.done,
        "committed_usd": None if note.estimated_usd is None else round(batch.committed_usd, 6),
        "since": f"{note.since:%Y-%m-%dT%H:%M:%SZ}",
        "cancelled_at": note.cancelled_at and f"{note.cancelled_at:%Y-%m-%dT%H:%M:%SZ}",
        "looks_left": note.looks_left,
        "problem": batch.problem or note.why or None,
    }


def line_of(batch: dict[str, Any]) -> str:
    """Return a line about a batch that was `described`."""
    state = batch["state"] or ("creation not answered" if not batch["name"] else "not seen yet")
    done = "" if batch["done"] is None else f", {batch['done']:,} done"
    name = batch["name"] or batch["display_name"]
    since = _shown(batch["since"])
    ended = ", cancelled" if batch["cancelled_at"] else ""
    problem = f"; {batch['problem']}" if batch["problem"] else ""
    calls = f"{batch['waiting']:,} of {batch['calls']:,} calls wait{done}"
    then = ""
    if batch["looks_left"]:
        runs = "run does" if batch["looks_left"] == 1 else f"{batch['looks_left']} runs do"
        then = f"; it is given up if the next {runs} not find it"
    return (
        f"{name}  {state.lower()}{ended}  {calls}, {batch['model']}, since {since}{then}{problem}"
    )


def _shown(at: str) -> str:
    return local_time(datetime.fromisoformat(at))
