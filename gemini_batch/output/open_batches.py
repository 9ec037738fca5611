"""The open batches of an output folder as their notes and rows have them, for people."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemini_batch.errors import storage_errors
from gemini_batch.output.rows import placed_rows

if TYPE_CHECKING:  # most folders have no batches
    from gemini_batch.output.waiting import OpenBatch, Waiting


def read_open_batches(out: Path) -> list[dict[str, Any]]:
    """Return the batches that hold calls back, the oldest first; nothing is asked of a server.

    Raises:
        StorageError: The notes or the rows are damaged, or can't be read.
    """
    with closing(marked(out)) as waiting:
        return [described(batch) for batch in held(waiting)]


def marked(out: Path) -> "Waiting":
    """Return the batches of a folder and of its workers, marked by their rows; raise as above."""
    from gemini_batch.output.waiting import open_batches

    with storage_errors(f"{out}: its batches can't be read"):
        waiting = open_batches(out, "")
        for _ in waiting.noting(placed_rows(out)) if waiting else ():
            pass
    return waiting


def held(waiting: "Waiting") -> "Iterator[OpenBatch]":
    """Yield the batches that hold calls back."""
    from gemini_batch.config.settings import SIMULATOR_ENDPOINT

    for batch in waiting.batches:
        if batch.is_awaited and batch.waiting and batch.note.endpoint != SIMULATOR_ENDPOINT:
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
        "problem": batch.problem or note.why or None,
    }


def line_of(batch: dict[str, Any]) -> str:
    """Return a line about a batch that was `described`."""
    state = batch["state"] or ("creation not answered" if not batch["name"] else "not seen yet")
    done = "" if batch["done"] is None else f", {batch['done']:,} done"
    name = batch["name"] or batch["display_name"]
    since = f"{batch['since'][:10]} {batch['since'][11:16]} UTC"
    ended = ", cancelled" if batch["cancelled_at"] else ""
    problem = f"; {batch['problem']}" if batch["problem"] else ""
    calls = f"{batch['waiting']:,} of {batch['calls']:,} calls wait{done}"
    return f"{name}  {state.lower()}{ended}  {calls}, {batch['model']}, since {since}{problem}"
