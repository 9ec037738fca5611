"""Parents: a call that uses pictures of other calls gets these as its input images."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from gemini_batch.clock import Clock
from gemini_batch.inputs import InputImageError, Inputs
from gemini_batch.output.bucket.parents import BucketPictures
from gemini_batch.output.rows import row_at
from gemini_batch.records import (
    Call,
    Failure,
    FailureKind,
    InputImage,
    InputUri,
    JobPicture,
    Part,
    Status,
    media_types,
)
from gemini_batch.records.references import PREFIX

MAX_READS = 4
"""Pictures that are read and hashed at a time, each in a thread."""


@dataclass(frozen=True, slots=True)
class NoPicture:
    """The picture of another call is gone, or is not what it was; the text says which."""

    message: str


@dataclass(eq=False, repr=False)
class Parents:
    """Finds the pictures of other calls in the output folder.

    Attributes:
        place_of: Returns where the row of a call's picture begins; None if it has none.
        bucket: Has the pictures that are no longer in the folder; None without a bucket.
    """

    out: Path
    inputs: Inputs
    clock: Clock
    place_of: Callable[[str], int | None]
    bucket: BucketPictures | None = None
    _reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_READS))

    async def __call__(self, call: Call) -> Call | NoPicture | Failure:
        """Return the call with its pictures; a failure if they can't be sent.

        Cancellation: safe.
        """
        if not any(isinstance(part, JobPicture) for part in call.request.parts):
            return call
        async with self._reading:
            return await self.clock.run_blocking(lambda: self._with_pictures(call))

    def _with_pictures(self, call: Call) -> Call | NoPicture | Failure:
        parts = list[Part]()
        for part in call.request.parts:
            if isinstance(part, JobPicture):
                found = self._picture(part.call_id)
                if isinstance(found, NoPicture | Failure):
                    return found
                parts.append(found)
            else:
                parts.append(part)
        images = [part for part in parts if isinstance(part, InputImage)]
        size_bytes = sum(media_types.base64_bytes(image.upload_bytes) for image in images)
        if size_bytes > media_types.MAX_INLINE_BYTES:
            return _too_large(f"its images have {size_bytes / 1e6:,.1f} MB in base64")
        return replace(call, request=replace(call.request, parts=tuple(parts)))

    def _picture(self, call_id: str) -> InputImage | NoPicture | Failure:
        place = self.place_of(call_id)
        row = None if place is None else row_at(self.out, place)
        if row is None or row["id"] != call_id or row["status"] != Status.SUCCEEDED:
            return NoPicture(f"the row of {call_id} is gone")
        image = row["images"][0]
        path = image["path"]
        try:
            file: Path | None = self.out / path
            if self.bucket is not None:
                file = self.bucket.copy(path, image["sha256"])
            if file is None or file.stat().st_size != image["size_bytes"]:
                return NoPicture(f"{path} is no longer the picture of its row")
            found = self.inputs.resolve(path if self.bucket is None else str(file.absolute()))
        except OSError as error:
            return NoPicture(f"{path} can't be read: {error.strerror}")
        except InputImageError as error:
            return _too_large(str(error))
        if isinstance(found, InputUri) or found.sha256 != image["sha256"]:
            return NoPicture(f"{path} is no longer the picture of its row")
        return replace(found, path=f"{PREFIX}{call_id}", job=call_id)


def _too_large(found: str) -> Failure:
    limit = f"{media_types.MAX_INLINE_BYTES // 1_000_000} MB a request"
    message = f"{found}; allowed: {limit}: downscale them with --max-input-pixels"
    return Failure(FailureKind.TOO_LARGE, message, may_be_billed=False)
