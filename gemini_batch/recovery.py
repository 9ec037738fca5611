"""What a killed run, or a power cut, left half done is brought to its end before anything is sent.

A row is the commit point: each row that stands has its image, or is voided. Only rows after the durable offset are looked at: all before it
were seen on the disk by the run that wrote them.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gemini_batch import inflight
from gemini_batch.errors import StorageError
from gemini_batch.records import Status
from gemini_batch.results import FILE_NAME, ResultsLog, parse_row, read_rows
from gemini_batch.store import Store


def recover(store: Store) -> list[str]:
    """Repair the output folder; return one sentence for each thing that was put right.

    Must be called with the folder locked.

    Raises:
        StorageError: A row that was durable is damaged; nothing was changed.
        OSError: The disk would not.
    """
    path = store.out / FILE_NAME
    if not path.exists():
        store.clear_incoming()
        return []
    durable_bytes = min(store.durable_bytes(), path.stat().st_size)
    done = list(_cut_tail(store, path, durable_bytes))
    log = ResultsLog(store.out)
    try:
        done += _finish_rows(store, log, durable_bytes)
        left = store.clear_incoming()
        if left:
            done.append(f"{left} half-received images of a killed run were removed")
        log.sync()
        store.note_durable(log.end_bytes)
    finally:
        log.close()
    return done


def possibly_billed(store: Store) -> dict[str, str]:
    """Return the calls (id → request_sha256) that an earlier run sent and that have no row since: they may have been billed."""
    sent = inflight.unanswered(store.private)
    if sent:
        for row in read_rows(store.out):
            # A row of this id that is older than the sending is of another request, or one to be tried again.
            if sent.get(row["id"]) == row["request_sha256"] and row["status"] not in {Status.FAILED, Status.LOST}:
                del sent[row["id"]]
    return sent


def _cut_tail(store: Store, path: Path, durable_bytes: int) -> Iterator[str]:
    """Cut off what is no row behind the durable offset, and keep it beside."""
    with path.open("r+b") as file:
        file.seek(durable_bytes)
        end = durable_bytes
        for line in file:
            if not line.endswith(b"\n") or parse_row(line) is None:
                break
            end += len(line)
        size = os.fstat(file.fileno()).st_size
        if end == size:
            return
        file.seek(end)
        kept = store.keep_beside("torn-results", file.read())
        file.truncate(end)
    yield f"{path}: the last {size - end:,} bytes were no whole row and are now in {kept}"


def _finish_rows(store: Store, log: ResultsLog, durable_bytes: int) -> Iterator[str]:
    newest: dict[str, dict[str, Any]] = {row["id"]: row for row in read_rows(store.out, durable_bytes)}
    for row in newest.values():
        images = [*row.get("images", ()), *row.get("drafts", ())]
        missing = [image for image in images if _sha256(store.out / image["path"]) != image["sha256"]]
        parts = {_sha256(part): part for part in store.parts_of(row["id"], row.get("attempts", 0))} if missing else {}
        if not missing:
            pass
        elif all(image["sha256"] in parts for image in missing):
            if len(missing) == len(images):  # else the earlier image was moved away before the kill
                store.retire(row["id"])
            for image in missing:
                # A hash may agree from the page cache alone: the bytes must be on the disk before the name is.
                _fsync(parts[image["sha256"]])
                store.place(str(parts[image["sha256"]]), image["path"])
            yield f"{row['id']}: its image had arrived and now has its name"
        else:
            log.append(_lost(row, missing))
            yield f"{row['id']}: its image did not survive; the call will be sent again"
        store.sync([image["path"] for image in images if (store.out / image["path"]).exists()])


def _lost(row: dict[str, Any], missing: list[dict[str, Any]]) -> dict[str, Any]:
    names = ", ".join(image["path"] for image in missing)
    error = {"http_status": None, "status": "LOST", "reason": None, "message": f"did not survive a crash: {names}"}
    return {**row, "status": Status.LOST.value, "images": [], "drafts": [], "cost_usd": 0.0, "error": error}


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
