"""Three ways in which a server may count a minute."""

from collections import deque
from typing import Protocol


class Server(Protocol):
    """Says yes or 429 to each request, in the order of arrival."""

    def accepts(self, at_s: float) -> bool:
        """Return whether a request that arrives at a moment is within the quota."""
        ...


class FixedMinuteServer:
    """Counts from zero with each minute of its clock."""

    def __init__(self, limit: int, phase_s: float = 0.0) -> None:
        self._limit, self._phase_s = limit, phase_s
        self._minute = self._count = 0

    def accepts(self, at_s: float) -> bool:
        """Return whether there is room in this minute."""
        minute = int((at_s + self._phase_s) // 60)
        if minute != self._minute:
            self._minute, self._count = minute, 0
        self._count += 1
        return self._count <= self._limit


class SlidingServer:
    """Counts what it accepted in the last 60 seconds."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._accepted: deque[float] = deque()

    def accepts(self, at_s: float) -> bool:
        """Return whether there is room in the last 60 seconds."""
        while self._accepted and self._accepted[0] <= at_s - 60:
            self._accepted.popleft()
        if len(self._accepted) >= self._limit:
            return False
        self._accepted.append(at_s)
        return True


class BucketServer:
    """A bucket of a minute's quota that starts full and is filled evenly."""

    def __init__(self, limit: int) -> None:
        self._limit, self._level, self._at_s = limit, float(limit), 0.0

    def accepts(self, at_s: float) -> bool:
        """Return whether there is a token left."""
        self._level = min(self._limit, self._level + (at_s - self._at_s) * self._limit / 60)
        self._at_s = at_s
        if self._level < 1:
            return False
        self._level -= 1
        return True
