"""Charges of batches: each answer with an image of a batch that ended with results is paid."""

from datetime import datetime
from typing import Any

from gemini_batch.simulator.answer_faults import NO_IMAGE, REASONS
from gemini_batch.simulator.batch.batch import OPEN, Batch
from gemini_batch.simulator.batch.lines import Line
from gemini_batch.simulator.batch.stored_files import time_text
from gemini_batch.simulator.checks import ImageRequest
from gemini_batch.simulator.paid import BATCH_PRICE, PaidAnswers


def bill(batch: Batch, now: datetime, paid: PaidAnswers) -> None:
    """Count the answers of a batch as paid, once it has ended.

    Also those of a batch that is gone, or that never names its file: they were made. A batch that
    fails, expires or is cancelled without results is free (unknown of the API; of Vertex AI
    documented: "you pay only for completed requests").
    """
    if batch.is_billed or batch.state(now) in OPEN:
        return
    batch.is_billed = True
    for line in batch.answered(now):
        if isinstance(line.request, ImageRequest) and _has_image(line):
            paid.add(line.request, is_batch=True)


def summary(batch: Batch, now: datetime) -> dict[str, Any]:
    """Return a batch as JSON for the audit."""
    state, answered = batch.state(now), batch.answered(now)
    is_open = state in OPEN
    images = [line for line in answered if _has_image(line)] if not is_open else []
    prices = [line.request.usd for line in images if isinstance(line.request, ImageRequest)]
    return {
        "name": f"batches/{batch.id}",
        "project": batch.project,
        "model": batch.model.id,
        "display_name": batch.display_name,
        "state": state.value,
        "is_open": is_open,
        "is_deleted": batch.is_deleted,
        "created_at": time_text(batch.created_at),
        "ended_at": None if is_open else time_text(batch.end()[0]),
        "lines": len(batch.input.lines),
        "input_tokens": batch.tokens,
        "answered": len(answered),
        "errors": sum(line.error is not None for line in answered),
        "paid": len(images),
        "usd": round(sum(prices) * BATCH_PRICE, 6),
        "downloads": batch.downloads,
        "faults": sorted(batch.faults),
    }


def _has_image(line: Line) -> bool:
    names = line.faults.names.split("+")
    return line.error is None and not any(name in NO_IMAGE or name in REASONS for name in names)
