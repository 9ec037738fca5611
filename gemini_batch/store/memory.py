"""`MemoryStore`: objects in memory, for tests."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from gemini_batch.store.base import NO_NOTES, ConflictError, Content, Entry, NoObjectError, Stored


class MemoryStore:
    """An `ImageStore` in memory."""

    def __init__(self) -> None:
        self.shown = "memory://"
        self._objects: dict[str, tuple[Stored, datetime]] = {}
        self._lock = threading.Lock()
        self._written = 0

    def create(self, name: str, data: Content, notes: Mapping[str, str] = NO_NOTES) -> str:
        """Write a new object; return its version."""
        with self._lock:
            if name in self._objects:
                raise ConflictError(name)
            return self._put(name, data, notes)

    def replace(
        self, name: str, data: Content, version: str, notes: Mapping[str, str] = NO_NOTES
    ) -> str:
        """Write an object that still has this version; return its new one."""
        with self._lock:
            found = self._objects.get(name)
            if found is None or found[0].version != version:
                raise ConflictError(name)
            return self._put(name, data, notes)

    def put(self, name: str, data: bytes | Path) -> None:
        """Write an object, or the content of a file, over any earlier one."""
        content = data.read_bytes() if isinstance(data, Path) else data
        with self._lock:
            self._put(name, content, NO_NOTES)

    def get(self, name: str) -> Stored:
        """Return an object."""
        with self._lock:
            if name not in self._objects:
                raise NoObjectError(name)
            return self._objects[name][0]

    def head(self, name: str) -> Stored:
        """Return an object without its data."""
        return replace(self.get(name), data=b"")

    def read(self, name: str) -> Iterator[bytes]:
        """Yield the content of an object."""
        yield self.get(name).data

    def copy(self, name: str, new_name: str) -> None:
        """Copy an object with its notes."""
        found = self.get(name)
        with self._lock:
            self._put(new_name, found.data, found.notes)

    def list(self, prefix: str) -> Iterator[Entry]:
        """Yield the objects whose names begin with a folder."""
        with self._lock:
            found = sorted(self._objects.items())
        for name, (stored, modified_at) in found:
            if not prefix or name.startswith(f"{prefix.rstrip('/')}/"):
                yield Entry(name, len(stored.data), modified_at)

    def remove(self, name: str) -> None:
        """Remove an object; idempotent."""
        with self._lock:
            self._objects.pop(name, None)

    def _put(self, name: str, data: Content, notes: Mapping[str, str]) -> str:
        self._written += 1
        version = str(self._written)
        self._objects[name] = (
            Stored(bytes(data), version, dict(notes), len(data)),
            datetime.now(UTC),
        )
        return version
