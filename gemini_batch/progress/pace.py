"""How often something happened of late, at a bounded number of numbers. Pure."""

from collections import deque

_BUCKETS = 240


class Pace:
    """Counts what happened in the last `horizon_s` seconds, to a 240th of it; `now_s` never goes back."""

    def __init__(self, horizon_s: float) -> None:
        self._bucket_s = horizon_s / _BUCKETS
        self._counts: deque[list[int]] = deque()  # [bucket, how many]

    def add(self, now_s: float, number: int = 1) -> None:
        """Count what happens now."""
        bucket = int(now_s / self._bucket_s)
        if self._counts and self._counts[-1][0] >= bucket:
            self._counts[-1][1] += number
        else:
            self._counts.append([bucket, number])
            self._forget(bucket)

    def recent(self, now_s: float) -> tuple[int, float]:
        """Return how often it happened within the horizon, and how many seconds ago it did first; (0, 0.0) when it did not."""
        self._forget(int(now_s / self._bucket_s))
        if not self._counts:
            return 0, 0.0
        return sum(number for _, number in self._counts), max(0.0, now_s - self._counts[0][0] * self._bucket_s)

    def _forget(self, bucket: int) -> None:
        while self._counts and self._counts[0][0] <= bucket - _BUCKETS:
            self._counts.popleft()
