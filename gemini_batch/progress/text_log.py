"""A text log of a run without a terminal, for cron mails: start, progress, end, next step."""

from gemini_batch import events
from gemini_batch.engine.summary import Summary
from gemini_batch.errors import ExitCode
from gemini_batch.progress import messages
from gemini_batch.progress.formatting import usd, whole_span
from gemini_batch.progress.run_state import RunSnapshot, Sample
from gemini_batch.progress.view import MIN_REPORTED_WAIT_S, LogView


class TextLog(LogView):
    """Writes at most one line of progress a minute."""

    _last_progress: tuple[int, str] = (0, "")

    def observe(self, event: events.Event) -> None:
        """Record an event; write a line for those that explain the end of the run."""
        self._run_state.observe(event, self._clock.steady_s())
        match event:
            case events.RunStarted() if event.todo + event.reused:
                self._lines.write(" · ".join(messages.started(self._info.name, event)))
            case events.Repaired() | events.CallNotReused() | events.LittleRoom():
                self._lines.buffer(messages.notice(event))
            case events.Stopping():
                self._write_stopping(event, messages.stopping(event))
            case _:
                pass

    def update(self, sample: Sample) -> None:
        """Write the progress, unless nothing has changed since the last line."""
        snapshot = self._snapshot(sample)
        waiting = _long_wait(snapshot)
        progress = (snapshot.todo - snapshot.left, waiting.why if waiting else "")
        if progress != self._last_progress and not snapshot.is_stopping:
            self._last_progress = progress
            self._lines.write(_progress(snapshot))

    def warn(self, message: str) -> None:
        """Write a message that belongs to no event."""
        self._lines.buffer(message)

    def end(self, summary: Summary) -> None:
        """Write the result of the run and, if there is more to do, the next command."""
        if nothing_to_do := messages.nothing_to_do(self._info.name, summary):
            self._lines.write(nothing_to_do)
            return
        write = self._final_writer(summary)
        write(messages.ended(summary))
        if summary.exit_code != ExitCode.DONE:
            for reason in messages.reasons(summary):
                write(f"  {reason}")
        if advice := messages.advice(summary):
            write(f"{advice}: {self._info.resume_command}")


def _progress(snapshot: RunSnapshot) -> str:
    finished = snapshot.todo - snapshot.left
    parts = [
        f"{finished:,} of {snapshot.todo:,}: {messages.counts(snapshot.by_status)}",
        usd(snapshot.cost_usd),
        messages.eta(snapshot.forecast, snapshot.left, snapshot.now),
    ]
    if snapshot.to_retry:
        parts.append(f"{snapshot.to_retry:,} to retry")
    if waiting := _long_wait(snapshot):
        parts.append(f"waiting {whole_span(waiting.wait_s)}: {waiting.why}")
    return " · ".join(parts)


def _long_wait(snapshot: RunSnapshot) -> events.Waiting | None:
    waiting = snapshot.waiting
    return waiting if waiting and waiting.wait_s >= MIN_REPORTED_WAIT_S else None
