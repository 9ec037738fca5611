"""Looks up reference images: recognises a file by its bytes and hashes it, once per file."""

import hashlib
import re
from contextlib import suppress
from functools import lru_cache
from os import fstat, stat_result
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import BinaryIO
from unicodedata import normalize
from urllib.parse import urlsplit

from gemini_batch.inputs import downscale
from gemini_batch.inputs.errors import InputImageError
from gemini_batch.records import InputImage, InputUri, media_types
from gemini_batch.wording import choices, shown

_ADVICE = "upload it with the Files API and give its https:// URI"
_FORMATS = choices(mime_type.removeprefix("image/") for mime_type in media_types.EXTENSIONS)
_OTHER_KINDS = (
    (b"%pdf", "a PDF"),
    (b"<svg", "an SVG"),
    (b"<?xml", "XML, an SVG perhaps"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"bm", "a BMP"),
    (b"ii*\0", "a TIFF"),
    (b"mm\0*", "a TIFF"),
    (b"8bps", "a Photoshop file"),
    (b"pk\3\4", "a ZIP file"),
    (b"version https://git-lfs", "a Git LFS pointer to a file that was not fetched (git lfs pull)"),
)
_OBJECTS = ("s3://", "az://")
_is_uri = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:", re.ASCII).match


class Inputs:
    """Looks up reference images and remembers them by path, size, time of change and inode.

    Relative paths start at `base`. Images with more than `max_pixels` are downscaled; None is
    never. With `is_brief` only the files that were used last are remembered.
    """

    def __init__(
        self, base: Path, max_pixels: int | None = None, *, is_brief: bool = False
    ) -> None:
        with suppress(FileNotFoundError):  # the current folder was deleted
            base = base.absolute()
        self._base = base
        self._max_pixels = max_pixels
        self._image = _recent_image if is_brief else _image

    def resolve(self, path: str) -> InputImage | InputUri:
        """Return the image at a path or a URI of the manifest.

        Raises:
            InputImageError: It is missing, unreadable, no image, too large, or a URI that the API
                can't fetch.
        """
        if path.lower().startswith(_OBJECTS):
            return _object(path, self._max_pixels)
        if _is_uri(path):
            return _uri(path)
        file = self._base / path
        try:
            file, status = _found(self._base, path)
            if S_ISREG(status.st_mode):
                identity = (status.st_size, status.st_mtime_ns, status.st_ino)
                return self._image(path, file, identity, self._max_pixels)
            problem = "is not a regular file: save it as one first"
            if S_ISDIR(status.st_mode):
                problem = "is a folder: name the files in it"
        except InputImageError:
            raise
        except ValueError:
            problem = "a path can't have the character U+0000: leave it out"
        except FileNotFoundError:
            problem = f"there is no such file: looked for {file}"
            if path.startswith("~"):
                problem += '; "~" is not the home folder here: write the whole path'
        except OSError as error:
            problem = f"can't be read: {error.strerror} ({file})"
        raise InputImageError(f"got {shown(path)}; {problem}")


def spellings(path: str) -> tuple[str, ...]:
    """Return a path as given, in NFC and in NFD: macOS and some archives store names in NFD."""
    if path.isascii():
        return (path,)
    return tuple(dict.fromkeys((path, normalize("NFC", path), normalize("NFD", path))))


def _found(base: Path, path: str) -> tuple[Path, stat_result]:
    """Return the file of the first spelling that exists, and its status.

    Raises:
        OSError: There is none, or it can't be read; of the path as given.
        ValueError: The path has a NUL.
    """
    given, *others = spellings(path)
    try:
        return base / given, (base / given).stat()
    except FileNotFoundError:
        for other in others:
            with suppress(OSError):
                return base / other, (base / other).stat()
        raise


def _uri(uri: str) -> InputUri:
    """Return a URI that the API can fetch: https, or Google Cloud Storage."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise InputImageError(f"got {shown(uri)}; not a valid URI") from None
    scheme = parts.scheme.lower()
    if scheme not in ("https", "gs"):
        advice = {
            "http": "the API fetches https:// only: use that, or download the file and give its "
            "path",
            "file": "give the path without file://",
            "data": 'save it as a file and give its path, or put it into a raw "request"',
        }.get(scheme, "allowed: a path, https://, gs://, s3:// or az://")
        raise InputImageError(f"got {shown(uri)}; {advice}")
    if not parts.netloc or re.search(r"[\x00-\x20\x7f]", uri):
        raise InputImageError(f"got {shown(uri)}; not a valid URI: needs a host, and no blanks")
    return InputUri(uri=uri, mime_type=media_types.guess_mime_type(parts.path))


@lru_cache(maxsize=40_000)
def _object(uri: str, max_pixels: int | None) -> InputImage:
    from gemini_batch.inputs.object_lookup import look_up  # few manifests have one

    image = look_up(uri, max_pixels)
    if max_pixels is None:
        _check_size(uri, image.size_bytes)
    return image


def image_in(path: str, file: Path, max_pixels: int | None = None) -> InputImage:
    """Return the image in a file that the manifest calls `path`; raises as `Inputs.resolve`."""
    status = file.stat()
    identity = (status.st_size, status.st_mtime_ns, status.st_ino)
    return _image(path, file, identity, max_pixels)


def _read(
    path: str, file: Path, identity: tuple[int, int, int], max_pixels: int | None
) -> InputImage:
    """Recognise and hash a file of this (size, time of change in ns, inode)."""
    size_bytes, mtime_ns, _ = identity
    if size_bytes == 0:
        advice = "save it again, or leave it out"
        raise InputImageError(f"got {shown(path)}; the file is empty: {advice}")
    if max_pixels is None:
        _check_size(path, size_bytes)  # unread
    with file.open("rb") as stream:
        head = stream.read(media_types.HEAD_BYTES)
        mime_type = media_types.sniff(head)
        if mime_type is None:
            advice = f"allowed: {_FORMATS}: save it as one of these"
            raise InputImageError(f"got {shown(path)}; is {_other_kind(head)}; {advice}")
        size = _too_many_pixels(path, stream, mime_type, max_pixels)
        stream.seek(0)
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        after = fstat(stream.fileno())
    if (after.st_size, after.st_mtime_ns) != (size_bytes, mtime_ns):
        advice = "run again when it is complete"
        raise InputImageError(f"got {shown(path)}; changed while it was read: {advice}")
    image = InputImage(
        path=path,
        file=str(file),
        mime_type=mime_type,
        size_bytes=size_bytes,
        mtime_ns=mtime_ns,
        sha256=sha256,
        width=size and size[0],
        height=size and size[1],
        max_pixels=size and max_pixels,
    )
    _check_size(path, image.upload_bytes)
    return image


# A file that is forgotten is hashed again when it is used.
_image = lru_cache(maxsize=40_000)(_read)  # about 40 MB of memory
# Of pictures that a run makes: each is used soon after, by one call or by a few.
_recent_image = lru_cache(maxsize=1_000)(_read)


def _too_many_pixels(
    path: str, stream: BinaryIO, mime_type: str, max_pixels: int | None
) -> tuple[int, int] | None:
    """Return width and height of an image to be downscaled; None if it is sent unchanged."""
    size = downscale.pixels(stream, mime_type) if max_pixels else None
    if size is None or max_pixels is None or size[0] * size[1] <= max_pixels:
        return None
    if size[0] * size[1] > downscale.MAX_SOURCE_PIXELS:
        limit = f"images of up to {downscale.MAX_SOURCE_PIXELS // 1_000_000} million pixels"
        raise InputImageError(
            f"got {shown(path)} of {size[0]:,} by {size[1]:,} pixels; "
            f"--max-input-pixels can downscale {limit}: do it yourself, or {_ADVICE}"
        )
    return size


def _check_size(path: str, size_bytes: int) -> None:
    if media_types.base64_bytes(size_bytes) > media_types.MAX_INLINE_BYTES:
        limit_mb = media_types.MAX_INLINE_BYTES // 1_000_000
        raise InputImageError(
            f"got {shown(path)} of {size_bytes / 1e6:,.1f} MB; allowed: {limit_mb * 3 // 4} MB, "
            f"which are {limit_mb} MB in the request: downscale it, or {_ADVICE}"
        )


def _other_kind(head: bytes) -> str:
    """Return the kind of a file that is not an image, judged by its first bytes."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, kind in _OTHER_KINDS:
        if text.startswith(magic):
            return kind
    first = head[:8]
    is_text = first.isascii() and first.decode().isprintable()
    return f"no image: it begins {shown(first.decode()) if is_text else first.hex(' ')}"
