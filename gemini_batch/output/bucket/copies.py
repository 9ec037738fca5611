"""Copies of a bucket's rows in a folder, in which readers of an output folder find them."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from gemini_batch.output.bucket import segments
from gemini_batch.output.bucket.generations import Begun, store_of
from gemini_batch.output.bucket.lease import read
from gemini_batch.output.bucket.pictures import KnownRows, rows_without_segment
from gemini_batch.output.bucket.scratch import fetch_marks, fetch_records, known_rows
from gemini_batch.output.files import new_file
from gemini_batch.output.paths import RESULTS
from gemini_batch.output.shards import Part
from gemini_batch.store.base import ImageStore

# Segments of a part are read by sixteen threads.
_PARTS_AT_ONCE = 4


def copy_parts(store: ImageStore, found: Begun, *, is_for_people: bool) -> bool:
    """Copy the rows of all parts to `found.out`, and the marks; return whether there are any.

    `is_for_people` copies summaries as well, and the last rows of a run that was killed, which only
    notes of images have.

    Raises:
        StorageError: The bucket can't be used, or is damaged.
        OSError: The folder can't be written.
    """
    copy = partial(_copy, store, is_for_people=is_for_people)
    with ThreadPoolExecutor(_PARTS_AT_ONCE) as threads:
        has_rows = any([*threads.map(copy, found.parts)])
    fetch_marks(store, found.out)
    return has_rows


def copy_others(store: ImageStore, found: Begun, own: Part, folder: Path) -> None:
    """Copy the rows of all parts but one, which is the folder itself; raise as `copy_parts`."""
    (found.out / own.prefix).parent.mkdir(parents=True)
    (found.out / own.prefix).symlink_to(folder.absolute())
    others: Iterable[Part] = (part for part in found.parts if part.prefix != own.prefix)
    with ThreadPoolExecutor(_PARTS_AT_ONCE) as threads:
        for _ in threads.map(partial(_copy, store, is_for_people=False), others):
            pass
    fetch_marks(store, found.out)


def _copy(store: ImageStore, part: Part, *, is_for_people: bool) -> bool:
    """Copy one part; return whether a run has written there."""
    own = store_of(store, part)
    found = segments.listing(own)
    held = read(own) if is_for_people else None
    part.path.mkdir(parents=True, exist_ok=True)
    if not (found.last_epoch or held):
        return False
    known = KnownRows()
    with new_file(part.path / RESULTS, durable=False) as file:
        blocks = segments.rows_of(own, found)
        file.writelines(known_rows(blocks, known) if is_for_people else blocks)
        if is_for_people and (held is None or not held[0].is_whole):
            last = max((each.modified_at for each in found.segments), default=None)
            file.writelines(rows_without_segment(own, known, last))
    if is_for_people:
        fetch_records(own, part.path)
    return True
