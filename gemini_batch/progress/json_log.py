"""A run as a log pipeline reads it: one JSON object a line, with stable names. A name or a type changes only with a major version.

Every object has `at` (UTC, milliseconds, `Z`) and `event`. Names that end in `_s` are seconds and in `_usd` dollars at list price, both
numbers with a fraction; `_at` is a moment like `at`, to the second; `may_be_billed` and `needs_person` are true or false; `images[]` are
paths in `out`; `by_status{}` is a number a status. Counts, `line`, `attempt`, `http_status` and `exit_code` are whole numbers; all else is
text. What nobody knows, or does not apply, is null: never 0, never "".

| event | when | fields |
| --- | --- | --- |
| `repaired` | a killed run left something that was put right | `message` |
| `run_started` | the manifest is valid, nothing is sent yet | `manifest, out, tier, to_send, reused, done, edited, cost_usd, sending_s, days, bound_by, models[{model, calls, input_tokens, cost_usd}]` |
| `call_not_reused` | an answer of another folder can't be copied: the call is sent | `id, message` |
| `call_finished` | a call ended, and its row and images are on the disk | `id, line, status, model, images[], attempts, latency_s, cost_usd, prompt_tokens, total_tokens, reason, http_status, message, reused_from` |
| `call_retrying` | an attempt gave nothing; the call is sent again | `id, attempt, wait_s, message, may_be_billed, reason` |
| `call_unanswered` | an attempt was sent and gave nothing: it may have been billed | `id, attempt, message` |
| `call_abandoned` | the run was cancelled with the call in flight: it may have been billed | `id` |
| `waiting` | nothing of a model is sent for 5 seconds or more | `model, wait_s, why` |
| `progress` | once a minute | `finished, todo, in_flight, cost_usd, projected_usd, ends_in_s, closes_in_s` |
| `little_room` | the disk has little room: fewer calls are in flight; once a run | `out` |
| `warning` | something that is none of these | `message` |
| `stopping` | no more calls are taken in | `reason, message, in_flight, model, run_again_at` |
| `run_ended` | the end, also when there was nothing to do | `manifest, out, exit_code, finished, by_status{}, calls, left, needs_person, cost_usd, estimated_usd, unpriced, possibly_billed, sent, retries, prompt_tokens, output_tokens, duration_s, run_again_at, next` |
| `error` | nothing could begin, or the process ends | `exit_code, message` |
| `lines_left_out` | whoever reads was too slow | `number` |
"""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, ClassVar

from gemini_batch.clock import utc_now
from gemini_batch.engine.summary import Summary
from gemini_batch.errors import ExitCode
from gemini_batch.events import (
    CallAbandoned,
    CallFinished,
    CallNotReused,
    CallRetrying,
    CallUnanswered,
    Event,
    LittleRoom,
    Repaired,
    RunStarted,
    Stopping,
    Waiting,
)
from gemini_batch.progress import messages
from gemini_batch.progress.run_state import RunState, Sample
from gemini_batch.progress.view import WORTH_SAYING_S, Held, Out, RunInfo, is_asked_for
from gemini_batch.records import ResultRow

_AS_THEY_ARE: dict[type[Event], str] = {
    Repaired: "repaired",
    CallNotReused: "call_not_reused",
    CallRetrying: "call_retrying",
    CallUnanswered: "call_unanswered",
    CallAbandoned: "call_abandoned",
    Waiting: "waiting",
    LittleRoom: "little_room",
}
"""Events whose fields are logged under their own names; `call_id` is `id`."""


class JsonLog:
    """Says what happens as JSON; when quiet, only what needs a person.

    Args:
        about: What is known beforehand.
        tally: Counts; not shared.
        out: Takes lines without their ends.
    """

    every_s: ClassVar[float] = 60.0

    def __init__(self, about: RunInfo, tally: RunState, out: Out[str]) -> None:
        self._about = about
        self._tally = tally
        self.flush = out.flush
        self._lines = Held[str](out.say, is_quiet=about.is_quiet)
        self._waited_for: tuple[str, str, float] | None = None

    def observe(self, event: Event) -> None:
        """Log an event."""
        now_s = self._about.clock.steady_s()
        self._tally.observe(event, now_s)
        if isinstance(event, Waiting) and not self._is_news(event, now_s):
            return
        if (found := _fields(event, self._about.name)) is None:
            return
        line = log_line(self._about.clock.utc(), *found)
        if isinstance(event, Stopping) and is_asked_for(event):
            self._lines.say_now(line)
        elif isinstance(event, Repaired | CallNotReused | LittleRoom | Stopping):
            self._lines.hold(line)
        else:
            self._lines.say(line)

    def take(self, sample: Sample) -> None:
        """Log how far the run is."""
        self._tally.take(sample)
        clock = self._about.clock
        state = self._tally.state(clock.steady_s(), clock.utc())
        expected = state.forecast
        fields = {
            "finished": state.todo - state.left,
            "todo": state.todo,
            "in_flight": state.in_flight,
            "cost_usd": round(state.cost_usd, 6),
            "projected_usd": _rounded(state.projected_usd, 6),
            "ends_in_s": None if expected.is_least else _rounded(expected.ends_in_s, 0),
            "closes_in_s": _rounded(expected.closes_in_s, 0),
        }
        self._lines.say(log_line(state.now, "progress", fields))

    def tell(self, message: str) -> None:
        """Log what no event tells."""
        self._lines.hold(log_line(self._about.clock.utc(), "warning", {"message": message}))

    def end(self, summary: Summary) -> None:
        """Log what the run came to."""
        say = self._lines.say
        if summary.exit_code != ExitCode.DONE:
            self._lines.release()
            say = self._lines.say_now
        say(log_line(self._about.clock.utc(), "run_ended", _end(summary, self._about)))

    def _is_news(self, event: Waiting, now_s: float) -> bool:
        """Return whether a wait is long, and not the one that was told of: every caller in line meets it."""
        if event.wait_s < WORTH_SAYING_S:
            return False
        told, until_s = self._waited_for, now_s + event.wait_s
        if (
            told is not None
            and told[:2] == (event.model, event.why)
            and until_s < told[2] + WORTH_SAYING_S
        ):
            return False
        self._waited_for = (event.model, event.why, until_s)
        return True


def log_line(at: datetime, event: str, fields: dict[str, Any]) -> str:
    """Return one object as a line of ASCII: nothing in it that a terminal obeys."""
    moment = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"at": moment, "event": event, **fields}, default=_as_json)


def error_line(code: ExitCode, message: str) -> str:
    """Return the line of an error that ends the process."""
    return log_line(utc_now(), "error", {"exit_code": int(code), "message": message})


def _as_json(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    raise TypeError(f"{value!r} has no form in the log")


def _fields(event: Event, name: str) -> tuple[str, dict[str, Any]] | None:
    """Return the name and the fields of an event; None for one that is not logged."""
    if isinstance(event, RunStarted):
        return "run_started", _start(event, name)
    if isinstance(event, CallFinished):
        return "call_finished", _row(event.row)
    if isinstance(event, Stopping):
        return "stopping", _stopping(event)
    if (known := _AS_THEY_ARE.get(type(event))) is None:
        return None
    fields = {"id" if key == "call_id" else key: value for key, value in asdict(event).items()}
    return known, {
        key: round(value, 3) if isinstance(value, float) else value for key, value in fields.items()
    }


def _start(event: RunStarted, name: str) -> dict[str, Any]:
    return {
        "manifest": name,
        "out": event.out,
        "tier": event.tier,
        "to_send": event.todo,
        "reused": event.reused,
        "done": event.done,
        "edited": event.edited,
        "cost_usd": _rounded(event.cost_usd, 6),
        "sending_s": round(event.duration_s, 1),
        "days": event.days,
        "bound_by": event.bound_by or None,
        "models": [
            {
                "model": model,
                "calls": load.calls,
                "input_tokens": load.input_tokens,
                "cost_usd": _rounded(load.cost_usd, 6),
            }
            for model, load in sorted(event.loads.items())
        ],
    }


def _stopping(event: Stopping) -> dict[str, Any]:
    return {
        "reason": event.stop.reason.value,
        "message": event.stop.message,
        "in_flight": event.in_flight,
        "model": event.model or None,
        "run_again_at": event.stop.run_again_at,
    }


def _row(row: ResultRow) -> dict[str, Any]:
    """Return what a pipeline counts of a row; its prompt, texts and metadata stay in `results.jsonl`."""
    error, usage = row.error, row.usage
    return {
        "id": row.id,
        "line": row.line,
        "status": row.status.value,
        "model": row.model,
        "images": [image.path for image in row.images],
        "attempts": row.attempts,
        "latency_s": row.latency_s,
        "cost_usd": _rounded(row.cost_usd, 6),
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "total_tokens": usage.total_tokens if usage else None,
        "reason": error.reason if error else row.block_reason or row.finish_reason,
        "http_status": error.http_status if error else None,
        "message": error.message if error else None,
        "reused_from": row.reused_from.out if row.reused_from else None,
    }


def _end(summary: Summary, about: RunInfo) -> dict[str, Any]:
    """Return the end in numbers; `next` is the command that goes on, null when there is nothing to do."""
    run = summary.this_run
    return {
        "manifest": summary.manifest,
        "out": summary.out,
        "exit_code": int(summary.exit_code),
        "finished": run.finished,
        "by_status": run.by_status,
        "calls": summary.calls,
        "left": summary.left,
        "needs_person": summary.needs_person,
        "cost_usd": run.cost_usd,
        "estimated_usd": run.estimated_answered_usd,
        "unpriced": run.unpriced,
        "possibly_billed": run.possibly_billed,
        "sent": run.sent,
        "retries": run.retries,
        "prompt_tokens": run.prompt_tokens,
        "output_tokens": run.output_tokens,
        "duration_s": summary.duration_s,
        "run_again_at": summary.run_again_at,
        "next": about.again if messages.advice(summary) else None,
    }


def _rounded(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)
