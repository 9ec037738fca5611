"""The lines of a file, read many at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress, count
from operator import add
from typing import BinaryIO

MAX_LINE_BYTES = 128 * 1024 * 1024

_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines that follow each other, by column, without blank ones.

    Attributes:
        numbers: From 1.
        offsets: Where each begins in the file.
        texts: Without whitespace around them.
        end: Where the next line begins.
    """

    numbers: Sequence[int]
    offsets: Sequence[int]
    texts: Sequence[bytes]
    end: int

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, part: slice) -> "Lines":
        return Lines(self.numbers[part], self.offsets[part], self.texts[part], self.end)


@dataclass(frozen=True, slots=True)
class LongLine:
    """A line of more than `MAX_LINE_BYTES`, which was passed over."""

    number: int
    end: int

    @property
    def problem(self) -> str:
        """The text for the user."""
        limit = f"{MAX_LINE_BYTES // 1024**2} MB per line"
        return f"longer than allowed: {limit}; name images by path instead of inline data"


def read_lines(file: BinaryIO) -> Iterator[Lines | LongLine]:
    """Yield all lines from the file's position on; raise OSError if it can't be read."""
    number, offset = 1, file.tell()
    while block := _block(file):
        # Just the last line can be longer than the block that was asked for.
        last = block.rfind(b"\n", 0, -1) + 1
        is_long = len(block) - last > MAX_LINE_BYTES
        end = last if is_long else len(block)
        texts = block[:end].split(b"\n")
        if not texts[-1]:
            texts.pop()  # what follows the last line's end
        yield _without_blank(texts, number, offset, offset + end)
        number, offset = number + len(texts), offset + len(block)
        if is_long:
            while block and not block.endswith(b"\n"):
                block = file.readline(_BLOCK_BYTES)
                offset += len(block)
            yield LongLine(number, offset)
            number += 1


def _block(file: BinaryIO) -> bytes:
    """Return the next lines; b"" at the end of the file."""
    block = file.read(min(_BLOCK_BYTES, MAX_LINE_BYTES))
    return block if block.endswith(b"\n") else block + file.readline(MAX_LINE_BYTES + 1)


def _without_blank(texts: list[bytes], number: int, offset: int, end: int) -> Lines:
    numbers: Sequence[int] = range(number, number + len(texts))
    # A line begins after the texts before it, and their ends.
    offsets = list(map(add, accumulate(map(len, texts), initial=0), count(offset)))
    del offsets[len(texts) :]
    stripped = list(map(bytes.strip, texts))
    if not all(stripped):
        numbers, offsets = list(compress(numbers, stripped)), list(compress(offsets, stripped))
    return Lines(numbers, offsets, list(filter(None, stripped)), end)
