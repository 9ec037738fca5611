"""Collect: the results of a batch become rows, line by line, as the answers of single calls do."""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from gemini_batch.client.files import Files
from gemini_batch.client.result_lines import ResultLine
from gemini_batch.client.results import Results
from gemini_batch.clock import Clock
from gemini_batch.engine import retry
from gemini_batch.engine.batch.money import BatchMoney
from gemini_batch.engine.commit import Committer
from gemini_batch.engine.remote import RemoteReplies
from gemini_batch.engine.result_row import Attempted
from gemini_batch.errors import StorageError, describe_os_error
from gemini_batch.events import CallUnanswered, Observer
from gemini_batch.output import OutputFolder, StagedAnswer
from gemini_batch.output.paths import SUPERSEDED
from gemini_batch.output.waiting import Mark, OpenBatch
from gemini_batch.records import (
    ApiError,
    BatchRef,
    Facts,
    Failure,
    FailureKind,
    Reply,
    ResultRow,
    Status,
    Timing,
    media_types,
)

_READINGS = 2
"""Number of readings of a file in which lines are missing: it may have been cut off."""
_TORN, _UNKNOWN, _SECOND = "torn", "with a key that is not of the batch", "a second answer"


@dataclass(slots=True)
class Collected:
    """The outcome of reading the results of a batch.

    Attributes:
        failure: Why their end was not reached; None if it was.
        odd: Lines that could not be used, by their kinds.
        missing: Calls without a line.
        smaller: Pictures with much fewer pixels than were asked for.
    """

    failure: ApiError | Failure | None = None
    odd: Counter[str] = field(default_factory=Counter)
    missing: int = 0
    smaller: int = 0

    @property
    def report(self) -> str:
        """Return a phrase about the odd lines, and the calls without any; "" for none."""
        parts = [f"{number:,} {kind}" for kind, number in (+self.odd).items()]
        lines = f"lines of the results that can't be used: {', '.join(parts)}" if parts else ""
        calls = "1 call has" if self.missing == 1 else f"{self.missing:,} calls have"
        missing = f"{calls} no answer" if self.missing else ""
        pictures = "1 picture is" if self.smaller == 1 else f"{self.smaller:,} pictures are"
        smaller = f"{pictures} smaller than was asked for" if self.smaller else ""
        return "; ".join(filter(None, (lines, missing, smaller)))


@dataclass(kw_only=True, eq=False, repr=False)
class Collector:
    """Reads the results of batches into rows. Memory is that of one line.

    A row is the only mark that an answer is taken: what has none is read again, by this run or the
    next one.

    Attributes:
        batch_tries: Returns how often in a row batches gave back a call of this id.
        is_stopped: Returns whether to leave the rest to the next run.
        skip_uncertain: A call that may have been billed ends.
    """

    folder: OutputFolder
    committer: Committer
    remote: RemoteReplies
    files: Files
    money: BatchMoney
    clock: Clock
    observe: Observer
    batch_tries: Callable[[str], int]
    is_stopped: Callable[[], bool]
    skip_uncertain: bool
    _staged: StagedAnswer | None = field(default=None, init=False)
    _number: int = field(default=0, init=False)

    async def collect(self, batch: OpenBatch) -> Collected:
        """Read the results of a batch that has ended; give back the calls without an answer.

        Cancellation: safe; the rest is read by the next run.

        Raises:
            StorageError: The disk refused.
        """
        found = Collected()
        for _ in range(_READINGS if batch.note.output_file else 0):
            await self._read(batch, found)
            if found.failure or self.is_stopped() or not batch.waiting:
                break
        if found.failure is None and not self.is_stopped():
            await self.give_back(batch, batch.open_positions(), _no_result(batch), found)
        await self.committer.flush()
        if batch.lines is not None:
            batch.lines.close()
        return found

    async def give_back(
        self,
        batch: OpenBatch,
        positions: Iterable[int],
        failure: Failure,
        found: Collected,
    ) -> None:
        """Write the rows of calls that the batch did not answer: they may be sent again.

        Cancellation: safe; the next run does the rest.

        Raises:
            StorageError: The disk refused.
        """
        for position in positions:
            found.missing += 1
            attempted = self._attempted(batch, position)
            self._fail(batch, position, attempted, failure)
            await self.committer.wait_for_disk()

    async def _read(self, batch: OpenBatch, found: Collected) -> None:
        """Read the results once, from the start to the end."""
        results = Results(self.files, batch.note.output_file, lambda: self._open(batch))
        seen, restarts = bytearray(batch.note.calls), 0
        found.odd.clear()
        torn: ResultLine[StagedAnswer] | None = None  # the last line, if it is
        try:
            async with aclosing(results.lines()) as lines:
                async for line in lines:
                    if torn is not None:
                        torn.sink.discard()
                    torn = line if line.is_torn else None
                    if results.restarts != restarts:  # all lines come again
                        seen, restarts = bytearray(batch.note.calls), results.restarts
                        found.odd.clear()
                    self._staged = None  # from here on it may be named by a row
                    await self._take(batch, line, seen, found)
                    if torn is None:
                        line.sink.discard()
                    await self.committer.wait_for_disk()
                    if self.is_stopped():
                        return
            if torn is not None and results.failure is None:
                await self._take_torn(batch, torn, seen, found)
        except OSError as error:
            message = f"the results of a batch can't be written: {describe_os_error(error)}"
            raise StorageError(message) from error
        finally:
            # Of a line that did not come to its end.
            for staged in (self._staged, None if torn is None else torn.sink):
                if staged is not None:
                    staged.discard()
        found.odd[_TORN] += torn is not None
        # A file that ends within a line, and no connection that broke, has no more than that.
        outcome = None if torn is None else torn.outcome
        found.failure = None if outcome is results.failure else results.failure

    def _open(self, batch: OpenBatch) -> StagedAnswer:
        self._number += 1
        self._staged = self.folder.stage_line(batch.note.uuid, self._number)
        return self._staged

    async def _take(
        self,
        batch: OpenBatch,
        line: ResultLine[StagedAnswer],
        seen: bytearray,
        found: Collected,
    ) -> None:
        if line.is_torn:
            return
        position = batch.note.position(line.key or "")
        facts = None if position is None else batch.facts(position)
        if (
            position is None
            or facts is None
            or batch.note.key(position, facts.request_sha256) != line.key
        ):
            found.odd[_UNKNOWN] += 1
            self._set_aside(batch, line)
            return
        if seen[position]:
            found.odd[_SECOND] += 1
            self._set_aside(batch, line)
            return
        seen[position] = True
        if not batch.mark(position) & Mark.TAKEN:
            attempted = self._attempted(batch, position, facts)
            await self._commit(batch, position, attempted, line, found)

    async def _take_torn(
        self,
        batch: OpenBatch,
        line: ResultLine[StagedAnswer],
        seen: bytearray,
        found: Collected,
    ) -> None:
        """Take the last line of a file that ends within it each time, if its picture is whole.

        Its key comes after the picture. Without a key the line is of the only call without one.
        """
        if not isinstance(line.outcome, Reply):
            return
        key, position = line.key, seen.find(0)
        if key is None and seen.count(0) == 1 and not +found.odd:
            key = batch.note.key(position, batch.facts(position).request_sha256)
        if key is not None:
            await self._take(batch, replace(line, key=key, is_torn=False), seen, found)

    async def _commit(
        self,
        batch: OpenBatch,
        position: int,
        attempted: Attempted,
        line: ResultLine[StagedAnswer],
        found: Collected,
    ) -> None:
        """Write the row of a line of the batch, the first one of its call."""
        is_late = batch.is_late(position)
        match line.outcome:
            case Reply() as reply if reply.is_empty and not self.batch_tries(attempted.call.id):
                message = "the answer has no picture, no text and no reason"
                failure = Failure(FailureKind.EMPTY, message, may_be_billed=False)
                self._fail(batch, position, attempted, failure)
            case Reply() as reply if is_late:
                self._paid(batch, position, attempted, self.committer.late(attempted, reply), found)
            case Reply(remote=()) as reply:
                self._paid(
                    batch, position, attempted, self.committer.reply(attempted, reply), found
                )
            case Reply() as reply:
                inline = len(line.sink.arrived())
                fetched = await self.remote.fetch(reply, line.sink, inline)
                self._paid(batch, position, attempted, self.remote.write(attempted, fetched), found)
            case ApiError() | Failure() as error:
                error = await self.committer.keep_unreadable(line.sink, error)
                self._fail(batch, position, attempted, error)

    def _fail(
        self,
        batch: OpenBatch,
        position: int,
        attempted: Attempted,
        error: ApiError | Failure,
    ) -> None:
        """Write the row of a call without an answer, unless another row says more of it."""
        is_billed = retry.may_be_billed(error)
        spent_usd = (attempted.call.estimate.cost_usd or 0.0) if is_billed else 0.0
        self.money.unanswered(batch.note.uuid, position, spent_usd)
        if batch.is_late(position):
            batch.add(position, Mark.TAKEN)  # the call does not need it
            return
        if batch.mark(position) & Mark.FREED:
            return
        if is_billed:
            self.observe(CallUnanswered(attempted.call.id, 1, error.message))
        if retry.decide(error, 1, random.random) == retry.REJECT:
            status = Status.REJECTED
        else:
            status = Status.UNCERTAIN if is_billed and self.skip_uncertain else Status.FAILED
        self.committer.error(attempted, status, error)
        batch.add(position, Mark.TAKEN if status is Status.REJECTED else Mark.FREED)

    def _paid(
        self,
        batch: OpenBatch,
        position: int,
        attempted: Attempted,
        row: ResultRow,
        found: Collected,
    ) -> None:
        """Note that an answer has its row."""
        found.smaller += row.is_smaller
        self.money.answered(batch.note.uuid, position, attempted.call, row.cost_usd)
        batch.add(position, Mark.TAKEN)

    def _set_aside(self, batch: OpenBatch, line: ResultLine[StagedAnswer]) -> None:
        """Keep the images of a line that belongs to no call with the superseded ones."""
        for number, image in enumerate(line.sink.arrived()):
            if image.size_bytes and media_types.sniff(image.head):
                name = f"batch-{batch.note.uuid[:8]}-{line.start_bytes}.{number}"
                path = self.folder.describe(image, f"{SUPERSEDED}/{name}").path
                if not (self.folder.out / path).exists():
                    self.folder.publish(image.file, path)

    def _attempted(self, batch: OpenBatch, position: int, facts: Facts | None = None) -> Attempted:
        note, now = batch.note, self.clock.utc()
        facts = facts or batch.facts(position)
        key = note.key(position, facts.request_sha256)
        latency_s = max(0.0, ((note.ended_at or now) - note.since).total_seconds())
        return Attempted(
            facts,
            1,
            Timing(note.since, now, latency_s),
            BatchRef(note.name or None, key, note.created_at, note.ended_at),
        )


def _no_result(batch: OpenBatch) -> Failure:
    note = batch.note
    state = note.state.lower() or "over"
    why = f": {note.why}" if note.why else ""
    message = f"its batch {note.name} is {state}, without an answer of this call{why}"
    return Failure(FailureKind.NO_RESULT, message, may_be_billed=True)
