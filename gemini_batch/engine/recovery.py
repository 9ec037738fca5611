"""Recovery: finish what a killed run, or a power cut, left half done.

A row is the commit point: each row that is valid has its images, or is voided. Only rows after the
durable offset are checked. All before it were durable with their images; what the user did to these
images since is not undone.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from gemini_batch.hashmap import fingerprint
from gemini_batch.output import OutputFolder, inflight
from gemini_batch.output.files import WrongKindError, lines_of, open_regular, open_to_read
from gemini_batch.output.paths import RESULTS, SUMMARY, TORN_RESULTS
from gemini_batch.output.results_file import ResultsFile
from gemini_batch.output.row_lines import parse_row
from gemini_batch.output.rows import newest_rows, read_rows
from gemini_batch.records import Status

_BLOCK_BYTES = 1 << 16
PAID_AGAIN = "sent, and paid for, again"
"""The end of each sentence of `recover` about a call that costs its price once more."""


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

    Rows that are gone are not missed here: see `lost_rows`.

    Raises:
        StorageError: A durable row is damaged; nothing was changed.
        OSError: The disk refused, or the file of rows is of another kind.
    """
    path = folder.out / RESULTS
    if os.path.lexists(path) or folder.rescued_rows():
        return list(_repair(folder, path))
    if folder.durable_bytes() is None:
        folder.note_durable(0)  # from now on a missing note means that it was removed
    return list(_clear_staged(folder))


def lost_rows(folder: OutputFolder, *, is_workers: bool = False) -> str:
    """Return a sentence about rows that the folder once had, after `recover`; "" if none is gone.

    The summary of a worker counts the rows of other folders, too, and says nothing of its own.

    Raises:
        OSError: The disk refused.
    """
    noted, path = folder.durable_bytes() or 0, folder.out / RESULTS
    size = path.stat().st_size if path.exists() else None
    if not noted:
        answered = 0 if size or is_workers else folder.summarized_answers()
        found = "is gone" if size is None else "is empty"
        return f"{path}: {found}, and {SUMMARY} counts {_calls(answered)}" if answered else ""
    if size is None:
        return f"{path}: is gone, and had {noted:,} bytes"
    lost = f"{path}: has {size:,} bytes, and had {noted:,} when the last run wrote it"
    return lost if size < noted else ""


def _calls(number: int) -> str:
    return "1 call with an answer" if number == 1 else f"{number:,} calls with an answer"


def accept_loss(folder: OutputFolder) -> None:
    """Take the rows that are there for all that the folder has; raise OSError if that fails."""
    path = folder.out / RESULTS
    size = path.stat().st_size if path.exists() else 0
    folder.note_durable(size)
    folder.remove_rescued_rows()
    if not size:
        folder.remove_summary()


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
    # A link or a pipe is refused.
    os.close(open_regular(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666))
    noted, size = folder.durable_bytes(), path.stat().st_size
    # A missing note was removed, and the staged files with it: the rows are taken as they are.
    durable_bytes = _line_start(path, size if noted is None else noted)
    if durable_bytes == noted == size and not folder.rescued_rows():
        if folder.has_staged_files():  # of no row: all rows were seen with their images
            yield from _clear_staged(folder)
        return
    for _ in read_rows(folder.out, 0, durable_bytes, brief=True):
        pass  # a damaged row among the durable ones is refused here, before any change
    yield from _repair_tail(folder, path, durable_bytes)
    with closing(ResultsFile(folder.out)) as rows:
        yield from _add_rescued(folder, rows)
        _finish_pruning(folder, durable_bytes)
        yield from _finish_rows(folder, rows, durable_bytes)
        rows.sync()
        folder.sync(folder.moved())
        # Until the user decides, the note keeps what the file once had.
        folder.note_durable(max(rows.end_bytes, noted or 0))
    if not lost_rows(folder):  # else the file may be put back, without them
        folder.remove_rescued_rows()
    yield from _clear_staged(folder)


def _add_rescued(folder: OutputFolder, rows: ResultsFile) -> Iterator[str]:
    """Append the rows that a run kept when its file of rows was replaced."""
    for file in folder.rescued_rows():
        missing = {_key(row): None for row in _rows_in(file)}
        for row in read_rows(folder.out, 0):
            missing.pop(_key(row), None)
        for row in _rows_in(file):
            if _key(row) in missing:
                rows.append(row)
        if missing:
            added = "1 row" if len(missing) == 1 else f"{len(missing):,} rows"
            yield f"{rows.path}: {added} added, of a run whose file of rows had been replaced"


def _key(row: dict[str, Any]) -> int:
    return fingerprint((row["id"], row["request_sha256"], row["finished_at"], row["status"]))


def _rows_in(path: Path) -> Iterator[dict[str, Any]]:
    with open_to_read(path) as file:
        yield from filter(None, map(parse_row, lines_of(file)))


def _clear_staged(folder: OutputFolder) -> Iterator[str]:
    for path in folder.set_tried_aside():
        yield (
            f"{path}: an answer that had arrived ended two runs; it is kept there, and the call "
            f"is {PAID_AGAIN}"
        )
    journaled = filter(None, map(folder.journaled_answer, possibly_billed(folder)))
    if parts := folder.remove_staged_files(journaled):
        files = "1 staged image" if parts == 1 else f"{parts:,} staged images"
        yield f"{folder.out}: {files} without a row removed"


def _line_start(path: Path, place: int) -> int:
    """Return where the line begins that holds byte `place`: the file may have been edited."""
    with open_to_read(path) as file:
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
    """Copy the file's end from the first line that is not a row; leave only rows in the file."""
    with os.fdopen(open_regular(path, os.O_RDWR | os.O_NOFOLLOW), "r+b") as file:
        file.seek(durable_bytes)
        end = durable_bytes
        for line in lines_of(file):
            if not line.endswith(b"\n") or (parse_row(line) is None and line.strip()):
                break
            end += len(line)
        size_bytes = os.fstat(file.fileno()).st_size - end
        if not size_bytes:
            return
        file.seek(end)
        blocks = iter(partial(file.read, _BLOCK_BYTES), b"")
        kept = folder.set_aside(TORN_RESULTS, blocks)
        # The rows are written before the rest is cut off: a kill in between leaves some twice, and
        # loses none.
        file.seek(end)
        with open_to_read(kept) as tail:
            for line in lines_of(tail):
                if parse_row(line) is not None:
                    file.write(line.removesuffix(b"\n") + b"\n")
        file.flush()
        file.truncate()
    repaired = f"{path}: its end was damaged and is repaired"
    yield f"{repaired}; the last {size_bytes:,} bytes are in {kept}"


def _finish_rows(folder: OutputFolder, rows: ResultsFile, durable_bytes: int) -> Iterator[str]:
    """Publish the images of each row after the durable offset, or void the row."""
    lost: list[dict[str, Any]] = []
    late = (row for row in read_rows(folder.out, durable_bytes) if row["status"] == Status.LATE)
    for row in chain(newest_rows(folder.out, durable_bytes), late):
        images = [*row["images"], *row["drafts"]]
        missing = [
            image for image in images if _sha256(folder.out / image["path"]) != image["sha256"]
        ]
        parts = _parts(folder, row, missing)
        if parts is None and row["status"] == Status.LATE:
            yield f"{row['id']}: the image of a late answer did not survive; the call has another"
            continue
        if parts is None:
            lost.append(_lost(row, missing))
            if row["status"] != Status.FAILED:
                yield f"{row['id']}: its image did not survive; the call is {PAID_AGAIN}"
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


def _finish_pruning(folder: OutputFolder, durable_bytes: int) -> None:
    """Move the images of rows that were pruned after the durable offset."""
    for row in read_rows(folder.out, durable_bytes):
        if row["status"] == Status.PRUNED:
            folder.move_aside(row)


def _parts(
    folder: OutputFolder, row: dict[str, Any], missing: list[dict[str, Any]]
) -> list[Path] | None:
    """Return the staged file of each missing image; None if one of them did not survive."""
    if not missing:
        return []
    staged: dict[str | None, list[Path]] = {}
    if row.get("batch"):
        files = folder.staged_lines()
    else:
        files = folder.staged_files(row["id"], row.get("attempts", 0))
    for part in files:
        staged.setdefault(_sha256(part), []).append(part)
    found = [same.pop(0) for image in missing if (same := staged.get(image["sha256"]))]
    return found if len(found) == len(missing) else None


def _lost(row: dict[str, Any], missing: list[dict[str, Any]]) -> dict[str, Any]:
    void = {"images": [], "drafts": [], "cost_usd": 0.0}
    if row["status"] == Status.FAILED:  # drafts; its image is still to be fetched
        return row | void
    from gemini_batch.records import RowError

    names = ", ".join(image["path"] for image in missing)
    error = RowError(None, "LOST", None, f"did not survive a crash: {names}")
    return row | void | {"error": error, "status": Status.LOST.value}


def _sha256(path: Path) -> str | None:
    try:
        with open_to_read(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, WrongKindError):
        return None
