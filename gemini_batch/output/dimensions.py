"""Width and height of an image, from its header."""

import warnings

# Pillow's readers of what `media` knows; the others are not let near bytes that come from outside.
_READABLE = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")


def load_image_readers() -> None:
    """Load what reads an image's width and height: the first answer's row is not to wait for it."""
    from PIL import Image

    Image.init()


def pixels(file: str) -> tuple[int | None, int | None]:
    """Return width and height from the image's header; None for what Pillow can't read."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=_READABLE) as image:
                return image.size
    except Exception:  # noqa: BLE001 # the bytes come from outside, and Pillow's parsers raise of every kind; the image is kept as it is
        return None, None
