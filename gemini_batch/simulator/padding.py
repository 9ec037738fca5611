"""Padding of image files to a realistic size, with comments that decoders skip."""

import random
import struct
import zlib
from functools import lru_cache

_JPEG_SEGMENT = 65_533  # maximum payload of a COM segment


_NOISE_STEP = 1024 * 1024  # files of about one size share their noise


@lru_cache(maxsize=4)
def _noise(steps: int) -> bytes:
    return random.Random(steps).randbytes(steps * _NOISE_STEP)


def padded(data: bytes, size_bytes: int | None) -> bytes:
    """Return a JPEG or PNG file padded to about `size_bytes`; unchanged if it is larger already."""
    missing = (size_bytes or 0) - len(data)
    if missing < 16:
        return data
    noise = _noise(-(-missing // _NOISE_STEP))[:missing]
    if data.startswith(b"\xff\xd8"):
        segments = [
            noise[start : start + _JPEG_SEGMENT] for start in range(0, missing, _JPEG_SEGMENT)
        ]
        comments = b"".join(
            b"\xff\xfe" + struct.pack(">H", len(segment) + 2) + segment for segment in segments
        )
        return data[:2] + comments + data[2:]
    chunk = b"paDd" + noise
    after_header = 33  # the signature and IHDR
    extra = struct.pack(">I", missing) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return data[:after_header] + extra + data[after_header:]
