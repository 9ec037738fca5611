"""Reference images of a request."""

import io
from dataclasses import dataclass

from PIL import Image

_MAX_PIXELS = 400_000_000
# Pillow has no decoder for HEIC and HEIF: only their first bytes are checked.
_ISO_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis")
BAD_IMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference image: its bytes, or its URI."""

    data: bytes = b""
    uri: str = ""

    def size(self) -> tuple[int, int] | None:
        """Return width and height from its header, or None if it can't be read."""
        try:
            with Image.open(io.BytesIO(self.data)) as image:
                return image.size
        except BAD_IMAGE:
            return None


def is_image(data: bytes) -> bool:
    """Return whether `data` begins like an image of a supported format."""
    if data[4:8] == b"ftyp":
        return data[8:12] in _ISO_BRANDS
    size = Reference(data).size()
    return size is not None and size[0] * size[1] <= _MAX_PIXELS
