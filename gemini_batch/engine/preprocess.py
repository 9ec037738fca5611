"""Preprocessing of a call before admission: resume, reuse, fetch, copy and downscale inputs."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace

from gemini_batch.client.response import parse_answer
from gemini_batch.clock import Clock
from gemini_batch.engine.commit import Committer
from gemini_batch.engine.parents import NoPicture, Parents
from gemini_batch.engine.recovery import Interrupted
from gemini_batch.engine.remote import RemoteReplies
from gemini_batch.engine.result_row import Attempted, facts_of
from gemini_batch.errors import storage_errors
from gemini_batch.events import CallHeld, CallNotReused, Observer, Repaired
from gemini_batch.inputs import Downscaler, ImageChangedError, InputImageError
from gemini_batch.inputs.objects import ObjectFetcher, is_in_bucket
from gemini_batch.output import OutputFolder
from gemini_batch.output.reuse import NotReusable, Reuse
from gemini_batch.output.staging import JournaledAnswer
from gemini_batch.output.unfetched import Unfetched
from gemini_batch.plan.canonical import other_sha256s, sent_sha256
from gemini_batch.records import (
    Answer,
    Call,
    Failure,
    FailureKind,
    InputImage,
    NotFetched,
    Reply,
    Request,
    Status,
    Timing,
    media_types,
)

# Images that are downscaled at a time, each in a thread.
MAX_DOWNSCALES = min(4, os.cpu_count() or 1)
# The attempt that staged files of a reused image are named after; real ones count from 1. Recovery
# finds them by the row's `attempts`.
_NO_ATTEMPT = 0


def _sent_names(call: Call) -> set[str]:
    """Return what the in-flight log calls a call, by each id of its model."""
    return {sent_sha256(each, call.request) for each in _names(call)}


def _names(call: Call) -> tuple[str, ...]:
    """Return `request_sha256` of a call, and of the same call by the other ids of its model."""
    return call.request_sha256, *other_sha256s(call.request)


def _pictures(call: Call) -> dict[str, str]:
    """Return path → SHA-256 of the pictures of other calls."""
    images = (part for part in call.request.parts if isinstance(part, InputImage) and part.job)
    return {image.path: image.sha256 for image in images}


@dataclass(eq=False, repr=False)
class Preprocessor:
    """Ends the calls that need no request, or can't be sent, and downscales the others' images."""

    _folder: OutputFolder
    _committer: Committer
    _clock: Clock
    _observe: Observer
    _: KW_ONLY
    interrupted: Interrupted
    remote: RemoteReplies
    skip_uncertain: bool = False  # do not send these calls again: they may have been billed
    reuse: Reuse | None = None
    adopts: Callable[[str], bool] = lambda _call_id: False  # the image that is there for its answer
    unfetched: Unfetched | None = None
    downscaler: Downscaler | None = None
    fetcher: ObjectFetcher | None = None
    parents: Parents | None = None
    leave: Callable[[Call], None] = lambda _call: None  # it can't be sent in this run

    def __post_init__(self) -> None:
        """Copy what a killed run had in flight: each call of it is resumed once."""
        self._unanswered = dict(self.interrupted.unanswered)
        self._downscaling = asyncio.Semaphore(MAX_DOWNSCALES)

    async def __call__(self, call: Call, number: int) -> Call | None:
        """Return the call as attempt `number` must send it; None when its row is written.

        None also for a call that uses the picture of another one, and that is gone: it is held.

        Cancellation: safe; what has not ended is left to the next run.

        Raises:
            StorageError: The output folder can't be written.
        """
        found = await self.parents(call) if self.parents else call
        if isinstance(found, Call):
            return None if await self._end(found) else await self._downscale(found, number)
        if await self._adopt(call) or await self._fetch(call):
            return None
        if isinstance(found, NoPicture):
            self._observe(CallHeld(call.id, f"{call.id} is not sent: {found.message}"))
            self.leave(call)
        else:
            self._committer.error(self._unsent(call, number - 1), Status.FAILED, found)
        return None

    async def _end(self, call: Call) -> bool:
        """End a call that needs no request; return False if it must be sent."""
        if await self._resume(call) or await self._adopt(call):
            return True
        return await self._reuse_answer(call) or await self._fetch(call)

    async def _resume(self, call: Call) -> bool:
        """End a call that a killed run had in flight; return False if it must be sent."""
        sent = self._unanswered.get(call.id)
        if sent is None or sent not in _sent_names(call):
            return False
        del self._unanswered[call.id]
        if not await self._take_journaled(call):
            if not self.skip_uncertain:
                return False
            message = "sent by a run that ended before the answer came; it may have been billed"
            failure = Failure(FailureKind.DISCONNECTED, message, may_be_billed=True)
            self._committer.error(self._unsent(call, 0), Status.UNCERTAIN, failure)
        self._committer.end(call.id)
        return True

    async def _take_journaled(self, call: Call) -> bool:
        """Give a call the answer that had arrived whole, if there is one."""
        journaled = self._folder.journaled_answer(call.id)
        if journaled is None:
            return False
        kept = None
        with self._folder.trying(journaled) as tried:
            reply = parse_answer(Answer(200, tried.envelope, tried.images))
            if not isinstance(reply, Reply):
                kept = self._folder.set_answer_aside(tried.file, tried)
            elif not reply.remote:
                self._committer.reply(self._attempted(call, tried), reply)
                self._folder.remove_journaled(tried)
        if isinstance(reply, Reply):
            if reply.remote:
                await self._complete_journaled(call, journaled, reply)
            return True
        message = f"{call.id}: the answer that had arrived gives no result; it is kept in {kept}"
        self._observe(Repaired(message, pays=True))
        return False

    async def _complete_journaled(
        self, call: Call, journaled: JournaledAnswer, reply: Reply
    ) -> None:
        """Fetch the images of such an answer; a run that is killed meanwhile did not try it."""
        staged = self._folder.stage(call.id, journaled.attempt)
        fetched = await self.remote.fetch(reply, staged, len(journaled.images))
        with self._folder.trying(journaled) as tried:
            self.remote.write(self._attempted(call, tried), fetched)
            self._folder.remove_journaled(tried)
        staged.discard()

    def _attempted(self, call: Call, journaled: JournaledAnswer) -> Attempted:
        """Return the attempt of a journaled answer, which finishes in this run.

        Rows are in the order of finishing, and are in its totals.
        """
        latency_s = max(0.0, (journaled.finished_at - journaled.sent_at).total_seconds())
        timing = Timing(journaled.sent_at, self._clock.utc(), latency_s)
        return Attempted(facts_of(call), journaled.attempt, timing)

    async def _adopt(self, call: Call) -> bool:
        """Take the image that is there, and has no row, for the answer of a call."""
        if not self.adopts(call.id):
            return False
        with storage_errors(f"{call.id}: its image can't be read"):
            found = await self._clock.run_blocking(lambda: self._folder.images_of(call.id))
        if found is None:
            message = f"{call.id}: its image is incomplete or not an image"
            self._observe(CallNotReused(call.id, message))
            return False
        self._committer.adopt(self._unsent(call, _NO_ATTEMPT), *found)
        return True

    async def _reuse_answer(self, call: Call) -> bool:
        reuse = self.reuse
        if reuse is None or not reuse.has(call.id, call.request_sha256):
            return False
        staged = self._folder.stage(call.id, _NO_ATTEMPT)
        with storage_errors(f"{call.id}: its reused image can't be written"):
            found = await self._clock.run_blocking(
                lambda: reuse.copy(call.id, call.request_sha256, staged, _pictures(call))
            )
        reuse.release(call.id, call.request_sha256)
        if isinstance(found, NotReusable):
            self._observe(CallNotReused(call.id, found.message))
            return False
        # As with an answer that has just arrived: no await before its row.
        attempted = self._unsent(call, _NO_ATTEMPT)
        self._committer.reply(attempted, found.reply, reused_from=found.source)
        return True

    async def _fetch(self, call: Call) -> bool:
        """Fetch the image of an answer that is paid for; return False if the call must be sent."""
        if self.unfetched is None or not self.unfetched.is_any:
            return False  # the names of a call take a while
        if (row := self.unfetched.take(call.id, *_names(call))) is None:
            return False
        staged = self._folder.stage(call.id, _NO_ATTEMPT)
        attempted = self._unsent(call, _NO_ATTEMPT)
        attempted = replace(attempted, call=replace(attempted.call, inputs=row.inputs))
        try:
            outcome = await self.remote.fetch_again(attempted, row, staged)
        except asyncio.CancelledError:
            staged.discard()
            raise
        staged.discard()
        if isinstance(outcome, NotFetched):
            self._observe(CallNotReused(call.id, outcome.message))
            return False
        return True

    async def _downscale(self, call: Call, number: int) -> Call | None:
        if not (self.fetcher and is_in_bucket(call.request)) and (
            self.downscaler is None
            or not any(
                isinstance(part, InputImage) and part.max_pixels for part in call.request.parts
            )
        ):
            return call
        try:
            async with self._downscaling:
                request = await self._clock.run_blocking(lambda: self._copied(call.request))
        except ImageChangedError as error:
            failure = Failure(FailureKind.INPUT_CHANGED, str(error), may_be_billed=False)
        except InputImageError as error:
            failure = Failure(FailureKind.INPUT_UNREADABLE, str(error), may_be_billed=False)
        else:
            images = [part for part in request.parts if isinstance(part, InputImage)]
            size_bytes = sum(media_types.base64_bytes(image.upload_bytes) for image in images)
            if size_bytes <= media_types.MAX_INLINE_BYTES:
                return replace(call, request=request)
            message = (
                f"its images still have {size_bytes / 1e6:,.1f} MB in base64; allowed: "
                f"{media_types.MAX_INLINE_BYTES // 1_000_000} MB a request: set --max-input-pixels "
                "lower"
            )
            failure = Failure(FailureKind.TOO_LARGE, message, may_be_billed=False)
        self._committer.error(self._unsent(call, number - 1), Status.FAILED, failure)
        return None

    def _copied(self, request: Request) -> Request:
        """Return a request with the copies that are sent of its images."""
        if self.fetcher is not None:
            request = self.fetcher.request(request)
        return request if self.downscaler is None else self.downscaler.request(request)

    def _unsent(self, call: Call, attempts: int) -> Attempted:
        now = self._clock.utc()
        return Attempted(facts_of(call), attempts, Timing(now, now, 0.0))
