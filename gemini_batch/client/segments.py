"""The bytes of segments from any offset, for an upload that is continued after a break."""

from collections.abc import Callable, Generator, Iterable, Iterator

from gemini_batch.client import request_json
from gemini_batch.client.request_json import Segment
from gemini_batch.client.upload import InputChangedError, StreamedBody, base64_blocks

BLOCK_BYTES = 1 << 16


class SegmentReader:
    """Reads segments in order; going back, or ahead, begins at the first segment again."""

    def __init__(self, segments: Callable[[], Iterable[Segment]]) -> None:
        self._segments = segments
        self._offset_bytes = 0
        self._left = self._blocks(0)
        self._held = b""  # of a block, for the next piece

    def read(self, start_bytes: int, size_bytes: int) -> Iterator[bytes]:
        """Yield `size_bytes` bytes from an offset on, in blocks.

        Raises:
            InputChangedError: There are fewer, or a reference image changed.
        """
        if start_bytes != self._offset_bytes:
            self._left.close()
            self._left, self._held = self._blocks(start_bytes), b""
            self._offset_bytes = start_bytes
        while size_bytes:
            block = self._held or next(self._left, b"")
            if not block:
                raise InputChangedError("the requests became shorter while they were sent")
            block, self._held = block[:size_bytes], block[size_bytes:]
            size_bytes -= len(block)
            self._offset_bytes += len(block)
            yield block

    def _blocks(self, skip_bytes: int) -> Generator[bytes, None, None]:
        """Yield what follows an offset, in blocks of some size: each one costs a write."""
        small = bytearray()
        for piece in self._pieces(skip_bytes):
            if not small and len(piece) >= BLOCK_BYTES:
                yield piece
                continue
            small += piece
            if len(small) >= BLOCK_BYTES:
                yield bytes(small)
                small.clear()
        if small:
            yield bytes(small)

    def _pieces(self, skip_bytes: int) -> Iterator[bytes]:
        for segment in self._segments():
            length = request_json.content_length((segment,))
            if skip_bytes >= length:
                skip_bytes -= length
                continue
            if isinstance(segment, bytes):
                yield segment[skip_bytes:]
            else:
                yield from base64_blocks(segment, skip_bytes)
            skip_bytes = 0


class Chunk(StreamedBody):
    """A chunk of an upload, as a request's body."""

    def __init__(self, reader: SegmentReader, start_bytes: int, size_bytes: int) -> None:
        super().__init__(reader, size_bytes, "application/octet-stream")
        self._reader, self._start_bytes = reader, start_bytes

    def blocks(self) -> Iterator[bytes]:
        """Yield the blocks of the chunk."""
        return self._reader.read(self._start_bytes, self._size or 0)
