"""A lock between processes that serves them in the order of their arrival.

SQLite's own lock goes to the process that asks when it is free: of eight processes one took nearly
all grants. Processes that wait in `flock` are served in turn.
"""

import fcntl
import os
import threading
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
        file, handover = self._file, threading.Lock()
        arrived = abandoned = False
        failed: list[OSError] = []

        def wait() -> None:
            nonlocal arrived
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                failed.append(error)
            with handover:
                arrived = True
                if abandoned:
                    os.close(file)

        waiting = threading.Thread(target=wait, name="quota lock", daemon=True)
        waiting.start()
        waiting.join(self._timeout_s)
        with handover:
            if not arrived:
                abandoned = True
                self._file = self._open()
                raise TimeoutError
        if failed:
            raise failed[0]
