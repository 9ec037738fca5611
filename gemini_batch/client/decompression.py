"""Decompression of a body in pieces of bounded length: a chunk can be a thousand times as large."""

import importlib
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from gemini_batch.client.malformed import MalformedAnswerError

PIECE_BYTES = 1 << 18
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_MAX_NAME_CHARS = 20
_KNOWN = {"gzip", "x-gzip", "deflate", "zstd"}


class Unwrap(Protocol):
    """A conversion of a body that arrives in chunks."""

    @property
    def is_cut(self) -> bool:
        """True if the body may not end here."""

    def pieces(self, chunk: bytes, /) -> Iterator[bytes]:
        """Yield what a chunk converts to, in pieces of bounded length."""


def decompressor(start: bytes, encoding: str) -> Unwrap | None:
    """Return the decompression of a body that begins so; None if it is not compressed.

    Raises:
        MalformedAnswerError: It can't be decompressed here.
    """
    if start.startswith(_GZIP):
        return _Frames("deflate", partial(zlib.decompressobj, 31), _GZIP)
    if start[:1] == b"\x78" and int.from_bytes(start[:2], "big") % 31 == 0:
        return _Frames("deflate", partial(zlib.decompressobj, 15))
    if start.startswith(_ZSTD):
        return _Frames("zstd", _zstd().ZstdDecompressor, _ZSTD)
    if encoding in {"", "identity"} or start[:1] in {b"", b"{", b"[", b"<"}:
        return None
    if encoding == "deflate":  # without zlib's header, as some write it
        return _Frames("deflate", partial(zlib.decompressobj, -15))
    if encoding in _KNOWN:
        raise MalformedAnswerError(f"the answer is not valid {encoding}, which its headers name")
    # A longer one is not shown in part: half a key would not be found in it.
    named = repr(encoding) if len(encoding) <= _MAX_NAME_CHARS else "something unknown"
    raise MalformedAnswerError(
        f"the answer is compressed with {named}, which was not asked for and can't be "
        "decompressed here"
    )


class _Frames:
    """Decompresses frames, of which one may follow another; what else follows is dropped."""

    def __init__(self, name: str, open_frame: Callable[[], Any], magic: bytes = b"") -> None:
        self._name, self._open_frame, self._magic = name, open_frame, magic
        self._frame = open_frame()
        self._start = b""  # of what may be another frame
        self._is_over = False

    @property
    def is_cut(self) -> bool:
        """True within a frame."""
        return not self._frame.eof

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a chunk decompresses to."""
        while not self._is_over and (not self._frame.eof or self._opens_another(chunk)):
            chunk, self._start = self._start + chunk, b""
            with _naming(self._name):
                piece = self._frame.decompress(chunk, PIECE_BYTES)
            yield piece
            if self._frame.eof:
                chunk = self._frame.unused_data
                continue
            chunk = getattr(self._frame, "unconsumed_tail", b"")  # zstd keeps it
            if not chunk and len(piece) < PIECE_BYTES:
                return

    def _opens_another(self, chunk: bytes) -> bool:
        """Open another frame, if its first bytes are there; hold them back if they are not all."""
        start = (self._start + chunk)[: len(self._magic)]
        if start != self._magic or not start:
            self._is_over = not self._magic.startswith(start) or not self._magic
            self._start = start
            return False
        self._frame = self._open_frame()
        return True


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Name the error of a library."""
    try:
        yield
    except Exception as error:  # the two libraries share no class
        raise MalformedAnswerError(f"the answer is damaged: it is not a valid {name}") from error


def _zstd() -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise MalformedAnswerError(
        "the answer is compressed with zstd, which was not asked for; Python 3.14 can decompress it"
    )
