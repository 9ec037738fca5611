"""Standard streams that work however the process was started: by cron, a daemon, on a full disk."""

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

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
    be written into it. Errors of stdout are recorded for `flush`.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _recording(sys.stdout)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


class _RecordingFile(io.FileIO):
    """A file that records why it could not be written: the exception does not name the file."""

    problem: OSError | None = None

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write, and record an error other than a closed pipe."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            self.problem = error
            raise


def _recording(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a stream that records its errors, buffered also under `PYTHONUNBUFFERED`."""
    raw = _RecordingFile(stream.fileno(), "w", closefd=False)
    is_line_buffered = stream.line_buffering or stream.write_through
    return io.TextIOWrapper(
        io.BufferedWriter(raw), stream.encoding, line_buffering=is_line_buffered
    )


def print_utf8() -> None:
    """Print to stdout in UTF-8 in any locale: programs read the JSON."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors=_ERRORS)


def flush() -> OSError | None:
    """Write the buffered output; drop what fails, so that the interpreter does not try again.

    Returns:
        Why stdout could not be written; None if it was, or if its reader has gone.
    """
    problem: OSError | None = None
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
    except OSError as error:
        problem = error
        _discard(sys.stdout)
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _RecordingFile):
        problem, raw.problem = problem or raw.problem, None
    try:
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)
    return problem


def _discard(stream: TextIO) -> None:
    """Redirect a stream to the null device."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        stream.flush()
