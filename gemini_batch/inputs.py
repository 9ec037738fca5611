"""Reference images: what a manifest names is looked up, recognised by its bytes and hashed, once a file."""

import hashlib
import re
from os import fstat, stat_result
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from urllib.parse import urlsplit

from gemini_batch.policy import media
from gemini_batch.policy.wording import choices, shown
from gemini_batch.records import InputImage, InputUri

# Files remembered; about 25 MB of memory. Past it the oldest is forgotten, and hashed again when it is named again.
MAX_REMEMBERED = 40_000

_ADVICE = "upload it with the Files API and give its https:// URI"
_FORMATS = choices(mime_type.removeprefix("image/") for mime_type in media.EXTENSIONS)
_is_uri = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:", re.ASCII).match


class InputImageError(ValueError):
    """A reference image can't be used; the text says what was found, and what to do."""


class Inputs:
    """Looks up reference images and remembers them: by path, size, time of change and inode.

    Args:
        base: The folder that relative paths start from: the manifest's.
    """

    def __init__(self, base: Path) -> None:
        self._base = base.absolute()
        self._known: dict[str, tuple[tuple[int, int, int], InputImage]] = {}

    def resolve(self, path: str) -> InputImage | InputUri:
        """Return the image that a manifest names by a path or a URI.

        Raises:
            InputImageError: It is missing, unreadable, no image, too large, or the URI is of a kind that the API can't fetch.
        """
        if _is_uri(path):
            return _uri(path)
        file = self._base / path
        try:
            status = file.stat()
            identity = (status.st_size, status.st_mtime_ns, status.st_ino)
            known = self._known.get(path)
            if known and known[0] == identity:
                return known[1]
            image = _image(path, file, status)
        except ValueError as error:
            if isinstance(error, InputImageError):
                raise
            raise InputImageError(f"got {shown(path)}; a path has no NUL in it") from None
        except FileNotFoundError:
            raise InputImageError(f"got {shown(path)}; there is no such file: looked for {file}") from None
        except OSError as error:
            raise InputImageError(f"got {shown(path)}; can't be read: {error.strerror} ({file})") from None
        self._remember(path, identity, image)
        return image

    def _remember(self, path: str, identity: tuple[int, int, int], image: InputImage) -> None:
        if len(self._known) >= MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[path] = (identity, image)


def _uri(uri: str) -> InputUri:
    """Take a URI that the API can fetch: https, or Google Cloud Storage."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise InputImageError(f"got {shown(uri)}; not a valid URI") from None
    scheme = parts.scheme.lower()
    if scheme not in ("https", "gs"):
        advice = {
            "http": "the API fetches https:// only: use that, or download the file and give its path",
            "file": "give the path without file://",
            "data": 'save it as a file and give its path, or put it into a raw "request"',
        }.get(scheme, "allowed: a path, https:// or gs://")
        raise InputImageError(f"got {shown(uri)}; {advice}")
    if not parts.netloc or re.search(r"[\x00-\x20\x7f]", uri):
        raise InputImageError(f"got {shown(uri)}; not a valid URI: needs a host, and no blanks")
    return InputUri(uri=uri, mime_type=media.guess_mime_type(parts.path))


def _image(path: str, file: Path, status: stat_result) -> InputImage:
    """Recognise and hash a file."""
    if S_ISDIR(status.st_mode):
        raise InputImageError(f"got {shown(path)}; is a folder: name the files in it")
    if not S_ISREG(status.st_mode):
        raise InputImageError(f"got {shown(path)}; is not a regular file")
    if status.st_size == 0:
        raise InputImageError(f"got {shown(path)}; the file is empty")
    if media.base64_bytes(status.st_size) > media.MAX_INLINE_BYTES:
        raise InputImageError(
            f"got {shown(path)} of {status.st_size / 1e6:,.1f} MB; allowed: {media.MAX_INLINE_BYTES // 1_000_000} MB a request, "
            f"of which base64 takes a quarter: make it smaller, or {_ADVICE}"
        )
    with file.open("rb") as stream:
        head = stream.read(media.HEAD_BYTES)
        mime_type = media.sniff(head)
        if mime_type is None:
            begins = head[:8].hex(" ")
            raise InputImageError(f"got {shown(path)}; not an image (it begins {begins}); allowed: {_FORMATS}")
        stream.seek(0)
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        after = fstat(stream.fileno())
    if (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
        raise InputImageError(f"got {shown(path)}; changed while it was read: run again when it is complete")
    return InputImage(
        path=path,
        file=str(file),
        mime_type=mime_type,
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        sha256=sha256,
    )
