"""Sealing: rows that only notes of images have get a segment, and no one writes after that."""

from datetime import timedelta

from gemini_batch.output.bucket import layout, segments
from gemini_batch.output.bucket.lease import Held, Lease
from gemini_batch.output.bucket.pictures import KnownRows, rows_without_segment
from gemini_batch.output.bucket.scratch import known_rows
from gemini_batch.output.bucket.segments import Listing
from gemini_batch.store.base import ImageStore

# Segments are written at the same time as images: those older than the last segment by this are in
# one of them.
_OVERLAP = timedelta(minutes=5)


def unwritten_rows(store: ImageStore, found: Listing, known: KnownRows) -> bytes:
    """Return the rows in notes of images that no segment has, and add them to the known ones."""
    last = max((each.modified_at for each in found.segments), default=None)
    since = last - _OVERLAP if last else None
    return b"".join(known_rows(rows_without_segment(store, known, since), known))


def seal(store: ImageStore, lease: Lease, before: Held | None, generation: str) -> None:
    """Seal what a worker of an older generation wrote, whose lease is held.

    Raises:
        StorageError: The bucket can't be used, or another run has taken over.
    """
    if before is not None and not before.is_whole:
        found, known = segments.listing(store), KnownRows()
        for _ in known_rows(segments.rows_of(store, found), known):
            pass
        if rows := unwritten_rows(store, found, known):
            lease.check()
            store.create(layout.segment(lease.epoch, 1), rows)
    lease.seal(generation)
