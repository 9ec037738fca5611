"""Width and height of untrusted images, within bounds."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, features

from gemini_batch.output import dimensions
from gemini_batch.output.dimensions import MAX_BOX_BYTES, MAX_JPEG_SEGMENTS, pixels
from gemini_batch.records.media_types import HEAD_BYTES

SIZE = (301, 77)


def looked_at(tmp_path: Path, data: bytes) -> tuple[int | None, int | None]:
    """Return the pixels of a file with this content."""
    (tmp_path / "image").write_bytes(data)
    return pixels(data[:HEAD_BYTES], str(tmp_path / "image"))


def saved(mode: str = "RGB", size: tuple[int, int] = SIZE, **options: Any) -> bytes:
    """Return an image as Pillow saves it."""
    file = io.BytesIO()
    Image.new(mode, size).save(file, **options)
    return file.getvalue()


SAVED: list[tuple[str, dict[str, Any]]] = [
    ("RGB", {"format": "PNG"}),
    ("RGB", {"format": "GIF"}),
    ("RGB", {"format": "WEBP"}),
    ("RGBA", {"format": "WEBP"}),
    ("RGB", {"format": "WEBP", "lossless": True}),
    ("RGB", {"format": "WEBP", "exif": b"Exif\0\0"}),
    ("RGB", {"format": "JPEG"}),
    ("L", {"format": "JPEG", "progressive": True}),
    ("CMYK", {"format": "JPEG", "comment": b"x" * 60_000, "icc_profile": bytes(300_000)}),
    ("RGB", {"format": "AVIF"}),
]


@pytest.mark.parametrize(("mode", "options"), SAVED)
@pytest.mark.parametrize("size", [SIZE, (1, 1), (1, 3_000)])
def test_pixels_of_each_format(
    tmp_path: Path, mode: str, options: dict[str, Any], size: tuple[int, int]
) -> None:
    """Width and height are those that Pillow saved, with metadata of usual size before them."""
    if options["format"] == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    assert looked_at(tmp_path, saved(mode, size, **options)) == size


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


JPEG, FRAME = b"\xff\xd8", b"\xff\xc0\0\x11\x08\0\x07\0\x09" + bytes(10)
BOMBS = {
    "JPEG of APP0": JPEG + b"\xff\xe0\0\2" * 2_000_000 + FRAME,
    "JPEG of comments": JPEG + b"\xff\xfe\0\2" * 2_000_000 + FRAME,
    "JPEG of fill bytes": JPEG + b"\xff" * 8_000_000 + FRAME,
    "JPEG of restarts": JPEG + b"\xff\xd0" * 4_000_000 + FRAME,
    "JPEG of empty segments": JPEG + b"\xff\xe1\0\0" * 2_000_000,
    "GIF of comments": b"GIF89a\x10\0\x09\0\0\0\0" + b"\x21\xfe\x01a\0" * 1_600_000,
    "PNG of chunks": b"\x89PNG\r\n\x1a\n" + chunk(b"tEXt", b"a\0b") * 500_000,
    "WebP of chunks": b"RIFF\xff\xff\xff\xffWEBP" + b"ABCD\0\0\0\0" * 1_000_000,
    "AVIF of boxes": b"\0\0\0\x14ftypavif\0\0\0\0avif" + b"\0\0\0\x08free" * 1_000_000,
    "AVIF of a box": b"\0\0\0\x14ftypavif\0\0\0\0avif" + b"\xff\xff\xff\xffmeta" + bytes(8_000_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_header_without_end_is_looked_at_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """However many segments or chunks an image has, a fixed number of bytes is read; without a size there the row has none."""
    read: list[int] = []
    pread = os.pread

    def counting(descriptor: int, size: int, place: int) -> bytes:
        read.append(size)
        return pread(descriptor, size, place)

    monkeypatch.setattr(dimensions.os, "pread", counting)  # type: ignore[attr-defined]
    found = looked_at(tmp_path, BOMBS[name])
    assert found == ((16, 9) if name.startswith("GIF") else (None, None))
    assert len(read) <= MAX_JPEG_SEGMENTS
    assert sum(read) <= max(MAX_BOX_BYTES, 9 * MAX_JPEG_SEGMENTS)


@pytest.mark.parametrize("segments", [1, MAX_JPEG_SEGMENTS - 1])
def test_a_frame_within_the_bound_is_found(tmp_path: Path, segments: int) -> None:
    """The size of a JPEG is found behind as many segments as real ones have, and more."""
    assert looked_at(tmp_path, JPEG + b"\xff\xe2\0\4ab" * segments + FRAME) == (9, 7)


@pytest.mark.parametrize(
    "data",
    [
        JPEG + b"\xff",
        JPEG + b"\xff\xc0\0\x11\x08\0",
        JPEG + b"\xff\xc4\0\x11" + bytes(15) + b"\xff\xd9",
        JPEG + b"\xff\xda\0\x02" + FRAME,
        JPEG + b"\xff\xe0\xff\xff" + FRAME,
        JPEG + b"\xff\xc0\0\x11\x08\0\0\0\0" + bytes(10),
        JPEG + b"text",
        b"GIF89a\0\0\0\0" + bytes(40),
        b"GIF89a\1\0",
        b"RIFF\0\0\0\0WEBPVP8 " + bytes(40),
        b"\0\0\0\x14ftypavif\0\0\0\0avifispe\0\0",
        b"",
    ],
)
def test_half_a_header_has_no_size(tmp_path: Path, data: bytes) -> None:
    """What is cut off, or says 0, has no size, and is no error."""
    assert looked_at(tmp_path, data) == (None, None)


def test_an_image_that_is_gone_has_no_size(tmp_path: Path) -> None:
    """A file that can't be read costs no row."""
    os.mkfifo(tmp_path / "pipe")
    for name in ("gone", "pipe"):
        assert pixels(JPEG + b"\xff", str(tmp_path / name)) == (None, None)
