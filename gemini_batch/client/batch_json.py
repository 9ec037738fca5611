"""Batches and files in any of the forms in which servers send them. Pure; no input makes it raise.

A batch is an operation with its metadata, or is at the top level; its state is spelled
`BATCH_STATE_…` or `JOB_STATE_…`; numbers are strings, and zeros are left out (bodies that users and
projects published from 2025-09 to 2026-08, collected 2026-11-30).
"""

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gemini_batch.client.api_error import parse_status
from gemini_batch.client.untrusted_json import (
    MAX_NAME_CHARS,
    as_dict,
    as_name,
    as_text,
    field,
)
from gemini_batch.records.remote_batch import BatchState, BatchStats, RemoteBatch, RemoteFile

_NAME = re.compile(r"(?:batches|files)/[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
_PREFIX = re.compile(r"\A(?:BATCH_STATE_|JOB_STATE_)")
# Names that google-genai 3.6.1 knows of Vertex AI's jobs (`types.JobState`, 2026-11-18).
_ALIASES = {
    "QUEUED": BatchState.PENDING,
    "CANCELLING": BatchState.RUNNING,
    "PAUSED": BatchState.RUNNING,
    "UPDATING": BatchState.RUNNING,
    "PARTIALLY_SUCCEEDED": BatchState.SUCCEEDED,
    "CANCELED": BatchState.CANCELLED,
}
_MAX_DIGITS = 18
_CANCELLED = 499


def remote_batch(value: dict[str, Any]) -> RemoteBatch | None:
    """Return the batch of an operation, or of an object of its own; None if it has no name."""
    metadata = as_dict(value.get("metadata"))
    batch = value | {name: found for name, found in metadata.items() if found is not None}
    names = (_name("batches", each.get("name")) for each in (value, metadata))
    name = next(filter(None, names), "")
    if not name:
        return None
    output, error = _outputs(value, metadata), parse_status(value.get("error"))
    found = RemoteBatch(
        name=name,
        state=_state(batch.get("state")),
        model=(as_text(batch.get("model"), MAX_NAME_CHARS) or "").removeprefix("models/"),
        display_name=as_text(field(batch, "displayName"), MAX_NAME_CHARS) or "",
        input_file=_input(batch),
        output_file=next(filter(None, map(_output_file, output)), ""),
        error=error or parse_status(metadata.get("error")),
        stats=_stats(field(batch, "batchStats")),
        created_at=_time(field(batch, "createTime")),
        ended_at=_time(field(batch, "endTime")),
        has_inline_results=any(field(each, "inlinedResponses") for each in output),
    )
    is_operation = "metadata" in value or "done" in value
    has_ended = value.get("done") is True or (is_operation and error is not None)
    return replace(found, state=_ended(found)) if has_ended else found


def remote_file(value: dict[str, Any]) -> RemoteFile | None:
    """Return a file; None if it has no name."""
    name = _name("files", value.get("name"))
    if not name:
        return None
    return RemoteFile(
        name=name,
        state=as_name(value.get("state")) or "",
        size_bytes=_count(field(value, "sizeBytes")),
        display_name=as_text(field(value, "displayName"), MAX_NAME_CHARS) or "",
        created_at=_time(field(value, "createTime")),
    )


def _ended(batch: RemoteBatch) -> BatchState:
    """Return the state of an operation that is done; its metadata may still say that it runs."""
    if batch.state.is_terminal:
        return batch.state
    if batch.error is None:
        return BatchState.SUCCEEDED
    is_cancelled = batch.error.http_status == _CANCELLED
    return BatchState.CANCELLED if is_cancelled else BatchState.FAILED


def _state(value: Any) -> BatchState:
    name = _PREFIX.sub("", (as_name(value) or "").upper())
    if name in _ALIASES:
        return _ALIASES[name]
    return BatchState(name) if name in BatchState.__members__ else BatchState.UNKNOWN


def _outputs(value: dict[str, Any], metadata: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects that may name the results; `dest` is that of the SDK."""
    inside = (as_dict(value.get("response")), metadata, value)
    return [
        *(as_dict(each.get(name)) for each in inside for name in ("output", "dest")),
        *inside,
    ]


def _output_file(output: dict[str, Any]) -> str:
    found = field(output, "responsesFile") or field(output, "fileName")
    return _name("files", found)


def _input(batch: dict[str, Any]) -> str:
    sources = (as_dict(field(batch, "inputConfig")), as_dict(batch.get("src")))
    return next(filter(None, (_name("files", field(each, "fileName")) for each in sources)), "")


def _stats(value: Any) -> BatchStats:
    if not isinstance(value, dict):
        return BatchStats()
    names = ("requestCount", "successfulRequestCount", "failedRequestCount", "pendingRequestCount")
    return BatchStats(*(_count(field(value, name)) or 0 for name in names))


def _count(value: Any) -> int | None:
    """Return an int64, which JSON has as a string; None for anything else."""
    text = as_name(value) or ""
    is_count = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    return int(text) if is_count else None


def _time(value: Any) -> datetime | None:
    """Return a time of RFC 3339, which may have nanoseconds; None for anything else."""
    try:
        found = datetime.fromisoformat(as_text(value, MAX_NAME_CHARS) or "")
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _name(kind: str, value: Any) -> str:
    """Return a name that can be put into a URL, also of a whole URL; else ""."""
    text = as_text(value) or ""
    if "://" in text:
        text = text[text.rfind(f"/{kind}/") + 1 :].partition(":download")[0].partition("?")[0]
    is_valid = len(text) <= MAX_NAME_CHARS and text.startswith(f"{kind}/") and _NAME.fullmatch(text)
    return text if is_valid else ""
