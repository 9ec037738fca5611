"""Standard streams that a command can rely on, whoever started it: cron with no locale, a daemon with none of them open, a full disk."""

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# What is printed is shown whatever the terminal, or the mail, can show of it.
_SHOW = "backslashreplace"


def speak_utf8() -> None:
    """Begin this process anew in Python's UTF-8 mode where file names would be anything else; returns where they are UTF-8.

    Files are named by what a person wrote. In a locale that has no such characters their names could not be written, and an
    answer that was paid for would have no place: https://peps.python.org/pep-0540/
    """
    if sys.getfilesystemencoding().lower().replace("-", "") == "utf8" or not sys.executable:
        return
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 # our own command line


def settle() -> None:
    """Open the standard streams that nobody opened, on nothing, and let no character be too strange to print.

    Else the first file of a run would get the number of a closed stream, and what is meant for a person be written into it. What stdout
    would not take is noted for `flush`.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _noted(sys.stdout)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_SHOW)


class _Noting(io.FileIO):
    """A file that notes why it could not be written: whoever catches that error can't tell of which file it speaks."""

    problem: OSError | None = None

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write, as any file does."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            self.problem = error
            raise


def _noted(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a stream in place of this one that notes its errors, with a buffer also where there is none (`PYTHONUNBUFFERED`)."""
    raw = _Noting(stream.fileno(), "w", closefd=False)
    is_at_once = stream.line_buffering or stream.write_through
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, line_buffering=is_at_once)


def print_utf8() -> None:
    """Print to stdout in UTF-8, whatever the locale: JSON is read by programs."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors=_SHOW)


def flush() -> OSError | None:
    """Write out what was printed; what can't be is dropped, so that the end of the process does not try it again.

    Returns:
        Why stdout could not be written; None if it was, or if whoever read it has gone.
    """
    problem: OSError | None = None
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _to_nothing(sys.stdout)
    except OSError as error:
        problem = error
        _to_nothing(sys.stdout)
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Noting):
        problem, raw.problem = problem or raw.problem, None
    try:
        sys.stderr.flush()
    except OSError:
        _to_nothing(sys.stderr)
    return problem


def _to_nothing(stream: TextIO) -> None:
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        stream.flush()
