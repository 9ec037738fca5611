"""Call queue: hands out the next attempt of all lanes, as many at once as the server copes with."""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from math import inf

from gemini_batch.clock import Clock
from gemini_batch.engine.breaker import CircuitBreaker
from gemini_batch.engine.concurrency import AdaptiveConcurrency
from gemini_batch.engine.lanes import Attempt, Lane
from gemini_batch.records import ApiError, Call, Failure, FailureKind, ResultRow, Stop

# While this many retries wait, no new call is read, so that a long outage does not fill the memory.
MAX_WAITING = 1_000


class CallQueue:
    """Hands out attempts: retries that are due first, then the manifest's next call.

    Of several lanes the next call is of the one with the fewest calls waiting for admission, so
    that a model with little quota does not hold up the others. A waiting retry holds no worker and
    no quota. The end is found by counting what was handed out: a call in flight may come back.

    Attributes:
        server: The breaker of the server, shared by all lanes.
        concurrency: How many attempts may be under way.
    """

    def __init__(
        self,
        calls: Mapping[str, Iterator[Call | Stop | None]],
        concurrency: AdaptiveConcurrency,
        server: CircuitBreaker,
        clock: Clock,
        successors: Mapping[str, str] | None = None,
    ) -> None:
        """Create a queue of all calls of a run.

        `calls` are those of each model in the order of sending. Each is read when a worker asks
        for it; a `Stop` among them is handed out in its place, and None is none until another call
        has ended. `successors` are of models with calls that may be replaced.
        """
        self.server = server
        self.concurrency = concurrency
        self.lanes = {model: Lane(model, server, of_model) for model, of_model in calls.items()}
        for model, successor in (successors or {}).items():
            if model in self.lanes:
                self.lanes[model].successor = successor
        self._clock = clock
        self._sequence = 0
        self._is_closed = False
        self._stops: deque[Stop] = deque()
        self._changed = asyncio.Event()

    @property
    def now_s(self) -> float:
        """The steady clock."""
        return self._clock.steady_s()

    @property
    def open_lanes(self) -> list[Lane]:
        """The lanes whose calls may still be sent."""
        return [lane for lane in self.lanes.values() if not lane.is_closed]

    async def next(self) -> Attempt | Stop | None:
        """Return the next attempt as soon as there is one; None when all ended or the queue closed.

        Cancellation: safe; nothing was handed out.
        """
        while self._stops or not self._is_closed:
            if self._stops:
                return self._stops.popleft()
            outstanding = sum(lane.outstanding for lane in self.lanes.values())
            if outstanding >= self.concurrency.allowed:
                await self._change(None)
                continue
            found, due_s = self._take()
            if found is not None:
                return found
            if due_s is None and not outstanding:
                break
            await self._change(due_s)
        return None

    def sent(self, attempt: Attempt) -> None:
        """Note that an attempt is sent."""
        attempt.lane.sent(attempt.call.id)

    def note(
        self, lane: Lane, outcome: ResultRow | ApiError | Failure, latency_s: float
    ) -> CircuitBreaker | None:
        """Update concurrency and breakers; return the breaker that the outcome opened."""
        if isinstance(outcome, ResultRow):
            self.concurrency.succeeded()
        elif _is_overload(outcome):
            self.concurrency.overloaded(self.now_s - latency_s, self.now_s)
        opened = lane.note(outcome, self.now_s)
        self.wake()
        return opened

    def connected(self) -> None:
        """Note that the server can be reached."""
        if self.server.succeeded():
            self.wake()

    def ended(self, attempt: Attempt) -> None:
        """Note that an attempt that was handed out has ended or was put back."""
        attempt.lane.ended(attempt.call.id)
        for lane in self.lanes.values():
            lane.refill()
        self.wake()

    def put_back(self, attempt: Attempt, wait_s: float = 0.0) -> bool:
        """Hand the attempt out again after `wait_s` seconds, in the lane that has its calls now.

        Returns False for a closed lane: the call is left to the next run.
        """
        attempt = attempt.lane.current(attempt)
        if attempt.lane.is_closed:
            return False
        self._sequence += 1
        attempt.lane.retry_at(self._clock.steady_s() + wait_s, self._sequence, attempt)
        self.wake()
        return True

    def defer(self, attempt: Attempt, until_s: float) -> None:
        """Hand out nothing of the attempt's lane before the steady clock says `until_s`."""
        attempt.lane.quiet_until_s = max(attempt.lane.quiet_until_s, until_s)
        self.put_back(attempt, until_s - self._clock.steady_s())

    def leave(self, attempt: Attempt) -> None:
        """Leave a call of a closed lane to the next run, or to the lane that took it over.

        If it names a model that is gone, the reason is handed out next.
        """
        lane = attempt.lane
        if lane.passes_on(attempt.call):
            self.put_back(attempt)
        elif lane.gone is not None:
            self._stops.append(lane.gone)
            self.wake()

    def replace_model(self, lane: Lane, gone: Stop) -> str | None:
        """Let the successor's lane take over the calls of a model that the API does not have.

        Returns the successor; None if the lane has none, or was replaced before.
        """
        successor = lane.successor
        if successor is None or lane.next_lane is not None:
            return None
        next_lane = self.lanes.setdefault(successor, Lane(successor, self.server, None))
        lane.hand_over(next_lane, gone, self.now_s)
        self.wake()
        return successor

    def close_lane(self, lane: Lane) -> None:
        """Hand out nothing more of a lane."""
        lane.close()
        self.wake()

    def close(self) -> None:
        """Hand out nothing more; calls that were handed out wait for no permit."""
        self._is_closed = True
        for lane in self.lanes.values():
            lane.stopped.set()
        self.wake()

    def wake(self) -> None:
        """Look again whether an attempt can be handed out."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _take(self) -> tuple[Attempt | Stop | None, float | None]:
        """Return the next attempt; without one, when the next is due, None for never by itself."""
        now_s = self._clock.steady_s()
        takes_new = sum(lane.retries for lane in self.lanes.values()) < MAX_WAITING
        while True:
            times_s = {
                lane.model: at_s
                for lane in self.open_lanes
                if (at_s := lane.next_at_s(takes_new=takes_new)) is not None
            }
            ready = [self.lanes[model] for model, at_s in times_s.items() if at_s <= now_s]
            if not ready:
                return None, min(times_s.values(), default=None)
            lane = min(ready, key=lambda lane: _rank(lane, now_s))
            if (found := lane.take(now_s, takes_new=takes_new)) is not None:
                return found, None

    async def _change(self, due_s: float | None) -> None:
        """Wait for any change, or until the steady clock says `due_s`."""
        changed = self._changed
        wait_s = None if due_s is None or due_s == inf else due_s - self._clock.steady_s()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await changed.wait()


def _rank(lane: Lane, now_s: float) -> tuple[float, int, int]:
    """Return what orders lanes: the earliest retry that is due, then those that wait least."""
    due_s = lane.retry_due_s
    return (due_s if due_s <= now_s else inf, len(lane.waiting), lane.outstanding)


def _is_overload(error: ApiError | Failure) -> bool:
    """Return whether fewer calls in flight would help the server, or the line they share."""
    if isinstance(error, ApiError):
        return error.http_status in {429, 503}
    return error.kind is FailureKind.TIMEOUT
