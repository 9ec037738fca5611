"""A run as JSON Lines for log pipelines: one object a line, with stable names and types.

A name or a type changes only with a major version. Every object has `at` (UTC, milliseconds, `Z`)
and `event`. Names that end in `_s` are seconds and in `_usd` dollars at list price, both numbers
with a fraction; `_at` and `since` are times like `at`, to the second; `may_be_billed`,
`needs_person`, `pays` and names that begin with `is_` are booleans; `images[]` are paths in `out`;
`by_status{}` is a count per status and `held{}` one per reason. Counts, `line`, `attempt`,
`http_status` and `exit_code` are integers; all other fields are text. Unknown values and those that
do not apply are null, never 0 or "".

- `repaired` (the remains of a killed run were repaired): `message, pays`
- `ledger_notice` (the ledger of several machines can't be reached, or answers again): `message`
- `manifest_warning` (the manifest has something that the API may refuse): `message`
- `run_started` (the manifest is valid, nothing is sent yet): `manifest, out, tier, to_send, reused,
  done, edited, waiting, route, later, held{}, stale, depth, cost_usd, max_cost_usd, sending_s,
  days, bound_by, models[{model, service_tier, calls, input_tokens, cost_usd}], notices[]`
- `call_not_reused` (an answer of another folder can't be copied, so the call is sent):
  `id, message`
- `call_held` (a picture that a call uses is gone, so it is not sent): `id, message`
- `call_finished` (a call ended; its row and images are on the disk): `id, line, status, model,
  images[], attempts, latency_s, cost_usd, service_tier, prompt_tokens, total_tokens, reason,
  http_status, message, reused_from`
- `call_retrying` (an attempt failed and the call is sent again): `id, attempt, wait_s, message,
  may_be_billed, reason`
- `call_unanswered` (an attempt was sent and got no answer; it may have been billed):
  `id, attempt, message`
- `call_abandoned` (the run was cancelled with the call in flight; it may have been billed): `id`
- `waiting` (no call of a model is sent for 5 seconds or more): `model, wait_s, why`
- `progress` (once a minute): `finished, todo, in_flight, cost_usd, projected_usd, ends_in_s,
  closes_in_s`
- `batch_seen` (a batch was created, looked at, or collected): `batch, model, calls, done, state,
  since, is_new, is_over`
- `batch_notice` (something about a batch that the user should know): `message, pays`
- `model_replaced` (the API no longer has the default model; calls that name no model go
  to its successor; once a run): `model, successor, message`
- `little_room` (little disk space is left, so fewer calls are in flight; once a run): `out`
- `warning` (any other problem): `message`
- `stopping` (no more calls are started): `reason, message, in_flight, model, run_again_at`
- `run_ended` (the end, also if there was nothing to do): `manifest, out, exit_code, finished,
  by_status{}, calls, left, held{}, stale, waiting, committed_usd, needs_person, cost_usd,
  estimated_usd, unpriced, possibly_billed, sent, retries, prompt_tokens, output_tokens, duration_s,
  run_again_at, next`
- `error` (the command could not start, or the process ends): `exit_code, message`
- `lines_left_out` (the reader was too slow): `number`
"""

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gemini_batch import events
from gemini_batch.clock import utc_now
from gemini_batch.engine.summary import Summary
from gemini_batch.errors import ExitCode
from gemini_batch.progress import messages
from gemini_batch.progress.run_state import RunSnapshot
from gemini_batch.progress.view import MIN_REPORTED_WAIT_S, LogView, RunInfo
from gemini_batch.records.service_tier import model_and_tier

if TYPE_CHECKING:
    from gemini_batch.records import ResultRow


class JsonLog(LogView):
    """Writes one JSON object per event."""

    _last_wait: tuple[str, str, float] = ("", "", 0.0)  # model, reason, until when

    def warn(self, message: str) -> None:
        """Log a message that belongs to no event."""
        super().warn(log_line(self._info.clock.utc(), "warning", {"message": message}))

    def end(self, summary: Summary) -> None:
        """Log the result of the run."""
        write = self._final_writer(summary)
        write(log_line(self._info.clock.utc(), "run_ended", _end(summary, self._info)))

    def _line(self, event: events.Event, now_s: float) -> str | None:
        match event:
            case events.CallSent():
                return None
            case events.Waiting() if not self._is_new_wait(event, now_s):
                return None
            case events.RunStarted():
                fields = _start(event, self._info.name)
            case events.CallFinished(row):
                fields = _row(row)
            case events.Stopping(stop, in_flight, model):
                fields = {
                    "reason": stop.reason.value,
                    "message": stop.message,
                    "in_flight": in_flight,
                    "model": model or None,
                    "run_again_at": stop.run_again_at,
                }
            case _:
                fields = asdict(event)
                if "call_id" in fields:
                    fields = {"id": fields.pop("call_id"), **fields}
                if "wait_s" in fields:
                    fields["wait_s"] = round(fields["wait_s"], 3)
                if isinstance(event, events.BatchSeen):
                    fields["state"] = event.state or None
        name = re.sub("(?<!^)([A-Z])", r"_\1", type(event).__name__).lower()
        return log_line(self._info.clock.utc(), name, fields)

    def _progress(self, snapshot: RunSnapshot) -> str:
        expected = snapshot.forecast
        fields = {
            "finished": snapshot.todo - snapshot.left,
            "todo": snapshot.todo,
            "in_flight": snapshot.in_flight,
            "cost_usd": round(snapshot.cost_usd, 6),
            "projected_usd": _rounded(snapshot.projected_usd, 6),
            "ends_in_s": None if expected.is_least else _rounded(expected.ends_in_s, 0),
            "closes_in_s": _rounded(expected.closes_in_s, 0),
        }
        return log_line(snapshot.now, "progress", fields)

    def _is_new_wait(self, event: events.Waiting, now_s: float) -> bool:
        """Return whether a wait is long and not yet logged: each waiting call reports it."""
        if event.wait_s < MIN_REPORTED_WAIT_S:
            return False
        (*same, last_until_s), until_s = self._last_wait, now_s + event.wait_s
        if same == [event.model, event.why] and until_s < last_until_s + MIN_REPORTED_WAIT_S:
            return False
        self._last_wait = (event.model, event.why, until_s)
        return True


def log_line(at: datetime, event: str, fields: dict[str, Any]) -> str:
    """Return one object as a line of ASCII, without control characters."""
    moment = _utc(at, "milliseconds")
    return json.dumps({"at": moment, "event": event, **fields}, default=_utc)


def error_line(code: ExitCode, message: str) -> str:
    """Return the line of an error that ends the process."""
    return log_line(utc_now(), "error", {"exit_code": int(code), "message": message})


def _utc(moment: datetime, timespec: str = "seconds") -> str:
    return moment.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def _start(event: events.RunStarted, name: str) -> dict[str, Any]:
    return {
        "manifest": name,
        "out": event.out,
        "tier": event.tier,
        "to_send": event.todo,
        "reused": event.reused,
        "done": event.done,
        "edited": event.edited,
        "waiting": event.waiting,
        "route": event.route,
        "later": event.later,
        "held": dict(event.held),
        "stale": event.stale,
        "depth": event.depth,
        "cost_usd": _rounded(event.cost_usd, 6),
        "max_cost_usd": event.max_cost_usd,
        "sending_s": round(event.duration_s, 1),
        "days": event.days,
        "bound_by": event.bound_by or None,
        "models": [
            {
                "model": model,
                "service_tier": tier,
                "calls": load.calls,
                "input_tokens": load.input_tokens,
                "cost_usd": _rounded(load.cost_usd, 6),
            }
            for lane, load in sorted(event.loads.items())
            for model, tier in (model_and_tier(lane),)
        ],
        "notices": list(event.notices),
    }


def _row(row: "ResultRow") -> dict[str, Any]:
    """Return the short fields of a row; prompt, texts and metadata are only in `results.jsonl`."""
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
        "service_tier": row.service_tier,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "total_tokens": usage.total_tokens if usage else None,
        "reason": error.reason if error else row.block_reason or row.finish_reason,
        "http_status": error.http_status if error else None,
        "message": error.message if error else None,
        "reused_from": row.reused_from.out if row.reused_from else None,
    }


def _end(summary: Summary, info: RunInfo) -> dict[str, Any]:
    """Return the result; `next` is the command that continues, null if nothing is left to do."""
    run = summary.this_run
    return {
        "manifest": summary.manifest,
        "out": summary.out,
        "exit_code": int(summary.exit_code),
        "finished": run.finished,
        "by_status": run.by_status,
        "calls": summary.calls,
        "left": summary.left,
        "held": summary.held,
        "stale": summary.stale,
        "waiting": summary.waiting,
        "committed_usd": summary.committed_usd,
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
        "next": info.resume_command if messages.advice(summary) else None,
    }


def _rounded(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)
