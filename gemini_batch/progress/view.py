"""The interface of the views of a run, and the base of the two logs."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from gemini_batch.clock import Clock
from gemini_batch.engine.summary import Summary
from gemini_batch.errors import ExitCode
from gemini_batch.events import (
    BatchNotice,
    CallHeld,
    CallNotReused,
    Event,
    LedgerNotice,
    LittleRoom,
    ManifestWarning,
    ModelReplaced,
    Repaired,
    Stopping,
)
from gemini_batch.progress.formatting import plain
from gemini_batch.progress.run_state import RunSnapshot, RunState, Sample
from gemini_batch.records import Stop, StopReason

# Lines that a quiet run keeps for its end: a problem that occurs a thousand times is clear by then.
_MAX_BUFFERED = 100
# Shorter waits are normal pacing and not reported.
MIN_REPORTED_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Facts about a run that its view knows from the start.

    Attributes:
        name: The manifest, as given.
        program: The name under which this program was called.
        is_quiet: Print nothing unless user action is required.
    """

    name: str
    resume_command: str
    program: str = "gemini-batch"
    is_quiet: bool = False
    clock: Clock = field(default_factory=Clock)


class View(Protocol):
    """Shows a run. Only `flush` blocks; the other methods are called on the event loop."""

    every_s: ClassVar[float]
    """The interval between two calls of `update`."""

    def observe(self, event: Event) -> None:
        """Record an event."""

    def update(self, sample: Sample) -> None:
        """Record a sample."""

    def end(self, summary: Summary) -> None:
        """Show the result of the run and, if there is more to do, the next command."""

    def warn(self, message: str) -> None:
        """Show a message that belongs to no event."""

    def flush(self) -> None:
        """Wait until everything is shown, unless the reader is blocked: a question follows."""


@dataclass(eq=False)
class LogView(ABC):
    """Base of the two logs. In a quiet run they show only what requires user action."""

    every_s: ClassVar[float] = 60.0

    _info: RunInfo
    _run_state: RunState
    _write_text: Callable[[str], None]
    flush: Callable[[], None]
    _buffered: list[str] = field(default_factory=list)

    def observe(self, event: Event) -> None:
        """Record an event, and write its line."""
        now_s = self._info.clock.steady_s()
        self._run_state.observe(event, now_s)
        if (line := self._line(event, now_s)) is None:
            return
        match event:
            # The sender of a signal waits for the answer, also in a quiet run.
            case Stopping(stop=Stop(StopReason.INTERRUPTED | StopReason.TERMINATED)):
                self._write_now(line)
            case Repaired(pays=True) | BatchNotice(pays=True):
                self._write_now(line)
            case (
                Stopping()
                | Repaired()
                | LedgerNotice()
                | ManifestWarning()
                | CallNotReused()
                | CallHeld()
                | ModelReplaced()
                | LittleRoom()
                | BatchNotice()
            ):
                self._buffer(line)
            case _:
                self._write(line)

    def update(self, sample: Sample) -> None:
        """Record a sample, and write a line of progress."""
        self._run_state.update(sample)
        clock = self._info.clock
        line = self._progress(self._run_state.snapshot(clock.steady_s(), clock.utc()))
        if line is not None:
            self._write(line)

    def warn(self, message: str) -> None:
        """Write a message that belongs to no event."""
        self._buffer(message)

    @abstractmethod
    def _line(self, event: Event, now_s: float) -> str | None:
        """Return the line of an event; None for none."""

    @abstractmethod
    def _progress(self, snapshot: RunSnapshot) -> str | None:
        """Return the line of progress; None for none."""

    def _write_now(self, line: str) -> None:
        self._write_text(plain(line))

    def _write(self, line: str) -> None:
        """Write a line that a quiet run leaves out."""
        if not self._info.is_quiet:
            self._write_now(line)

    def _buffer(self, line: str) -> None:
        """Write a line that a quiet run shows only if it ends badly."""
        self._write(line)
        if self._info.is_quiet and len(self._buffered) < _MAX_BUFFERED:
            self._buffered.append(line)

    def _final_writer(self, summary: Summary) -> Callable[[str], None]:
        """Return the function that writes the last lines, after those that explain a bad end."""
        if summary.exit_code == ExitCode.DONE:
            return self._write
        for line in self._buffered:
            self._write_now(line)
        return self._write_now
