"""The live view of a run on a terminal: a region repainted in place, below lines that stay.

The event loop only counts, under a lock that is held for microseconds. The writer thread paints,
at most four times a second; if the terminal is blocked (Ctrl-S), only that thread waits.
"""

import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from rich.console import Console
from rich.text import Text

from gemini_batch.engine.summary import Summary
from gemini_batch.events import (
    BatchNotice,
    BatchSeen,
    CallFinished,
    CallHeld,
    CallNotReused,
    Event,
    LedgerNotice,
    LittleRoom,
    ManifestWarning,
    ModelReplaced,
    Repaired,
    RunStarted,
    Stopping,
)
from gemini_batch.progress import messages
from gemini_batch.progress.final_report import final_report
from gemini_batch.progress.formatting import plain
from gemini_batch.progress.live_layout import STYLES, rows_of
from gemini_batch.progress.region import Region
from gemini_batch.progress.run_state import RunState, Sample
from gemini_batch.progress.view import RunInfo
from gemini_batch.records import FailureKind, ResultRow, Status

FRAME_S = 0.25
# A longer time between two frames means that the process, or the machine, was stopped.
_STOPPED_S = 1.0


@dataclass(eq=False)
class LiveView:
    """Counts on the event loop, and paints in the writer thread; a lock guards the counts.

    `_write` writes to the terminal; it may block, and may raise OSError. `_size` returns the
    columns and lines, and `_is_in_foreground` whether this process, not a shell, owns the terminal.
    """

    every_s: ClassVar[float] = 1.0

    _info: RunInfo
    _run_state: RunState
    _write: Callable[[str], None]
    _size: Callable[[], tuple[int, int]]
    _is_in_foreground: Callable[[], bool] = lambda: True
    _write_line: Callable[[Text], None] = lambda _line: None
    flush: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._is_sending = False
        self._was_resumed = threading.Event()
        self._region = Region()
        self._shown_s = time.monotonic()
        self._console = Console(file=io.StringIO(), force_terminal=True, highlight=False)

    @contextmanager
    def painting(self) -> Iterator[None]:
        """Paint after a shell has resumed this process, too; at the end, remove the region."""
        if threading.current_thread() is not threading.main_thread():  # it gets no signals
            yield
            self._is_sending = False
            return
        previous = signal.signal(signal.SIGCONT, lambda *_: self._was_resumed.set())
        try:
            yield
        finally:
            self._is_sending = False
            signal.signal(signal.SIGCONT, previous)

    def write_to(self, write: Callable[[Text], None], flush: Callable[[], None]) -> None:
        """Queue lines with these functions of the thread that calls `show`."""
        self._write_line, self.flush = write, flush

    def observe(self, event: Event) -> None:
        """Count an event, and write a line for those that must stay visible."""
        with self._lock:
            self._run_state.observe(event, self._info.clock.steady_s())
        match event:
            case RunStarted() if event.todo + event.reused:
                for text in messages.started(self._info.name, event):
                    self._line(text, "")
            case (
                Repaired()
                | LedgerNotice()
                | ManifestWarning()
                | CallNotReused()
                | CallHeld()
                | LittleRoom()
                | ModelReplaced()
                | BatchNotice()
                | Stopping()
            ):
                self.warn(messages.notice(event))
            case BatchSeen(is_new=is_new, is_over=is_over) if is_new or is_over:
                self._line(messages.batch(event) or "", "")
            case CallFinished(row) if row.status is not Status.SUCCEEDED and not _is_counted(row):
                status = (f"{row.status.value:<9}", STYLES[row.status])
                why = row.error.message if row.error else row.block_reason or row.finish_reason
                reason = (plain(why or "no reason given"), "dim")
                self._write_line(Text.assemble(status, f" {plain(row.id)}  ", reason))

    def update(self, sample: Sample) -> None:
        """Record a sample; the first one makes the region appear."""
        with self._lock:
            self._run_state.update(sample)
        self._is_sending = True

    def warn(self, message: str) -> None:
        """Write a line that stays."""
        self._line(message, "yellow")

    def end(self, summary: Summary) -> None:
        """Write a short result instead of the region."""
        self._is_sending = False
        if nothing_to_do := messages.nothing_to_do(self._info.name, summary):
            self._line(nothing_to_do, "green")
            return
        for line in final_report(summary, self._info):
            self._write_line(line)

    def _line(self, text: str, style: str) -> None:
        self._write_line(Text(plain(text), style))

    def show(self, lines: list[Text]) -> None:
        """Write lines that stay and paint the region below them; called in the writer thread."""
        if time.monotonic() - self._shown_s > _STOPPED_S:
            time.sleep(0.05)  # lets the main thread handle SIGCONT first
        is_in_foreground = self._is_in_foreground()
        if not is_in_foreground or self._was_resumed.is_set():
            self._region.forget()
            self._was_resumed.clear()
        columns, height = self._size()
        rows = self._rows(columns, height) if is_in_foreground else []
        wrapped = (part for line in lines for part in self._wrapped(line, columns))
        above = "".join(f"{self._ansi(part)}\n" for part in wrapped)
        painted = [(self._ansi(row), row.cell_len) for row in rows]
        if frame := self._region.frame(above, painted, columns):
            self._write(frame)
        self._shown_s = time.monotonic()

    def _rows(self, columns: int, height: int) -> list[Text]:
        if not self._is_sending:
            return []
        clock = self._info.clock
        with self._lock:
            snapshot = self._run_state.snapshot(clock.steady_s(), clock.utc())
        try:
            return rows_of(self._info.name, snapshot, columns, height)
        except Exception:  # noqa: BLE001 # a bug in the layout must not cost the lines
            return []

    def _wrapped(self, line: Text, columns: int) -> Iterator[Text]:
        """Yield a line wrapped at spaces; one to be copied is left to the terminal."""
        parts = [line] if line.no_wrap else line.wrap(self._console, max(20, columns - 4))
        for number, part in enumerate(parts):
            part.rstrip()
            yield Text("   " if number else " " if part else "").append_text(part)

    def _ansi(self, text: Text) -> str:
        """Return the text with the colours of this terminal, without interpreting markup."""
        with self._console.capture() as captured:
            self._console.print(text, soft_wrap=True, end="")
        return captured.get()


def terminal_size(file: int) -> tuple[int, int]:
    """Return the columns and lines of a terminal; 80 and 24 if unknown."""
    try:
        columns, lines = os.get_terminal_size(file)
    except OSError:
        columns, lines = 0, 0
    return columns or 80, lines or 24


def is_in_foreground(file: int) -> bool:
    """Return whether this process is in the foreground of the terminal."""
    try:
        return os.tcgetpgrp(file) == os.getpgrp()
    except OSError:
        return True


def _is_counted(row: ResultRow) -> bool:
    """Return whether a row is one of many that a line about their batch counts."""
    return (
        row.is_given_back
        and row.error is not None
        and row.error.status == FailureKind.NO_RESULT.value
    )
