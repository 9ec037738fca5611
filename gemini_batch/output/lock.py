"""The lock of an output folder: one run at a time writes into it.

The folder itself is locked, so that no one can remove the lock. Where a file system locks no
folders (NFS), the lock file alone keeps runs apart, and its removal is noticed.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gemini_batch.errors import FolderBusyError, StorageError
from gemini_batch.output.files import fsync_all, open_regular, sync
from gemini_batch.output.paths import DURABLE, INCOMING, LOCK, PRIVATE, SEALED
from gemini_batch.output.tree import Tree, is_in, is_same

_HOLDER_BYTES = 200
_TRIES = 100
# `holder` holds the lock for a moment: a folder counts as busy after this wait.
_LOOKS_S = (0.005, 0.02)


@dataclass(slots=True)
class FolderLock:
    """The held lock. The kernel releases it when the process ends.

    Attributes:
        private: The descriptor of `.gemini_batch`.
    """

    _tree: Tree
    private: int
    _file: int
    _locks_folder: bool
    # False where a name and what is open at it have different inodes, as on some FUSE mounts.
    _has_inodes: bool

    def check(self) -> None:
        """Check that the folder still has its name, and that no other run can have locked it.

        Raises:
            StorageError: It was moved, or replaced, or workers of a newer generation write now.
        """
        if is_in(SEALED, self.private):
            raise StorageError(
                f"{self._tree.out}: was taken over by another generation of workers during the "
                "run; its answers until then are kept there"
            )
        if not self._has_inodes:
            return
        tree = self._tree
        if not _is_root(tree):
            raise StorageError(
                f"{tree.out}: was moved or replaced during the run; move it back, then run again"
            )
        if not is_same(PRIVATE, self.private, dir_fd=tree.root()):
            raise StorageError(
                f"{tree.out / PRIVATE}: was moved or replaced during the run; move it back, then "
                "run again"
            )
        if not self._locks_folder and not is_same(LOCK, self._file, dir_fd=self.private):
            raise StorageError(
                f"{tree.out / PRIVATE / LOCK}: was removed during the run, so that another run may "
                "work in this folder; wait for it, then run again"
            )

    def close(self) -> None:
        """Release the lock."""
        os.close(self._file)
        os.close(self.private)
        self._tree.close()


@contextmanager
def locked_folder(tree: Tree) -> Iterator[FolderLock]:
    """Create a folder and hold it for this process; remove it at the end if it is new and unused.

    Raises:
        FolderBusyError: Another run holds it.
        StorageError: It can't be written.
    """
    out, private = tree.out, tree.out / PRIVATE
    made: list[Path] = []
    with ExitStack() as stack:
        try:
            made += (folder for folder in (out, *out.parents) if not folder.exists())
            is_new = not private.exists()
            lock = hold(tree)
            stack.callback(lock.close)
            stack.callback(_remove_unused, made, private)
            fsync_all(folder.parent for folder in made)
            os.close(tree.open(f"{PRIVATE}/{INCOMING}", make=True))
            if is_new:
                # A power cut must not leave rows and no note of how many of them are durable.
                sync(lock.private)
                sync(tree.root())
        except OSError as error:
            _remove_empty(made)
            raise unwritable(out, error) from error
        yield lock


def unwritable(out: Path, error: OSError) -> StorageError:
    """Return the error for an output folder that can't be written."""
    place = error.filename if isinstance(error.filename, str) else ""
    where = f"{out}: can't be written"
    if Path(place).is_relative_to(out) and place != str(out):
        where = f"{where}: {place}"
    return StorageError(f"{where}: {error.strerror}; choose another folder with --out")


def hold(tree: Tree) -> FolderLock:
    """Return the held lock of a folder, which is made if it is missing.

    Raises:
        FolderBusyError: Another run holds it.
        StorageError: Its file system has no locks, or a link is in it.
        OSError: The lock can't be created.
    """
    for number in range(_TRIES):
        with ExitStack() as stack:
            stack.callback(tree.close)
            with suppress(FileExistsError):  # opening says of what kind it is
                tree.out.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # the run that held it has just removed the folder
                locks_folder = _flock(tree.root(), tree)
                private = tree.open(PRIVATE, make=True)
                stack.callback(os.close, private)
                file = _open_file(tree, private)
                stack.callback(os.close, file)
                if not _flock(file, tree) and not locks_folder:
                    raise StorageError(
                        f"{tree.out}: its file system has no file locks, which keep two runs "
                        "apart; choose a folder on another disk with --out"
                    )
                has_names = (
                    _is_root(tree)
                    and is_same(PRIVATE, private, dir_fd=tree.root())
                    and is_same(LOCK, file, dir_fd=private)
                )
                if has_names or number == _TRIES - 1:
                    os.ftruncate(file, 0)
                    os.pwrite(file, f"process {os.getpid()}\n".encode(), 0)
                    stack.pop_all()
                    return FolderLock(tree, private, file, locks_folder, has_names)
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(tree.out))


def holder(out: Path) -> str | None:
    """Return which run holds a folder, as it names itself: `process 123`; None if none does.

    The lock is asked for in a way that lets a run which starts in this moment wait for it.

    Raises:
        OSError: The folder can't be read.
    """
    tree = Tree(out)
    try:
        return None if all(map(_is_free, _lock_places(tree))) else _holder(tree)
    finally:
        tree.close()


def _lock_places(tree: Tree) -> Iterator[int]:
    """Yield the descriptors of what a run locks, each open until the next is asked for."""
    yield tree.root()
    with suppress(FileNotFoundError, StorageError):
        private = tree.open(PRIVATE)
        try:
            file = open_regular(LOCK, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=private)
        finally:
            os.close(private)
        try:
            yield file
        finally:
            os.close(file)


def _is_free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # the file system has no locks on it
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


def _open_file(tree: Tree, private: int) -> int:
    flags, shown = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, tree.out / PRIVATE / LOCK
    return open_regular(LOCK, flags, dir_fd=private, shown=shown)


def _is_root(tree: Tree) -> bool:
    """Return whether the path of the output folder, which may be a link, leads to what is open."""
    try:
        return os.path.samestat(tree.out.stat(), os.fstat(tree.root()))
    except OSError:
        return False


def _flock(descriptor: int, tree: Tree) -> bool:
    """Lock a file or folder; return False where the file system can't."""
    for seconds in (*_LOOKS_S, None):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if seconds is None:
                break
            time.sleep(seconds)
        except OSError:
            return False  # NFS wants a folder open for writing, which nothing can be
        else:
            return True
    raise FolderBusyError(
        f"{tree.out}: held by another run ({_holder(tree)}); "
        "wait for it, or choose another folder with --out"
    )


def _holder(tree: Tree) -> str:
    with suppress(OSError, StorageError):
        private = tree.open(PRIVATE)
        try:
            file = open_regular(LOCK, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=private)
            try:
                if text := os.pread(file, _HOLDER_BYTES, 0).decode(errors="replace").strip():
                    return text
            finally:
                os.close(file)
        finally:
            os.close(private)
    return "another process"


def _remove_unused(made: list[Path], private: Path) -> None:
    """Remove a folder that this run made and did not use, while the lock is still held."""
    lock, incoming, durable = (private / name for name in (LOCK, INCOMING, DURABLE))
    with suppress(OSError):  # it is used after all, or gone already
        if (
            made
            and {*made[0].iterdir()} == {private}
            and {lock, incoming, durable}.issuperset(private.iterdir())
        ):
            with suppress(FileNotFoundError):
                incoming.rmdir()  # before the others: it may be used
            durable.unlink(missing_ok=True)
            lock.unlink()
            _remove_empty([private, *made])


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove empty folders, inner ones first; stop at one that is not."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()
