"""Files without a name on the disk: they need little memory, and are gone when the process ends."""

import os
import tempfile
import weakref
from collections.abc import Iterator

_BLOCK_BYTES = 1024 * 1024


class Spool:
    """Bytes on the disk that grow at the end; deleted with the last reference to this object."""

    def __init__(self) -> None:
        """Create an empty file in the system's temporary folder."""
        with tempfile.TemporaryFile(buffering=0) as file:
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self.size_bytes = 0

    def append(self, data: bytes | memoryview) -> None:
        """Write at the end; blocks for the copy."""
        left = memoryview(data)
        while left:
            written = os.pwrite(self._descriptor, left, self.size_bytes)
            self.size_bytes += written
            left = left[written:]

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return up to `size_bytes` from `offset`; blocks."""
        return os.pread(self._descriptor, min(size_bytes, self.size_bytes - offset), offset)

    def truncate(self, size_bytes: int) -> None:
        """Forget everything after `size_bytes`."""
        os.ftruncate(self._descriptor, size_bytes)
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
