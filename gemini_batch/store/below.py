"""`StoreBelow`: the objects of a store below one folder, as a store of their own."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from gemini_batch.store.base import NO_NOTES, Content, Entry, ImageStore, Stored


class StoreBelow:
    """An `ImageStore` whose names begin at a folder of another one.

    Args:
        store: The other one.
        folder: Without a slash at either end.
    """

    def __init__(self, store: ImageStore, folder: str) -> None:
        self.shown = f"{store.shown}/{folder}"
        self._store = store
        self._prefix = f"{folder}/"

    def create(self, name: str, data: Content, notes: Mapping[str, str] = NO_NOTES) -> str:
        """Write a new object; return its version."""
        return self._store.create(self._prefix + name, data, notes)

    def replace(
        self, name: str, data: Content, version: str, notes: Mapping[str, str] = NO_NOTES
    ) -> str:
        """Write an object that still has this version; return its new one."""
        return self._store.replace(self._prefix + name, data, version, notes)

    def put(self, name: str, data: bytes | Path) -> None:
        """Write an object, or the content of a file, over any earlier one."""
        self._store.put(self._prefix + name, data)

    def get(self, name: str) -> Stored:
        """Return an object."""
        return self._store.get(self._prefix + name)

    def head(self, name: str) -> Stored:
        """Return an object without its data."""
        return self._store.head(self._prefix + name)

    def read(self, name: str) -> Iterator[bytes]:
        """Yield the content of an object in blocks."""
        return self._store.read(self._prefix + name)

    def copy(self, name: str, new_name: str) -> None:
        """Copy an object with its notes."""
        self._store.copy(self._prefix + name, self._prefix + new_name)

    def list(self, prefix: str) -> Iterator[Entry]:
        """Yield the objects whose names begin with a folder."""
        for entry in self._store.list((self._prefix + prefix).rstrip("/")):
            yield replace(entry, name=entry.name.removeprefix(self._prefix))

    def remove(self, name: str) -> None:
        """Remove an object; idempotent."""
        self._store.remove(self._prefix + name)
