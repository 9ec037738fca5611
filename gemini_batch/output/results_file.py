"""The file of rows, as the run that holds the folder writes it."""

import errno
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

import orjson

from gemini_batch.output.files import kind_of, open_regular, write_whole
from gemini_batch.output.paths import RESULTS
from gemini_batch.output.tree import is_same
from gemini_batch.records import exact_json

if TYPE_CHECKING:  # recovery appends rows as they were read
    from gemini_batch.records import ResultRow

_BLOCK_BYTES = 1 << 18


class ResultsFile:
    """The open file of rows, for the one run that holds the folder.

    Others can replace, cut or move it meanwhile: `check` notices, before anything is paid for
    whose row would be lost.

    Args:
        out: The output folder.
        dir_fd: Its descriptor, where it is open.

    Raises:
        OSError: It can't be opened, or is a link, a named pipe or the like.
    """

    def __init__(self, out: Path, dir_fd: int | None = None) -> None:
        self.path = out / RESULTS
        self._name = RESULTS if dir_fd is not None else self.path
        self._dir_fd = dir_fd
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        self._descriptor = open_regular(self._name, flags, 0o666, dir_fd=dir_fd, shown=self.path)
        self._is_torn = False
        # A cancelled run may close the file while a sync still runs in its thread.
        self._in_use = threading.Lock()
        found = os.fstat(self._descriptor)
        self.start_bytes = self.end_bytes = found.st_size
        # None on a mount that gives a file another number with each look-up.
        has_inode = is_same(self._name, self._descriptor, dir_fd=dir_fd)
        self._inode = (found.st_dev, found.st_ino) if has_inode else None

    def changed(self) -> str:
        """Return what others did to the file, or "" if the name leads to what was written."""
        try:
            named = os.stat(self._name, dir_fd=self._dir_fd, follow_symlinks=False)
        except FileNotFoundError:
            return "was moved or removed"
        if not S_ISREG(named.st_mode):
            return f"was replaced by {kind_of(named.st_mode)}"
        if self._inode and self._inode != (named.st_dev, named.st_ino):
            return "was replaced by another file, as editors, sed -i and sync tools do it"
        size_bytes = named.st_size if self._inode else os.fstat(self._descriptor).st_size
        if size_bytes < self.end_bytes:
            return f"was cut off at {size_bytes:,} of {self.end_bytes:,} bytes"
        if size_bytes > self.end_bytes and not self._is_torn:
            return "was written to by another program"
        return ""

    def append(self, row: "ResultRow | Mapping[str, Any]") -> None:
        """Write a row in one piece; from then on a kill of this process can't lose it.

        Raises:
            OSError: The row can't be written. The file ends where it did before.
        """
        option = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
        line = orjson.dumps(row, exact_json.written, option)
        if self._is_torn:
            self._cut_back()
        try:
            write_whole(self._descriptor, line)
        except BaseException:
            self._cut_back()
            raise
        self.end_bytes += len(line)

    def own_rows(self) -> Iterator[bytes]:
        """Yield in blocks what was appended since the opening, also to a file without a name.

        Raises:
            OSError: It can't be read.
        """
        place = self.start_bytes
        while place < self.end_bytes:
            wanted = min(_BLOCK_BYTES, self.end_bytes - place)
            if not (block := os.pread(self._descriptor, wanted, place)):
                return
            yield block
            place += len(block)

    def sync(self) -> None:
        """Make all rows durable; raise OSError if the disk fails."""
        with self._in_use:
            if self._descriptor < 0:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            # macOS has no fdatasync.
            getattr(os, "fdatasync", os.fsync)(self._descriptor)

    def close(self) -> None:
        """Close the file, after a running sync."""
        with self._in_use:
            os.close(self._descriptor)
            self._descriptor = -1

    def _cut_back(self) -> None:
        """Remove a torn row, before another one follows it."""
        self._is_torn = True
        os.ftruncate(self._descriptor, self.end_bytes)
        self._is_torn = False
