"""The folders below an output folder, by descriptors: no symbolic link in them is followed.

Others may change the folder while a run writes into it. A name that is looked up from an open
folder can't lead out of it, also when the path does by then.
"""

import os
from contextlib import suppress
from pathlib import Path

from gemini_batch.errors import StorageError
from gemini_batch.output.files import kind_of, sync

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Tree:
    """One folder and those below it. Paths in arguments are relative to it, with slashes.

    Methods raise StorageError if a symbolic link or a file is in the place of a folder, and
    OSError if the disk refuses.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._root = -1

    def root(self) -> int:
        """Return the descriptor of the folder itself, which stays open until `close`."""
        if self._root < 0:
            self._root = os.open(self.out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._root

    def open(self, folder: str, *, make: bool = False, durable: bool = False) -> int:
        """Return a descriptor of a folder below, to be closed by the caller.

        `make` makes it and its parents if they are missing, with `durable` so that a power cut
        leaves them.
        """
        descriptor = self.root()
        for name in filter(None, folder.split("/")):
            outer = descriptor
            try:
                descriptor = self._entered(name, outer, folder, make=make, durable=durable)
            finally:
                if outer != self._root:
                    os.close(outer)
        return os.dup(descriptor) if descriptor == self._root else descriptor

    def _entered(self, name: str, outer: int, folder: str, *, make: bool, durable: bool) -> int:
        if name == "..":
            raise StorageError(f"{self.out / folder}: leads out of {self.out}")
        try:
            return os.open(name, _FOLDER, dir_fd=outer)
        except FileNotFoundError:
            if not make:
                raise
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=outer)
                if durable:
                    sync(outer)
            return os.open(name, _FOLDER, dir_fd=outer)
        except OSError as error:
            with suppress(OSError):
                found = os.stat(name, dir_fd=outer, follow_symlinks=False)
                if (kind := kind_of(found.st_mode)) != "a folder":
                    self._refuse(name, folder, kind, error)
            raise

    def _refuse(self, name: str, folder: str, kind: str, error: OSError) -> None:
        parts = folder.split("/")
        place = self.out / "/".join(parts[: parts.index(name) + 1])
        if kind == "a symbolic link":
            text = f"{place}: is a symbolic link, and nothing is written through one; "
        else:
            text = f"{place}: is {kind}, and must be a folder; "
        raise StorageError(f"{text}move it away, or choose another folder with --out") from error

    def exists(self, path: str) -> bool:
        """Return whether something has this name, a broken link included."""
        folder, _, name = path.rpartition("/")
        try:
            descriptor = self.open(folder)
        except FileNotFoundError:
            return False
        try:
            return is_in(name, descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the folder; idempotent."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1


class OpenFolder:
    """One folder of a tree, opened with its first use and kept open for many files."""

    def __init__(self, tree: Tree, name: str) -> None:
        self.path = tree.out / name
        self.name = name
        self._tree = tree
        self._descriptor = -1

    @property
    def descriptor(self) -> int:
        """The open folder."""
        if self._descriptor < 0:
            self._descriptor = self._tree.open(self.name)
        return self._descriptor

    def create(self, name: str, mode: int, flags: int = os.O_TRUNC) -> int:
        """Return the descriptor of a file for writing; raise OSError, also for a link."""
        flags |= os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, mode, dir_fd=self.descriptor)

    def close(self) -> None:
        """Close the folder; idempotent, and it is opened again when needed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def is_in(name: str, folder: int) -> bool:
    """Return whether something has this name in an open folder, a broken link included."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def is_same(path: str | Path, descriptor: int, *, dir_fd: int | None = None) -> bool:
    """Return whether a name leads, without a link, to what is open."""
    try:
        named = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(named, os.fstat(descriptor))
