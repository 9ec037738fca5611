"""The lock of an output folder: one run at a time writes into it."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from gemini_batch.errors import FolderBusyError, StorageError
from gemini_batch.output.files import fsync_all
from gemini_batch.output.paths import DURABLE, INCOMING, LOCK, PRIVATE


@contextmanager
def locked_folder(out: Path) -> Iterator[None]:
    """Create a folder and hold it for this process; remove it at the end if it is new and unused.

    Raises:
        FolderBusyError: Another run holds it.
        StorageError: It can't be written.
    """
    private = out / PRIVATE
    made: list[Path] = []
    with ExitStack() as stack:
        try:
            made += (folder for folder in (out, *out.parents) if not folder.exists())
            stack.callback(os.close, hold(private / LOCK, out))
            stack.callback(_remove_unused, made, private)
            fsync_all(folder.parent for folder in made)
            (private / INCOMING).mkdir(exist_ok=True)
        except OSError as error:
            _remove_empty(made)
            raise unwritable(out, error) from error
        yield


def unwritable(out: Path, error: OSError) -> StorageError:
    """Return the error for an output folder that can't be written."""
    return StorageError(
        f"{out}: can't be written: {error.strerror}; choose another folder with --out"
    )


def hold(path: Path, out: Path) -> int:
    """Return the descriptor of the held lock; the kernel releases it when the process ends.

    The folder of the lock file is created. Messages name `out`, the folder that it stands for.

    Raises:
        FolderBusyError: Another run holds it.
        OSError: The lock can't be created.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), path.stat()):
                os.ftruncate(lock, 0)
                os.pwrite(lock, f"process {os.getpid()}\n".encode(), 0)
                return lock
        except FileNotFoundError:
            pass
        except BlockingIOError:
            holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
            os.close(lock)
            raise FolderBusyError(
                f"{out}: held by another run ({holder}); "
                "wait for it, or choose another folder with --out"
            ) from None
        except OSError:
            os.close(lock)
            raise
        os.close(lock)  # the run that held it has just removed the folder: try again


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
