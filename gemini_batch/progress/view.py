"""The interface of the views of a run, and the base of the two logs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from gemini_batch.clock import Clock
from gemini_batch.engine.summary import Summary
from gemini_batch.errors import ExitCode
from gemini_batch.events import Event, Stopping
from gemini_batch.progress.formatting import plain
from gemini_batch.progress.run_state import RunSnapshot, RunState, Sample
from gemini_batch.records import StopReason

# Lines that a quiet run keeps for its end: a problem that occurs a thousand times is clear by then.
_MAX_BUFFERED = 100
# Shorter waits are normal pacing and not reported.
MIN_REPORTED_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Facts about a run that its view knows from the start.

    Attributes:
        name: The manifest, as given.
        resume_command: The command that continues the run.
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
        ...

    def update(self, sample: Sample) -> None:
        """Record a sample."""
        ...

    def end(self, summary: Summary) -> None:
        """Show the result of the run and, if there is more to do, the next command."""
        ...

    def warn(self, message: str) -> None:
        """Show a message that belongs to no event."""
        ...

    def flush(self) -> None:
        """Wait until everything is shown, unless the reader is blocked: a question follows."""
        ...


class QuietFilter:
    """Passes lines on at once. A quiet run keeps the important ones until its end."""

    def __init__(self, write: Callable[[str], None], *, is_quiet: bool) -> None:
        self.write_now = write
        self._is_quiet = is_quiet
        self._buffered: list[str] = []

    def write(self, line: str) -> None:
        """Write a line that a quiet run leaves out."""
        if not self._is_quiet:
            self.write_now(line)

    def buffer(self, line: str) -> None:
        """Write a line that a quiet run shows only if it ends badly."""
        if not self._is_quiet:
            self.write_now(line)
        elif len(self._buffered) < _MAX_BUFFERED:
            self._buffered.append(line)

    def release(self) -> None:
        """Write the buffered lines."""
        for line in self._buffered:
            self.write_now(line)
        self._buffered.clear()


class LogView:
    """Base of the two logs. In a quiet run they show only what requires user action."""

    every_s: ClassVar[float] = 60.0

    def __init__(
        self,
        info: RunInfo,
        run_state: RunState,
        write: Callable[[str], None],
        flush: Callable[[], None],
    ) -> None:
        self._info = info
        self._clock = info.clock
        self._run_state = run_state
        self._lines = QuietFilter(lambda line: write(plain(line)), is_quiet=info.is_quiet)
        self.flush = flush

    def _snapshot(self, sample: Sample) -> RunSnapshot:
        self._run_state.update(sample)
        return self._run_state.snapshot(self._clock.steady_s(), self._clock.utc())

    def _write_stopping(self, event: Stopping, line: str) -> None:
        """Answer a signal at once, also in a quiet run: the sender waits for it."""
        is_signal = event.stop.reason in {StopReason.INTERRUPTED, StopReason.TERMINATED}
        (self._lines.write_now if is_signal else self._lines.buffer)(line)

    def _final_writer(self, summary: Summary) -> Callable[[str], None]:
        """Return the function that writes the last lines, after those that explain a bad end."""
        if summary.exit_code == ExitCode.DONE:
            return self._lines.write
        self._lines.release()
        return self._lines.write_now
