"""Decompression of a body in pieces of bounded length: a chunk can be a thousand times as large."""

import importlib
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gemini_batch.client.malformed import MalformedAnswerError

PIECE_BYTES = 1 << 18
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_MAX_NAME_CHARS = 20
_KNOWN = {"gzip", "x-gzip", "deflate", "zstd"}


def decompressor(start: bytes, encoding: str) -> Callable[[bytes], Iterator[bytes]] | None:
    """Return the decompression of a body that begins so; None if it is not compressed.

    Raises:
        MalformedAnswerError: It can't be decompressed here.
    """
    if start.startswith(_GZIP):
        return _Zlib(31).pieces
    if start[:1] == b"\x78" and int.from_bytes(start[:2], "big") % 31 == 0:
        return _Zlib(15).pieces
    if start.startswith(_ZSTD):
        return _Zstd().pieces
    if encoding in {"", "identity"} or start[:1] in {b"", b"{", b"[", b"<"}:
        return None
    if encoding == "deflate":  # without zlib's header, as some write it
        return _Zlib(-15).pieces
    if encoding in _KNOWN:
        raise MalformedAnswerError(f"the answer is not the {encoding} that it says")
    # A longer one is not shown in part: half a key would not be found in it.
    named = repr(encoding) if len(encoding) <= _MAX_NAME_CHARS else "something unknown"
    raise MalformedAnswerError(
        f"the answer is compressed with {named}, which was not asked for and can't be "
        "decompressed here"
    )


class _Zlib:
    """Decompresses gzip, zlib or plain deflate; `wbits` is zlib's."""

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._member = zlib.decompressobj(wbits)

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a chunk decompresses to."""
        piece = b""
        while chunk or len(piece) == PIECE_BYTES:
            with _naming("deflate"):
                piece = self._member.decompress(chunk, PIECE_BYTES)
            yield piece
            chunk = self._member.unconsumed_tail
            if self._member.eof:
                rest = self._member.unused_data
                if not rest.startswith(_GZIP):
                    return  # what follows is not part of it
                chunk, piece = rest, b""
                self._member = zlib.decompressobj(self._wbits)


class _Zstd:
    """Decompresses Zstandard, which Python has since 3.14."""

    def __init__(self) -> None:
        self._frame = _zstd().ZstdDecompressor()

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a chunk decompresses to."""
        piece = b""
        while not self._frame.eof and (chunk or len(piece) == PIECE_BYTES):
            with _naming("zstd"):
                piece = self._frame.decompress(chunk, PIECE_BYTES)
            yield piece
            chunk = b""
            if self._frame.eof and self._frame.unused_data.startswith(_ZSTD):
                chunk = self._frame.unused_data
                self._frame = _zstd().ZstdDecompressor()


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Name the error of a library."""
    try:
        yield
    except Exception as error:  # the two libraries share no class
        raise MalformedAnswerError(f"the answer is damaged: it is no valid {name}") from error


def _zstd() -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise MalformedAnswerError(
        "the answer is compressed with zstd, which was not asked for; Python 3.14 can decompress it"
    )
