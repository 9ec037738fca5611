"""The second half of a large file, read by a forked process while this one reads the first."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkProcess

T = TypeVar("T", bound=tuple[Any, ...])

MIN_BYTES = 16 << 20  # about 100,000 lines: below it a second process gains nothing
_MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SecondHalf(Generic[T]):
    """The work of the other process; `start_bytes` is where its half of the file starts."""

    start_bytes: int
    _receiver: "Connection"

    def result(self) -> T | None:
        """Wait for the result; None if there is none, and the caller has to do the work itself."""
        try:
            return cast(T, tuple(self._receiver.recv() for _ in range(self._receiver.recv())))
        except (OSError, EOFError):  # it was killed, or failed
            return None


@contextmanager
def second_half(path: Path, work: Callable[[int], T | None]) -> Iterator[SecondHalf[T] | None]:
    """Start `work` on the second half of a file, which starts at the line that it is called with.

    Yield None where the file is small or a fork is not safe. The other process ends with the block.
    """
    start_bytes = _middle(path) if _may_fork() else 0
    started = _start(path, work, start_bytes) if start_bytes else None
    if started is None:
        yield None
        return
    process, receiver = started
    try:
        yield SecondHalf(start_bytes, receiver)
    finally:
        process.kill()
        process.join()
        process.close()
        receiver.close()


def _start(
    path: Path, work: Callable[[int], T | None], start_bytes: int
) -> "tuple[ForkProcess, Connection] | None":
    import multiprocessing

    context = multiprocessing.get_context("fork")
    try:
        receiver, sender = context.Pipe(duplex=False)
        with sender:
            process = context.Process(
                target=_send, args=(sender, path, work, start_bytes), daemon=True
            )
            process.start()
    except OSError:  # no memory, or too many processes or files
        return None
    return process, receiver


def _may_fork() -> bool:
    """Return whether this is Linux, there is a second processor, and no thread may hold a lock."""
    return (
        sys.platform == "linux"
        and len(os.sched_getaffinity(0)) > 1
        and len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208  # names alone
    )


def _middle(path: Path) -> int:
    """Return the start of a line in the middle of a large file, else 0."""
    with suppress(OSError), path.open("rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes >= MIN_BYTES:
            file.seek(size_bytes // 2)
            if file.readline(_MAX_LINE_BYTES).endswith(b"\n"):
                return file.tell()
    return 0


def _send(
    sender: "Connection", path: Path, work: Callable[[int], T | None], start_bytes: int
) -> None:
    # An error is met again, and reported, by the process that has to do the work then.
    with suppress(BaseException):
        _close_others(sender.fileno(), path)
        result = work(start_bytes)
        if result is not None:
            sender.send(len(result))
            for each in result:  # not all at once, which would take twice the memory
                sender.send(each)


def _close_others(sender: int, path: Path) -> None:
    """Close what is open but for the pipe and the file: a lock must not outlive its holder."""
    kept = {0, 1, 2, sender, int(path.name) if path.name.isdecimal() else sender}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # names alone
        if int(name) not in kept:
            with suppress(OSError):
                os.close(int(name))
