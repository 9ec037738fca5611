"""One run at a time writes into an output folder."""

import fcntl
import os
from pathlib import Path

from gemini_batch.errors import FolderBusyError


def hold(path: Path, out: Path) -> int:
    """Return the open lock, in a folder that is made; the kernel lets go of it when it is closed, or this process ends, however it does.

    Args:
        path: Of the lock.
        out: The folder that it stands for, as messages name it.

    Raises:
        FolderBusyError: Another run holds it.
        OSError: The disk would not.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(lock, path):
                os.ftruncate(lock, 0)
                os.pwrite(lock, f"process {os.getpid()}\n".encode(), 0)
                return lock
        except BlockingIOError:
            holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
            os.close(lock)
            raise FolderBusyError(
                f"{out}: held by another run ({holder}); wait for it, or give this one a folder of its own by --out"
            ) from None
        except OSError:
            os.close(lock)
            raise
        os.close(lock)  # the run that held it has just taken the folder away: once more


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file still is the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
