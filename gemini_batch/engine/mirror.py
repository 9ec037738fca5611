"""Mirror: uploads what is durable in the scratch folder, images first, then their rows.

It follows `results.jsonl` from where the bucket ends. A row is in the bucket with the last of its
images, whose notes have it; segments of rows are an index of them. A bucket that fails is tried
again, while answers wait on the disk; nothing is removed there before its row is in a segment.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gemini_batch.clock import Clock
from gemini_batch.engine.disk_space import UploadSpace
from gemini_batch.errors import StorageError, storage_errors
from gemini_batch.events import CallFinished, Observer, Repaired
from gemini_batch.output.bucket.kept import KeptFiles
from gemini_batch.output.bucket.lease import RENEW_S
from gemini_batch.output.bucket.opened import OpenBucket
from gemini_batch.output.bucket.rows_ahead import RowAhead, RowsAhead
from gemini_batch.output.bucket.uploads import missing_text, upload_file, with_notes
from gemini_batch.output.paths import RESULTS
from gemini_batch.store.base import StoreUnavailableError

T = TypeVar("T")

# Images that are uploaded at once: each is in memory, and has a thread.
MAX_UPLOADS, MAX_UPLOAD_BYTES = 12, 24 << 20
# The rows of this time are written together, as a segment of at most this many.
SEGMENT_S, MAX_SEGMENT_ROWS = 0.25, 500
# A bucket that fails for this time ends the run; its answers are safe on the disk.
PATIENCE_S = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 5.0


@dataclass(kw_only=True, eq=False, repr=False)
class Mirror:
    """The uploads of one run.

    Attributes:
        space: What waits for its upload.
    """

    out: Path
    bucket: OpenBucket
    clock: Clock
    observe: Observer
    space: UploadSpace
    _ahead: RowsAhead = field(init=False)
    _kept: KeptFiles = field(init=False)
    _rows: deque[RowAhead] = field(default_factory=deque)  # not in a segment, in their order
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _uploaded: asyncio.Event = field(default_factory=asyncio.Event)
    _room: asyncio.Event = field(default_factory=asyncio.Event)
    _uploading: int = 0
    _uploading_bytes: int = 0
    _failing_since_s: float | None = None
    _is_closed: bool = False
    _has_failed: bool = False
    # While calls are sent, a bucket that fails is waited for as long as there is space.
    _sends: bool = False

    def __post_init__(self) -> None:
        """Begin where the bucket ends."""
        self._ahead = RowsAhead(self.out, self.bucket.mirrored_bytes)
        self._kept = KeptFiles(self.out, self.space.limit_bytes)

    @property
    def is_behind(self) -> bool:
        """True if rows are here that the bucket does not have."""
        return self._ahead.is_behind or bool(self._rows)

    def offer(self, finished: CallFinished) -> None:
        """Note that a row is durable."""
        self._ahead.reaches(finished.offset_bytes)
        row = finished.row
        self.space.add(sum(each.size_bytes for each in (*row.images, *row.drafts)))
        self._news.set()

    def close(self) -> None:
        """Note that no more rows come: `run` returns when all are in the bucket."""
        self._is_closed, self._sends = True, False
        self._news.set()

    async def run(self) -> None:
        """Upload until `close`, and then what is left.

        Cancellation: what is not in the bucket stays in the scratch folder.

        Raises:
            StorageError: The bucket refuses, has failed for a minute, or was taken over.
        """
        try:
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(self._write_segments(), name="segments")
                watching = group.create_task(self._watch_lease(), name="watch lease")
                async with asyncio.TaskGroup() as uploads:
                    while rows := await self._next():
                        for row in rows:
                            await self._have_room(row.size_bytes)
                            self._rows.append(row)
                            uploads.create_task(self._upload(row), name="upload")
                self._uploaded.set()
                await self._all_written()
                writing.cancel()
                watching.cancel()
        except* StorageError as errors:
            error = _first(errors)
            self._has_failed = True
            self.space.stick()
        else:
            return
        raise error

    async def catch_up(self) -> None:
        """Return when all rows of earlier runs are in the bucket, or can't get there."""
        while self.is_behind and not self._has_failed:
            await self.space.changed()
        if not self._has_failed:
            await self.clock.run_blocking(self._kept.start)
            self._sends = True

    async def _watch_lease(self) -> None:
        """End the run when another one has taken over, also while nothing is uploaded."""
        while True:
            await asyncio.sleep(RENEW_S)
            with suppress(StoreUnavailableError):
                self.bucket.lease.check()

    async def _all_written(self) -> None:
        while self._rows:
            await self.space.changed()

    async def _next(self) -> list[RowAhead]:
        """Return the next rows that are durable; none after `close` when all were returned."""
        while True:
            self._news.clear()
            with storage_errors(f"{self.out / RESULTS}: can't be read"):
                if rows := await self.clock.run_blocking(self._ahead.take):
                    return rows
            if self._is_closed and not self._ahead.is_behind:
                return []
            await self._news.wait()

    async def _have_room(self, size_bytes: int) -> None:
        while self._uploading and (
            self._uploading >= MAX_UPLOADS or self._uploading_bytes + size_bytes > MAX_UPLOAD_BYTES
        ):
            self._room.clear()
            await self._room.wait()
        self._uploading += 1
        self._uploading_bytes += size_bytes

    async def _upload(self, row: RowAhead) -> None:
        """Upload the images of a row, the one with its row last."""
        for file, notes in with_notes(row):
            upload = partial(upload_file, self.bucket.store, self.out, file, notes)
            if not await self._insist(upload):
                self.observe(Repaired(missing_text(self.out, file)))
        self._uploading -= 1
        self._uploading_bytes -= row.size_bytes
        self._room.set()
        row.is_uploaded = True
        self._uploaded.set()

    async def _write_segments(self) -> None:
        while True:
            await self._uploaded.wait()
            if not self._is_closed:
                await asyncio.sleep(SEGMENT_S)
            self._uploaded.clear()
            while rows := self._writable():
                data = b"".join(row.line for row in rows)
                await self._insist(partial(self.bucket.add_segment, data))
                for row in rows:
                    self._rows.popleft()
                    self._kept.add(row.files)
                    if not row.is_of_earlier:
                        self.space.take(row.size_bytes)
                self.space.wake()

    def _writable(self) -> list[RowAhead]:
        """Return the first rows whose images are uploaded."""
        found: list[RowAhead] = []
        for row in self._rows:
            if not row.is_uploaded or len(found) >= MAX_SEGMENT_ROWS:
                break
            found.append(row)
        return found

    async def _insist(self, work: Callable[[], T]) -> T:
        """Return what some work at the bucket returns; while the bucket fails, try again.

        Raises:
            StorageError: It refuses, or has failed for a minute while nothing is sent.
        """
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                self.bucket.lease.check()
                result = await self.clock.run_waiting(work)
            except StoreUnavailableError as error:
                self._check_patience(error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                self._failing_since_s, self.space.is_stuck = None, False
                return result

    def _check_patience(self, error: StoreUnavailableError) -> None:
        now_s = self.clock.steady_s()
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        if now_s - self._failing_since_s < PATIENCE_S:
            return
        self.space.stick()
        if not self._sends:
            raise StorageError(
                f"{error}; it has failed for {PATIENCE_S:.0f} s. What is not uploaded is safe in "
                f"{self.out}: run again, with that folder, when the bucket can be reached"
            ) from error


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    """Return the first error in a group that has groups."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
