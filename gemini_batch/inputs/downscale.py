"""Smaller copies of large reference images: `--max-input-pixels`.

Which images are made smaller is decided by their headers and their formats alone, so that no newer Pillow changes what a request is, and so
what was paid for: HEIC, HEIF, AVIF and anything that moves are sent as they are, whether or not this Pillow could read them.
"""

import hashlib
import io
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO

from gemini_batch.errors import StorageError
from gemini_batch.inputs.errors import ImageChangedError, InputImageError
from gemini_batch.records import InputImage, Request, media_types

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFile import ImageFile

# Decoded, one takes up to 800 MB; the largest sensor of a phone has 199,756,800. More is a decompression bomb, or no reference.
MAX_SOURCE_PIXELS = 200_000_000
# Of larger ones only one at a time is decoded.
LARGE_PIXELS = 25_000_000

# What a copy is written as. A GIF's 256 colours do not survive a resize, so it becomes a PNG.
_COPY_TYPES = {
    "image/jpeg": "image/jpeg",
    "image/png": "image/png",
    "image/webp": "image/webp",
    "image/gif": "image/png",
}
_SAVED_AS: dict[str, dict[str, Any]] = {
    # As good as what cameras write, and so about as many bytes a pixel: the plan's estimate counts on that.
    "image/jpeg": {"format": "JPEG", "quality": 90, "optimize": True},
    "image/png": {"format": "PNG"},
    "image/webp": {"format": "WEBP", "quality": 90},
}
# Of the decoder's cheap halvings, those are taken that leave three times the pixels a side for the good filter.
_GAP = 3.0
_LOCKS = 64
_MAX_REMEMBERED = 40_000


def pixels(stream: BinaryIO, mime_type: str) -> tuple[int, int] | None:
    """Return width and height from the header of an image that could be made smaller; None for one that is sent as it is.

    Args:
        stream: The file; where it stands afterwards is anywhere.
        mime_type: By its first bytes.
    """
    try:
        picture = _opened(stream, mime_type)
        return None if picture is None or getattr(picture, "is_animated", False) else picture.size
    except Exception:  # noqa: BLE001 # Pillow's parsers raise of every kind; what it can't read the API may
        return None


class Downscaler:
    """Makes smaller copies, each one once, and keeps them in a folder for later runs. Blocks; may be used by several threads.

    Args:
        folder: Where the copies are, named by the sha256 of what they are made of, and by the number of pixels; made when it
            is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks = [
            Lock() for _ in range(_LOCKS)
        ]  # a copy's name → one of them: it is made by one thread
        self._large = Lock()
        self._known: dict[str, InputImage] = {}

    def request(self, request: Request) -> Request:
        """Return the request with a smaller copy of each image that is to have one.

        Raises:
            InputImageError: An image can't be decoded.
            ImageChangedError: One is not the file any more that was planned.
            StorageError: The folder can't be written.
        """
        parts = (
            self.image(part) if isinstance(part, InputImage) else part for part in request.parts
        )
        return replace(request, parts=tuple(parts))

    def image(self, image: InputImage) -> InputImage:
        """Return the image with its smaller copy, if it is to have one.

        Raises:
            InputImageError: It can't be decoded.
            ImageChangedError: It is not the file any more that was planned.
            StorageError: The folder can't be written.
        """
        if image.max_pixels is None:
            return image
        extension = media_types.extension(_COPY_TYPES[image.mime_type])
        name = f"{image.sha256}-{image.max_pixels}{extension}"
        with self._locks[hash(name) % _LOCKS]:
            try:
                smaller = self._kept(name) or self._made(name, _shrunk(image, self._large))
            except OSError as error:
                raise StorageError(
                    f"{self._folder / name}: can't be written: {error.strerror}"
                ) from error
        return replace(image, downscaled=replace(smaller, path=image.path))

    def _kept(self, name: str) -> InputImage | None:
        """Return the copy that is there already, as this run or an earlier one made it."""
        try:
            with (self._folder / name).open("rb") as stream:
                status, known = os.fstat(stream.fileno()), self._known.get(name)
                if known and (known.size_bytes, known.mtime_ns) == (
                    status.st_size,
                    status.st_mtime_ns,
                ):
                    return known
                data = stream.read()
        except FileNotFoundError:
            return None
        return self._described(name, data, status)

    def _made(self, name: str, data: bytes) -> InputImage:
        file = self._folder / name
        self._folder.mkdir(parents=True, exist_ok=True)
        incoming = file.with_name(f"{name}.part")
        with incoming.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())  # else a power cut could leave an empty file of this name
            status = os.fstat(stream.fileno())
        incoming.replace(file)
        copy = self._described(name, data, status)
        if copy is None:
            raise OSError(0, "it is no image when it is read again")
        return copy

    def _described(self, name: str, data: bytes, status: os.stat_result) -> InputImage | None:
        """Return what a copy is; None when it is no image, and so none that we wrote."""
        mime_type = media_types.sniff(data[: media_types.HEAD_BYTES])
        size = pixels(io.BytesIO(data), mime_type) if mime_type else None
        if mime_type is None or size is None:
            return None
        copy = InputImage(
            path="",
            file=str(self._folder / name),
            mime_type=mime_type,
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            sha256=hashlib.sha256(data).hexdigest(),
            width=size[0],
            height=size[1],
        )
        if len(self._known) >= _MAX_REMEMBERED:
            self._known.clear()
        self._known[name] = copy
        return copy


def _shrunk(image: InputImage, large: Lock) -> bytes:
    """Return the file of a smaller copy."""
    is_large = (image.width or 0) * (image.height or 0) > LARGE_PIXELS
    with _planned_file(image) as stream, large if is_large else nullcontext():
        try:
            return _copy(stream, image.mime_type, image.max_pixels or MAX_SOURCE_PIXELS)
        except (
            Exception
        ) as error:  # the bytes come from outside, and Pillow's decoders raise of every kind
            raise InputImageError(
                f"{image.path}: can't be decoded, and so not made smaller ({error}): mend it, or leave --max-input-pixels out"
            ) from error


@contextmanager
def _planned_file(image: InputImage) -> Iterator[BinaryIO]:
    """Open the file, and make sure that it is the one that was planned from the first byte to the last."""
    try:
        with Path(image.file).open("rb") as stream:
            _check_same(image, stream)
            yield stream
            _check_same(image, stream)
    except OSError as error:
        raise ImageChangedError(
            f"{image.path}: can't be read any more: {error.strerror}"
        ) from error


def _check_same(image: InputImage, stream: BinaryIO) -> None:
    seen = os.fstat(stream.fileno())
    if (seen.st_size, seen.st_mtime_ns) != (image.size_bytes, image.mtime_ns):
        raise ImageChangedError(f"{image.path}: changed since the run began; run again")


# --- pictures ---------------------------------------------------------------------------------------------------------


def _opened(stream: BinaryIO, mime_type: str) -> "ImageFile | None":
    """Read a header with the one reader of this format; None for a format that is sent as it is.

    `Image.open` would try all of its readers on bytes from outside, and warn of large images by a filter that all threads share.
    """
    from PIL.GifImagePlugin import GifImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    # Of corrupt EXIF it warns on stderr, which helps nobody, and which `-W error` would make a reason to send the image as it is.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    stream.seek(0)
    match mime_type:
        case "image/jpeg":
            return JpegImageFile(stream)
        case "image/png":
            return PngImageFile(stream)
        case "image/webp":
            return WebPImageFile(stream)
        case "image/gif":
            return GifImageFile(stream)
        case _:
            return None


def _copy(stream: BinaryIO, mime_type: str, max_pixels: int) -> bytes:
    picture = _opened(stream, mime_type)
    if picture is None:
        raise ValueError(mime_type)
    small = _upright(_resized(picture, max_pixels))
    small.info.clear()  # place and time of the picture, its thumbnail, its comments
    out = io.BytesIO()
    small.save(
        out, **_SAVED_AS[_COPY_TYPES[mime_type]], icc_profile=picture.info.get("icc_profile")
    )
    return out.getvalue()


def _resized(picture: "ImageFile", max_pixels: int) -> "Image.Image":
    from PIL.Image import Resampling

    width, height = fitting(*picture.size, max_pixels)
    # A JPEG can be decoded at a half, a quarter or an eighth, at a fraction of time and memory.
    drafted = picture.draft(None, (round(width * _GAP), round(height * _GAP)))
    picture.load()
    box = drafted[1] if drafted else None
    return _in_full_colour(picture).resize(
        (width, height), Resampling.LANCZOS, box=box, reducing_gap=_GAP
    )


def fitting(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """Return the largest size of this shape, in whole pixels, of at most `max_pixels`."""
    across, down = (
        max(1, math.isqrt(max_pixels * width // height)),
        max(1, math.isqrt(max_pixels * height // width)),
    )
    return min(across, max_pixels), min(
        down, max_pixels
    )  # one side of a thread can't get shorter than a pixel


def _in_full_colour(picture: "Image.Image") -> "Image.Image":
    """Return the picture in a mode that can be resized: no palette, no single bits, eight bits a channel, and its alpha."""
    is_transparent = "transparency" in picture.info
    if picture.mode.startswith("I"):  # 16 bits of grey
        return picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if picture.mode in ("1", "L"):
        return picture.convert("LA" if is_transparent else "L")
    if picture.mode in ("LA", "RGBA", "CMYK"):
        return picture
    return picture.convert("RGBA" if is_transparent else "RGB")


def _upright(picture: "Image.Image") -> "Image.Image":
    """Turn the picture as its EXIF says; the copy has no EXIF."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # noqa: BLE001 # EXIF that nobody can read turns nothing
        return picture
