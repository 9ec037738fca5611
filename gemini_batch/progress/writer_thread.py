"""A thread that writes to the terminal or log, so that a run never waits for the reader.

A terminal stopped by Ctrl-S, a pager or a full pipe blocks a write indefinitely. On the event loop
this would break off answers that are paid for, so the loop only queues its lines here.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, Self, TextIO, TypeVar

T = TypeVar("T")

# Lines queued for a blocked reader. Lines beyond it are dropped and counted.
MAX_LINES = 10_000
# The longest wait for a blocked reader, by `flush` and at the end: the exit code must reach the
# shell or cron.
CLOSE_TIMEOUT_S = 10.0


class WriterThread(Generic[T]):
    """Passes lines to `show`, in order, in a thread; `write` never blocks.

    Args:
        show: Gets the lines since the last call, in the thread only. May block; may raise OSError.
        dropped_line: Makes the line that reports a number of dropped lines.
        every_s: The interval of the calls of `show`; None calls it when there are lines.
    """

    def __init__(
        self,
        show: Callable[[list[T]], None],
        *,
        dropped_line: Callable[[int], T],
        every_s: float | None = None,
    ) -> None:
        self._show = show
        self._every_s = every_s
        self._dropped_line = dropped_line
        self._changed = threading.Condition()  # guards all that follows; never held during `show`
        self._lines: list[T] = []
        self._queued, self._shown, self._dropped = 0, 0, 0
        self._is_flushing, self._is_closed, self._has_ended = False, False, False
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Show the queued lines and end; give up on a blocked reader after the timeout."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        with suppress(KeyboardInterrupt):  # pressed to end at once
            self._thread.join(CLOSE_TIMEOUT_S)

    def write(self, line: T) -> None:
        """Queue a line; if the queue is full, drop and count it."""
        with self._changed:
            if self._has_ended:
                return
            if len(self._lines) >= MAX_LINES:
                self._dropped += 1
                return
            self._lines.append(line)
            self._queued += 1
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until the queued lines are shown, unless the reader is blocked."""
        with self._changed:
            self._is_flushing = True
            self._changed.notify_all()
            queued = self._queued
            self._changed.wait_for(
                lambda: self._shown >= queued or self._has_ended, CLOSE_TIMEOUT_S
            )

    def _run(self) -> None:
        is_last = False
        with suppress(Exception):  # a closed pipe or a full disk does not stop the run
            while not is_last:
                with self._changed:
                    self._changed.wait_for(self._is_due, self._every_s)
                    lines, self._lines = self._lines, []
                    if self._dropped:
                        lines.append(self._dropped_line(self._dropped))
                    queued, is_last = self._queued, self._is_closed
                    self._dropped, self._is_flushing = 0, False
                self._show(lines)
                with self._changed:
                    self._shown = queued
                    self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._lines.clear()
            self._changed.notify_all()

    def _is_due(self) -> bool:
        has_lines = self._every_s is None and bool(self._lines)
        return has_lines or self._is_flushing or self._is_closed


def writer(stream: TextIO | None) -> Callable[[str], None]:
    """Return a function that writes text to a stream, bypassing its buffer if it has a file.

    A thread that blocks inside a buffer holds its lock, and Python aborts over it at exit.
    """
    if stream is None:  # the process was started without one
        return lambda _text: None
    try:
        file = stream.fileno()
    except OSError:  # a test or a notebook replaced the stream
        return lambda text: print(text, end="", file=stream, flush=True)

    def write(text: str) -> None:
        rest = memoryview(text.encode(stream.encoding or "utf-8", "backslashreplace"))
        while rest:
            rest = rest[os.write(file, rest) :]

    return write
