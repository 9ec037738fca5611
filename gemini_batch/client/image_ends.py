"""Ends of image formats, for an image that breaks off without its length. Pure."""

from collections.abc import Iterable

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND\xaeB\x60\x82"
_JPEG, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_JPEG_PIXELS = 0xDA
_RIFF_HEADER_BYTES = 8


def ends_whole(blocks: Iterable[bytes]) -> bool:
    """Return whether an image has the last bytes of its format; False for an unknown format."""
    head = tail = b""
    size_bytes = 0
    for block in blocks:
        head = head or block
        tail = (tail + block)[-len(_PNG_END) :]
        size_bytes += len(block)
    if head.startswith(_PNG):
        return tail == _PNG_END
    if head.startswith(_JPEG):
        # A preview in front of the pixels has an end of its own.
        return tail.endswith(_JPEG_END) and _has_jpeg_pixels(head)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        length = int.from_bytes(head[4:8], "little")
        return size_bytes >= _RIFF_HEADER_BYTES + length + length % 2
    return False


def _has_jpeg_pixels(head: bytes) -> bool:
    """Return whether the pixels begin in the first block, which holds all that is before them."""
    place = 2
    while place + 4 <= len(head) and head[place] == 0xFF:
        if head[place + 1] == _JPEG_PIXELS:
            return True
        place += 2 + int.from_bytes(head[place + 2 : place + 4], "big")
    return False
