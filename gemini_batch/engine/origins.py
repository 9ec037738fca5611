"""The values that the parts of a run are made from."""

import asyncio
from dataclasses import dataclass

from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.engine.budget import Budget
from gemini_batch.engine.recovery import Interrupted
from gemini_batch.events import Observer
from gemini_batch.output import OutputFolder
from gemini_batch.plan.built import BuiltPlan
from gemini_batch.store.base import ImageStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """Values that all parts share.

    Attributes:
        stopped: Set once nothing more may be sent; `ended` once nothing more may be done.
        has_batches: Batches are open, or may be submitted.
        note: Gets the events of the committer.
        store: The store of the whole bucket that the run writes to; None without one.
    """

    config: Settings
    folder: OutputFolder
    planned: BuiltPlan
    interrupted: Interrupted
    budget: Budget
    stopped: asyncio.Event
    ended: asyncio.Event
    has_batches: bool
    clock: Clock
    observe: Observer
    note: Observer
    store: ImageStore | None = None
