"""The body of a request as it is sent: images are read and encoded a block at a time."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

import pybase64
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from gemini_batch.client import request_json
from gemini_batch.records import InputImage

# A multiple of three, so that every block but the last is base64 without padding.
UPLOAD_BLOCK_BYTES = 3 << 16


class InputChangedError(Exception):
    """A reference image differs from the one that was planned."""


class StreamedBody(Payload):
    """A request's body of known size that is never whole in memory.

    Attributes:
        has_started: The connection exists, and bytes may have been sent.
        changed: The problem with a reference image, or "".
        on_block: Called after each block that was sent.
    """

    def __init__(self, value: object, size_bytes: int, content_type: str) -> None:
        super().__init__(value, content_type=content_type)
        self._size = size_bytes
        self.has_started = False
        self.changed = ""
        self.on_block: Callable[[], object] = lambda: None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> NoReturn:
        """Raise TypeError: an upload is never read as a whole."""
        raise TypeError("an upload is read only while it is sent")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the body; the library calls this once the connection exists.

        Cancellation: some of it has been sent, and the connection is not used again.

        Raises:
            InputChangedError: A reference image differs from the one that was planned.
        """
        async for block in self:
            await writer.write(block)
            self.on_block()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the blocks of the body."""
        self.has_started = True
        try:
            for block in self.blocks():
                yield block
        except InputChangedError as error:
            # aiohttp replaces what a body raises by an error of the connection.
            self.changed = str(error)
            raise

    def blocks(self) -> Iterator[bytes]:
        """Yield the blocks of the body."""
        raise NotImplementedError


class Upload(StreamedBody):
    """The body of a request of JSON.

    Attributes:
        may_be_whole: The last block was handed over. Before that the server has no request that
            it could bill.
    """

    def __init__(
        self, segments: tuple[request_json.Segment, ...], on_start: Callable[[], object]
    ) -> None:
        super().__init__(segments, request_json.content_length(segments), "application/json")
        self._segments = segments
        self._on_start = on_start
        self.may_be_whole = False

    def blocks(self) -> Iterator[bytes]:
        """Yield the blocks of the body."""
        self._on_start()
        last = len(self._segments) - 1
        for index, segment in enumerate(self._segments):
            if isinstance(segment, bytes):
                self.may_be_whole = index == last
                yield segment
            else:
                yield from base64_blocks(segment)


def base64_blocks(image: InputImage, skip_bytes: int = 0) -> Iterator[bytes]:
    """Yield the base64 of an image, without its first `skip_bytes`.

    Raises:
        InputChangedError: The image differs from the one that was planned.
    """
    # On the event loop: a block is nearly always in the page cache; a thread would cost more.
    groups, skip_bytes = divmod(skip_bytes, 4)
    try:
        with Path(image.file).open("rb") as file:
            _check(file, image)
            file.seek(groups * 3)
            left = image.size_bytes - groups * 3
            while left:
                size_bytes = min(left, UPLOAD_BLOCK_BYTES)
                block = file.read(size_bytes)
                if len(block) < size_bytes:
                    raise _change(image, "became shorter while it was sent; run again")
                left -= size_bytes
                if not left:
                    _check(file, image)
                yield pybase64.b64encode(block)[skip_bytes:]
                skip_bytes = 0
    except OSError as error:
        raise _change(image, f"can no longer be read: {error.strerror}") from error


def _check(file: BinaryIO, image: InputImage) -> None:
    status = os.fstat(file.fileno())
    if (status.st_size, status.st_mtime_ns) != (image.size_bytes, image.mtime_ns):
        raise _change(image, "changed since the run began; run again")


def _change(image: InputImage, problem: str) -> InputChangedError:
    return InputChangedError(f"{image.path}: {problem}")
