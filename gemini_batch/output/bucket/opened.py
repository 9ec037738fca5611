"""`OpenBucket`: a bucket that this run may write to, and the scratch folder that it mirrors."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from gemini_batch.errors import StorageError
from gemini_batch.output.bucket import layout, segments
from gemini_batch.output.bucket.acquiring import acquire, probe
from gemini_batch.output.bucket.lease import read
from gemini_batch.output.bucket.pictures import KnownRows
from gemini_batch.output.bucket.scratch import (
    RECORDS,
    fetch_marks,
    fetch_records,
    known_rows,
    read_note,
    replace_rows,
    rest_of,
    write_note,
)
from gemini_batch.output.bucket.sealing import unwritten_rows
from gemini_batch.output.files import open_to_read
from gemini_batch.output.folder import OutputFolder
from gemini_batch.output.paths import RESULTS, SUMMARY
from gemini_batch.store.base import ConflictError, ImageStore

# So many segments take about a second to read; a run that leaves more writes a snapshot.
SNAPSHOT_AFTER = 50
_BLOCK_BYTES = 1 << 20


class OpenBucket:
    """A bucket under lease, for a locked scratch folder. All methods block.

    Attributes:
        store: The store of the bucket; that of a worker begins at its own folder there.
        root: The store of the whole bucket, with the pictures of all workers.
        lease: Held until `close`.
        before: The lease before it; None for none.
        is_whole: All rows of the folder are in segments: the next run has nothing to look for.
        mirrored_bytes: The first bytes of `results.jsonl` that the bucket has, with their images.
    """

    def __init__(
        self,
        store: ImageStore,
        lease_store: ImageStore,
        folder: OutputFolder,
        *,
        say: Callable[[str], None] = lambda _text: None,
        root: ImageStore | None = None,
        takes_sealed: bool = False,
    ) -> None:
        """Take the lease, waiting for that of a run that was killed.

        Raises:
            SealedError: Newer workers have taken over, and `takes_sealed` is False.
            FolderBusyError: Another run holds it.
            ConfigError: The folder is not for this bucket.
            StorageError: The bucket can't be used, or ignores conditional writes.
            OSError: The folder can't be read.
        """
        self.store = store
        self.root = root or store
        self.is_whole = False
        self._folder = folder
        self._note = read_note(folder, store.shown)
        write_note(folder, self._note)  # its id, before a lease has it
        probe(lease_store)
        least = segments.listing(store).last_epoch if read(lease_store) is None else 0
        self.lease, self.before = acquire(
            lease_store, self._note.holder, least, say=say, takes_sealed=takes_sealed
        )
        self.lease.start()
        try:
            self._listing = segments.listing(store)
        except BaseException:
            self.close()
            raise
        own = self._listing.of(self._note.epoch)
        self.mirrored_bytes = self._note.start_bytes + sum(each.size_bytes for each in own)
        self._number = 0
        self._added_bytes = 0  # of the segment that was written while rows were restored

    @property
    def is_behind(self) -> bool:
        """True if rows are in the folder that the bucket does not have."""
        try:
            return (self._folder.out / RESULTS).stat().st_size > self.mirrored_bytes
        except FileNotFoundError:
            return False

    def keep_mirrored(self) -> None:
        """Note for recovery that rows in the bucket need no image here; raise OSError."""
        if self._has_mirrored():
            noted = self._folder.durable_bytes() or 0
            self._folder.note_durable(max(self.mirrored_bytes, noted))

    def restore(self) -> bool:
        """Bring rows of the bucket into the folder, after recovery; return whether there were any.

        Raises:
            StorageError: The bucket can't be used, or is damaged.
            OSError: The disk refused.
        """
        is_restored = not self._is_current()
        if is_restored:
            replace_rows(self._folder, self._all_rows())
            fetch_records(self.store, self._folder.out)
        fetch_marks(self.store, self._folder.out)
        self._note = replace(
            self._note,
            epoch=self.lease.epoch,
            start_bytes=self.mirrored_bytes - self._added_bytes,
            seen=self._listing.numbers(),
        )
        write_note(self._folder, self._note)
        return is_restored

    def add_segment(self, rows: bytes) -> None:
        """Write the next rows of `results.jsonl`, whose images are there; raises as the store."""
        name = layout.segment(self.lease.epoch, self._number + 1)
        try:
            self.store.create(name, rows)
        except ConflictError as error:  # of a request whose answer was lost
            if self.store.get(name).data != rows:
                raise StorageError(f"{self.store.shown}/{name}: was written by another") from error
        self._number += 1
        self.mirrored_bytes += len(rows)

    def announce(self) -> None:
        """Let readers of the bucket know of a run that begins; what fails is tried at its end."""
        with suppress(StorageError, OSError):
            self.lease.check()
            self.store.put(SUMMARY, (self._folder.out / SUMMARY).read_bytes())

    def end(self) -> str:
        """Write what a run leaves, once all its rows are in segments; return what failed.

        That are the summary, the list of runs, and a snapshot if there are many segments.
        """
        if self.is_behind:
            return ""
        self.is_whole = True
        try:
            self._finish()
        except (StorageError, OSError) as error:
            return f"the summary is not in the bucket: {error}"
        return ""

    def _finish(self) -> None:
        self.lease.check()
        covered = segments.covered_by_snapshot(self.store, self._listing)
        if len(self._listing.besides(covered)) + self._number > SNAPSHOT_AFTER:
            self._write_snapshot()
        for name in RECORDS:
            with suppress(FileNotFoundError):
                self.store.put(name, (self._folder.out / name).read_bytes())

    def close(self) -> None:
        """Give the lease back."""
        self.lease.release(is_whole=self.is_whole)

    def _is_current(self) -> bool:
        """Return whether the folder has all rows that the bucket has."""
        note, before, found = self._note, self.before, self._listing
        if before is None and not found.segments:
            return True
        others = [each for each in found.besides(note.seen) if each.epoch != note.epoch]
        is_last = before is not None and (before.epoch == note.epoch or before.is_whole)
        return not others and note.epoch > 0 and is_last and self._has_mirrored()

    def _has_mirrored(self) -> bool:
        """Return whether the rows that this folder mirrored are still here."""
        if not self.mirrored_bytes:
            return True
        try:
            with open_to_read(self._folder.out / RESULTS) as file:
                file.seek(self.mirrored_bytes - 1)
                return file.read(1) == b"\n"
        except FileNotFoundError:
            return False

    def _all_rows(self) -> Iterator[bytes]:
        """Yield the rows of the bucket, those in notes of images, and those that are only here."""
        known, self.mirrored_bytes = KnownRows(), 0
        for block in known_rows(segments.rows_of(self.store, self._listing), known):
            self.mirrored_bytes += len(block)
            yield block
        is_whole = self.before is not None and self.before.is_whole
        if not is_whole and (found := unwritten_rows(self.store, self._listing, known)):
            self.lease.check()
            self.add_segment(found)
            self._added_bytes = len(found)
            yield found
        yield from rest_of(self._folder.out, known)

    def _write_snapshot(self) -> None:
        covered = self._listing.numbers() | {self.lease.epoch: self._number}
        epoch = self.lease.epoch
        with tempfile.NamedTemporaryFile(dir=self._folder.private) as packed:
            packed.writelines(segments.packed(self._blocks()))
            packed.flush()
            self.store.put(layout.snapshot(epoch), Path(packed.name))
        self.lease.check()
        self.store.put(layout.snapshot_index(epoch), segments.snapshot_index(covered))

    def _blocks(self) -> Iterator[bytes]:
        """Yield the rows of the folder that the bucket has."""
        left = self.mirrored_bytes
        with open_to_read(self._folder.out / RESULTS) as file:
            while left and (block := file.read(min(left, _BLOCK_BYTES))):
                left -= len(block)
                yield block
