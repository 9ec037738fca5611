"""What a killed run, or a power cut, left half done is brought to its end before anything is sent.

A row is the commit point: each row that stands has its images, or is voided. Only rows after the durable offset are looked at: all before it
were seen on the disk by the run that wrote them, and what a person did to their images since is not ours to mend.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gemini_batch.output import OutputFolder, inflight
from gemini_batch.output.paths import RESULTS, TORN_RESULTS
from gemini_batch.output.rows import ResultsFile, newest_rows, parse_row, read_rows
from gemini_batch.records import Status

_BLOCK_BYTES = 1 << 16


def recover(store: OutputFolder) -> list[str]:
    """Repair the output folder; return one sentence for each thing that was put right.

    Must be called with the folder locked. Where nothing is to be repaired, it changes nothing.

    Raises:
        StorageError: A row that was durable is damaged; nothing was changed.
        OSError: The disk would not.
    """
    path = store.out / RESULTS
    if path.exists():
        return list(_repair(store, path))
    noted = store.durable_bytes()
    gone = (
        [
            f"{path}: is gone, and had {noted:,} bytes: all of its calls are sent, and paid for, again"
        ]
        if noted
        else []
    )
    if noted != 0:
        store.note_durable(0)  # from here on a missing note means that somebody removed it
    return gone + list(_clear_incoming(store))


def possibly_billed(store: OutputFolder) -> dict[str, str]:
    """Return the calls (id → request_sha256) that an earlier run sent and that have no row since: they may have been billed.

    Raises:
        StorageError: A row is damaged.
        OSError: The disk would not.
    """
    sent, path = inflight.unacknowledged(store.private), store.out / RESULTS
    if sent.calls and path.exists():
        for row in read_rows(store.out, _line_start(path, sent.rows_bytes)):
            if row["status"] != Status.LOST:
                sent.calls.pop(row["id"], None)
    return sent.calls


def _repair(store: OutputFolder, path: Path) -> Iterator[str]:
    noted, size = store.durable_bytes(), path.stat().st_size
    # Without a note somebody removed it, and with it what was half done: the rows are believed as they stand.
    durable_bytes = _line_start(path, size if noted is None else noted)
    if durable_bytes == noted == size:
        if store.has_staged_files():
            yield from _clear_incoming(
                store
            )  # of which no row knows: all rows were seen with their images
        return
    for _ in read_rows(store.out, 0, durable_bytes):
        pass  # before anything is changed: a damaged row among those that were durable is refused here
    if noted is not None and size < noted:
        # It may be meant, as when a damaged row was taken out; but nobody is to pay again for a mishap without a word.
        yield (
            f"{path}: has {size:,} bytes, and had {noted:,} when the last run wrote it: calls whose rows are gone are sent, and paid for, again"
        )
    yield from _mend_tail(store, path, durable_bytes)
    log = ResultsFile(store.out)
    try:
        yield from _finish_rows(store, log, durable_bytes)
        log.sync()
        store.sync(store.moved())
        store.note_durable(log.end_bytes)
    finally:
        log.close()
    yield from _clear_incoming(store)


def _clear_incoming(store: OutputFolder) -> Iterator[str]:
    unanswered = possibly_billed(store) if store.has_journaled_answers() else {}
    kept = {kept.name for call_id in unanswered if (kept := store.journaled_answer(call_id))}
    if parts := store.remove_staged_files(kept):
        were = (
            "1 incoming image that no row names was"
            if parts == 1
            else f"{parts:,} incoming images that no row names were"
        )
        yield f"{store.out}: {were} removed"


def _line_start(path: Path, place: int) -> int:
    """Return where the line begins that `place` is in: an edited file may have other lines than the note was made of."""
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


def _mend_tail(store: OutputFolder, path: Path, durable_bytes: int) -> Iterator[str]:
    """Keep the file's end beside from the first line on that is no row, and leave only its rows in the file."""
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
        kept = store.set_aside(TORN_RESULTS, tail)
        # First the rows go to their new place, then the rest is cut off: killed in between, some are there twice, but none is lost.
        file.seek(end)
        file.writelines(line + b"\n" for line in tail.split(b"\n") if parse_row(line) is not None)
        file.flush()
        file.truncate()
    yield f"{path}: its end was damaged and is mended; as they were, the last {len(tail):,} bytes are in {kept}"


def _finish_rows(store: OutputFolder, log: ResultsFile, durable_bytes: int) -> Iterator[str]:
    """Give each row after the durable offset its images, or void it."""
    lost: list[dict[str, Any]] = []
    for row in newest_rows(store.out, durable_bytes):
        images = [*row["images"], *row["drafts"]]
        missing = [
            image for image in images if _sha256(store.out / image["path"]) != image["sha256"]
        ]
        parts = _parts(store, row, missing)
        if parts is None:
            lost.append(_lost(row, missing))
            yield f"{row['id']}: its image did not survive; the call will be sent, and paid for, again"
            continue
        if len(missing) == len(images) and row["status"] in {Status.SUCCEEDED, Status.BLOCKED}:
            store.retire(row["id"])  # else the kill came later, and this was done
        for image, part in zip(missing, parts, strict=True):
            # A hash may agree from the page cache alone: the bytes must be on the disk before the name is.
            store.sync([os.path.relpath(part, store.out)])
            store.publish(str(part), image["path"])
        if missing:
            yield f"{row['id']}: its image had arrived and now has its name"
        for image in images:
            store.sync([image["path"]])
            store.mark_moved(image["path"])  # by the killed run, perhaps
    for row in lost:
        log.append(row)


def _parts(
    store: OutputFolder, row: dict[str, Any], missing: list[dict[str, Any]]
) -> list[Path] | None:
    """Return the incoming part of each missing image; None when one of them did not survive."""
    incoming = (
        [(_sha256(part), part) for part in store.staged_files(row["id"], row.get("attempts", 0))]
        if missing
        else []
    )
    found: list[Path] = []
    for image in missing:
        part = next(
            (part for sha256, part in incoming if sha256 == image["sha256"] and part not in found),
            None,
        )
        if part is None:
            return None
        found.append(part)
    return found


def _lost(row: dict[str, Any], missing: list[dict[str, Any]]) -> dict[str, Any]:
    names = ", ".join(image["path"] for image in missing)
    error = {
        "http_status": None,
        "status": "LOST",
        "reason": None,
        "message": f"did not survive a crash: {names}",
    }
    return {
        **row,
        "status": Status.LOST.value,
        "images": [],
        "drafts": [],
        "cost_usd": 0.0,
        "error": error,
    }


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
