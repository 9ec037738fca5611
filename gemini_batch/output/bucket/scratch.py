"""The scratch folder of a bucket: what it notes, and how rows of the bucket come into it."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson

from gemini_batch.clock import boot_id
from gemini_batch.errors import ConfigError
from gemini_batch.output.bucket import layout
from gemini_batch.output.bucket.pictures import KnownRows
from gemini_batch.output.files import new_file, open_to_read, read_at_most, write_atomically
from gemini_batch.output.folder import OutputFolder
from gemini_batch.output.paths import (
    BUCKET,
    DURABLE,
    MARKS,
    PRIVATE,
    RESTORED_RESULTS,
    RESULTS,
    RUNS,
    SUMMARY,
)
from gemini_batch.output.row_lines import parse_row
from gemini_batch.output.rows import placed_rows
from gemini_batch.store.base import ImageStore, NoObjectError

_MAX_NOTE_BYTES = 1 << 20
# Small files that are in the bucket as they are in a folder.
RECORDS = (SUMMARY, RUNS)


@dataclass(frozen=True, slots=True)
class ScratchNote:
    """The note of a scratch folder.

    Attributes:
        url: Its bucket.
        id: Its own, random.
        epoch: Of the lease of the last run here.
        start_bytes: The first bytes of `results.jsonl` that were in the bucket at its start.
        seen: The segments whose rows were here then: the last number, by epoch.
    """

    url: str
    id: str
    epoch: int = 0
    start_bytes: int = 0
    seen: dict[int, int] = field(default_factory=dict)

    @property
    def holder(self) -> str:
        """The holder of a lease: this folder, as long as its machine runs."""
        return f"{self.id} {boot_id()}"


def read_note(folder: OutputFolder, url: str) -> ScratchNote:
    """Return the note of a scratch folder; a new one for an empty folder.

    Raises:
        ConfigError: It belongs to another bucket, or is an output folder of its own.
        OSError: It can't be read.
    """
    found: Any = None
    with suppress(FileNotFoundError, orjson.JSONDecodeError):
        found = orjson.loads(read_at_most(folder.private / BUCKET, _MAX_NOTE_BYTES))
    match found:
        case {"url": str(own), "id": str(), "epoch": int(), "start_bytes": int(), "seen": dict()}:
            if own != url:
                raise ConfigError(
                    f"{folder.out}: is the scratch folder of {own}; name another one with --scratch"
                )
            seen = {int(epoch): int(number) for epoch, number in found["seen"].items()}
            return ScratchNote(**(found | {"seen": seen}))
    if (folder.out / RESULTS).exists():
        raise ConfigError(
            f"{folder.out}: has the results of a run without a bucket; name an empty folder with "
            "--scratch"
        )
    return ScratchNote(url, uuid4().hex)


def write_note(folder: OutputFolder, note: ScratchNote) -> None:
    """Write the note durably; raise OSError if the disk refuses."""
    data = orjson.dumps(asdict(note), option=orjson.OPT_NON_STR_KEYS)
    write_atomically(folder.private / BUCKET, data, durable=True, mode=0o600)
    folder.sync([PRIVATE])


def known_rows(blocks: Iterable[bytes], known: KnownRows) -> Iterator[bytes]:
    """Yield blocks of rows, and add these to the known ones."""
    for block in blocks:
        for line in block.splitlines():
            if (row := parse_row(line)) is not None:
                known.add(row)
        yield block


def rest_of(out: Path, known: KnownRows) -> Iterator[bytes]:
    """Yield the rows of a folder that are not known, as lines."""
    with suppress(FileNotFoundError), open_to_read(out / RESULTS) as file:
        for place, row in placed_rows(out):
            if not known.has(row):
                file.seek(place)
                yield file.readline()


def replace_rows(folder: OutputFolder, blocks: Iterable[bytes]) -> None:
    """Replace `results.jsonl` durably; none of the new rows has to have its image here.

    Raises:
        OSError: The disk refused; the earlier rows are unchanged.
    """
    via = folder.private / RESTORED_RESULTS
    with new_file(folder.out / RESULTS, durable=True, via=via) as file:
        file.writelines(blocks)
        # Before the name: recovery looks for the images of rows after this note.
        folder.note_durable(file.tell())
        folder.sync([f"{PRIVATE}/{DURABLE}"])
    folder.sync(["."])


def fetch_records(store: ImageStore, out: Path, names: tuple[str, ...] = RECORDS) -> None:
    """Write the small files of a bucket into a folder; raises as the store, and OSError."""
    for name in names:
        with suppress(NoObjectError):
            data = store.get(name).data
            write_atomically(out / name, data, durable=False)


def fetch_marks(store: ImageStore, out: Path) -> None:
    """Write the marks of a bucket into a folder, the newest last; raises as above."""
    marks = [store.get(entry.name).data for entry in store.list(layout.MARKS)]
    if marks:
        write_atomically(out / MARKS, b"".join(marks), durable=False)
