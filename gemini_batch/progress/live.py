"""A run on a terminal: one calm region that is painted in place, and above it the lines that stay.

The event loop only counts, under a lock that is held for microseconds. Painting is done by the outlet's thread, at most four times a
second; when the terminal does not take what it is given (Ctrl-S), that thread waits, and nobody else.
"""

import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import ClassVar, Self

from rich.console import Console
from rich.text import Text

from gemini_batch.engine.summary import Summary
from gemini_batch.errors import ExitCode
from gemini_batch.events import (
    CallFinished,
    CallNotReused,
    Event,
    LittleRoom,
    Repaired,
    RunStarted,
    Stopping,
)
from gemini_batch.progress import messages
from gemini_batch.progress.final_report import ending
from gemini_batch.progress.formatting import plain
from gemini_batch.progress.live_layout import STYLES, picture
from gemini_batch.progress.region import Region, Row
from gemini_batch.progress.run_state import RunState, Sample
from gemini_batch.progress.view import Out, RunInfo
from gemini_batch.records import ResultRow, Status

FRAME_S = 0.25
# A process that slept longer between two frames was stopped, or its machine was.
_STOPPED_S = 1.0


class Live:
    """Counts on the loop, and paints in the outlet's thread.

    Args:
        about: What is known beforehand.
        tally: Counts; shared between the two under the lock.
        write: Writes to the terminal; may block, may raise OSError.
        size: Returns the terminal's columns and lines.
        is_in_front: Returns whether the terminal is this process's to paint on, and not that of a shell it was sent behind.
    """

    every_s: ClassVar[float] = 1.0

    def __init__(
        self,
        about: RunInfo,
        tally: RunState,
        write: Callable[[str], None],
        size: Callable[[], tuple[int, int]],
        is_in_front: Callable[[], bool] = lambda: True,
    ) -> None:
        self._about = about
        self._tally = tally
        self._write = write
        self._size = size
        self._is_in_front = is_in_front
        self._say: Callable[[Text], None] = _nobody
        self.flush: Callable[[], None] = _nothing
        self._lock = threading.Lock()
        self._is_sending, self._has_ended = False, False
        self._was_resumed = threading.Event()
        self._before: object = None
        self._region = Region()
        self._shown_s = time.monotonic()
        self._console = Console(
            file=io.StringIO(),
            force_terminal=True,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
        )

    def __enter__(self) -> Self:
        """Notice from now on when a shell has stopped this process and let it go on."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGCONT, self._resumed)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the region away: nothing is painted from now on."""
        with self._lock:
            self._is_sending, self._has_ended = False, True
        if self._before is not None:
            signal.signal(signal.SIGCONT, self._before)  # type: ignore[arg-type]

    # --- on the event loop --------------------------------------------------------------------------------------------

    def speak_through(self, out: Out[Text]) -> None:
        """Leave lines that stay there from now on: its thread is the one that calls `show`."""
        self._say, self.flush = out.say, out.flush

    def observe(self, event: Event) -> None:
        """Count an event, and leave a line of what has to stay in sight."""
        with self._lock:
            self._tally.observe(event, self._about.clock.steady_s())
        match event:
            case RunStarted() if event.todo + event.reused:
                for words in messages.started(self._about.name, event):
                    self._line(words, "")
            case Repaired(message):
                self._line(message, "yellow")
            case CallNotReused():
                self._line(messages.not_reused(event), "yellow")
            case LittleRoom():
                self._line(messages.little_room(event), "yellow")
            case CallFinished(row) if row.status is not Status.SUCCEEDED:
                self._say(_unsuccessful(row))
            case Stopping():
                self._line(messages.stopping(event), "yellow")
            case _:
                pass

    def take(self, sample: Sample) -> None:
        """Take in what is used of the quota, and what is in flight; with the first sample the region appears, whole."""
        with self._lock:
            self._tally.take(sample)
            self._is_sending = not self._has_ended

    def tell(self, message: str) -> None:
        """Leave a line of what no event tells."""
        self._line(message, "yellow")

    def end(self, summary: Summary) -> None:
        """Leave a short end in place of the region."""
        with self._lock:
            self._is_sending, self._has_ended = False, True
        if words := messages.nothing_to_do(self._about.name, summary):
            self._line(words, "green" if summary.exit_code == ExitCode.DONE else "")
            return
        for line in ending(summary, self._about):
            self._say(line)

    def _line(self, words: str, style: str) -> None:
        self._say(Text(plain(words), style))

    def _resumed(self, _signal: int, _frame: FrameType | None) -> None:
        self._was_resumed.set()

    # --- in the outlet's thread ---------------------------------------------------------------------------------------

    def show(self, lines: list[Text]) -> None:
        """Write lines that stay, and paint the region below them."""
        if time.monotonic() - self._shown_s > _STOPPED_S:
            time.sleep(0.05)  # the main thread gets to see the signal
        is_in_front = self._is_in_front()
        if not is_in_front or self._was_resumed.is_set():
            self._region.forget()
            self._was_resumed.clear()
        columns, height = self._size()
        rows = self._picture(columns, height) if is_in_front else []
        above = "".join(
            f"{self._ansi(part)}\n" for line in lines for part in self._broken(line, columns)
        )
        painted = [Row(self._ansi(row), row.cell_len) for row in rows]
        if frame := self._region.frame(above, painted, columns):
            self._write(frame)
        self._shown_s = time.monotonic()

    def _picture(self, columns: int, height: int) -> list[Text]:
        with self._lock:
            if not self._is_sending:
                return []
            state = self._tally.state(self._about.clock.steady_s(), self._about.clock.utc())
        try:
            return picture(self._about.name, state, columns, height)
        except Exception:  # noqa: BLE001 # a picture is no reason to lose the words
            return []

    def _broken(self, line: Text, columns: int) -> Iterator[Text]:
        """Yield a line broken between words; one that is not to be wrapped, for a person to copy, is left to the terminal."""
        parts = [line] if line.no_wrap else line.wrap(self._console, max(20, columns - 4))
        for number, part in enumerate(parts):
            part.rstrip()
            yield Text("   " if number else " " if part else "").append_text(part)

    def _ansi(self, text: Text) -> str:
        """Return the text with its colours, as this terminal has them; its words are not looked into for markup."""
        with self._console.capture() as captured:
            self._console.print(text, soft_wrap=True, end="")
        return captured.get()


def terminal_size(file: int) -> tuple[int, int]:
    """Return a terminal's columns and lines; those of a common one when it does not say."""
    try:
        columns, lines = os.get_terminal_size(file)
    except OSError:
        columns, lines = 0, 0
    return columns or 80, lines or 24


def is_in_front(file: int) -> bool:
    """Return whether this process is in the terminal's foreground."""
    try:
        return os.tcgetpgrp(file) == os.getpgrp()
    except OSError:
        return True


def _unsuccessful(row: ResultRow) -> Text:
    line = Text()
    line.append(f"{row.status.value:<9}", STYLES[row.status])
    line.append(f" {plain(row.id)}  ")
    line.append(plain(messages.reason(row)), "dim")
    return line


def _nobody(_line: Text) -> None:
    """Tell nobody."""


def _nothing() -> None:
    """Wait for nothing."""
