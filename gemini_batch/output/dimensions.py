"""Width and height of an image, from its header."""

import warnings

# Pillow's readers of the types in `media_types`. The bytes come from outside: no other reader runs.
_READABLE = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")


def load_image_readers() -> None:
    """Load Pillow's readers, so that the row of the first answer does not wait for them."""
    from PIL import Image

    try:
        from PIL import AvifImagePlugin, WebPImagePlugin  # noqa: F401 # each registers its reader
    except ImportError:  # Pillow before 11.3 has no AVIF
        Image.init()
    else:
        Image.preinit()  # the other types, without the forty that no answer has


def pixels(file: str) -> tuple[int | None, int | None]:
    """Return width and height from the image's header; None for what Pillow can't read."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=_READABLE) as image:
                return image.size
    except Exception:  # noqa: BLE001 # Pillow raises of every kind; the image is kept all the same
        return None, None
