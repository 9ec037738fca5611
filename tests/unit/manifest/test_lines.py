"""Lines that are read many at once: the same as those that are read one by one."""

from collections.abc import Iterator
from io import BytesIO
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.manifest import lines as module
from gemini_batch.manifest.lines import Lines, read_lines


def one_by_one(content: bytes, most_bytes: int) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield (number, offset, text) of each line that is not blank; None for one that is too long."""
    offset = 0
    for number, line in enumerate(BytesIO(content), start=1):
        if len(line) > most_bytes:
            yield number, -1, None
        elif line.strip():
            yield number, offset, line.strip()
        offset += len(line)


@given(
    st.lists(st.sampled_from([b"\n", b"a", b" ", b"\r", b"ab" * 5])).map(b"".join),
    st.integers(1, 12),
    st.integers(1, 12),
)
def test_lines_are_those_of_the_file(content: bytes, block_bytes: int, most_bytes: int) -> None:
    """Numbers, offsets and texts do not depend on the blocks that are read, nor do lines that are too long."""
    found: list[tuple[int, int, bytes | None]] = []
    with patch.multiple(module, _BLOCK_BYTES=block_bytes, MAX_LINE_BYTES=most_bytes):
        for lines in read_lines(BytesIO(content)):
            if isinstance(lines, Lines):
                found += zip(lines.numbers, lines.offsets, lines.texts, strict=True)
            else:
                found.append((lines.number, -1, None))
            assert lines.end in {0, len(content)} or content[: lines.end].endswith(b"\n")
    assert found == list(one_by_one(content, most_bytes))
