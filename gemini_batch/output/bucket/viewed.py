"""An output folder in a bucket, as commands read it: its rows are copied, its images on demand."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from gemini_batch.errors import ConfigError
from gemini_batch.hashmap import HashMap64, fingerprint
from gemini_batch.output.bucket.copies import copy_parts
from gemini_batch.output.bucket.generations import begun, image_names, store_of
from gemini_batch.output.bucket.lease import read
from gemini_batch.output.files import new_file
from gemini_batch.output.paths import PRIVATE
from gemini_batch.output.rows import newest_rows
from gemini_batch.output.viewed import Digest, ViewedFolder
from gemini_batch.store.base import ImageStore, NoObjectError

_AT_ONCE = 16


class BucketFolder(ViewedFolder):
    """A copy of a bucket's rows in a folder, and its images.

    Attributes:
        store: The store of the bucket.
    """

    is_bucket = True

    def __init__(self, store: ImageStore, out: Path, *, may_be_new: bool = False) -> None:
        """Copy rows, marks and records.

        Raises:
            ConfigError: The bucket has no rows, unless it may be new.
            StorageError: It can't be used, or is damaged.
            OSError: The folder can't be written.
        """
        super().__init__(out)
        self.shown = store.shown
        self.store = store
        self._names: HashMap64 | None = None
        self._begun = begun(store, out)
        (out / PRIVATE).mkdir(parents=True, exist_ok=True)
        if not copy_parts(store, self._begun, is_for_people=True) and not may_be_new:
            raise ConfigError(
                f"{store.shown}: has no results; name the --out of a run, such as s3://bucket/x"
            )

    def running(self) -> str | None:
        """Return what holds a lease; whether it was killed can't be seen at once."""
        newest = self._begun.newest
        parts = [part for part in self._begun.parts if part.generation == newest]
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            leases = [*threads.map(read, [store_of(self.store, part) for part in parts])]
        found = [
            (part, lease[0].process)
            for part, lease in zip(parts, leases, strict=True)
            if lease is not None and not lease[0].is_over
        ]
        if len(found) > 1:
            return f"{len(found):,} workers, unless they were killed"
        for part, process in found:
            worker = f"worker {part.shard}, " if part.shard else ""
            return f"{worker}{process}, unless it was killed"
        return None

    def has_image(self, path: str) -> bool:
        """Return whether an image is in the bucket, by one listing of all."""
        if self._names is None:
            self._names = HashMap64()
            for name in self.images():
                self._names.put(fingerprint(name), 1)
        return self._names.get(fingerprint(path)) is not None

    def digest(self, path: str) -> Digest:
        """Return what an image is, which is read for it."""
        size_bytes, sha256 = 0, hashlib.sha256()
        try:
            for block in self.store.read(path):
                size_bytes += len(block)
                sha256.update(block)
        except NoObjectError as error:
            raise _missing(path) from error
        return Digest(size_bytes, sha256.hexdigest())

    @contextmanager
    def image(self, path: str) -> Iterator[Path]:
        """Yield a copy of an image, which is removed afterwards."""
        with tempfile.NamedTemporaryFile(dir=self.out / PRIVATE) as file:
            try:
                file.writelines(self.store.read(path))
            except NoObjectError as error:
                raise _missing(path) from error
            file.flush()
            yield Path(file.name)

    def images(self) -> Iterator[str]:
        """Yield the names of all images and drafts."""
        yield from image_names(self.store, self._begun)

    def copy_images(self) -> None:
        """Copy the images of the newest rows that are not in the folder yet.

        Raises:
            StorageError: The bucket can't be used.
            OSError: The folder can't be written.
        """
        wanted = (
            image
            for row in newest_rows(self.out)
            for image in (*row["images"], *row["drafts"])
            if not _is_copied(self.out / image["path"], image)
        )
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            while group := list(islice(wanted, 4 * _AT_ONCE)):
                _wait(threads.map(self._copy, group))

    def _copy(self, image: Mapping[str, Any]) -> None:
        path = self.out / image["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with new_file(path, durable=False) as file:
                file.writelines(self.store.read(image["path"]))
        except NoObjectError:
            pass  # the page says that it is missing


def _wait(results: Iterable[None]) -> None:
    for _ in results:
        pass


def _is_copied(path: Path, image: Mapping[str, Any]) -> bool:
    try:
        return path.stat().st_size == int(image["size_bytes"])
    except OSError:
        return False


def _missing(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
