"""Durable and atomic writing of files."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

_AT_ONCE = 16  # each is an open file


def write_atomically(path: Path, data: bytes, *, durable: bool, via: Path | None = None) -> None:
    """Write a file completely or not at all; see `new_file`, also for what it raises."""
    with new_file(path, durable=durable, via=via) as file:
        file.write(data)


@contextmanager
def new_file(path: Path, *, durable: bool, via: Path | None = None) -> Iterator[BinaryIO]:
    """Yield a file that replaces `path` when the block ends, and is removed if it raises.

    Args:
        path: The final name.
        durable: Write the content to the disk before the rename, so that a power cut leaves the
            earlier or the new content. The rename itself is not made durable.
        via: The temporary name, on the same file system; None is `path` with ".part" appended.

    Raises:
        OSError: The file can't be written. An earlier file of this name is unchanged.
    """
    part = via or path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def write_whole(descriptor: int, data: bytes) -> None:
    """Write data in one piece; raise OSError if the disk fails or takes only a part."""
    if os.write(descriptor, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fsync_all(paths: Iterable[str | Path]) -> None:
    """Make the content of files, or the names in folders, durable; raise OSError if that fails."""
    names = iter(paths)
    while block := list(islice(names, _AT_ONCE)):
        _fsync_block(block)


def _fsync_block(paths: Iterable[str | Path]) -> None:
    descriptors: list[int] = []
    try:
        for path in paths:
            descriptors.append(descriptor := os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            # Start writing its pages without waiting: files that are written together cost one
            # commit of the file system's journal instead of one each.
            if hasattr(os, "posix_fadvise"):  # macOS has none
                with suppress(OSError):  # a hint
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        for descriptor in descriptors:
            os.fsync(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
