"""The bytes of an upload from any offset."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.client import segments as client_segments
from gemini_batch.client import upload
from gemini_batch.client.request_json import Segment
from gemini_batch.client.segments import SegmentReader
from gemini_batch.client.upload import InputChangedError
from tests.wire.peers import image_of

DATA = bytes(range(256)) * 3


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    """Read images in blocks of 30 bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upload, "UPLOAD_BLOCK_BYTES", 30)
        patch.setattr(client_segments, "BLOCK_BYTES", 20)
        yield


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> tuple[Segment, ...]:
    """Return bytes, an image, an empty image, bytes, and two images in a row."""
    folder = tmp_path_factory.mktemp("segments")
    images = []
    for number, size_bytes in enumerate((100, 0, 31, 768)):
        (folder / str(number)).write_bytes(DATA[:size_bytes])
        images.append(image_of(folder / str(number)))
    return b"start of it", images[0], images[1], b"x", b"between", images[2], images[3]


def whole(segments: tuple[Segment, ...]) -> bytes:
    """Return all bytes, read the plain way."""
    return b"".join(
        each if isinstance(each, bytes) else base64.b64encode(Path(each.file).read_bytes())
        for each in segments
    )


@given(st.lists(st.tuples(st.integers(0, 1400), st.integers(0, 500)), max_size=6))
def test_any_piece_is_read_after_any_other(
    segments: tuple[Segment, ...], pieces: list[tuple[int, int]]
) -> None:
    """A piece is the same bytes in whatever order pieces are read."""
    expected = whole(segments)
    reader = SegmentReader(lambda: segments)
    for start, size_bytes in pieces:
        stop = min(start + size_bytes, len(expected))
        found = b"".join(reader.read(start, max(0, stop - start)))
        assert found == expected[start : max(start, stop)]


@given(st.integers(1, 97))
def test_pieces_in_order_are_one_pass(segments: tuple[Segment, ...], size_bytes: int) -> None:
    """Going forward, the segments are asked for once; going back, once more."""
    asked: list[Any] = []

    def source() -> tuple[Segment, ...]:
        asked.append(None)
        return segments

    expected = whole(segments)
    reader = SegmentReader(source)
    for start in range(0, len(expected), size_bytes):
        list(reader.read(start, min(size_bytes, len(expected) - start)))
    assert len(asked) == 1
    list(reader.read(0, 1))
    assert len(asked) == 2


def test_a_piece_that_was_not_read_to_its_end_is_read_again(segments: tuple[Segment, ...]) -> None:
    """A connection may break within a chunk, which is then sent from its start."""
    expected = whole(segments)
    reader = SegmentReader(lambda: segments)
    assert next(reader.read(0, 200)) == expected[:51]  # a short piece, and the block behind it
    assert b"".join(reader.read(0, 200)) == expected[:200]


def test_segments_that_end_early_are_noticed(segments: tuple[Segment, ...]) -> None:
    """Fewer bytes than were planned are an error, and not a body that never ends."""
    expected = whole(segments)
    with pytest.raises(InputChangedError, match="shorter"):
        list(SegmentReader(lambda: segments).read(0, len(expected) + 1))


def test_an_image_that_changed_is_noticed(tmp_path: Path) -> None:
    """An image is checked again wherever its reading begins."""
    file = tmp_path / "a.png"
    file.write_bytes(DATA)
    image = image_of(file)
    os.utime(file, ns=(1, 1))
    with pytest.raises(InputChangedError, match=r"in/a\.png: changed"):
        list(SegmentReader(lambda: (image,)).read(500, 4))
