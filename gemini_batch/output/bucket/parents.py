"""Copies of pictures that other calls use: a scratch folder may lose its images at any time."""

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from gemini_batch.errors import storage_errors
from gemini_batch.store.base import ImageStore, NoObjectError


class BucketPictures:
    """Copies of the pictures that calls use, from the scratch folder or else from the bucket.

    It blocks, and may be used by several threads. A copy is named by the picture's sha256.

    Args:
        store: The store of the bucket.
        out: The scratch folder.
        folder: Where copies stay while calls may need them.
    """

    def __init__(self, store: ImageStore, out: Path, folder: Path) -> None:
        self._store = store
        self._out = out
        self._folder = folder

    def copy(self, path: str, sha256: str) -> Path | None:
        """Return the copy of a picture; None if there is another one in its place.

        Raises:
            FileNotFoundError: It is neither here nor in the bucket.
            StorageError: The bucket, or the folder, can't be used.
        """
        copy = self._folder / f"{sha256}.picture"
        with storage_errors(f"{copy}: can't be written"):
            self._folder.mkdir(parents=True, exist_ok=True)
        if _is_file_of(copy, sha256):
            return copy
        if _is_file_of(self._out / path, sha256):
            with suppress(OSError):  # it is gone meanwhile, or a file system has no links
                os.link(self._out / path, copy)
                return copy
        try:
            data = self._store.get(path).data
        except NoObjectError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        if hashlib.sha256(data).hexdigest() != sha256:
            return None
        with storage_errors(f"{copy}: can't be written"):
            self._write(copy, data)
        return copy

    def _write(self, copy: Path, data: bytes) -> None:
        with NamedTemporaryFile(dir=self._folder, delete=False) as file:
            part = Path(file.name)
            try:
                file.write(data)
                file.flush()
                part.replace(copy)
            except OSError:
                part.unlink(missing_ok=True)
                raise


def _is_file_of(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False
