"""The boundary between the engine and the code that sends a call and streams its answer.

A batch does not go through it: it holds no worker while it waits, and its answers arrive in
another process.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, Self

from gemini_batch.records import Answer, Call, Failure, IncomingImage, NotFetched, Timing


class ImageSink(Protocol):
    """Receives the bytes of one image, in order.

    If the transfer fails, the sink is not closed. Its opener discards it.
    """

    def write(self, data: bytes, /) -> object:
        """Append all of `data`, which is never empty. Exceptions end the transfer."""

    def close(self) -> object:
        """Note that the image is complete."""

    def blocks(self, start: int = 0, size_bytes: int | None = None, /) -> Iterator[bytes]:
        """Yield what was written, or a piece of it; all but the last block have 3 n bytes."""


class AnswerSink(Protocol):
    """Receives the answer of one attempt while it arrives."""

    def open_image(self, index: int, /) -> ImageSink:
        """Open the sink of the image that arrives as number `index`, from 0."""

    def open_aside(self) -> ImageSink:
        """Open the sink of what is not an image and too large for memory."""

    def keepable(self, body: Iterable[bytes], /) -> None:
        """Take the body of the answer, to be read if it has to be kept as it came."""

    def journal(self, envelope: bytes, /, *, is_whole: bool = True) -> None:
        """Save the rest of an answer, so that it survives a kill. Raises nothing.

        Of one that is not whole only the images count that are closed.
        """

    def arrived(self) -> tuple[IncomingImage, ...]:
        """Return the images in their order of arrival; the last one may not be complete."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """The result of one attempt, with its times."""

    answer: Answer | Failure
    timing: Timing


class Transport(Protocol):
    """Sends calls one at a time per worker. Used as an async context manager."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc_info: object) -> None: ...

    async def send(
        self, call: Call, sink: AnswerSink, on_connected: Callable[[], object]
    ) -> Exchange:
        """Send the call once and stream its images into `sink`; any outcome is a value.

        There is no await between the last byte of the answer's JSON and the return.

        `sink` receives the answer; the caller discards it. `on_connected` is called when the
        request begins to leave.

        Cancellation: the request may have been billed; what arrived of the answer is lost.
        """


class ImageFetcher(Protocol):
    """Fetches images that an answer names by URI. Used as an async context manager."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc_info: object) -> None: ...

    async def fetch(
        self, uri: str, open_sink: Callable[[], ImageSink], until_s: float
    ) -> NotFetched | None:
        """Fetch an image; return why it can't be, or None when the sink has it.

        `open_sink` is called for each try that brings an image, `until_s` is of the event loop's
        clock.

        Cancellation: the image is not whole; its sink is not closed.

        Raises:
            StorageError: The sink failed.
        """
