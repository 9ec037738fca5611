"""What is done for a call before it asks for quota: reuse an answer of another folder, or else make its large images smaller."""

import asyncio
import os
from dataclasses import replace

from gemini_batch.clock import Clock
from gemini_batch.engine.commit import Attempted, Committer
from gemini_batch.errors import StorageError, describe_os_error
from gemini_batch.events import CallNotReused, Observer
from gemini_batch.inputs import Downscaler, ImageChangedError, InputImageError
from gemini_batch.output import OutputFolder
from gemini_batch.output.reuse import NotReusable, Reuse
from gemini_batch.records import Call, Failure, FailureKind, InputImage, Status, Timing, media_types

# Images that are made smaller at a time, each in a thread; the decoding runs beside the event loop.
SHRINKS_AT_ONCE = min(4, os.cpu_count() or 1)
# The attempt that parts of a reused image are named after; real ones count from 1. Recovery finds them by the row's `attempts`.
_NO_ATTEMPT = 0


class Preparation:
    """Makes calls ready to be sent; one that needs not, or can't, be sent gets its row at once."""

    def __init__(
        self,
        store: OutputFolder,
        committer: Committer,
        clock: Clock,
        observe: Observer,
        *,
        shrinker: Downscaler | None = None,
        reuse: Reuse | None = None,
    ) -> None:
        self._store = store
        self._committer = committer
        self._clock = clock
        self._observe = observe
        self._shrinker = shrinker
        self._reuse = reuse
        self._shrinking = asyncio.Semaphore(SHRINKS_AT_ONCE)

    async def __call__(self, call: Call, attempt: int) -> Call | None:
        """Return the call as it is to be sent; None when its row is written.

        Cancellation: safe; a copy that goes on in its thread is removed by the next run.

        Raises:
            StorageError: The output folder can't be written.
        """
        if (
            self._reuse
            and self._reuse.has(call.id, call.request_sha256)
            and await self._reused(call, self._reuse)
        ):
            return None
        if self._shrinker and any(
            isinstance(part, InputImage) and part.max_pixels for part in call.request.parts
        ):
            return await self._with_smaller_images(call, attempt, self._shrinker)
        return call

    async def _reused(self, call: Call, reuse: Reuse) -> bool:
        incoming = self._store.stage(call.id, _NO_ATTEMPT)
        try:
            found = await self._clock.run_blocking(
                lambda: reuse.copy(call.id, call.request_sha256, incoming)
            )
        except OSError as error:
            raise StorageError(
                f"{call.id}: its reused image can't be written: {describe_os_error(error)}"
            ) from error
        reuse.release(call.id, call.request_sha256)
        if isinstance(found, NotReusable):
            self._observe(CallNotReused(call.id, found.message))
            return False
        # From here on as with an answer that has just arrived: no await before its row.
        self._committer.reply(
            self._unsent(call, _NO_ATTEMPT), found.reply, reused_from=found.source
        )
        return True

    async def _with_smaller_images(
        self, call: Call, attempt: int, shrinker: Downscaler
    ) -> Call | None:
        try:
            async with self._shrinking:
                request = await self._clock.run_blocking(lambda: shrinker.request(call.request))
        except ImageChangedError as error:
            self._refuse(call, attempt, FailureKind.INPUT_CHANGED, str(error))
            return None
        except InputImageError as error:
            self._refuse(call, attempt, FailureKind.INPUT_UNREADABLE, str(error))
            return None
        images = [part for part in request.parts if isinstance(part, InputImage)]
        if (
            size_bytes := sum(media_types.base64_bytes(image.upload_bytes) for image in images)
        ) > media_types.MAX_INLINE_BYTES:
            limit = media_types.MAX_INLINE_BYTES // 1_000_000
            message = f"its images still have {size_bytes / 1e6:,.1f} MB in base64; allowed: {limit} MB a request: set --max-input-pixels lower"
            self._refuse(call, attempt, FailureKind.TOO_LARGE, message)
            return None
        return replace(call, request=request)

    def _refuse(self, call: Call, attempt: int, kind: FailureKind, message: str) -> None:
        """Write the row of a call that is not sent: the next run tries again."""
        failure = Failure(kind, message, may_be_billed=False)
        self._committer.error(self._unsent(call, attempt - 1), Status.FAILED, failure)

    def _unsent(self, call: Call, attempts: int) -> Attempted:
        now = self._clock.utc()
        return Attempted(call, attempts, Timing(now, now, 0.0))
