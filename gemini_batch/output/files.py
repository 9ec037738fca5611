"""What has to outlive a power cut: files, and the names in folders."""

import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path

_AT_ONCE = 16  # each is an open file


def sync(paths: Iterable[str | Path]) -> None:
    """Make files, or the names in folders, durable.

    Raises:
        OSError: The disk would not.
    """
    names = iter(paths)
    while block := list(islice(names, _AT_ONCE)):
        _sync_together(block)


def _sync_together(paths: Iterable[str | Path]) -> None:
    opened: list[int] = []
    try:
        for path in paths:
            opened.append(descriptor := os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            _begin_to_write(descriptor)
        for descriptor in opened:
            os.fsync(descriptor)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _begin_to_write(descriptor: int) -> None:
    """Have the system write what it holds of a file, without waiting: files that are written together cost one commit of the journal, not one each."""
    if hasattr(os, "posix_fadvise"):  # macOS has none
        with suppress(OSError):  # a hint
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
