"""The JSON of a body that may be compressed, in another encoding, or in events.

An answer is asked for without any compression. Gateways compress it anyway, with and
without a Content-Encoding, or as UTF-16, or as server-sent events. The first bytes show it.
"""

import codecs
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain

from gemini_batch.client.decompression import Unwrap, decompressor
from gemini_batch.client.event_stream import EventStream
from gemini_batch.client.malformed import MalformedAnswerError

_IN_FRONT = b" \t\n\r" + codecs.BOM_UTF8
# What has to be seen of a body.
_HEAD_BYTES = 8
# Compressed by one proxy, and again by another; then in UTF-16.
_MAX_LAYERS = 3
_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)

# What is kept of a body before anything was decoded from it: a frame of zstd has 128 KB, a
# header of gzip a file name of any length.
_MAX_UNREAD_BYTES = 1 << 20


class BodyDecoder:
    """A push parser that returns the JSON of a body.

    `encoding` is the Content-Encoding; it decides only where the first bytes do not.
    """

    def __init__(self, encoding: str = "", layers: int = _MAX_LAYERS) -> None:
        self._encoding = encoding.strip().lower()
        self._layers = layers
        self._head: bytes | None = b""  # what was not looked at yet; None once it was
        self._unwrap: Unwrap | None = None
        self._events: EventStream | None = None
        self._is_plain = False
        self._packed_bytes = 0
        self._unread = bytearray()
        self._has_json = False  # something was decoded, and no white space alone
        self._inner: BodyDecoder | None = None

    @property
    def unread(self) -> bytes:
        """The bytes that could not be decoded, after an error; all of them, if none could."""
        return bytes(self._unread)

    @property
    def is_done(self) -> bool:
        """True if the body said that it has ended."""
        inner = self._inner is not None and self._inner.is_done
        return inner or (self._events is not None and self._events.is_done)

    def decode(self, chunk: bytes, *, is_last: bool = False) -> Iterable[bytes]:
        """Return the JSON in the next bytes of the body, in pieces of bounded length.

        Iterating raises MalformedAnswerError if it is compressed in a way that is not known here,
        or damaged.
        """
        return (chunk,) if self._is_plain else self._pieces(chunk, is_last=is_last)

    def _pieces(self, chunk: bytes, *, is_last: bool) -> Iterator[bytes]:
        if self._head is not None:
            chunk = self._head + chunk
            rest = chunk.lstrip(_IN_FRONT)
            if len(rest) < _HEAD_BYTES and not is_last:
                self._head = rest
                yield chunk[: len(chunk) - len(rest)]  # they count
                return
            self._head = None
            try:
                self._look_at(rest[:_HEAD_BYTES])
            except MalformedAnswerError:
                self._unread += rest
                raise
            chunk = rest
        if self._unwrap is not None and self._inner is not None:
            yield from self._unwrapped(self._unwrap, self._inner, chunk, is_last=is_last)
        elif self._events is not None:
            yield self._events.decode(chunk + b"\n" if is_last else chunk)
        else:
            self._is_plain = True
            yield chunk

    def _unwrapped(
        self, unwrap: Unwrap, inner: "BodyDecoder", chunk: bytes, *, is_last: bool
    ) -> Iterator[bytes]:
        self._packed_bytes += len(chunk)
        if self._has_json:
            self._unread.clear()  # of the last chunk
        if len(self._unread) < _MAX_UNREAD_BYTES:
            self._unread += chunk
        pieces = (inner.decode(piece) for piece in unwrap.pieces(chunk))
        end = (inner.decode(b"", is_last=True),) if is_last else ()
        for found in chain.from_iterable(chain(pieces, end)):
            if not self._has_json and found.strip(_IN_FRONT):
                self._has_json = True
                self._unread.clear()
            yield found
        if is_last and unwrap.is_cut:
            raise MalformedAnswerError(
                f"the answer breaks off after {self._packed_bytes:,} bytes, before its "
                "compression ends"
            )

    def _look_at(self, start: bytes) -> None:
        """Find out what the body is."""
        if start.startswith((b"{", b"[")) and b"\0" not in start:
            return
        if start.startswith(EventStream.STARTS):
            self._events = EventStream()
        elif self._layers:
            self._unwrap = _as_utf8(start) or decompressor(start, self._encoding)
            if self._unwrap is not None:
                self._inner = BodyDecoder(layers=self._layers - 1)


class _Text:
    """Converts text of another encoding to UTF-8."""

    is_cut = False

    def __init__(self, encoding: str) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a chunk converts to."""
        yield self._decoder.decode(chunk).encode(errors="replace")


def _as_utf8(start: bytes) -> Unwrap | None:
    """Return the conversion of UTF-16 or UTF-32; None if it is neither."""
    if b"\0" not in start and not start.startswith(_BOMS):
        return None
    name = json.detect_encoding(start)
    if not name.startswith(("utf-16", "utf-32")):
        return None
    return _Text(name)


def decoded(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Return the start of a body that need not be JSON; as it came if it can't be decoded."""
    found = bytearray()
    with suppress(MalformedAnswerError):
        for piece in BodyDecoder(encoding).decode(body, is_last=True):
            found += piece
            if len(found) >= max_bytes:
                break
    return bytes(found or body)[:max_bytes]
