"""A text log of a run without a terminal, for cron mails: start, progress, end, next step."""

from gemini_batch.engine.summary import Summary
from gemini_batch.errors import ExitCode
from gemini_batch.events import (
    BatchNotice,
    BatchSeen,
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
from gemini_batch.progress.formatting import BATCH_TIME, whole_span
from gemini_batch.progress.run_state import RunSnapshot
from gemini_batch.progress.view import MIN_REPORTED_WAIT_S, LogView
from gemini_batch.wording import usd


class TextLog(LogView):
    """Writes at most one line of progress a minute."""

    _last_progress: tuple[int, str] = (0, "")

    def end(self, summary: Summary) -> None:
        """Write the result of the run and, if there is more to do, the next command."""
        if nothing_to_do := messages.nothing_to_do(self._info.name, summary):
            self._write(nothing_to_do)
            return
        write = self._final_writer(summary)
        write(messages.ended(summary))
        if summary.exit_code != ExitCode.DONE:
            for reason in messages.reasons(summary):
                write(f"  {reason}")
        if advice := messages.advice(summary):
            write(f"{advice}: {self._info.resume_command}")

    def _line(self, event: Event, now_s: float) -> str | None:
        match event:
            case RunStarted() if event.todo + event.reused + event.waiting:
                return " · ".join(messages.started(self._info.name, event))
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
                return messages.notice(event)
            case BatchSeen():
                return messages.batch(event)
        return None

    def _progress(self, snapshot: RunSnapshot) -> str | None:
        finished, waiting = snapshot.todo - snapshot.left, snapshot.waiting
        if waiting and waiting.wait_s < MIN_REPORTED_WAIT_S:
            waiting = None
        progress = (finished, waiting.why if waiting else "")
        if progress == self._last_progress or snapshot.is_stopping:
            return None
        self._last_progress = progress
        parts = [
            f"{finished:,} of {snapshot.todo:,}: {messages.counts(snapshot.by_status)}",
            usd(snapshot.cost_usd),
            messages.eta(snapshot.forecast, snapshot.left, snapshot.now)
            if not snapshot.batches
            else BATCH_TIME,
        ]
        if snapshot.to_retry:
            parts.append(f"{snapshot.to_retry:,} to retry")
        if waiting:
            parts.append(f"waiting {whole_span(waiting.wait_s)}: {waiting.why}")
        return " · ".join(parts)
