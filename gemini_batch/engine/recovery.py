"""Recovery: finish what a killed run, or a power cut, left half done.

A row is the commit point: each row that stands has its images, or is voided. Only rows after the
durable offset are checked. All before it were durable with their images; what the user did to these
images since is not undone.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemini_batch.output import OutputFolder, inflight
from gemini_batch.output.paths import RESULTS, TORN_RESULTS
from gemini_batch.output.rows import ResultsFile, newest_rows, parse_row, read_rows
from gemini_batch.records import RowError, Status

_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Calls that a killed run had in flight.

    Attributes:
        unanswered: Id → request_sha256 of those that have no row.
        journaled: Those of them whose answer had arrived and is in the answer journal.
    """

    unanswered: dict[str, str]
    journaled: frozenset[str] = frozenset()


def recover(folder: OutputFolder) -> list[str]:
    """Repair the locked output folder; return a sentence for each repair.

    Raises:
        StorageError: A durable row is damaged; nothing was changed.
        OSError: The disk refused.
    """
    path = folder.out / RESULTS
    if path.exists():
        return list(_repair(folder, path))
    messages = []
    if noted := folder.durable_bytes():
        lost = f"{path}: is gone, and had {noted:,} bytes"
        messages.append(f"{lost}: all of its calls are sent, and paid for, again")
    if noted != 0:
        folder.note_durable(0)  # from now on a missing note means that it was removed
    return [*messages, *_clear_staged(folder)]


def possibly_billed(folder: OutputFolder) -> dict[str, str]:
    """Return calls (id → request_sha256) that were sent, may have been billed, and have no row.

    Raises:
        StorageError: A row is damaged.
        OSError: The disk refused.
    """
    sent, path = inflight.unacknowledged(folder.private), folder.out / RESULTS
    if sent.calls and path.exists():
        for row in read_rows(folder.out, _line_start(path, sent.rows_bytes)):
            if row["status"] != Status.LOST:
                sent.calls.pop(row["id"], None)
    return sent.calls


def _repair(folder: OutputFolder, path: Path) -> Iterator[str]:
    noted, size = folder.durable_bytes(), path.stat().st_size
    # A missing note was removed, and the staged files with it: the rows are taken as they are.
    durable_bytes = _line_start(path, size if noted is None else noted)
    if durable_bytes == noted == size:
        if folder.has_staged_files():  # of no row: all rows were seen with their images
            yield from _clear_staged(folder)
        return
    for _ in read_rows(folder.out, 0, durable_bytes):
        pass  # a damaged row among the durable ones is refused here, before any change
    if noted is not None and size < noted:
        # It may be on purpose, as when a damaged row was taken out; if not, the user must know.
        lost = f"{path}: has {size:,} bytes, and had {noted:,} when the last run wrote it"
        yield f"{lost}: calls whose rows are gone are sent, and paid for, again"
    yield from _repair_tail(folder, path, durable_bytes)
    with closing(ResultsFile(folder.out)) as rows:
        yield from _finish_rows(folder, rows, durable_bytes)
        rows.sync()
        folder.sync(folder.moved())
        folder.note_durable(rows.end_bytes)
    yield from _clear_staged(folder)


def _clear_staged(folder: OutputFolder) -> Iterator[str]:
    journaled = filter(None, map(folder.journaled_answer, possibly_billed(folder)))
    if parts := folder.remove_staged_files(journaled):
        files = "1 staged image" if parts == 1 else f"{parts:,} staged images"
        yield f"{folder.out}: {files} without a row removed"


def _line_start(path: Path, place: int) -> int:
    """Return where the line begins that holds byte `place`: the file may have been edited."""
    with path.open("rb") as file:
        place = min(place, os.fstat(file.fileno()).st_size)
        while place:
            start = max(0, place - _BLOCK_BYTES)
            file.seek(start)
            before = file.read(place - start).rfind(b"\n")
            if before >= 0:
                return start + before + 1
            place = start
    return 0


def _repair_tail(folder: OutputFolder, path: Path, durable_bytes: int) -> Iterator[str]:
    """Copy the file's end from the first line that is no row; leave only its rows in the file."""
    with path.open("r+b") as file:
        file.seek(durable_bytes)
        end = durable_bytes
        for line in file:
            if not line.endswith(b"\n") or (parse_row(line) is None and line.strip()):
                break
            end += len(line)
        file.seek(end)
        tail = file.read()
        if not tail:
            return
        kept = folder.set_aside(TORN_RESULTS, tail)
        # The rows are written before the rest is cut off: a kill in between leaves some twice, and
        # loses none.
        file.seek(end)
        file.writelines(line + b"\n" for line in tail.split(b"\n") if parse_row(line) is not None)
        file.flush()
        file.truncate()
    yield f"{path}: its end was damaged and is repaired; the last {len(tail):,} bytes are in {kept}"


def _finish_rows(folder: OutputFolder, rows: ResultsFile, durable_bytes: int) -> Iterator[str]:
    """Publish the images of each row after the durable offset, or void the row."""
    lost: list[dict[str, Any]] = []
    for row in newest_rows(folder.out, durable_bytes):
        images = [*row["images"], *row["drafts"]]
        missing = [
            image for image in images if _sha256(folder.out / image["path"]) != image["sha256"]
        ]
        parts = _parts(folder, row, missing)
        if parts is None:
            lost.append(_lost(row, missing))
            yield f"{row['id']}: its image did not survive; the call is sent, and paid for, again"
            continue
        if len(missing) == len(images) and row["status"] in {Status.SUCCEEDED, Status.BLOCKED}:
            folder.retire(row["id"])  # otherwise the killed run had done this
        for image, part in zip(missing, parts, strict=True):
            # A hash may match from the page cache alone: bytes must be durable before their name.
            folder.sync([os.path.relpath(part, folder.out)])
            folder.publish(str(part), image["path"])
        if missing:
            yield f"{row['id']}: its image had arrived and is published now"
        for image in images:
            folder.sync([image["path"]])
            folder.mark_moved(image["path"])  # the killed run may have moved it
    for row in lost:
        rows.append(row)


def _parts(
    folder: OutputFolder, row: dict[str, Any], missing: list[dict[str, Any]]
) -> list[Path] | None:
    """Return the staged file of each missing image; None if one of them did not survive."""
    if not missing:
        return []
    staged: dict[str | None, list[Path]] = {}
    for part in folder.staged_files(row["id"], row.get("attempts", 0)):
        staged.setdefault(_sha256(part), []).append(part)
    found = [same.pop(0) for image in missing if (same := staged.get(image["sha256"]))]
    return found if len(found) == len(missing) else None


def _lost(row: dict[str, Any], missing: list[dict[str, Any]]) -> dict[str, Any]:
    names = ", ".join(image["path"] for image in missing)
    error = RowError(None, "LOST", None, f"did not survive a crash: {names}")
    void = {"images": [], "drafts": [], "cost_usd": 0.0, "error": error}
    return row | void | {"status": Status.LOST.value}


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
