"""Answers that could not be understood, as they came: they were paid for."""

import os
from collections.abc import Iterable
from contextlib import closing
from itertools import count
from pathlib import Path

from gemini_batch.errors import StorageError, describe_os_error
from gemini_batch.output.paths import PRIVATE, UNREADABLE
from gemini_batch.output.tree import Tree

MAX_ANSWER_BYTES = 64 * 2**20
MAX_BYTES = 2**30
MAX_FILES = 1_000
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def keep(out: Path, name: str, body: Iterable[bytes]) -> str:
    """Write a body into a new file; return where it is, or why it is not kept, or "" if empty.

    Base64 in it is in the standard alphabet, and signatures are left out.
    """
    place = f"{PRIVATE}/{UNREADABLE}"
    try:
        with closing(Tree(out)) as tree:
            folder = tree.open(place, make=True)
            try:
                return _kept(folder, place, name, body)
            finally:
                os.close(folder)
    except OSError as error:
        return f"the answer can't be kept: {describe_os_error(error)}"
    except StorageError as error:
        return f"the answer can't be kept: {error}"


def _kept(folder: int, place: str, name: str, body: Iterable[bytes]) -> str:
    names = set(os.listdir(folder))  # of an open folder
    sizes = (os.stat(each, dir_fd=folder, follow_symlinks=False).st_size for each in names)
    room_bytes = min(MAX_BYTES - sum(sizes), MAX_ANSWER_BYTES)
    if len(names) >= MAX_FILES or room_bytes <= 0:
        return f"the answer is not kept: {place} is full; empty it"
    free = (name if number == 1 else f"{name}.{number}" for number in count(1))
    name = next(each for each in free if each not in names)
    descriptor = os.open(name, _NEW, 0o666, dir_fd=folder)
    with open(descriptor, "wb") as file:  # noqa: PTH123  # a descriptor
        is_whole = True
        for piece in body:
            file.write(piece[:room_bytes])
            room_bytes -= len(piece)
            if room_bytes < 0:
                is_whole = False
                break
        size_bytes = file.tell()
    if not size_bytes:
        os.unlink(name, dir_fd=folder)
        return ""
    what = "the answer" if is_whole else f"the first {size_bytes:,} bytes"
    return f"{what} is kept in {place}/{name}"
