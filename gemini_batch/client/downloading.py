"""A download that is under way: its bytes, and why it ended early."""

import re
from collections.abc import AsyncIterator, Callable, Iterator

import aiohttp

from gemini_batch.client.body_decoder import BodyDecoder
from gemini_batch.client.malformed import MalformedAnswerError
from gemini_batch.client.timeouts import StallTimeout
from gemini_batch.records import Failure

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/(?:([0-9]{1,18})|\*)")
# What every file of JSON begins with; else it may be compressed, or in another encoding.
_PLAIN_STARTS = (b"{", b"\n", b" ", b"\r", b"\t", b"[")


class Download:
    """A file that is being downloaded.

    Attributes:
        start_bytes: Of the first byte that comes: the one asked for, or 0 if the server ignored
            the range.
        total_bytes: Of the whole file; None if the server does not say.
        etag: Names this version of the file, for `Files.download`; "" without one.
        can_continue: The bytes come as they are in the file, so that an offset has a meaning.
        failure: Why the stream ended before its end; None if it is whole. Look at it after
            `chunks`.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        start_bytes: int,
        between_bytes_s: float,
        failure_of: Callable[[Exception], Failure],
    ) -> None:
        self._response = response
        self._between_bytes_s = between_bytes_s
        self._failure_of = failure_of
        self.start_bytes = start_bytes
        length = response.content_length
        self.total_bytes = None if length is None else start_bytes + length
        etag = response.headers.get("ETag", "")
        self.etag = etag if etag.startswith('"') else ""  # a weak one is of no use
        self._encoding = response.headers.get("Content-Encoding", "").strip().lower()
        self.can_continue = self._encoding in {"", "identity"}
        self._decoder: BodyDecoder | None = None
        self.failure: Failure | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes as they arrive, to the end or to a `failure`.

        Cancellation: safe.
        """
        is_first = self.start_bytes == 0
        while True:
            try:
                async with StallTimeout(self._between_bytes_s):
                    chunk = await self._response.content.readany()
            except (aiohttp.ClientError, OSError) as error:  # a TimeoutError as well
                self.failure = self._failure_of(error)
                return
            if is_first and chunk:
                self._look_at(chunk)
                is_first = False
            try:
                for piece in self._decoded(chunk):
                    yield piece
            except MalformedAnswerError as error:
                self.failure = Failure(error.kind, str(error), may_be_billed=False)
                return
            if not chunk:
                return

    def _look_at(self, start: bytes) -> None:
        if not self.can_continue or not start.startswith(_PLAIN_STARTS) or b"\0" in start[:8]:
            self.can_continue = False
            self._decoder = BodyDecoder(self._encoding)

    def _decoded(self, chunk: bytes) -> Iterator[bytes]:
        if self._decoder is None:
            yield from (chunk,) if chunk else ()
        else:
            yield from self._decoder.decode(chunk, is_last=not chunk)


def begins_at(response: aiohttp.ClientResponse, start_bytes: int) -> bool:
    """Return whether a 206 is of the range from a byte to the end of the file."""
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if found is None or int(found[1]) != start_bytes:
        return False
    is_to_end = found[3] is None or int(found[2]) + 1 == int(found[3])
    length = response.content_length
    return is_to_end and length in (None, int(found[2]) + 1 - start_bytes)
