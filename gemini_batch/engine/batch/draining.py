"""Draining: work of the batch route that ends soon after a stop."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

DRAIN_S = 10.0
"""Enough for the rest of a line of 30 MB; a silent server would be waited for much longer."""


async def until(event: asyncio.Event, work: Coroutine[Any, Any, T], grace_s: float = 0) -> T | None:
    """Return the result of some work; None if it has not ended `grace_s` after the event.

    It is cancelled then, so it must be work that the next run can do again. What it raises is
    raised.
    """
    try:
        async with asyncio.TaskGroup() as group:
            working = group.create_task(work)
            waiting = group.create_task(event.wait())
            await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await asyncio.wait({working}, timeout=grace_s)
            waiting.cancel()
            if not working.done():
                working.cancel()
    except BaseExceptionGroup as group_error:
        raise group_error.exceptions[0] from None  # the other task raises nothing
    return None if working.cancelled() else working.result()
