"""The body of an image that is fetched by its URI, while it arrives."""

from collections.abc import Callable, Iterator

from gemini_batch.client.decompression import Unwrap, decompressor
from gemini_batch.client.malformed import MalformedAnswerError
from gemini_batch.client.transport import ImageSink
from gemini_batch.errors import storage_errors
from gemini_batch.records import FetchProblem, NotFetched, media_types

MAX_IMAGE_BYTES = 64 * 2**20
"""Limit of one image; a 4K PNG has about 25 MB."""

_WHITESPACE = b" \t\r\n"


class NotFetchedError(Exception):
    """The image can't be had in this try; `result` says why."""

    def __init__(self, problem: FetchProblem, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.result = NotFetched(problem, message, wait_s)


class RemoteBody:
    """Passes an image on to a sink, decompressed if it came so though that was not asked for.

    `encoding` is the Content-Encoding. Methods raise NotFetchedError if it is not an image, or too
    large, and StorageError if the sink fails.
    """

    def __init__(self, open_sink: Callable[[], ImageSink], encoding: str) -> None:
        self._open_sink = open_sink
        self._encoding = encoding.strip().lower()
        self._start: bytes | None = b""  # until it is known whether it is compressed
        self._unwrap: Unwrap | None = None
        self._head = b""  # until it is known to be an image
        self._sink: ImageSink | None = None
        self._size_bytes = 0

    def feed(self, chunk: bytes, *, is_last: bool = False) -> Iterator[None]:
        """Take the next bytes, a piece of bounded length with each item."""
        try:
            for piece in self._unwrapped(chunk, is_last=is_last):
                self._write(piece)
                yield
        except MalformedAnswerError as error:
            raise NotFetchedError(FetchProblem.REFUSED, str(error)) from error

    def end(self) -> None:
        """Take the image for whole."""
        if self._unwrap is not None and self._unwrap.is_cut:
            message = "it breaks off, before its compression ends"
            raise NotFetchedError(FetchProblem.TRANSIENT, message)
        sink = self._sink or self._begin()
        sink.close()

    def _unwrapped(self, chunk: bytes, *, is_last: bool) -> Iterator[bytes]:
        if self._start is not None:
            chunk = self._start + chunk
            if len(chunk) < media_types.HEAD_BYTES and not is_last:
                self._start = chunk
                return
            self._start = None
            if media_types.sniff(chunk[: media_types.HEAD_BYTES]) is None:
                self._unwrap = decompressor(chunk[: media_types.HEAD_BYTES], self._encoding)
        if self._unwrap is not None:
            yield from self._unwrap.pieces(chunk)
        elif chunk:
            yield chunk

    def _write(self, data: bytes) -> None:
        self._size_bytes += len(data)
        if self._size_bytes > MAX_IMAGE_BYTES:
            raise too_large()
        if self._sink is not None:
            _write(self._sink, data)
            return
        self._head += data
        if len(self._head) >= media_types.HEAD_BYTES:
            self._begin()

    def _begin(self) -> ImageSink:
        """Open the sink for an image that starts so."""
        if media_types.sniff(self._head[: media_types.HEAD_BYTES]) is None:
            raise NotFetchedError(FetchProblem.REFUSED, _no_picture(self._head))
        with storage_errors("an image of the answer can't be written"):
            self._sink = self._open_sink()
        _write(self._sink, self._head)
        return self._sink


def too_large() -> NotFetchedError:
    """Return the error of an image beyond the limit."""
    return NotFetchedError(FetchProblem.REFUSED, f"it has more than {MAX_IMAGE_BYTES:,} bytes")


def _write(sink: ImageSink, data: bytes) -> None:
    if data:
        with storage_errors("an image of the answer can't be written"):
            sink.write(data)


def _no_picture(start: bytes) -> str:
    if not start:
        return "it is empty"
    if start.lstrip(_WHITESPACE).startswith(b"<"):
        return "it is a web page and not a picture: does the server ask for a login?"
    return f"it is not a picture: it begins with {start[:16]!r}"
