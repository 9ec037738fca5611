"""Width and height of an image, from its header.

The bytes come from outside, and are read between an answer's last byte and its row. So a fixed
number of them is read at most: an image whose size is not found there has none in its row.
"""

import os

from gemini_batch.output.files import open_regular
from gemini_batch.records import media_types

# An image of the API has about 20 of them; each takes a read of 10 bytes.
MAX_JPEG_SEGMENTS = 1_000
# The "meta" box of an AVIF or a HEIC is at the start, and has one "ispe" per image in it.
MAX_BOX_BYTES = 64 << 10

# Start of frame: all SOF markers but DHT, JPG and DAC, which share their range (ITU-T T.81, B.1.1).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})  # TEM, RST, SOI
_JPEG_END = frozenset({0xD9, 0xDA})  # the end, or the pixels begin
_ISO_BOXES = frozenset({"image/avif", "image/heic", "image/heif"})

Pixels = tuple[int | None, int | None]


def pixels(head: bytes, file: str) -> Pixels:
    """Return width and height of an image file with this head; None where they are not found."""
    mime_type = media_types.sniff(head)
    if found := media_types.head_pixels(head):
        return found
    if mime_type != "image/jpeg" and mime_type not in _ISO_BOXES:
        return None, None
    try:
        descriptor = open_regular(file)
    except OSError:
        return None, None
    try:
        return _of_jpeg(descriptor) if mime_type == "image/jpeg" else _of_boxes(descriptor)
    except OSError:
        return None, None
    finally:
        os.close(descriptor)


def _of_jpeg(descriptor: int) -> Pixels:
    """Step from segment to segment until the frame, which has the size."""
    place = 2
    for _ in range(MAX_JPEG_SEGMENTS):
        segment = os.pread(descriptor, 9, place)
        if len(segment) < 4 or segment[0] != 0xFF or segment[1] in _JPEG_END:
            break
        marker = segment[1]
        if marker in _JPEG_FRAMES:
            if len(segment) < 9:
                break
            height, width = (int.from_bytes(segment[at : at + 2], "big") for at in (5, 7))
            return _known(width, height)
        if marker == 0xFF:  # a fill byte
            place += 1
        elif marker in _JPEG_WITHOUT_LENGTH:
            place += 2
        else:
            place += 2 + int.from_bytes(segment[2:4], "big")
    return None, None


def _of_boxes(descriptor: int) -> Pixels:
    """Take the largest "ispe" property (ISO/IEC 23008-12, 6.5.3): others are of tiles and alpha."""
    data, place, largest = os.pread(descriptor, MAX_BOX_BYTES, 0), 0, (0, 0)
    while (place := data.find(b"ispe", place)) >= 0:
        place += 4
        size = data[place + 4 : place + 12]
        if len(size) == 8:
            found = int.from_bytes(size[:4], "big"), int.from_bytes(size[4:], "big")
            largest = max(largest, found, key=lambda each: each[0] * each[1])
    return _known(*largest)


def _known(width: int, height: int) -> Pixels:
    return (width, height) if width and height else (None, None)
