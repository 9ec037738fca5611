"""Reference images: what arrived with a request, and whether it is an image at all."""

import io
from dataclasses import dataclass

from PIL import Image

_MAX_PIXELS = 400_000_000
# Pillow has no decoder for HEIC and HEIF: their first bytes have to do.
_ISO_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis")
BAD_IMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference image: its bytes, or the URI that it would be fetched from."""

    data: bytes = b""
    uri: str = ""

    def size(self) -> tuple[int, int] | None:
        """Return width and height from its header, or None if it has none that can be read."""
        try:
            with Image.open(io.BytesIO(self.data)) as image:
                return image.size
        except BAD_IMAGE:
            return None


def is_image(data: bytes) -> bool:
    """Tell whether `data` begins like an image of a format that the API takes."""
    if data[4:8] == b"ftyp":
        return data[8:12] in _ISO_BRANDS
    size = Reference(data).size()
    return size is not None and size[0] * size[1] <= _MAX_PIXELS
