"""A thread that writes to the terminal or log, so that a run never waits for the reader.

A terminal stopped by Ctrl-S, a pager or a full pipe blocks a write indefinitely. On the event loop
this would break off answers that are paid for, so the loop only queues its lines here.
"""

import io
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Generic, Self, TextIO, TypeVar

T = TypeVar("T")

# Lines queued for a blocked reader. Lines beyond it are dropped and counted.
MAX_LINES = 10_000
# The longest wait for a blocked reader at the end: the exit code must reach the shell or cron.
CLOSE_TIMEOUT_S = 10.0


class WriterThread(Generic[T]):
    """Passes lines to `show`, in order, in a thread; `write` never blocks.

    Args:
        show: Gets the lines since the last call, in the thread only. May block; may raise OSError.
        dropped_line: Makes the line that reports a number of dropped lines.
        every_s: The interval of the calls of `show`; None calls it when there are lines.
        close_timeout_s: How long `flush` and the end wait for a blocked reader.
    """

    def __init__(
        self,
        show: Callable[[list[T]], None],
        *,
        dropped_line: Callable[[int], T],
        every_s: float | None = None,
        close_timeout_s: float = CLOSE_TIMEOUT_S,
    ) -> None:
        self._show = show
        self._every_s = every_s
        self._dropped_line = dropped_line
        self._close_timeout_s = close_timeout_s
        self._lines: queue.Queue[T | threading.Event] = queue.Queue(MAX_LINES)
        self._dropped, self._reported = 0, 0
        self._reader_gone = False
        self._is_closed = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Show the queued lines and end; give up on a blocked reader after the timeout."""
        self._is_closed = True
        self._mark()
        with suppress(KeyboardInterrupt):  # pressed to end at once
            self._thread.join(self._close_timeout_s)

    def write(self, line: T) -> None:
        """Queue a line; if the queue is full, drop and count it."""
        if self._reader_gone:
            return
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def flush(self) -> None:
        """Wait until the queued lines are shown, unless the reader is blocked."""
        self._mark().wait(self._close_timeout_s)

    def _mark(self) -> threading.Event:
        """Queue a mark behind the last line; it is set when that is shown, or never will be."""
        mark = threading.Event()
        try:
            self._lines.put_nowait(mark)
        except queue.Full:
            mark.set()
        self._wake.set()
        # Checked last: the thread sets the flag before it looks for marks a last time.
        if self._reader_gone:
            mark.set()
        return mark

    def _run(self) -> None:
        marks: list[threading.Event] = []
        with suppress(Exception):  # a closed pipe or a full disk is no reason to stop the run
            while not self._is_closed:
                lines, marks = self._next()
                self._show(lines)
                for mark in marks:
                    mark.set()
            self._show(self._queued()[0])
        self._reader_gone = True
        for mark in [*marks, *self._queued()[1]]:
            mark.set()

    def _next(self) -> tuple[list[T], list[threading.Event]]:
        """Wait for lines, or for the end of the interval, and return the queued lines and marks."""
        if self._every_s is None:
            return self._queued(self._lines.get())
        self._wake.wait(self._every_s)
        self._wake.clear()
        return self._queued()

    def _queued(self, *first: T | threading.Event) -> tuple[list[T], list[threading.Event]]:
        queued = [*first]
        with suppress(queue.Empty):
            while True:
                queued.append(self._lines.get_nowait())
        lines = [each for each in queued if not isinstance(each, threading.Event)]
        if dropped := self._dropped - self._reported:
            lines.append(self._dropped_line(dropped))
            self._reported += dropped
        return lines, [each for each in queued if isinstance(each, threading.Event)]


def writer(stream: TextIO | None) -> Callable[[str], None]:
    """Return a function that writes text to a stream, bypassing its buffer if it has a file.

    A thread that blocks inside a buffer holds its lock, and Python aborts over it at exit.
    """
    if stream is None:  # the process was started without one
        return lambda _text: None
    try:
        file = stream.fileno()
    except (OSError, io.UnsupportedOperation):  # a test or a notebook replaced the stream

        def write(text: str) -> None:
            stream.write(text)
            stream.flush()
    else:

        def write(text: str) -> None:
            rest = memoryview(text.encode(stream.encoding or "utf-8", "backslashreplace"))
            while rest:
                rest = rest[os.write(file, rest) :]

    return write
