"""Standard streams that work however the process was started: by cron, a daemon, on a full disk."""

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from gemini_batch.errors import StorageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# Characters that the encoding lacks are escaped.
_ERRORS = "backslashreplace"


def ensure_utf8_mode() -> None:
    """Restart this process in Python's UTF-8 mode if the file system encoding is not UTF-8.

    Images are named by ids, which other locales could not encode:
    https://peps.python.org/pep-0540/
    """
    if sys.getfilesystemencoding() == "utf-8" or not sys.executable:
        return
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606


def open_missing_streams() -> None:
    """Open closed standard streams on the null device, and escape what they cannot encode.

    Otherwise the first file of a run would get the number of a closed stream, and messages would
    be written into it.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    if isinstance(stdout := sys.stdout, io.TextIOWrapper):
        # Buffered also under PYTHONUNBUFFERED.
        file = io.BufferedWriter(_Stdout(stdout.fileno(), "w", closefd=False))
        by_line = stdout.line_buffering or stdout.write_through
        sys.stdout = io.TextIOWrapper(file, stdout.encoding, line_buffering=by_line)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


class _Stdout(io.FileIO):
    """Standard output, whose errors say so; what follows the first error is dropped."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write to the file.

        Raises:
            BrokenPipeError: The reader has gone.
            StorageError: Any other error.
        """
        try:
            return super().write(data)
        except OSError as error:
            _discard(self)
            if isinstance(error, BrokenPipeError):
                raise
            raise StorageError(f"stdout: can't be written: {error.strerror}") from error


def print_utf8() -> None:
    """Print to stdout in UTF-8 in any locale: programs read the JSON."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors=_ERRORS)


def flush(stream: TextIO) -> None:
    """Write the buffered output; drop what fails, so that the interpreter does not try again.

    Raises:
        StorageError: The stream is stdout, and its disk failed.
    """
    try:
        stream.flush()
    except OSError:
        _discard(stream)


def _discard(stream: TextIO | io.FileIO) -> None:
    """Redirect a stream to the null device."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        stream.flush()
