"""The moment from which an answer can't be lost: its row is written and its image has its name; soon after, both are durable.

`commit` is synchronous, so that nothing can come between an answer's last byte and its row. The slow part, fsync, is done for all calls of
about 20 ms at once, in a thread; only then is a call reported as finished.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from gemini_batch.answer import EMPTY
from gemini_batch.clock import Clock
from gemini_batch.events import CallFinished, Observer
from gemini_batch.policy import prices
from gemini_batch.records import (
    ApiError,
    Call,
    Failure,
    ImageFile,
    IncomingImage,
    InputImage,
    InputRef,
    InputUri,
    Reply,
    ResultRow,
    RowError,
    Status,
    Timing,
)
from gemini_batch.results import ResultsLog
from gemini_batch.store import Store

GROUP_S = 0.02
MAX_PENDING = 64


@dataclass(frozen=True, slots=True)
class Attempted:
    """A call, how often it was sent in this run, and the times of the last attempt."""

    call: Call
    attempts: int
    timing: Timing


class Committer:
    """Writes rows and images of one run, in the one order that survives a kill at any moment."""

    def __init__(
        self,
        store: Store,
        log: ResultsLog,
        price_table: prices.PriceTable,
        endpoint: str,
        clock: Clock,
        observe: Observer,
    ) -> None:
        self._store = store
        self._log = log
        self._price_table = price_table
        self._endpoint = endpoint
        self._clock = clock
        self._observe = observe
        # Rows that are written but not yet durable, and the news that there are some, or fewer.
        self._pending: list[ResultRow] = []
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    def reply(self, attempted: Attempted, reply: Reply) -> ResultRow:
        """Write the row of an answer, then give its images their names. Never gives way to the event loop.

        Raises:
            OSError, StorageError: The disk would not; with the row written, the next run gives the images their names.
        """
        call = attempted.call
        images = [self._store.describe(reply.image, f"images/{call.id}")] if reply.image else []
        drafts = [
            self._store.describe(draft, f"drafts/{call.id}.{number}")
            for number, draft in enumerate(reply.drafts, start=1)
        ]
        status = Status.SUCCEEDED if reply.image else Status.BLOCKED
        row = self._row(attempted, status, reply=reply, images=images, drafts=drafts)
        self._log.append(row)
        self._store.retire(call.id)
        arrived: Iterable[IncomingImage] = [*([reply.image] if reply.image else []), *reply.drafts]
        for part, image in zip(arrived, [*images, *drafts], strict=True):
            self._store.place(part.file, image.path)
        self._announce(row)
        return row

    def error(self, attempted: Attempted, status: Status, error: ApiError | Failure) -> ResultRow:
        """Write the row of a call that ended without an answer: `rejected` or `failed`.

        Raises:
            OSError: The disk would not.
        """
        if isinstance(error, ApiError):
            row_error = RowError(error.http_status, error.status, error.reason, error.message)
        else:
            row_error = RowError(None, error.kind.value, None, error.message)
        row = self._row(attempted, status, error=row_error)
        self._log.append(row)
        self._announce(row)
        return row

    async def durable(self) -> None:
        """Wait until not too many rows are pending.

        Cancellation: safe; what is pending stays so until `flush` or the end of `keep_durable`.
        """
        while len(self._pending) >= MAX_PENDING:
            self._room.clear()
            await self._room.wait()

    async def keep_durable(self) -> None:
        """Make what is committed durable, group by group, until cancelled.

        Raises:
            OSError: The disk would not; nothing of the group is reported as finished.
        """
        while True:
            await self._changed.wait()
            await asyncio.sleep(GROUP_S)
            await self.flush()

    async def flush(self) -> None:
        """Make durable what is committed, and report it.

        Cancellation: the disk goes on; the group stays pending, and another `flush` reports it.

        Raises:
            OSError: The disk would not.
        """
        self._changed.clear()
        group = tuple(self._pending)
        if not group:
            return
        end_bytes = (
            self._log.end_bytes
        )  # of this group: rows that are appended meanwhile have images that are not synced
        await self._clock.run_blocking(lambda: self._sync(group, end_bytes))
        del self._pending[: len(group)]
        self._room.set()
        for row in group:
            self._observe(CallFinished(row))

    def _announce(self, row: ResultRow) -> None:
        self._pending.append(row)
        self._changed.set()

    def _sync(self, group: tuple[ResultRow, ...], end_bytes: int) -> None:
        self._store.sync([image.path for row in group for image in (*row.images, *row.drafts)])
        self._log.sync()
        self._store.note_durable(end_bytes)

    def _row(
        self,
        attempted: Attempted,
        status: Status,
        *,
        reply: Reply | None = None,
        images: list[ImageFile] | None = None,
        drafts: list[ImageFile] | None = None,
        error: RowError | None = None,
    ) -> ResultRow:
        call, timing = attempted.call, attempted.timing
        return ResultRow(
            id=call.id,
            line=call.line,
            status=status,
            images=images or [],
            drafts=drafts or [],
            text=reply.text if reply else None,
            prompt=call.prompt,
            inputs=_inputs(call),
            finish_reason=reply.finish_reason if reply else None,
            finish_message=reply.finish_message if reply else None,
            block_reason=reply.block_reason if reply else None,
            safety_ratings=reply.safety_ratings if reply else [],
            usage=reply.usage if reply else None,
            cost_usd=self._cost_usd(call, reply),
            model=call.request.model,
            model_version=reply.model_version if reply else None,
            response_id=reply.response_id if reply else None,
            endpoint=self._endpoint,
            request_sha256=call.request_sha256,
            attempts=attempted.attempts,
            latency_s=round(timing.latency_s, 3),
            sent_at=timing.sent_at,
            finished_at=timing.finished_at,
            error=error,
            metadata=call.metadata,
        )

    def _cost_usd(self, call: Call, reply: Reply | None) -> float | None:
        if reply is None:
            return 0.0
        images = len(reply.drafts) + (reply.image is not None)
        request, blocked = call.request, reply.block_reason != EMPTY
        return prices.cost_usd(
            request.model, reply.usage, images, request.image_size, blocked=blocked, prices=self._price_table
        )


def _inputs(call: Call) -> list[InputRef]:
    refs: list[InputRef] = []
    for part in call.request.parts:
        match part:
            case InputImage():
                refs.append(InputRef(part.path, part.sha256))
            case InputUri():
                refs.append(InputRef(part.uri, None))
            case _:
                pass
    return refs
