"""Answers for the tests of the image extractor, and sinks that keep what they are given."""

import base64
import io
from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import Any

from gemini_batch.client.answer_paths import ANSWER, Paths
from gemini_batch.client.image_extractor import ImageExtractor
from gemini_batch.client.malformed import ExtractorLimits

PIXEL = b"\x89PNG\r\n\x1a\n pixel"


class Sink(io.BytesIO):
    """A sink that keeps what it receives."""

    image: bytes | None = None  # until it is closed

    def write(self, data: Any, /) -> int:
        """Append bytes; an empty write is a mistake."""
        assert len(data), "an empty write"
        return super().write(data)

    def blocks(self, start: int = 0, size_bytes: int | None = None, /) -> Iterator[bytes]:
        """Yield what was written."""
        data = self.image if self.closed else self.getvalue()
        yield (data or b"")[start:][:size_bytes]

    def getvalue_or_image(self) -> bytes:
        """Return what it received."""
        return self.getvalue() if self.image is None else self.image

    def close(self) -> None:
        """Keep the complete image."""
        if not self.closed:  # the garbage collector closes as well
            self.image = self.getvalue()
        super().close()


class Sinks(list[Sink]):
    """The sinks of one answer."""

    def open(self, index: int) -> Sink:
        """Open the next one."""
        assert index == len(self), "images are numbered in the order of arrival"
        self.append(Sink())
        return self[-1]


def feed_all(extractor: ImageExtractor, chunks: Iterable[bytes]) -> None:
    """Feed all chunks."""
    for chunk in chunks:
        extractor.feed(chunk)


def extract(
    chunks: Iterable[bytes], limits: ExtractorLimits | None = None, paths: Paths = ANSWER
) -> tuple[bytes, list[bytes | None]]:
    """Return the envelope and the images of an answer; None for an image that was not closed."""
    sinks = Sinks()
    extractor = ImageExtractor(sinks.open, limits or ExtractorLimits(), paths=paths)
    feed_all(extractor, chunks)
    return extractor.finish(), [sink.image for sink in sinks]


def chunked(body: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """Cut a body into chunks of these sizes, again and again."""
    start = 0
    for size in cycle(sizes):
        if start >= len(body):
            return
        yield body[start : start + size]
        start += size


def b64(data: bytes) -> bytes:
    """Return base64 of another library than the extractor's."""
    return base64.b64encode(data)


OPEN = b'{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":"'
CLOSE = b'"}}]}}]}'


def answer(data: bytes = b64(PIXEL)) -> bytes:
    """Return an answer with one image."""
    return OPEN + data + CLOSE


class Null:
    """A sink that drops what it receives."""

    def write(self, data: bytes, /) -> None:
        """Drop it."""

    def close(self) -> None:
        """Do nothing."""

    def blocks(self, _start: int = 0, _size_bytes: int | None = None, /) -> Iterator[bytes]:
        """Yield nothing."""
        return iter(())
