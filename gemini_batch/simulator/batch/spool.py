"""Data that grows at its end: on the disk unless it is small, and gone when the process ends."""

import os
import tempfile
import weakref
from collections.abc import Iterator
from threading import Lock

_BLOCK_BYTES = 1024 * 1024
# Smaller data stays in memory: a process may have only about a thousand files open.
_SMALL_BYTES = 256 * 1024


class Spool:
    """Bytes in a file without a name; deleted with the last reference to this object."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._small = bytearray()
        self._descriptor: int | None = None
        self._lock = Lock()

    def append(self, data: bytes | memoryview) -> None:
        """Write at the end; blocks for the copy."""
        with self._lock:
            if self._descriptor is None and self.size_bytes + len(data) <= _SMALL_BYTES:
                self._small += data
                self.size_bytes += len(data)
                return
            if self._descriptor is None:
                self._descriptor = _anonymous_file()
                weakref.finalize(self, os.close, self._descriptor)
                _write(self._descriptor, self._small, 0)
                self._small.clear()
            _write(self._descriptor, data, self.size_bytes)
            self.size_bytes += len(data)

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return up to `size_bytes` from `offset`; blocks."""
        with self._lock:
            if self._descriptor is None:
                return bytes(self._small[offset : offset + size_bytes])
        return os.pread(self._descriptor, min(size_bytes, self.size_bytes - offset), offset)

    def truncate(self, size_bytes: int) -> None:
        """Forget everything after `size_bytes`."""
        with self._lock:
            del self._small[size_bytes:]
            self.size_bytes = size_bytes

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield the offset and the bytes of each line, without its end; blocks."""
        rest, start, at = b"", 0, 0
        while block := self.read(at, _BLOCK_BYTES):
            at += len(block)
            *whole, last = block.split(b"\n")
            if not whole:
                rest += last
                continue
            whole[0] = rest + whole[0]
            for line in whole:
                yield start, line
                start += len(line) + 1
            rest = last
        if rest:
            yield start, rest


def _anonymous_file() -> int:
    """Return the descriptor of an empty file in the system's temporary folder."""
    with tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())


def _write(descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, memoryview(data)[written:], offset + written)
