"""A limit on the work per iteration of the event loop, shared by all answers that arrive."""

import asyncio
from collections import deque

# Without a limit, 32 answers that arrive at once make an iteration 32 chunks long.
BUDGET_S = 0.004


class LoopBudget:
    """Limits how long one iteration of the event loop decodes answers.

    A caller that finds the budget used up waits for a later iteration.
    """

    def __init__(self) -> None:
        self._ends_s: float | None = None
        self._acquired = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._next: asyncio.Handle | None = None

    async def acquire(self) -> None:
        """Return within an iteration that has time left; callers are served in order.

        Cancellation: safe; the callers after it are still woken.
        """
        loop, enqueue = asyncio.get_running_loop(), self._waiting.append
        while self._ends_s is not None and loop.time() >= self._ends_s:
            waiter = loop.create_future()
            enqueue(waiter)
            await waiter
            enqueue = self._waiting.appendleft  # woken in vain: it is still the first
        self._acquired += 1
        if self._ends_s is None:
            self._ends_s = loop.time() + BUDGET_S
            self._next = self._next or loop.call_soon(self._renew)

    def _renew(self) -> None:
        """Begin a new budget, and wake one waiter more than the last budget served.

        Waking all of them would cost each an iteration.
        """
        self._ends_s, self._next = None, None
        to_wake, self._acquired = self._acquired + 1, 0
        while self._waiting and to_wake:
            waiter = self._waiting.popleft()
            if not waiter.done():  # else its caller was cancelled
                waiter.set_result(None)
                to_wake -= 1
        if self._waiting:
            self._next = asyncio.get_running_loop().call_soon(self._renew)
