"""Submit: chunks of calls are noted, uploaded, noted again, and created once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from gemini_batch.catalog import batch_limits
from gemini_batch.client import request_json
from gemini_batch.client.batches import Batches
from gemini_batch.client.files import Files
from gemini_batch.client.request_json import Segment
from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.engine.batch import steps
from gemini_batch.engine.batch.cut import Chunk, Cutter
from gemini_batch.engine.batch.draining import DRAIN_S, until
from gemini_batch.engine.batch.look import Looker, seen_event
from gemini_batch.engine.batch.money import BatchMoney
from gemini_batch.engine.batch.refusals import refused_lines, stop_for
from gemini_batch.engine.commit import Committer
from gemini_batch.engine.preprocess import Preprocessor
from gemini_batch.engine.result_row import Attempted, facts_of
from gemini_batch.events import BatchNotice, ModelReplaced, Observer
from gemini_batch.output.batch_note import BatchNote, Step
from gemini_batch.output.batches import BatchNotes
from gemini_batch.output.results_file import ResultsFile
from gemini_batch.output.waiting import Mark, OpenBatch, Waiting
from gemini_batch.records import (
    ApiError,
    BatchRef,
    Call,
    Failure,
    Status,
    Stop,
    StopReason,
    Timing,
)
from gemini_batch.records.remote_batch import Created, Refused, Unknown
from gemini_batch.wording import with_advice

_STOPPED = Stop(StopReason.INTERRUPTED, "")
"""Marks that the run has stopped for a reason of its own."""


@dataclass(kw_only=True, eq=False, repr=False)
class Submitter:
    """Sends calls as batches.

    Attributes:
        successors: The announced successors of models whose calls may move.
        project: Of the key: a fingerprint.
        rows: A note says how many there were.
        stopped: Set once nothing more may be sent.
    """

    files: Files
    batches: Batches
    looker: Looker
    notes: BatchNotes
    project: str
    cutter: Cutter
    money: BatchMoney
    waiting: Waiting
    committer: Committer
    preprocess: Preprocessor
    config: Settings
    successors: Mapping[str, str]
    rows: ResultsFile
    stopped: asyncio.Event
    clock: Clock
    observe: Observer

    async def submit(self, calls: Mapping[str, Iterator[Call | Stop]]) -> list[Stop]:
        """Submit the calls of each model; return why some of them were not.

        Cancellation: a batch whose create was sent stays noted, and the next run looks for it.

        Raises:
            StorageError: The disk refused, as OSError.
        """
        stops: list[Stop] = []
        for model, of_model in calls.items():
            if not self.stopped.is_set():
                stops += await self._submit_model(model, of_model)
        return [stop for stop in stops if stop is not _STOPPED]

    async def _submit_model(self, model: str, calls: Iterator[Call | Stop]) -> list[Stop]:
        ready = self._ready(calls)
        if (first := await anext(ready, None)) is None:
            return []
        target = await self._target(model)
        if isinstance(target, Stop):
            return [target]
        moved, stops = _moved(_after(first, ready), model, target), list[Stop]()
        async for chunk in self.cutter.chunks(target, moved):
            stop = chunk if isinstance(chunk, Stop) else await self._send(chunk)
            if stop is not None:
                stops.append(stop)
                break
        return stops

    async def _ready(self, calls: Iterator[Call | Stop]) -> AsyncIterator[Call | Stop]:
        """Yield the calls that must be sent, as they are sent."""
        for call in calls:
            if self.stopped.is_set():
                return
            ready = call if isinstance(call, Stop) else await self.preprocess(call, 1)
            await self.committer.wait_for_disk()
            if ready is not None:
                yield ready

    async def _target(self, model: str) -> str | Stop:
        """Return the model to send to: this one, or its successor if the API has it no more."""
        found = await until(self.stopped, self.batches.supports(model))
        if isinstance(found, ApiError | Failure):
            stop = stop_for(found, model)
            successor = self.successors.get(model)
            if stop.reason is StopReason.ADDRESS:  # a gateway that offers other methods
                return self._no_batch(model)
            if stop.reason is not StopReason.MODEL or successor is None:
                return stop
            advice = f"the run continues with its successor {successor}"
            message = with_advice(stop.message, advice)
            self.observe(ModelReplaced(model, successor, message))
            model, found = successor, await until(self.stopped, self.batches.supports(successor))
            if isinstance(found, ApiError | Failure):
                return stop_for(found, model)
        if found is None:
            return _STOPPED
        return model if found else self._no_batch(model)

    def _no_batch(self, model: str) -> Stop:
        where = "simulator" if self.config.base_url is None else self.config.base_url
        message = (
            f"{where} does not offer batchGenerateContent for {model}, so it can't be sent by "
            "--route batch or auto: leave --route out, or choose another model or server"
        )
        return Stop(StopReason.NO_BATCH, message, model=model)

    async def _send(self, chunk: Chunk) -> Stop | None:
        """Create a batch of a chunk; the calls of lines that the server refuses end rejected."""
        while chunk.calls:
            stop = self._no_room(chunk)
            outcome = stop or await self._create(chunk)
            if outcome is None:
                return None
            if isinstance(outcome, Stop):
                self.cutter.give_up(chunk)
                return outcome
            self._reject(chunk, outcome)
            await self.committer.wait_for_disk()
            chunk = self.cutter.without(chunk, frozenset(outcome))
        return None

    async def _create(self, chunk: Chunk) -> dict[int, ApiError] | Stop | None:
        """Upload and create; return the lines that the server refuses, or why to stop."""
        note = await self._uploaded(chunk)
        if isinstance(note, Stop):
            return note
        now = self.clock.utc()
        note = await self._write(replace(note, step=Step.CREATING, sent_at=now))
        self.money.hold(note.uuid, chunk.money)
        batch = self.waiting.add_new(note, self.notes.lines(note.uuid))
        for position in range(note.calls):
            batch.add(position, Mark.ASKED)
        outcome = await self.batches.create(chunk.model, note.display_name, note.file)
        match outcome:
            case Created(found):
                self.looker.write(batch, steps.seen(note, found, self.clock.utc()))
                self.observe(seen_event(batch.note, is_new=True))
                return None
            case Unknown(error):
                return await self._unanswered(batch, error)
            case Refused(error):
                self.waiting.drop(batch)
                self.money.hand_back(note.uuid)
                refused = refused_lines(error, len(chunk.calls))
                stop = await self._dropped(note, stop_for(error, chunk.model))
                return refused or stop

    async def _uploaded(self, chunk: Chunk) -> BatchNote | Stop:
        """Note a chunk and upload it; it costs nothing until it is created."""
        note = await self._noted(chunk)
        uploading = self.files.upload(note.display_name, chunk.share.input_bytes, _pieces(chunk))
        uploaded = await until(self.stopped, uploading)
        if isinstance(uploaded, ApiError | Failure):
            return await self._dropped(note, stop_for(uploaded, chunk.model))
        if uploaded is not None:
            note = await self._write(replace(note, step=Step.UPLOADED, file=uploaded.name))
        if self.stopped.is_set():
            return await self._dropped(note, _STOPPED)
        return note

    async def _unanswered(self, batch: OpenBatch, error: ApiError | Failure) -> Stop | None:
        """Look once for a batch whose create was not answered; its calls wait in any case."""
        await until(self.stopped, self.looker.look([batch], is_first=False), DRAIN_S)
        if batch.note.step is not Step.CREATING:
            self.observe(seen_event(batch.note, is_new=True))
            return None
        what = f"the creation of a batch of {batch.note.calls:,} calls was not answered"
        then = "it may exist, so its calls wait until it is found or given up"
        self.observe(BatchNotice(with_advice(f"{what}: {error.message}", then)))
        return _STOPPED  # the next one would fare no better

    async def _noted(self, chunk: Chunk) -> BatchNote:
        """Note a chunk with its calls, durably, before anything of it is sent."""
        calls = [
            replace(facts_of(call), estimate=self.cutter.estimate(call)) for call in chunk.calls
        ]
        costs = [each.estimate.cost_usd for each in calls]
        known = [usd for usd in costs if usd is not None]
        note = BatchNote(
            uuid=chunk.uuid,
            endpoint=self.config.endpoint,
            project=self.project,
            model=chunk.model,
            calls=len(calls),
            input_tokens=chunk.share.input_tokens,
            estimated_usd=sum(known) if len(known) == len(costs) else None,
            rows_bytes=self.rows.end_bytes,
            planned_at=self.clock.utc(),
        )
        await self.clock.run_blocking(lambda: self.notes.add(note, calls))
        return note

    async def _write(self, note: BatchNote) -> BatchNote:
        await self.clock.run_blocking(lambda: self.notes.write(note))
        return note

    async def _dropped(self, note: BatchNote, stop: Stop) -> Stop:
        """Remove the note of a batch that was not created, and its file; return the stop."""
        await self.clock.run_blocking(lambda: self.notes.remove(note.uuid))
        if note.file:  # else it expires by itself
            await until(self.stopped, self.files.delete(note.file), DRAIN_S)
        return stop

    def _no_room(self, chunk: Chunk) -> Stop | None:
        """Return a stop if the project has as much enqueued as it may."""
        model, tier = chunk.model, self.config.tier
        notes = [each.note for each in self.waiting.batches if each.is_awaited]
        most = batch_limits.enqueued_tokens(model, tier)
        tokens = sum(note.input_tokens for note in notes if note.model == model)
        if tokens + chunk.share.input_tokens > most and tokens:
            found = f"{tokens:,} of {most:,} input tokens of {model} are enqueued in batches"
        elif len(notes) >= batch_limits.concurrent_batches():
            found = f"{len(notes):,} batches are open, as many as a project may have"
        else:
            return None
        return Stop(StopReason.BATCH_FULL, found)

    def _reject(self, chunk: Chunk, errors: Mapping[int, ApiError]) -> None:
        now = self.clock.utc()
        for position, error in errors.items():
            attempted = Attempted(
                facts_of(chunk.calls[position]),
                1,
                Timing(now, now, 0.0),
                BatchRef(None, chunk.key(position)),
            )
            self.committer.error(attempted, Status.REJECTED, error)


async def _after(
    first: Call | Stop, rest: AsyncIterator[Call | Stop]
) -> AsyncIterator[Call | Stop]:
    yield first
    async for each in rest:
        yield each


async def _moved(
    calls: AsyncIterator[Call | Stop], model: str, target: str
) -> AsyncIterator[Call | Stop]:
    """Yield the calls as those of the target, and last a stop for those that name the model."""
    named: Call | None = None
    async for call in calls:
        if isinstance(call, Stop) or model == target:
            yield call
        elif call.if_gone is not None:
            yield replace(call.if_gone, request=replace(call.request, model=target))
        else:
            named = named or call
    if named is not None:
        message = f"{named.id}: the API has no such model as {model}, which the line names"
        yield Stop(StopReason.MODEL, message, model=model)


def _pieces(chunk: Chunk) -> Callable[[], Iterator[Segment]]:
    def pieces() -> Iterator[Segment]:
        for position, call in enumerate(chunk.calls):
            yield from request_json.line(chunk.key(position), call.request)

    return pieces
