"""Commit: an answer's row is written and its image published; soon after, both are durable.

Writing is synchronous, so that nothing can come between an answer's last byte and its row. The
slow part, fsync, is done in a thread for all calls of about 20 ms at once; only then is a call
reported as finished.
"""

import asyncio
import sys
from dataclasses import dataclass, field, replace

from gemini_batch.catalog import prices
from gemini_batch.client.response import EMPTY
from gemini_batch.clock import Clock
from gemini_batch.errors import StorageError, describe_os_error, storage_errors
from gemini_batch.events import CallFinished, Observer
from gemini_batch.output import OutputFolder, StagedAnswer
from gemini_batch.output.images import Late
from gemini_batch.output.inflight import InFlightLog
from gemini_batch.output.paths import DRAFTS, IMAGES, RESULTS
from gemini_batch.output.rescue import RowsWatch
from gemini_batch.output.rows import ResultsFile
from gemini_batch.plan.canonical import thinking
from gemini_batch.records import (
    ApiError,
    Call,
    Failure,
    FailureKind,
    ImageFile,
    InputImage,
    InputRef,
    InputUri,
    Reply,
    ResultRow,
    ReusedFrom,
    RowError,
    SentFile,
    Status,
    Timing,
)

GROUP_S = 0.02
MAX_PENDING = 64
_UNREADABLE = {FailureKind.MALFORMED, FailureKind.NOT_AN_ANSWER, FailureKind.TOO_LARGE}
_NO_REPLY = Reply(None, (), None, None, None, None, [], None, None, None)


@dataclass(frozen=True, slots=True)
class Attempted:
    """A call, how often it was sent in this run, and the times of the last attempt."""

    call: Call
    attempts: int
    timing: Timing


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
            self._in_flight.sent(call.id, call.request_sha256, self._rows.end_bytes)
        except OSError:
            staged.discard()
            raise
        return staged

    def end(self, call_id: str) -> None:
        """Note that a call is not in flight any more.

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
        row = replace(
            self._row(attempted, Status.FAILED if failure else answered, reply),
            images=images,
            drafts=drafts,
            cost_usd=0.0 if is_free else self._cost_usd(call, reply),
            error=_row_error(failure) if failure else None,
            reused_from=reused_from,
        )
        place = self._append(row)
        try:
            files = [image.path for image in (*images, *drafts)]
            parts = [*zip((each.file for each in arrived), files, strict=True)]
            if failure is None:
                self._folder.place(call.id, parts)
            else:  # an earlier image, of an edited job, is still the newest
                for staged, path in parts:
                    self._folder.publish(staged, path)
            self._announce(call, row, place, 0.0 if is_free else call.estimate.cost_usd)
        except BaseException as error:
            # Recovery must look at this row, and so at all after it.
            self._unpublished_bytes = min(self._unpublished_bytes, place)
            if not isinstance(error, OSError | StorageError):
                raise
            reason = describe_os_error(error) if isinstance(error, OSError) else str(error)
            message = f"{call.id}: its image can't be published, the next run tries again: {reason}"
            raise StorageError(message) from error
        return row

    def adopt(self, attempted: Attempted, image: ImageFile, drafts: list[ImageFile]) -> ResultRow:
        """Write the row of a call whose image was there without one, at no cost.

        Raises:
            StorageError: The disk refused.
        """
        row = replace(
            self._row(attempted, Status.SUCCEEDED, _NO_REPLY),
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
        row = replace(self._row(attempted, status, _NO_REPLY), error=_row_error(error))
        call = attempted.call
        self._announce(call, row, self._append(row), call.estimate.cost_usd)
        return row

    async def keep_unreadable(
        self, staged: StagedAnswer, error: ApiError | Failure
    ) -> ApiError | Failure:
        """Keep an answer that could not be understood; return the error with its place.

        Cancellation: it is kept all the same, unless the process ends.
        """
        if not isinstance(error, Failure) or error.kind not in _UNREADABLE:
            return error
        place = await self._clock.run_blocking(lambda: staged.keep(self._folder.out))
        return replace(error, message=f"{error.message}; {place}") if place else error

    async def wait_for_disk(self) -> None:
        """Wait until fewer than `MAX_PENDING` rows are waiting for fsync (backpressure).

        Cancellation: safe; what is pending stays so.

        Raises:
            StorageError: The disk refused.
        """
        while len(self._pending) >= MAX_PENDING:
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
        self, call: Call, row: ResultRow, place: int, estimated_usd: float | None
    ) -> None:
        self._pending.append(CallFinished(row, place, estimated_usd, call.request.lane))
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

    def _row(self, attempted: Attempted, status: Status, reply: Reply) -> ResultRow:
        call, timing = attempted.call, attempted.timing
        return ResultRow(
            id=call.id,
            line=call.line,
            status=status,
            images=[],
            drafts=[],
            text=reply.text,
            prompt=call.prompt,
            inputs=_inputs(call),
            finish_reason=reply.finish_reason,
            finish_message=reply.finish_message,
            block_reason=reply.block_reason,
            safety_ratings=reply.safety_ratings,
            usage=reply.usage,
            cost_usd=0.0,
            model=call.request.model,
            model_version=reply.model_version,
            response_id=reply.response_id,
            endpoint=self._endpoint,
            request_sha256=call.request_sha256,
            attempts=attempted.attempts,
            latency_s=round(timing.latency_s, 3),
            sent_at=timing.sent_at,
            finished_at=timing.finished_at,
            error=None,
            metadata=call.metadata,
            remote_images=[image.uri for image in reply.remote],
            thinking=thinking(call.request),
            service_tier=reply.service_tier,
        )

    def _cost_usd(self, call: Call, reply: Reply) -> float | None:
        model, asked = call.request.model, call.request.service_tier
        cost_usd = prices.cost_usd(
            model,
            reply.usage,
            len(reply.drafts) + (reply.image is not None) + len(reply.remote),
            call.image_size,
            blocked=reply.block_reason != EMPTY,
            has_text=reply.text is not None,
            input_tokens=call.estimate.input_tokens,
            searches=reply.searches,
            times=prices.booked_factor(model, asked, reply.service_tier, self._price_table),
            prices=self._price_table,
        )
        return None if cost_usd is None else round(cost_usd, 6)


def _row_error(error: ApiError | Failure) -> RowError:
    if isinstance(error, ApiError):
        return RowError(error.http_status, error.status, error.reason, error.message)
    return RowError(None, error.kind.value, None, error.message)


def _inputs(call: Call) -> list[InputRef]:
    refs: list[InputRef] = []
    for part in call.request.parts:
        if isinstance(part, InputImage):
            sent = None
            if (copy := part.downscaled) is not None:
                sent = SentFile(
                    copy.mime_type, copy.size_bytes, copy.width, copy.height, copy.sha256
                )
            refs.append(InputRef(part.path, part.sha256, sent))
        elif isinstance(part, InputUri):
            refs.append(InputRef(part.uri, None))
    return refs
