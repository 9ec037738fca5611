"""Answers of batches whose requests are inlined."""

import asyncio
from datetime import datetime
from typing import Any

from gemini_batch.simulator.batch.batch import Batch
from gemini_batch.simulator.batch.line_maker import LineMaker


async def inlined_answers(batch: Batch, maker: LineMaker, now: datetime) -> list[Any] | None:
    """Return the answers of a batch with their metadata, or None if they are in a file."""
    if batch.input.file is not None:
        return None
    answers = []
    for line in batch.answered(now) if batch.has_output(now) else ():
        made = await asyncio.to_thread(maker.make, line, batch.input.data, batch.origin)
        metadata = batch.input.metadata[line.number - 1]
        answers.append({**made, **({} if metadata is None else {"metadata": metadata})})
    return answers
