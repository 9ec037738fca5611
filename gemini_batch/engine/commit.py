"""Commit: an answer's row is written and its image published; soon after, both are durable.

Writing is synchronous, so that nothing can come between an answer's last byte and its row. The
slow part, fsync, is done in a thread for all calls of about 20 ms at once; only then is a call
reported as finished.
"""

import asyncio
import sys
from dataclasses import dataclass, field

from gemini_batch.catalog import prices
from gemini_batch.clock import Clock
from gemini_batch.engine import unreadable
from gemini_batch.engine.result_row import (
    NO_REPLY,
    Attempted,
    cost_usd,
    make_row,
)
from gemini_batch.errors import StorageError, describe_os_error, storage_errors
from gemini_batch.events import CallFinished, Observer
from gemini_batch.output import OutputFolder, StagedAnswer
from gemini_batch.output.images import Late
from gemini_batch.output.inflight import InFlightLog
from gemini_batch.output.paths import DRAFTS, IMAGES, RESULTS, SUPERSEDED
from gemini_batch.output.rescue import RowsWatch
from gemini_batch.output.results_file import ResultsFile
from gemini_batch.plan.canonical import sent_sha256
from gemini_batch.records import (
    ApiError,
    Call,
    Facts,
    Failure,
    ImageFile,
    Reply,
    ResultRow,
    ReusedFrom,
    Status,
)

GROUP_S = 0.02
MAX_PENDING = 64


@dataclass(eq=False, repr=False)
class Committer:
    """Writes rows and images, in the one order that survives a kill at any moment."""

    _folder: OutputFolder
    _rows: ResultsFile
    _in_flight: InFlightLog
    _price_table: prices.PriceTable
    _endpoint: str
    _clock: Clock
    _observe: Observer
    # Published, and not yet durable.
    _pending: list[CallFinished] = field(default_factory=list)
    _durable: int = 0  # rows that were reported
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    # Where the first row begins whose images could not be published.
    _unpublished_bytes: int = sys.maxsize
    # The sync that is under way, or the one that failed.
    _syncing: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        """Note that the file of rows may be new, and watch it."""
        self._folder.mark_moved(RESULTS)
        self._watch = RowsWatch(self._rows, self._folder)

    def begin(self, call: Call, number: int) -> StagedAnswer:
        """Note that a call is in flight, before it can be billed; return where its answer goes.

        Raises:
            OSError: The disk refused; nothing may be sent.
            StorageError: The folder or its rows are not what they were; nothing may be sent.
        """
        self._folder.check(call.id)
        self._watch.check()
        staged = self._folder.stage(call.id, number, self._clock.utc())
        try:
            asked = sent_sha256(call.request_sha256, call.request)
            self._in_flight.sent(call.id, asked, self._rows.end_bytes)
        except OSError:
            staged.discard()
            raise
        return staged

    def end(self, call_id: str) -> None:
        """Note that a call is no longer in flight.

        Raises:
            OSError: The disk refused.
        """
        self._in_flight.ended(call_id)

    def reply(
        self,
        attempted: Attempted,
        reply: Reply,
        *,
        reused_from: ReusedFrom | None = None,
        failure: Failure | None = None,
        is_paid: bool = False,
    ) -> ResultRow:
        """Write the row of an answer, then publish its images; nothing is awaited.

        Args:
            attempted: The call.
            reply: Its answer; images that are still remote could not be fetched.
            reused_from: Where the answer was paid for, if not here.
            failure: Why the image itself could not be fetched: the call is `failed`.
            is_paid: An earlier row has its cost.

        Raises:
            StorageError: The disk refused; once the row is written, the next run publishes images.
        """
        call, arrived = attempted.call, [*([reply.image] if reply.image else []), *reply.drafts]
        images = [self._folder.describe(reply.image, f"{IMAGES}/{call.id}")] if reply.image else []
        drafts = [
            self._folder.describe(draft, f"{DRAFTS}/{call.id}.{number}")
            for number, draft in enumerate(reply.drafts, start=1)
        ]
        is_free = is_paid or reused_from is not None
        answered = Status.SUCCEEDED if reply.image else Status.BLOCKED
        row = make_row(
            attempted,
            Status.FAILED if failure else answered,
            reply,
            self._endpoint,
            images=images,
            drafts=drafts,
            cost_usd=0.0 if is_free else cost_usd(attempted, reply, self._price_table),
            error=failure,
            reused_from=reused_from,
        )
        parts = [
            (each.file, image.path) for each, image in zip(arrived, (*images, *drafts), strict=True)
        ]
        # With a failure, an earlier image, of an edited job, is still the newest.
        estimated_usd = 0.0 if is_free else call.estimate.cost_usd
        self._publish(call, row, parts, estimated_usd, is_newest=not failure)
        return row

    def late(self, attempted: Attempted, reply: Reply) -> ResultRow:
        """Write the row of an answer that comes when its call has another; nothing is awaited.

        Its images go where superseded ones are.

        Raises:
            StorageError: As `reply`.
        """
        key = attempted.batch.key if attempted.batch else ""
        arrived = [*([reply.image] if reply.image else []), *reply.drafts]
        stem = f"{SUPERSEDED}/{attempted.call.id}.{key}"
        images = [
            self._folder.describe(each, stem if number == 1 else f"{stem}.{number}")
            for number, each in enumerate(arrived, start=1)
        ]
        row = make_row(
            attempted,
            Status.LATE,
            reply,
            self._endpoint,
            images=images[: reply.image is not None],
            drafts=images[reply.image is not None :],
            cost_usd=cost_usd(attempted, reply, self._price_table),
        )
        parts = [(each.file, image.path) for each, image in zip(arrived, images, strict=True)]
        call = attempted.call
        self._publish(call, row, parts, call.estimate.cost_usd, is_newest=False)
        return row

    def _publish(
        self,
        call: Facts,
        row: ResultRow,
        parts: list[tuple[str, str]],
        estimated_usd: float | None,
        *,
        is_newest: bool,
    ) -> None:
        """Append a row and give its images their names; `is_newest` retires earlier ones."""
        place = self._append(row)
        try:
            if is_newest:
                self._folder.place(row.id, parts)
            else:
                for staged, path in parts:
                    self._folder.publish(staged, path)
            self._announce(call, row, place, estimated_usd)
        except BaseException as error:
            # Recovery must look at this row, and so at all after it.
            self._unpublished_bytes = min(self._unpublished_bytes, place)
            if not isinstance(error, OSError | StorageError):
                raise
            reason = describe_os_error(error) if isinstance(error, OSError) else str(error)
            message = f"{row.id}: its image can't be published, the next run tries again: {reason}"
            raise StorageError(message) from error

    def adopt(self, attempted: Attempted, image: ImageFile, drafts: list[ImageFile]) -> ResultRow:
        """Write the row of a call whose image was there without one, at no cost.

        Raises:
            StorageError: The disk refused.
        """
        row = make_row(
            attempted,
            Status.SUCCEEDED,
            NO_REPLY,
            self._endpoint,
            images=[image],
            drafts=drafts,
            reused_from=ReusedFrom(str(self._folder.out), attempted.call.id),
        )
        place = self._append(row)
        for each in (image, *drafts):
            self._folder.mark_moved(each.path)  # its name may not be durable
        self._announce(attempted.call, row, place, 0.0)
        return row

    def error(self, attempted: Attempted, status: Status, error: ApiError | Failure) -> ResultRow:
        """Write the row of a call that ended without an answer.

        Raises:
            StorageError: The disk refused.
        """
        row = make_row(attempted, status, NO_REPLY, self._endpoint, error=error)
        call = attempted.call
        self._announce(call, row, self._append(row), call.estimate.cost_usd)
        return row

    async def keep_unreadable(
        self, staged: StagedAnswer, error: ApiError | Failure
    ) -> ApiError | Failure:
        """Keep an answer that can't be understood; see `unreadable`."""
        return await unreadable.keep_unreadable(staged, error, self._folder, self._clock)

    async def wait_for_disk(self) -> None:
        """Wait until fewer than `MAX_PENDING` rows are waiting for fsync (backpressure).

        Cancellation: safe; what is pending stays so.

        Raises:
            StorageError: The disk refused.
        """
        while len(self._pending) >= MAX_PENDING:
            await self._one_group()

    async def make_durable(self) -> None:
        """Make durable what is committed now, and report it; later rows are not waited for.

        Cancellation and errors as `flush`.
        """
        end = self._durable + len(self._pending)
        while self._durable < end:
            await self._one_group()

    async def keep_durable(self) -> None:
        """Make what is committed durable, group by group, until cancelled.

        Raises:
            StorageError: The disk refused; nothing of the group, or after it, is reported.
        """
        while True:
            await self._changed.wait()
            await asyncio.sleep(GROUP_S)
            await self.flush()

    async def flush(self) -> None:
        """Make durable what is committed, and report it.

        Cancellation: safe; the sync continues, and what becomes durable is reported.

        Raises:
            StorageError: The disk refused, now or earlier.
        """
        while self._pending:
            await self._one_group()

    async def _one_group(self) -> None:
        if self._syncing is None:
            self._syncing = asyncio.create_task(self._sync_group(), name="sync")
        await asyncio.shield(self._syncing)

    async def _sync_group(self) -> None:
        """Make durable and report what is pending now.

        After a failure it is not tried again: a second fsync would find the pages clean that the
        first one could not write, and succeed.
        """
        self._changed.clear()
        group, moved = tuple(self._pending), self._folder.moved()
        late = self._folder.take_late()
        # Only of this group: images of rows that are appended from now on are not synced with it.
        end_bytes = min(self._rows.end_bytes, self._unpublished_bytes)
        with storage_errors("what was written can't be made durable"):
            await self._clock.run_blocking(lambda: self._sync(group, late, moved, end_bytes))
        self._syncing = None
        del self._pending[: len(group)]
        self._durable += len(group)
        for finished in group:
            self._observe(finished)

    def _append(self, row: ResultRow) -> int:
        """Write a row; return where it begins."""
        self._watch.check()
        place = self._rows.end_bytes
        with storage_errors(f"{row.id}: its row can't be written"):
            self._rows.append(row)
        return place

    def _announce(
        self, call: Facts, row: ResultRow, place: int, estimated_usd: float | None
    ) -> None:
        self._pending.append(CallFinished(row, place, estimated_usd, call.lane))
        self._changed.set()

    def _sync(
        self, group: tuple[CallFinished, ...], late: list[Late], moved: list[str], end_bytes: int
    ) -> None:
        moved = [*self._folder.publish_late(late), *moved]
        self._folder.sync(
            image.path for each in group for image in (*each.row.images, *each.row.drafts)
        )
        self._rows.sync()
        self._folder.sync(moved)
        self._folder.note_durable(end_bytes)
