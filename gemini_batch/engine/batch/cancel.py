"""Cancel: ask the server to end batches, or give up those that this key will never see."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from gemini_batch.client.batches import Batches
from gemini_batch.clock import Clock
from gemini_batch.engine.batch import steps
from gemini_batch.output.batch_note import LOOKS, BatchNote, Step
from gemini_batch.output.batches import BatchNotes
from gemini_batch.output.waiting import OpenBatch
from gemini_batch.records import ApiError, Failure
from gemini_batch.records.remote_batch import RemoteBatch


class Ending(StrEnum):
    """Outcomes of cancelling one batch."""

    ASKED = "asked"  # the server was asked to end it; it may still complete
    ENDED = "ended"  # it has ended already
    GIVEN_UP = "given up"  # it was made with another key: the next run does without it
    NOT_FOUND = "not found"  # the server does not show it, which may be a matter of time
    FAILED = "failed"  # the server did not accept it


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The outcome, with the error of one that failed."""

    batch: OpenBatch
    ending: Ending
    error: ApiError | Failure | None = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Canceller:
    """Ends the batches of a folder that is locked; `project` is that of the key."""

    batches: Batches
    notes: BatchNotes
    clock: Clock
    project: str

    async def cancel(self, open_batches: Sequence[OpenBatch]) -> list[Cancelled]:
        """Cancel each batch; what it answered until then is left to the next run.

        Cancellation: safe; the server may have been asked.

        Raises:
            OSError: The disk refused.
        """
        return [await self._cancel(batch) for batch in open_batches]

    async def _cancel(self, batch: OpenBatch) -> Cancelled:
        found = await self._find(batch.note)
        if isinstance(found, ApiError) and found.http_status in steps.UNSEEN:
            found = None
        if isinstance(found, ApiError | Failure):
            return Cancelled(batch, Ending.FAILED, found)
        if found is None and batch.note.project not in ("", self.project):
            self._write(batch, given_up(batch.note, self.clock.utc()))
            return Cancelled(batch, Ending.GIVEN_UP)
        if found is None:
            return Cancelled(batch, Ending.NOT_FOUND)
        self._write(batch, steps.seen(batch.note, found, self.clock.utc()))
        if found.state.is_terminal:
            return Cancelled(batch, Ending.ENDED)
        if (refused := await self.batches.cancel(found.name)) is not None:
            return Cancelled(batch, Ending.FAILED, refused)
        self._write(batch, replace(batch.note, cancelled_at=self.clock.utc()))
        return Cancelled(batch, Ending.ASKED)

    async def _find(self, note: BatchNote) -> RemoteBatch | ApiError | Failure | None:
        """Return the batch of a note by its name, or from the list; None if it is not there."""
        if note.name:
            return await self.batches.get(note.name)
        listing = await self.batches.listing(note.planned_at - steps.CLOCK_SKEW)
        if matches := steps.matching(note, listing.batches):
            return matches[0]
        return None if listing.is_complete else listing.error

    def _write(self, batch: OpenBatch, note: BatchNote) -> None:
        if note != batch.note:
            self.notes.write(note)
            batch.note = note


def given_up(note: BatchNote, now: datetime) -> BatchNote:
    """Return the note of a batch that the next run gives up, because its key does not see it."""
    note = replace(note, project="", why="it was made with another key, and given up by --cancel")
    if note.step is Step.CREATING:
        return replace(note, looks=LOOKS - 1)
    missing_since = now - steps.MISSING_FOR
    return replace(note, missing_since=missing_since, misses=steps.MISSES)
