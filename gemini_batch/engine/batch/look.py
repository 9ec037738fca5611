"""Look: each open batch is asked for, or searched in the list, and its note says what was seen."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from gemini_batch.client.batches import Batches
from gemini_batch.clock import Clock
from gemini_batch.engine import retry
from gemini_batch.engine.batch import steps
from gemini_batch.engine.retry_table import OF_ONE_MODEL
from gemini_batch.events import BatchNotice, BatchSeen, Observer
from gemini_batch.output.batch_note import BatchNote, Step
from gemini_batch.output.batches import BatchNotes
from gemini_batch.output.waiting import OpenBatch
from gemini_batch.records import ApiError, Failure, FailureKind, Stop, StopReason
from gemini_batch.records.remote_batch import Listing, RemoteBatch

_CUT_OFF = {FailureKind.UNREACHABLE, FailureKind.TIMEOUT}


@dataclass(kw_only=True, eq=False, repr=False)
class Looker:
    """Asks the server for batches, and notes what it says, durably.

    Attributes:
        project: Of the run's key: a fingerprint.
        patience_s: A batch that runs for longer is cancelled.
    """

    batches: Batches
    notes: BatchNotes
    clock: Clock
    observe: Observer
    project: str
    patience_s: float
    _listing: Listing | None = field(default=None, init=False)
    _is_cut_off: bool = field(default=False, init=False)  # the server can't be reached

    async def look(self, open_batches: Sequence[OpenBatch], *, is_first: bool) -> list[Stop]:
        """Look once at each of these batches; return why the run must stop.

        `is_first` is true for the first look of a run at them.

        Cancellation: safe; what was noted stays.

        Raises:
            OSError: The disk refused.
        """
        stops: list[Stop] = []
        self._listing, self._is_cut_off = None, False
        for batch in open_batches:
            todo = steps.next_step(batch.note, self.clock.utc())
            if todo is steps.Todo.SEARCH:
                stops += await self._search(batch, open_batches, is_first=is_first)
            elif todo is steps.Todo.ASK:
                stops += await self._ask(batch, open_batches)
            await self._cancel_in_time(batch)
            if self._is_cut_off or any(stop.reason is not StopReason.OTHER_KEY for stop in stops):
                break  # the others would be answered alike
        return stops

    def write(self, batch: OpenBatch, note: BatchNote) -> None:
        """Note another state of a batch, durably."""
        if note != batch.note:
            self.notes.write(note)
            batch.note = note

    def _seen(self, batch: OpenBatch, found: RemoteBatch) -> None:
        """Note what the server says; from now on this key is known to see the batch."""
        note = replace(batch.note, project=self.project)
        self.write(batch, steps.seen(note, found, self.clock.utc()))

    async def _ask(self, batch: OpenBatch, all_open: Sequence[OpenBatch]) -> list[Stop]:
        found = await self.batches.get(batch.note.name)
        if isinstance(found, RemoteBatch):
            self._seen(batch, found)
            return []
        if not (isinstance(found, ApiError) and found.http_status in steps.UNSEEN):
            return self._failed(batch, found)
        if batch.note.project != self.project:
            is_given_up = not batch.note.project and steps.is_gone(batch.note, self.clock.utc())
            return [] if is_given_up else [_other_key(batch)]
        if found.http_status != 404:
            return self._failed(batch, found)
        # One miss says little: servers have answered so for batches that ran.
        listing = await self._list(all_open)
        if matches := steps.matching(batch.note, listing.batches):
            self._seen(batch, matches[0])
        elif listing.is_complete:
            self.write(batch, steps.missed(batch.note, self.clock.utc()))
        elif listing.error is not None:
            return self._failed(batch, listing.error)
        return []

    async def _search(
        self, batch: OpenBatch, all_open: Sequence[OpenBatch], *, is_first: bool
    ) -> list[Stop]:
        listing, note = await self._list(all_open), batch.note
        if matches := steps.matching(note, listing.batches):
            oldest, *younger = matches
            self.observe(
                BatchNotice(
                    f"the batch of {note.calls:,} calls whose creation was not answered was found: "
                    f"{oldest.name}"
                )
            )
            self._seen(batch, oldest)
            for each in younger:
                if not each.state.is_terminal:
                    await self.batches.cancel(each.name)
            return []
        if not listing.is_complete:
            return self._failed(batch, listing.error) if listing.error else []
        if note.step is Step.CREATING and note.project not in ("", self.project):
            return [_other_key(batch)]
        if note.step is Step.CREATING:
            self.write(batch, steps.not_found(note, self.clock.utc(), is_first=is_first))
        return []

    async def _list(self, all_open: Sequence[OpenBatch]) -> Listing:
        """Return the list of batches, read once for all looks of a round."""
        if self._listing is None:
            since = min((each.note.planned_at for each in all_open), default=self.clock.utc())
            self._listing = await self.batches.listing(since - steps.CLOCK_SKEW)
        return self._listing

    async def _cancel_in_time(self, batch: OpenBatch) -> None:
        """Ask for the end of a batch that is too old, or whose calls were given to others."""
        note, now = batch.note, self.clock.utc()
        is_given_up = not batch.waiting and note.step is Step.CREATED
        if not steps.is_cancelled(note, now, self.patience_s, is_given_up=is_given_up):
            return
        why = "others have its calls" if is_given_up else f"it is {_hours(note, now)} old"
        refused = await self.batches.cancel(note.name)
        if refused is None:
            self.write(batch, replace(note, cancelled_at=now))
            message = f"{note.name} is cancelled, for {why}; what it has answered is collected"
            self.observe(BatchNotice(message))

    def _failed(self, batch: OpenBatch, error: ApiError | Failure) -> list[Stop]:
        """Return the stop that follows from a look that failed; else note why."""
        decision = retry.decide(error, 1, random.random)
        if isinstance(decision, Stop) and decision.reason not in OF_ONE_MODEL:
            return [decision]
        self._is_cut_off = isinstance(error, Failure) and error.kind in _CUT_OFF
        batch.note = replace(batch.note, why=error.message)  # not worth a write
        self.observe(BatchNotice(f"{batch.note.name or batch.note.uuid}: {error.message}"))
        return []


def _other_key(batch: OpenBatch) -> Stop:
    name = batch.note.name or batch.note.display_name
    message = (
        f"the batch {name}, with {batch.waiting:,} calls, was made with another key, and only a "
        "key of the same project sees it; run with that key, or give the batch up with `batches "
        "OUT --cancel`"
    )
    return Stop(StopReason.OTHER_KEY, message)


def _hours(note: BatchNote, now: datetime) -> str:
    return f"{(now - note.since).total_seconds() / 3600:,.0f} hours"


def seen_event(note: BatchNote, *, is_new: bool = False) -> BatchSeen:
    """Return the event of a look at a batch."""
    return BatchSeen(
        note.name or note.uuid, note.model, note.calls, note.done, note.state, note.since, is_new
    )
