"""A thread of its own for what is said, so that a run never waits for whoever reads it.

A terminal that was stopped by Ctrl-S, a pager, a full pipe: a write to them blocks for as long as they like. On the event loop that would be
answers that break off, and are paid for; so the loop only leaves its lines here.
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

# What waits for a reader who does not read. Beyond it, lines are counted and left out.
MOST_LINES = 10_000
# At the end of the run whoever still does not read is given so long, and then left: the exit code has to reach a shell or cron.
LEAVE_AFTER_S = 10.0


class WriterThread(Generic[T]):
    """Hands lines to `show`, in order, in a thread; `say` never blocks.

    Args:
        show: Is given the lines that came since the last time, in the outlet's thread only. May block; may raise OSError.
        left_out: Puts into one line how many were left out.
        every_s: Call `show` at this interval, with what lines there are; None is when there are some.
        leave_after_s: How long `close` waits for a reader.
    """

    def __init__(
        self,
        show: Callable[[list[T]], None],
        *,
        left_out: Callable[[int], T],
        every_s: float | None = None,
        leave_after_s: float = LEAVE_AFTER_S,
    ) -> None:
        self._show = show
        self._every_s = every_s
        self._left_out = left_out
        self._leave_after_s = leave_after_s
        self._lines: queue.Queue[T | threading.Event] = queue.Queue(MOST_LINES)
        self._dropped, self._told = 0, 0
        self._is_deaf = False
        self._is_closed = False
        self._hurry = threading.Event()
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
        """Show what is left, and end; a reader who does not read is left after a while."""
        self._is_closed = True
        self._mark()
        with suppress(KeyboardInterrupt):  # whoever presses it does not want to wait for the words
            self._thread.join(self._leave_after_s)

    def say(self, line: T) -> None:
        """Leave a line; when nobody reads, it is left out and counted."""
        if self._is_deaf:
            return
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def flush(self) -> None:
        """Wait until what was said is shown, unless nobody reads."""
        self._mark().wait(self._leave_after_s)

    def _mark(self) -> threading.Event:
        """Leave a mark behind the last line; it is set when that is shown, or never will be."""
        mark = threading.Event()
        try:
            self._lines.put_nowait(mark)
        except queue.Full:
            mark.set()
        self._hurry.set()
        if (
            self._is_deaf
        ):  # asked only now: the thread is deaf before it looks for marks a last time
            mark.set()
        return mark

    def _run(self) -> None:
        marks: list[threading.Event] = []
        with suppress(
            Exception
        ):  # whoever read our words has gone, the disk with the log is full: no reason to stop
            while not self._is_closed:
                lines, marks = self._next()
                self._show(lines)
                for mark in marks:
                    mark.set()
            self._show(self._waiting()[0])
        self._is_deaf = True
        for mark in [*marks, *self._waiting()[1]]:
            mark.set()

    def _next(self) -> tuple[list[T], list[threading.Event]]:
        """Wait for lines, or for the next moment, and return what there is."""
        if self._every_s is None:
            return self._waiting(self._lines.get())
        self._hurry.wait(self._every_s)
        self._hurry.clear()
        return self._waiting()

    def _waiting(self, *first: T | threading.Event) -> tuple[list[T], list[threading.Event]]:
        there = [*first]
        with suppress(queue.Empty):
            while True:
                there.append(self._lines.get_nowait())
        lines = [each for each in there if not isinstance(each, threading.Event)]
        if dropped := self._dropped - self._told:
            lines.append(self._left_out(dropped))
            self._told += dropped
        return lines, [each for each in there if isinstance(each, threading.Event)]


def writer(stream: TextIO | None) -> Callable[[str], None]:
    """Return a function that writes text to a stream, past its buffer where it has a file.

    A thread that is stuck in a buffer holds its lock, and Python aborts over it when it ends.
    """
    if stream is None:  # the process was started without one
        return lambda _text: None
    try:
        file = stream.fileno()
    except (
        OSError,
        io.UnsupportedOperation,
    ):  # a test, or a notebook, has put something else there

        def write(text: str) -> None:
            stream.write(text)
            stream.flush()
    else:

        def write(text: str) -> None:
            left = memoryview(text.encode(stream.encoding or "utf-8", "backslashreplace"))
            while left:
                left = left[os.write(file, left) :]

    return write
