"""`LocalStore`: a folder that stands in for a bucket (`file:///folder`)."""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import orjson

from gemini_batch.errors import describe_os_error
from gemini_batch.store.base import (
    NO_NOTES,
    ConflictError,
    Content,
    Entry,
    NoObjectError,
    Stored,
    StoreRefusedError,
)

_BLOCK_BYTES = 1 << 20
# Next to the objects: their notes, the lock, and what is being written.
_NOTES, _LOCK, _PART = ".notes", ".lock", ".part"


class LocalStore:
    """An `ImageStore` whose objects are files: for tests, and for file systems that are shared."""

    def __init__(self, root: Path) -> None:
        self.shown = f"file://{root}"
        self._root = root

    def create(self, name: str, data: Content, notes: Mapping[str, str] = NO_NOTES) -> str:
        """Write a new object; return its version."""
        with self._locked():
            if (self._root / name).exists():
                raise ConflictError(name)
            return self._write(name, data, notes)

    def replace(
        self, name: str, data: Content, version: str, notes: Mapping[str, str] = NO_NOTES
    ) -> str:
        """Write an object that still has this version; return its new one."""
        with self._locked():
            try:
                found = self.head(name).version
            except NoObjectError:
                found = ""
            if found != version:
                raise ConflictError(name)
            return self._write(name, data, notes)

    def put(self, name: str, data: bytes | Path) -> None:
        """Write an object, or the content of a file, over any earlier one."""
        with self._locked():
            self._write(name, data.read_bytes() if isinstance(data, Path) else data, NO_NOTES)

    def get(self, name: str) -> Stored:
        """Return an object."""
        return self._stored(name, b"".join(self.read(name)))

    def head(self, name: str) -> Stored:
        """Return an object without its data."""
        if not (self._root / name).is_file():
            raise NoObjectError(name)
        return self._stored(name, b"")

    def read(self, name: str) -> Iterator[bytes]:
        """Yield the content of an object in blocks."""
        try:
            with (self._root / name).open("rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    yield block
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NoObjectError(name) from None
        except OSError as error:
            raise self._refused(error) from error

    def copy(self, name: str, new_name: str) -> None:
        """Copy an object with its notes."""
        found = self.get(name)
        with self._locked():
            self._write(new_name, found.data, found.notes)

    def list(self, prefix: str) -> Iterator[Entry]:
        """Yield the objects whose names begin with a folder."""
        place = self._root / prefix
        found = sorted(place.rglob("*"), key=str) if place.is_dir() else []
        for path in found:
            name = path.relative_to(self._root).as_posix()
            is_own = name == _LOCK or name.startswith(f"{_NOTES}/") or name.endswith(_PART)
            if not is_own and path.is_file():
                status = path.stat()
                at = datetime.fromtimestamp(status.st_mtime, UTC)
                yield Entry(name, status.st_size, at)

    def remove(self, name: str) -> None:
        """Remove an object; idempotent."""
        with self._locked(), suppress(FileNotFoundError):
            (self._root / name).unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with (self._root / _LOCK).open("wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise self._refused(error) from error

    def _write(self, name: str, data: Content, notes: Mapping[str, str]) -> str:
        path, note = self._root / name, self._note(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{uuid4().hex}{_PART}")
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        note.parent.mkdir(exist_ok=True)
        note.write_bytes(orjson.dumps(dict(notes)))
        part.rename(path)
        return _version(path.stat())

    def _stored(self, name: str, data: bytes) -> Stored:
        notes: dict[str, str] = {}
        with suppress(FileNotFoundError, orjson.JSONDecodeError):
            notes = orjson.loads(self._note(name).read_bytes())
        status = (self._root / name).stat()
        return Stored(data, _version(status), notes, status.st_size)

    def _note(self, name: str) -> Path:
        return self._root / _NOTES / hashlib.sha256(name.encode()).hexdigest()

    def _refused(self, error: OSError) -> StoreRefusedError:
        return StoreRefusedError(f"{self.shown}: can't be used: {describe_os_error(error)}")


def _version(status: os.stat_result) -> str:
    return f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"
