"""A lock between processes that serves them in the order of their arrival.

SQLite's own lock goes to the process that asks when it is free: of eight processes one took nearly
all grants. Processes that wait in `flock` are served in turn.
"""

import fcntl
import os
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Self


class FairFileLock:
    """A lock on a file, for use with `with`; the system releases it when its holder dies.

    The file is never deleted: two processes could then hold two files of one name.
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        """Open the lock file, or make it; a turn is waited for as long as the timeout.

        Raises:
            OSError: It can't be opened.
        """
        self._path = path
        self._timeout_s = timeout_s
        self._file = self._open()

    def __enter__(self) -> Self:
        """Wait for the turn.

        Raises:
            TimeoutError: It did not come in time.
            OSError: The file system has no locks.
        """
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._wait()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Release the lock."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _wait(self) -> None:
        """Wait in `flock`, which keeps the order but has no timeout: in a thread to abandon."""
        file, turn = self._file, Future[None]()

        def wait() -> None:
            error = None
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as failure:
                error = failure
            if not turn.set_running_or_notify_cancel():
                os.close(file)
            elif error:
                turn.set_exception(error)
            else:
                turn.set_result(None)

        threading.Thread(target=wait, name="quota lock", daemon=True).start()
        try:
            turn.result(self._timeout_s)
        except TimeoutError:
            if turn.cancel():
                self._file = self._open()
                raise
            turn.result()  # it came just now
