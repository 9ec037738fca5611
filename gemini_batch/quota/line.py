"""The callers that wait for the permits of one quota, in their order."""

import asyncio
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

from gemini_batch.quota.limits import SLOTS_A_MINUTE, LimitSet, Weights
from gemini_batch.quota.results import Granted

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter


@dataclass(eq=False, slots=True)
class Ticket:
    """The place of a caller in the line; `alarm` wakes it when it becomes the first."""

    weights: Weights
    alarm: asyncio.Timeout | None = None


@dataclass(slots=True)
class Line:
    """The callers of one quota in their order; only the first one paces, reserves and sleeps."""

    model: str
    bounds: LimitSet
    limiter: "AsyncLimiter | None"
    tickets: deque[Ticket] = field(default_factory=deque)
    reserved: Granted | None = None  # at most one reservation
    holds: bool = True  # it was reserved for now, or checked when its moment came

    def alike(self) -> int:
        """Return how many callers want the weights of the first: at most one slot's permits."""
        first, a_minute = self.tickets[0].weights, self.bounds.calls_a_minute
        most = a_minute and -(-a_minute // SLOTS_A_MINUTE)
        alike = takewhile(lambda ticket: ticket.weights == first, islice(self.tickets, most))
        return sum(1 for _ in alike)

    def leave(self, ticket: Ticket) -> None:
        """Take a caller out of the line, and wake the one who is first after it."""
        was_first = self.tickets[0] is ticket
        self.tickets.remove(ticket)
        if was_first and self.tickets and (alarm := self.tickets[0].alarm):
            alarm.reschedule(asyncio.get_running_loop().time())


async def until_stop_or(
    wait_s: float | None, stop: asyncio.Event, ticket: Ticket | None = None
) -> None:
    """Wait until `stop` is set, for `wait_s` seconds at most, or until the ticket's alarm.

    A timeout is all three in one, without a task: the alarm moves its deadline to now.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s) as alarm:
            if ticket:
                ticket.alarm = alarm
            await stop.wait()


async def unless(stop: asyncio.Event, waiting: Coroutine[Any, Any, object]) -> bool:
    """Wait for `waiting`; cancel it and return False when `stop` was set first."""
    async with asyncio.TaskGroup() as race:
        wait, watch = race.create_task(waiting), race.create_task(stop.wait())
        wait.add_done_callback(lambda _: watch.cancel())
        watch.add_done_callback(lambda _: wait.cancel())
    return not wait.cancelled()
