"""Downscaled copies of large reference images: `--max-input-pixels`.

Which images are downscaled is decided by their headers and formats alone, so that a newer Pillow
changes no request and no finished call is paid for again: HEIC, HEIF, AVIF and animations are sent
unchanged, even if this Pillow could read them.
"""

import hashlib
import io
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO

from gemini_batch.errors import StorageError
from gemini_batch.inputs.errors import ImageChangedError, InputImageError
from gemini_batch.records import InputImage, Request, media_types

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFile import ImageFile

# Decoded, one takes up to 800 MB; the largest phone sensor has 199,756,800. A file with more is a
# decompression bomb, or no reference image.
MAX_SOURCE_PIXELS = 200_000_000
# Larger images are decoded one at a time.
LARGE_PIXELS = 25_000_000

# The format of a copy, by that of the original.
_SAVED_AS: dict[str, dict[str, Any]] = {
    # The quality of cameras, so the bytes per pixel stay about the same, as the plan assumes.
    "image/jpeg": {"format": "JPEG", "quality": 90, "optimize": True},
    "image/png": {"format": "PNG"},
    "image/webp": {"format": "WEBP", "quality": 90},
    "image/gif": {"format": "PNG"},  # its 256 colours do not survive a resize
}
# A JPEG decoder halves cheaply; it must leave three times the pixels per side for the good filter.
_GAP = 3.0
_LOCKS = 64


def pixels(stream: BinaryIO, mime_type: str) -> tuple[int, int] | None:
    """Return width and height from an image's header; None for one that is sent unchanged."""
    try:
        picture = _opened(stream, mime_type)
        return None if picture is None or getattr(picture, "is_animated", False) else picture.size
    except Exception:  # noqa: BLE001 # Pillow raises any kind; the API may read what Pillow can't
        return None


class Downscaler:
    """Makes downscaled copies, each one once, and keeps them in a folder for later runs.

    It blocks, and may be used by several threads. A copy is named by the original's sha256 and the
    number of pixels. The folder is created when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # A copy's name → one of them: only one thread makes it.
        self._locks = [Lock() for _ in range(_LOCKS)]
        self._large = Lock()

    def request(self, request: Request) -> Request:
        """Return the request with the copy of each image that needs one; raises as `image`."""
        parts = (
            self.image(part) if isinstance(part, InputImage) else part for part in request.parts
        )
        return replace(request, parts=tuple(parts))

    def image(self, image: InputImage) -> InputImage:
        """Return the image with its copy, if it needs one.

        Raises:
            InputImageError: It can't be decoded.
            ImageChangedError: It is no longer the file that was planned.
            StorageError: The folder can't be written.
        """
        if image.max_pixels is None or image.downscaled is not None:
            return image
        mime_type = f"image/{_SAVED_AS[image.mime_type]['format'].lower()}"
        name = f"{image.sha256}-{image.max_pixels}{media_types.extension(mime_type)}"
        with self._locks[hash(name) % _LOCKS]:
            try:
                copy = self._kept(name) or self._made(name, _downscaled(image, self._large))
            except OSError as error:
                raise StorageError(
                    f"{self._folder / name}: can't be written: {error.strerror}"
                ) from error
        return replace(image, downscaled=replace(copy, path=image.path))

    def _kept(self, name: str) -> InputImage | None:
        """Return the copy that this run or an earlier one made."""
        try:
            status = (self._folder / name).stat()
        except FileNotFoundError:
            return None
        return _described(self._folder / name, status.st_size, status.st_mtime_ns)

    def _made(self, name: str, data: bytes) -> InputImage:
        self._folder.mkdir(parents=True, exist_ok=True)
        part, flags = f"{name}.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        # Relative to the folder, which may have become a link that leads elsewhere.
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with os.fdopen(os.open(part, flags, 0o600, dir_fd=folder), "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())  # else a power cut could leave an empty file of this name
            os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.close(folder)
        if (copy := self._kept(name)) is None:
            raise OSError(0, "it is not an image when it is read again")
        return copy


@lru_cache(maxsize=40_000)
def _described(file: Path, size_bytes: int, mtime_ns: int) -> InputImage | None:
    """Return the facts of a copy; None if it is not an image, so not one of ours."""
    data = file.read_bytes()
    mime_type = media_types.sniff(data[: media_types.HEAD_BYTES])
    size = pixels(io.BytesIO(data), mime_type) if mime_type else None
    if mime_type is None or size is None:
        return None
    return InputImage(
        path="",
        file=str(file),
        mime_type=mime_type,
        size_bytes=size_bytes,
        mtime_ns=mtime_ns,
        sha256=hashlib.sha256(data).hexdigest(),
        width=size[0],
        height=size[1],
    )


def _downscaled(image: InputImage, large: Lock) -> bytes:
    """Return the file of a downscaled copy."""
    is_large = (image.width or 0) * (image.height or 0) > LARGE_PIXELS
    with _planned_file(image) as stream, large if is_large else nullcontext():
        try:
            return _copy(stream, image.mime_type, image.max_pixels or MAX_SOURCE_PIXELS)
        except Exception as error:  # Pillow's decoders raise any kind
            raise InputImageError(
                f"{image.path}: can't be decoded to downscale it ({error}): "
                "fix it, or run without --max-input-pixels"
            ) from error


@contextmanager
def _planned_file(image: InputImage) -> Iterator[BinaryIO]:
    """Open the file, and make sure that it is the planned one from the first byte to the last."""
    try:
        with Path(image.file).open("rb") as stream:
            _check_same(image, stream)
            yield stream
            _check_same(image, stream)
    except OSError as error:
        reason = error.strerror
        raise ImageChangedError(f"{image.path}: can no longer be read: {reason}") from error


def _check_same(image: InputImage, stream: BinaryIO) -> None:
    seen = os.fstat(stream.fileno())
    if (seen.st_size, seen.st_mtime_ns) != (image.size_bytes, image.mtime_ns):
        raise ImageChangedError(f"{image.path}: changed since the run began; run again")


def _opened(stream: BinaryIO, mime_type: str) -> "ImageFile | None":
    """Read a header with the one reader of this format; None for a format that is sent unchanged.

    `Image.open` would try all of its readers on untrusted bytes, and warn of large images through a
    filter that all threads share.
    """
    from PIL.GifImagePlugin import GifImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    # Pillow warns of corrupt EXIF on stderr; `-W error` would make that an exception.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    stream.seek(0)
    readers: dict[str, type[ImageFile]] = {
        "image/jpeg": JpegImageFile,
        "image/png": PngImageFile,
        "image/webp": WebPImageFile,
        "image/gif": GifImageFile,
    }
    reader = readers.get(mime_type)
    return reader(stream) if reader else None


def _copy(stream: BinaryIO, mime_type: str, max_pixels: int) -> bytes:
    picture = _opened(stream, mime_type)
    if picture is None:
        raise ValueError(mime_type)
    small = _upright(_resized(picture, max_pixels))
    small.info.clear()  # place and time of the picture, its thumbnail, its comments
    out = io.BytesIO()
    small.save(out, **_SAVED_AS[mime_type], icc_profile=picture.info.get("icc_profile"))
    return out.getvalue()


def _resized(picture: "ImageFile", max_pixels: int) -> "Image.Image":
    from PIL.Image import Resampling

    width, height = fitting(*picture.size, max_pixels)
    # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, in a fraction of the time and memory.
    drafted = picture.draft(None, (round(width * _GAP), round(height * _GAP)))
    picture.load()
    box = drafted[1] if drafted else None
    return _in_full_colour(picture).resize(
        (width, height), Resampling.LANCZOS, box=box, reducing_gap=_GAP
    )


def fitting(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """Return the largest size of this shape, in whole pixels, of at most `max_pixels`."""
    across = max(1, math.isqrt(max_pixels * width // height))
    down = max(1, math.isqrt(max_pixels * height // width))
    return min(across, max_pixels), min(down, max_pixels)  # a side has at least one pixel


def _in_full_colour(picture: "Image.Image") -> "Image.Image":
    """Return the picture in a mode that can be resized: 8 bits per channel, alpha, no palette."""
    is_transparent = "transparency" in picture.info
    if picture.mode.startswith("I"):  # 16 bits of grey
        return picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if picture.mode in ("1", "L"):
        return picture.convert("LA" if is_transparent else "L")
    if picture.mode in ("LA", "RGBA", "CMYK"):
        return picture
    return picture.convert("RGBA" if is_transparent else "RGB")


def _upright(picture: "Image.Image") -> "Image.Image":
    """Rotate the picture as its EXIF says; the copy has no EXIF."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # noqa: BLE001 # corrupt EXIF: no rotation
        return picture
