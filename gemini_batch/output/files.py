"""Durable and atomic writing of files, and opening of files that others may have replaced."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import DEFAULT_BUFFER_SIZE, BufferedReader, FileIO
from itertools import islice
from pathlib import Path
from typing import BinaryIO

# A row has at most 8 MiB of texts from its answer, and a line of the manifest; more is damage.
MAX_LINE_BYTES = 64 << 20
# `summary.json` is of a fixed number of fields and lists; more is damage.
MAX_SUMMARY_BYTES = 16 << 20
_AT_ONCE = 16  # each is an open file
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
}
# File systems in user space refuse to sync a folder, where there is nothing to sync: s3fs, gcsfuse
# and others (https://github.com/rclone/rclone/issues/2356 and its kind, collected 2026-11-30).
_NO_FOLDER_SYNC = {
    errno.EINVAL,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EBADF,
    errno.ENOSYS,
    errno.EISDIR,
    errno.ENOTTY,
}


def open_regular(
    path: str | Path,
    flags: int = os.O_RDONLY,
    mode: int = 0o600,
    *,
    dir_fd: int | None = None,
    shown: str | Path | None = None,
) -> int:
    """Open a regular file, and return its descriptor; never wait for a named pipe.

    Args:
        path: The file; relative to `dir_fd` if that is given.
        flags: As of `os.open`; with `O_NOFOLLOW` a symbolic link is refused.
        mode: Of a file that is created.
        dir_fd: The folder's descriptor.
        shown: The path in errors, if not `path`.

    Raises:
        OSError: It can't be opened, or is of another kind, which `strerror` says.
    """
    name = str(shown or path)
    wanted = flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(path, wanted, mode, dir_fd=dir_fd)
    except FileNotFoundError:
        raise
    except OSError as refused:
        error: OSError = refused
        with suppress(OSError):
            found = os.stat(path, dir_fd=dir_fd, follow_symlinks=not flags & os.O_NOFOLLOW)
            error = _wrong_kind(found, name) or refused
        raise type(error)(error.errno, error.strerror, name) from None
    if problem := _wrong_kind(os.fstat(descriptor), name):
        os.close(descriptor)
        raise problem
    return descriptor


def open_to_read(
    path: str | Path, *, buffering: int = DEFAULT_BUFFER_SIZE, follow: bool = True
) -> BufferedReader:
    """Open a regular file for reading, as `open_regular` does; without `follow`, no link."""
    flags = os.O_RDONLY if follow else os.O_RDONLY | os.O_NOFOLLOW
    return BufferedReader(FileIO(open_regular(path, flags)), buffering)


def read_at_most(path: str | Path, limit_bytes: int) -> bytes:
    """Return the first bytes of a regular file, as many as `limit_bytes`; raises as above."""
    with open_to_read(path) as file:
        return file.read(limit_bytes)


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines; one that is longer than any row comes in pieces, so that memory is bounded."""
    while line := file.readline(MAX_LINE_BYTES):
        yield line


def kind_of(mode: int) -> str:
    """Return the kind of a file as a noun, by its `st_mode`."""
    return _KINDS.get(stat.S_IFMT(mode), "no file")


class WrongKindError(OSError):
    """The name of a file leads to something else: a link, a named pipe, a device, a socket."""


def _wrong_kind(found: os.stat_result, name: str) -> OSError | None:
    if stat.S_ISREG(found.st_mode):
        return None
    if stat.S_ISDIR(found.st_mode):
        return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    text = f"is {kind_of(found.st_mode)}, and must be a regular file; move it away"
    return WrongKindError(errno.EINVAL, text, name)


def write_atomically(
    path: Path,
    data: bytes,
    *,
    durable: bool,
    via: Path | None = None,
    mode: int = 0o666,
    dir_fd: int | None = None,
) -> None:
    """Write a file completely or not at all; see `new_file`, also for what it raises."""
    with new_file(path, durable=durable, via=via, mode=mode, dir_fd=dir_fd) as file:
        file.write(data)


@contextmanager
def new_file(
    path: Path,
    *,
    durable: bool,
    via: Path | None = None,
    mode: int = 0o666,
    dir_fd: int | None = None,
) -> Iterator[BinaryIO]:
    """Yield a file that replaces `path` when the block ends, and is removed if it raises.

    Args:
        path: The final name.
        durable: Write the content to the disk before the rename, so that a power cut leaves the
            earlier or the new content. The rename itself is not made durable.
        via: The temporary name, on the same file system; None is `path` with ".part" appended.
        mode: Of the file.
        dir_fd: The descriptor of the folder that the names are relative to.

    Raises:
        OSError: The file can't be written. An earlier file of this name is unchanged.
    """
    part = via or path.with_name(f"{path.name}.part")
    with suppress(FileNotFoundError):
        os.unlink(part, dir_fd=dir_fd)  # of a killed process; never write through a link
    try:
        with os.fdopen(os.open(part, _CREATE, mode, dir_fd=dir_fd), "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.rename(part, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        with suppress(OSError):
            os.unlink(part, dir_fd=dir_fd)
        raise


def write_whole(descriptor: int, data: bytes) -> None:
    """Write data in one piece; raise OSError if the disk fails or takes only a part."""
    if os.write(descriptor, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def append_line(folder: int, name: str, line: bytes) -> None:
    """Append a line durably to a file in an open folder; a line that was torn is ended first.

    Raises:
        OSError: The disk refused, or the file is a link, a named pipe or the like.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    descriptor = open_regular(name, flags, 0o666, dir_fd=folder)
    try:
        end_bytes = os.fstat(descriptor).st_size
        is_torn = end_bytes > 0 and os.pread(descriptor, 1, end_bytes - 1) != b"\n"
        write_whole(descriptor, b"\n" * is_torn + line + b"\n")
        os.fsync(descriptor)
        if not end_bytes:
            sync(folder)
    finally:
        os.close(descriptor)


def fsync_all(paths: Iterable[str | Path], *, dir_fd: int | None = None) -> None:
    """Make the content of files, or the names in folders, durable; raise OSError if that fails.

    Paths are relative to `dir_fd`, if that is given.
    """
    names = iter(paths)
    while block := list(islice(names, _AT_ONCE)):
        _fsync_block(block, dir_fd)


def _fsync_block(paths: Iterable[str | Path], dir_fd: int | None) -> None:
    descriptors: list[int] = []
    try:
        for path in paths:
            # Not blocking: it may have become a named pipe.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
            descriptors.append(descriptor)
            # Start writing its pages without waiting: files that are written together cost one
            # commit of the file system's journal instead of one each.
            if hasattr(os, "posix_fadvise"):  # macOS has none
                with suppress(OSError):  # a hint
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        for descriptor in descriptors:
            sync(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def sync(descriptor: int) -> None:
    """Make an open file or folder durable; a folder that its file system can't sync is left.

    Raises:
        OSError: The disk failed.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
        with suppress(OSError):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                return
        raise
