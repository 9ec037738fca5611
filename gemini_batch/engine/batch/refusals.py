"""Refusals of a batch: what follows from them for the run, or for single lines. Pure."""

import random
import re
from dataclasses import replace

from gemini_batch.engine import retry
from gemini_batch.engine.retry_table import OF_ONE_MODEL
from gemini_batch.records import ApiError, Failure, FailureKind, Stop, StopReason

# "Error on line 1: invalid JSON, near column 1032: no such field" (collected 2026-11-30).
_LINE_ERROR = re.compile(r"\berror on line (\d{1,9}): ([^\n]{0,500})", re.IGNORECASE)


def stop_for(error: ApiError | Failure, model: str) -> Stop:
    """Return why nothing more of a model is submitted in this run."""
    decision = retry.decide(error, 1, random.random)
    if isinstance(decision, Stop):
        of_model = model if decision.reason in OF_ONE_MODEL else ""
        return replace(decision, model=of_model)
    if retry.is_quota(error):
        message = f"the server takes no more batches of {model} now: {error.message}"
        return Stop(StopReason.BATCH_FULL, message, model=model)
    if isinstance(error, Failure) and error.kind is FailureKind.INPUT_CHANGED:
        return Stop(StopReason.MANIFEST_CHANGED, error.message, model=model)
    if decision == retry.REJECT:
        message = f"the server refuses a batch of {model}: {error.message}"
        return Stop(StopReason.ALIKE, message, model=model)
    message = f"a batch of {model} can't be submitted: {error.message}"
    return Stop(StopReason.OUTAGE, message, model=model)


def refused_lines(error: ApiError | Failure, calls: int) -> dict[int, ApiError]:
    """Return the lines that a 400 names, counted from 0, each with its own error."""
    if not isinstance(error, ApiError) or error.http_status != 400:
        return {}
    found = {int(line) - 1: text for line, text in _LINE_ERROR.findall(error.message)}
    return {line: replace(error, message=text) for line, text in found.items() if 0 <= line < calls}
