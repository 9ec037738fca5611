"""One batch: its state at a point in time, and its JSON."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from gemini_batch.simulator.batch.lines import Input, Line
from gemini_batch.simulator.batch.results import Results
from gemini_batch.simulator.batch.stored_files import time_text
from gemini_batch.simulator.batch_schedule import Drawn, PlacedMarker
from gemini_batch.simulator.models import Model

# https://ai.google.dev/gemini-api/docs/batch-api, 2026-09.
LIFE = timedelta(hours=48)  # pending or running
RETENTION = timedelta(weeks=6)  # of the results
_PENDING_SHARE = 0.1  # of the turnaround
_TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main."


class State(StrEnum):
    """States of a batch; the API writes them with a prefix."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


OPEN = (State.PENDING, State.RUNNING)


@dataclass(slots=True)
class Batch:
    """A batch.

    Attributes:
        id: Its name without `batches/`.
        number: Position in the order of creation.
        project: Fingerprint of the key that made it.
        model: Its model.
        display_name: As requested.
        input: Its requests.
        created_at: Time of creation.
        turnaround: Time from creation to its end.
        origin: Scheme, host and port of this server, as its creator names them.
        markers: The markers of its lines that hold for the whole batch.
        faults: The faults of its course, by name, with their seconds.
        cancelled_at: Time from which a request to cancel it takes effect.
        is_deleted: Whether it was deleted.
        is_billed: Whether its answers have been counted as paid.
        results: Its result file, once it was asked for.
        downloads: The number of its downloads.
    """

    id: str
    number: int
    project: str
    model: Model
    display_name: str
    input: Input
    created_at: datetime
    turnaround: timedelta
    origin: str
    markers: tuple[PlacedMarker, ...]
    faults: Drawn = field(default_factory=dict)
    cancelled_at: datetime | None = None
    is_deleted: bool = False
    is_billed: bool = False
    results: Results | None = None
    downloads: int = 0

    @property
    def tokens(self) -> int:
        """Input tokens of all lines."""
        return self.input.tokens

    @property
    def output_id(self) -> str:
        """Name of its result file without `files/`: more than the 40 characters of `files.get`."""
        return f"batch-{self.id}"

    def end(self) -> tuple[datetime, State]:
        """Return the time and the state of its end, as far as it is known now."""
        at, state = self.created_at + self.turnaround, State.SUCCEEDED
        if "stuck" in self.faults or self.turnaround > LIFE:
            at, state = self.created_at + LIFE, State.EXPIRED
        elif {"expired", "expired-partial"} & {*self.faults}:
            state = State.EXPIRED
        elif {"failed", "failed-partial"} & {*self.faults}:
            state = State.FAILED
        if self.cancelled_at is not None and self.cancelled_at < at:
            at, state = self.cancelled_at, State.CANCELLED
        return at, state

    def state(self, now: datetime) -> State:
        """Return its state."""
        at, state = self.end()
        if now >= at:
            return state
        is_pending = now < self.created_at + self.turnaround * _PENDING_SHARE
        return State.PENDING if is_pending or "stuck" in self.faults else State.RUNNING

    def answered(self, now: datetime) -> list[Line]:
        """Return the lines that have been answered."""
        state = self.state(now)
        if "op-error" in self.faults or state is State.PENDING:
            return []
        if state is State.SUCCEEDED:
            return self.input.lines
        if state is State.RUNNING:
            share = (now - self.created_at) / self.turnaround
            return self.input.lines[: int(len(self.input.lines) * share)]
        partial = f"{state.lower()}-partial" in self.faults
        return self.input.lines[: len(self.input.lines) // 2] if partial else []

    def is_gone(self, now: datetime) -> bool:
        """Return whether it can no longer be asked for."""
        return self.is_deleted or ("vanished" in self.faults and now >= self.end()[0])

    def is_listed(self, now: datetime) -> bool:
        """Return whether the list has it."""
        lag_s = self.faults.get("list-lag") or 0.0
        return not self.is_gone(now) and now >= self.created_at + timedelta(seconds=lag_s)

    def cancel(self, now: datetime) -> None:
        """Stop it, unless it has ended."""
        if self.cancelled_at is None and "cancel-ignored" not in self.faults:
            late_s = self.faults.get("cancel-late") or 0.0
            self.cancelled_at = now + timedelta(seconds=late_s)

    def has_output(self, now: datetime) -> bool:
        """Return whether it has ended and its results can be had."""
        if now < self.end()[0] or "no-output" in self.faults:
            return False
        late_s = self.faults.get("output-late") or 0.0
        ended_at = self.end()[0]
        in_time = ended_at + timedelta(seconds=late_s) <= now < ended_at + RETENTION
        return in_time and bool(self.answered(now))


def operation(batch: Batch, now: datetime, *, inlined: list[Any] | None = None) -> dict[str, Any]:
    """Return a batch as the API's `Operation`; `done` is absent while it runs.

    Args:
        batch: The batch.
        now: The server's time.
        inlined: Answers of a batch whose requests are inlined; None leaves them out.
    """
    state, ended_at = batch.state(now), batch.end()[0]
    is_done = state not in OPEN
    shown = State.RUNNING if is_done and "op-error" in batch.faults else state
    output: dict[str, Any] = {}
    if batch.input.file is not None and batch.has_output(now):
        output = {"responsesFile": f"files/{batch.output_id}"}
    elif inlined is not None and batch.has_output(now):
        output = {"inlinedResponses": {"inlinedResponses": inlined}}
    metadata = {
        "@type": _TYPE + "GenerateContentBatch",
        "model": f"models/{batch.model.id}",
        "displayName": batch.display_name,
        **({"inputConfig": {"fileName": batch.input.file}} if batch.input.file else {}),
        **({"output": output} if output else {}),
        "createTime": time_text(batch.created_at),
        **({"endTime": time_text(ended_at)} if is_done else {}),
        "updateTime": time_text(min(now, ended_at)),
        **({} if "no-stats" in batch.faults else {"batchStats": _stats(batch, now)}),
        "state": ("JOB_STATE_" if "job-states" in batch.faults else "BATCH_STATE_") + shown,
        "name": f"batches/{batch.id}",
    }
    if "top-level" in batch.faults:
        return metadata
    found = {"name": f"batches/{batch.id}", "metadata": metadata}
    if not is_done:
        return found
    error = _error(batch, state)
    if error is not None:
        return found | {"done": True, "error": error}
    return found | {
        "done": True,
        "response": {"@type": _TYPE + "GenerateContentBatchOutput", **output},
    }


def _stats(batch: Batch, now: datetime) -> dict[str, str]:
    """Return the counts: texts, and those that are zero are left out."""
    answered = batch.answered(now)
    failed = sum(line.error is not None for line in answered)
    left = len(batch.input.lines) - len(answered) if batch.state(now) in OPEN else 0
    counts = {
        "requestCount": len(batch.input.lines),
        "successfulRequestCount": len(answered) - failed,
        "failedRequestCount": failed,
        "pendingRequestCount": left,
    }
    return {name: str(count) for name, count in counts.items() if count}


def _error(batch: Batch, state: State) -> dict[str, Any] | None:
    """Return the error of the operation; the texts are derived, the code of CANCELLED is not."""
    if "op-error" in batch.faults or state is State.FAILED:
        return {"code": 13, "message": "An internal error has occurred. Please retry."}
    if state is State.CANCELLED:
        return {"code": 1, "message": "The operation was cancelled."}
    if state is State.EXPIRED:
        return {"code": 4, "message": "The batch has expired."}
    return None
