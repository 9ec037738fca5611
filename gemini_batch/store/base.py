"""`ImageStore`: the port of a store that keeps images, and rows of text, as objects by name."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from mmap import mmap
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, TypeAlias

from gemini_batch.errors import StorageError

Content: TypeAlias = bytes | mmap
"""Content to write: bytes, or a file that is mapped into memory, and not copied."""
NO_NOTES: Mapping[str, str] = MappingProxyType({})


class StoreUnavailableError(StorageError):
    """The store does not answer, or can't serve the request now; it may later."""


class StoreRefusedError(StorageError):
    """The store refuses: no permission, no credentials, no such bucket. Retries do not help."""


class ConflictError(Exception):
    """An object is there that must not be, or is not the version that was expected."""


class NoObjectError(Exception):
    """There is no object of this name."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object in a listing.

    Attributes:
        modified_at: By the clock of the store.
    """

    name: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Stored:
    """An object.

    Attributes:
        data: Its content; empty if only its head was asked for.
        version: Changes with each writing.
        notes: Short ASCII texts that were written with it.
        size_bytes: Of the content.
    """

    data: bytes
    version: str
    notes: Mapping[str, str]
    size_bytes: int


class ImageStore(Protocol):
    """Objects by name, below one address. Methods block; threads may call them at once.

    All of them raise StoreUnavailableError and StoreRefusedError.

    Attributes:
        shown: The address, for messages.
    """

    shown: str

    def create(self, name: str, data: Content, notes: Mapping[str, str] = NO_NOTES) -> str:
        """Write a new object; return its version.

        Raises:
            ConflictError: An object has this name; it is unchanged.
        """
        ...

    def replace(
        self, name: str, data: Content, version: str, notes: Mapping[str, str] = NO_NOTES
    ) -> str:
        """Write an object that still has this version; return its new one.

        Raises:
            ConflictError: It has another version, or is gone.
        """
        ...

    def put(self, name: str, data: bytes | Path) -> None:
        """Write an object, or the content of a file, over any earlier one of this name."""
        ...

    def get(self, name: str) -> Stored:
        """Return an object.

        Raises:
            NoObjectError: There is none.
        """
        ...

    def head(self, name: str) -> Stored:
        """Return an object without its data; raises as `get`."""
        ...

    def read(self, name: str) -> Iterator[bytes]:
        """Yield the content of an object in blocks; raises as `get`."""
        ...

    def copy(self, name: str, new_name: str) -> None:
        """Copy an object with its notes, over any earlier one of the new name; raises as `get`."""
        ...

    def list(self, prefix: str) -> Iterator[Entry]:
        """Yield the objects whose names begin with a folder `prefix`, in the order of names."""
        ...

    def remove(self, name: str) -> None:
        """Remove an object; idempotent."""
        ...
