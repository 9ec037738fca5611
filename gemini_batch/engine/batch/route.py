"""The batches of one run: those that are open are looked at and collected, new ones submitted."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.engine.batch import steps
from gemini_batch.engine.batch.collect import Collected, Collector
from gemini_batch.engine.batch.draining import DRAIN_S, until
from gemini_batch.engine.batch.look import Looker, seen_event
from gemini_batch.engine.batch.steps import Todo
from gemini_batch.engine.batch.submit import Submitter
from gemini_batch.errors import storage_errors
from gemini_batch.events import BatchNotice, Observer
from gemini_batch.output.batch_note import Step
from gemini_batch.output.batches import BatchNotes
from gemini_batch.output.waiting import OpenBatch, Waiting
from gemini_batch.records import ApiError, Call, Failure, FailureKind, Stop, StopReason
from gemini_batch.wording import local_time

_SIMULATED_MINUTE_S = 1.0


@dataclass(kw_only=True, eq=False, repr=False)
class BatchRoute:
    """Everything that a run does with batches.

    Attributes:
        ended: Set once the run does nothing more at all.
    """

    looker: Looker
    notes: BatchNotes
    collector: Collector
    submitter: Submitter
    waiting: Waiting
    config: Settings
    clock: Clock
    observe: Observer
    ended: asyncio.Event

    async def settle(self, *, is_first: bool) -> list[Stop]:
        """Look at each open batch once, and collect what has ended; return why the run must stop.

        Cancellation: safe; the rest is left to the next run.

        Raises:
            StorageError: The disk refused.
        """
        with storage_errors("the notes of batches can't be written"):
            if is_first:
                await self._report()
            mine = [batch for batch in self.waiting.batches if self._is_here(batch)]
            looking = self.looker.look(mine, is_first=is_first)
            stops = await until(self.ended, looking, DRAIN_S)
            for batch in mine:
                if not self.ended.is_set():
                    await until(self.ended, self._advance(batch), DRAIN_S)
            return stops or []

    async def submit(self, calls: Mapping[str, Iterator[Call | Stop]]) -> list[Stop]:
        """Submit calls as batches; return why some of them were not.

        Cancellation and errors as `Submitter.submit`.
        """
        with storage_errors("the notes of batches can't be written"):
            return await self.submitter.submit(calls)

    async def rest(self) -> bool:
        """Sleep until the next look is due; return False if nothing waits, or the run is over.

        Cancellation: safe.
        """
        now = self.clock.utc()
        notes = [batch.note for batch in self.awaited() if self._is_here(batch)]
        if not notes or self.ended.is_set():
            return False
        is_simulated = self.config.base_url is None
        minute_s = _SIMULATED_MINUTE_S if is_simulated else self.config.limits.minute_s
        until = min(steps.next_look_at(note, now, minute_s) for note in notes)
        with suppress(TimeoutError):
            async with asyncio.timeout((until - now).total_seconds()):
                await self.ended.wait()
        return not self.ended.is_set()

    def awaited(self) -> list[OpenBatch]:
        """Return the batches that hold calls back, also those that this run can't ask for."""
        return self.waiting.open_at(self.config.endpoint)

    def stop(self) -> Stop | None:
        """Return that calls wait, and since when; None if none does."""
        open_batches = self.awaited()
        if not open_batches:
            return None
        now = self.clock.utc()
        calls = sum(batch.waiting for batch in open_batches)
        since = min(batch.note.since for batch in open_batches)
        wait = "1 call waits" if calls == 1 else f"{calls:,} calls wait"
        batches = "1 batch" if len(open_batches) == 1 else f"{len(open_batches):,} batches"
        message = f"{wait} in {batches} since {local_time(since)}"
        elsewhere = [batch for batch in open_batches if not self._is_here(batch)]
        if elsewhere:
            message += f", {len(elsewhere):,} of them at {elsewhere[0].note.endpoint}"
        looks = [each.note.looks_left for each in open_batches if each.note.looks_left]
        if looks:
            runs = "the next run does" if min(looks) == 1 else f"the next {min(looks)} runs do"
            message += (
                f"; a batch whose creation was not answered is given up if {runs} not find it"
            )
        overdue = [each for each in open_batches if self._is_overdue(each, now)]
        if overdue and self.config.route == "batch":
            message += (
                f"; {overdue[0].note.name} is older than --batch-patience and does not end, though "
                "it is cancelled"
            )
        return Stop(
            StopReason.WAITING,
            message,
            steps.run_again_at((batch.note for batch in open_batches), now),
            needs_person=bool(overdue) and self.config.route == "batch",
        )

    def _is_overdue(self, batch: OpenBatch, now: datetime) -> bool:
        return steps.is_overdue(batch.note, now, self.config.batch_patience_s)

    def _is_here(self, batch: OpenBatch) -> bool:
        return batch.note.endpoint == self.config.endpoint

    async def _report(self) -> None:
        """Report damaged notes and batches at other servers; drop what was never created."""
        for batch in self.waiting.batches:
            note = batch.note
            if batch.problem:
                self.observe(BatchNotice(batch.problem))
            if steps.next_step(note, self.clock.utc()) is Todo.DROP:
                await self._remove(batch)
            elif not self._is_here(batch) and batch.waiting:
                self.observe(
                    BatchNotice(
                        f"the batch {note.name or note.uuid} of {note.calls:,} calls was made at "
                        f"{note.endpoint}, and is left alone: a run there collects it"
                    )
                )

    async def _advance(self, batch: OpenBatch) -> None:
        """Do what follows from the note of a batch that was looked at."""
        now = self.clock.utc()
        if steps.is_lost(batch.note):
            await self._give_up(batch, "was not found in the list of batches")
        elif steps.is_gone(batch.note, now):
            await self._give_up(batch, "is gone from the server")
        match steps.next_step(batch.note, now):
            case Todo.COLLECT:
                await self._collect(batch)
            case Todo.FINISH:
                await self._finish(batch)
            case Todo.FORGET:
                await self._remove(batch)
            case Todo.ASK if not batch.note.misses:
                self.observe(seen_event(batch.note))
            case _:
                pass

    async def _collect(self, batch: OpenBatch) -> None:
        note = batch.note
        if note.step is not Step.COLLECTING:
            self.looker.write(batch, replace(note, step=Step.COLLECTING))
        found = await self.collector.collect(batch)
        if found.report:
            why = f": {note.why}" if found.missing and note.why else ""
            text = f"{note.name} ({note.state.lower()}): {found.report}{why}"
            self.observe(BatchNotice(text))
        if found.failure is not None:
            await self._not_read(batch, found.failure)
        elif not batch.waiting:
            self.looker.write(batch, replace(batch.note, step=Step.COLLECTED))
            await self._finish(batch)

    async def _not_read(self, batch: OpenBatch, failure: ApiError | Failure) -> None:
        """Leave the results to a later look; give the calls back once they are gone for good."""
        note = batch.note
        self.observe(BatchNotice(f"{note.name}: its results can't be read: {failure.message}"))
        if not (isinstance(failure, ApiError) and failure.http_status in {403, 404, 410}):
            return
        note = steps.missed(note, self.clock.utc())
        if steps.is_missing(note, self.clock.utc()):
            note = replace(note, output_file="", why="its results are gone from the server")
        self.looker.write(batch, note)

    async def _finish(self, batch: OpenBatch) -> None:
        """Remove the input file of a batch whose rows are durable, and then its note."""
        self.observe(replace(seen_event(batch.note), is_over=True))
        refused = await self.collector.files.delete(batch.note.file) if batch.note.file else None
        is_old = self.clock.utc() - batch.note.since > steps.EXPIRED_AFTER  # and the file as well
        if refused is None or is_old:
            await self._remove(batch)

    async def _give_up(self, batch: OpenBatch, why: str) -> None:
        note, calls = batch.note, batch.waiting
        named = note.name or f"whose creation was not answered ({note.display_name})"
        message = f"its batch {named} {why}; it may have been billed"
        failure = Failure(FailureKind.NO_RESULT, message, may_be_billed=True)
        await self.collector.give_back(batch, batch.open_positions(), failure, Collected())
        await self.collector.committer.flush()
        self.looker.write(batch, replace(note, step=Step.LOST))
        then = "end as uncertain" if self.config.skip_uncertain else "are sent, and paid for, again"
        text = f"the batch {named} {why}, and is given up: its {calls:,} calls {then}"
        self.observe(BatchNotice(text, pays=not self.config.skip_uncertain))

    async def _remove(self, batch: OpenBatch) -> None:
        note = batch.note
        is_dropped = note.step in {Step.PLANNED, Step.UPLOADED}
        if is_dropped and note.file and self._is_here(batch) and self.config.base_url:
            await self.collector.files.delete(note.file)  # else it expires by itself
        await self.clock.run_blocking(lambda: self.notes.remove(note.uuid))
        self.waiting.drop(batch)
