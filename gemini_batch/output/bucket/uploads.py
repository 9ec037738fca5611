"""Uploads of rows with their images, from the scratch folder."""

from collections.abc import Iterator
from contextlib import suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path

from gemini_batch.errors import StorageError, describe_os_error
from gemini_batch.output.bucket import pictures
from gemini_batch.output.bucket.kept import Kept
from gemini_batch.output.bucket.opened import OpenBucket
from gemini_batch.output.bucket.rows_ahead import RowAhead, RowsAhead
from gemini_batch.output.files import open_to_read
from gemini_batch.store.base import ImageStore


def with_notes(row: RowAhead) -> Iterator[tuple[Kept, dict[str, str]]]:
    """Yield the files of a row with their notes; the last one has the row."""
    for number, file in enumerate(row.files, start=1):
        is_last = number == len(row.files)
        notes = {"sha256": file.sha256}
        yield file, pictures.notes_of(row.row, row.line, file.sha256) if is_last else notes


def upload_file(store: ImageStore, out: Path, file: Kept, notes: dict[str, str]) -> bool:
    """Upload a file; return False if it is neither here nor there.

    Raises:
        StorageError: The store can't be used, or the file can't be read.
    """
    try:
        with open_to_read(out / file.path) as opened:
            # Not read: each thread would keep the memory of the largest image that it had.
            data = mmap(opened.fileno(), 0, access=ACCESS_READ)
    except FileNotFoundError:
        return pictures.has(store, file.path, file.sha256)
    except (OSError, ValueError) as error:  # an empty file can't be mapped
        reason = describe_os_error(error) if isinstance(error, OSError) else str(error)
        raise StorageError(f"{out / file.path}: can't be uploaded: {reason}") from error
    try:
        pictures.upload(store, file.path, data, notes)
    finally:
        with suppress(BufferError):  # a request that failed may hold it for a moment
            data.close()
    return True


def missing_text(out: Path, file: Kept) -> str:
    """Return a sentence about a file that could not be uploaded."""
    return (
        f"{out / file.path}: is gone, and was not uploaded; its row is, and verify lists it as "
        "missing"
    )


def upload_rest(bucket: OpenBucket, out: Path) -> Iterator[str]:
    """Upload the rows that the bucket does not have yet, one after the other; yield repairs.

    Raises:
        StorageError: The store can't be used, or a file can't be read.
        OSError: The rows can't be read.
    """
    ahead = RowsAhead(out, bucket.mirrored_bytes)
    while rows := ahead.take():
        for row in rows:
            for file, notes in with_notes(row):
                bucket.lease.check()
                if not upload_file(bucket.store, out, file, notes):
                    yield missing_text(out, file)
        bucket.add_segment(b"".join(row.line for row in rows))
