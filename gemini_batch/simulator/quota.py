"""Quota as a server enforces it: what may still be sent in this minute, on this day, for these dollars.

A project's quota holds per key and per model. What a minute is depends on `enforce`: the last 60 seconds, the clock's minute, or
a bucket that starts full and fills at limit/minute.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeAlias
from zoneinfo import ZoneInfo

from gemini_batch.simulator.config import Enforce, SimulatorConfig

REQUESTS_PER_MIN = "requests_per_min"
REQUESTS_PER_DAY = "requests_per_day"
TOKENS_PER_MIN = "tokens_per_min"
IMAGES_PER_MIN = "images_per_min"
USD_PER_10MIN = "usd_per_10min"
COUNTS_REQUESTS = (REQUESTS_PER_MIN, REQUESTS_PER_DAY)

Weights: TypeAlias = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Moment:
    """One point in time on both clocks; windows run on the steady one, days on the other."""

    steady_s: float
    utc: datetime


@dataclass(frozen=True, slots=True)
class Violation:
    """A limit that a request would overrun; `wait_s` is how long until it would fit."""

    kind: str
    limit: float
    wait_s: float


class Window(Protocol):
    """One limit over one span of time."""

    limit: float

    def used(self, now: Moment) -> float:
        """Return the weight that counts at `now`."""
        ...

    def wait_s(self, now: Moment, weight: float) -> float:
        """Return 0 if `weight` fits at `now`, else the seconds until it would."""
        ...

    def add(self, now: Moment, weight: float) -> None:
        """Count `weight`, whether it fits or not."""
        ...


class SlidingWindow:
    """At most `limit` in any `span_s` seconds: the measured behaviour of the API."""

    def __init__(self, limit: float, span_s: float) -> None:
        self.limit = limit
        self._span_s = span_s
        self._events: deque[tuple[float, float]] = deque()
        self._sum = 0.0

    def used(self, now: Moment) -> float:
        """Return the weight of the last `span_s` seconds."""
        while self._events and self._events[0][0] <= now.steady_s - self._span_s:
            self._sum -= self._events.popleft()[1]
        return self._sum

    def wait_s(self, now: Moment, weight: float) -> float:
        """Return 0 if `weight` fits at `now`, else the seconds until it would."""
        over = self.used(now) + weight - self.limit
        if over <= 1e-9:
            return 0.0
        for at, freed in self._events:
            over -= freed
            if over <= 1e-9:
                return at + self._span_s - now.steady_s
        return self._span_s

    def add(self, now: Moment, weight: float) -> None:
        """Count `weight` at `now`."""
        self._events.append((now.steady_s, weight))
        self._sum += weight


class FixedWindow:
    """At most `limit` in each span of the wall clock: a burst on both sides of a boundary passes."""

    def __init__(self, limit: float, span_s: float) -> None:
        self.limit = limit
        self._span_s = span_s
        self._index = -1.0
        self._sum = 0.0

    def used(self, now: Moment) -> float:
        """Return the weight of the span that `now` is in."""
        index = now.utc.timestamp() // self._span_s  # infinite for a span of almost nothing
        if index != self._index:
            self._index, self._sum = index, 0.0
        return self._sum

    def wait_s(self, now: Moment, weight: float) -> float:
        """Return 0 if `weight` fits at `now`, else the seconds to the next span."""
        if self.used(now) + weight <= self.limit + 1e-9:
            return 0.0
        return self._span_s - now.utc.timestamp() % self._span_s

    def add(self, now: Moment, weight: float) -> None:
        """Count `weight` at `now`."""
        self._sum = self.used(now) + weight


class Bucket:
    """A bucket that holds `limit`, starts full and fills at `limit / span_s`: twice the limit passes in the first span."""

    def __init__(self, limit: float, span_s: float) -> None:
        self.limit = limit
        self._span_s = span_s
        self._level = limit
        self._at: float | None = None

    def used(self, now: Moment) -> float:
        """Return what the bucket lacks."""
        if self._at is not None:
            self._level = min(
                self.limit, self._level + (now.steady_s - self._at) * self.limit / self._span_s
            )
        self._at = now.steady_s
        return self.limit - self._level

    def wait_s(self, now: Moment, weight: float) -> float:
        """Return 0 if `weight` fits at `now`, else the seconds until the bucket holds it."""
        over = self.used(now) + weight - self.limit
        if over <= 1e-9:
            return 0.0
        return over * self._span_s / self.limit if self.limit else self._span_s

    def add(self, now: Moment, weight: float) -> None:
        """Take `weight` out, down to empty."""
        self._level = max(0.0, self.limit - self.used(now) - weight)


class Day:
    """At most `limit` a calendar day of a zone; days of 23, 24 and 25 hours."""

    def __init__(self, limit: float, zone: ZoneInfo) -> None:
        self.limit = limit
        self._zone = zone
        self._date = ""
        self._sum = 0.0

    def used(self, now: Moment) -> float:
        """Return the weight of the date that `now` is on."""
        date = now.utc.astimezone(self._zone).date().isoformat()
        if date != self._date:
            self._date, self._sum = date, 0.0
        return self._sum

    def wait_s(self, now: Moment, weight: float) -> float:
        """Return 0 if `weight` fits at `now`, else the seconds to midnight."""
        if self.used(now) + weight <= self.limit + 1e-9:
            return 0.0
        local = now.utc.astimezone(self._zone)
        midnight = datetime.combine(
            local.date() + timedelta(days=1), datetime.min.time(), tzinfo=self._zone
        )
        return (midnight.astimezone(now.utc.tzinfo) - now.utc).total_seconds()

    def add(self, now: Moment, weight: float) -> None:
        """Count `weight` at `now`."""
        self._sum = self.used(now) + weight


_WINDOWS: dict[Enforce, type[SlidingWindow | FixedWindow | Bucket]] = {
    "sliding": SlidingWindow,
    "fixed": FixedWindow,
    "bucket": Bucket,
}


class Quota:
    """What every key may still ask of every model."""

    def __init__(self, config: SimulatorConfig) -> None:
        self._config = config
        self._zone = ZoneInfo(config.day_zone)
        self._windows: dict[tuple[str, str], dict[str, Window]] = {}

    def charge(self, key: str, model: str, now: Moment, weights: Weights) -> list[Violation]:
        """Count one request that arrived at `now`.

        Args:
            key: Stands for the project.
            model: The model's id.
            now: When it arrived; never earlier than in the call before.
            weights: What it uses by kind of limit (requests 1, tokens, images, USD).

        Returns:
            The limits that it overruns; empty if it is admitted. A request that is not admitted counts as a request (unless
            the config says otherwise), and never as tokens, images or dollars.
        """
        if (key, model) not in self._windows:
            self._windows[key, model] = self._open()
        windows = self._windows[key, model]
        over = [
            kind
            for kind, window in windows.items()
            if window.wait_s(now, weights.get(kind, 0.0)) > 0
        ]
        for kind, window in windows.items():
            if not over or (self._config.count_rejected and kind in COUNTS_REQUESTS):
                window.add(now, weights.get(kind, 0.0))
        # Asked again after counting: a client that waits as told must then be admitted.
        return [
            Violation(kind, windows[kind].limit, windows[kind].wait_s(now, weights.get(kind, 0.0)))
            for kind in over
        ]

    def used(self, key: str, model: str, now: Moment) -> dict[str, tuple[float, float]]:
        """Return what is used and what the limit is, by kind."""
        windows = self._windows.get((key, model), {})
        return {kind: (window.used(now), window.limit) for kind, window in windows.items()}

    def _open(self) -> dict[str, Window]:
        config = self._config
        minute = _WINDOWS[config.enforce]
        windows: dict[str, Window] = {}
        if config.minute_limit is not None:
            windows[REQUESTS_PER_MIN] = minute(config.minute_limit, config.minute_s)
        if config.tokens_per_min is not None:
            windows[TOKENS_PER_MIN] = minute(config.tokens_per_min, config.minute_s)
        if config.images_per_min is not None:
            windows[IMAGES_PER_MIN] = minute(config.images_per_min, config.minute_s)
        if config.usd_per_10min is not None:
            # Documented as a rolling window, whatever a minute of requests is.
            windows[USD_PER_10MIN] = SlidingWindow(config.usd_per_10min, 10 * config.minute_s)
        if config.day_limit is not None:
            windows[REQUESTS_PER_DAY] = Day(config.day_limit, self._zone)
        return windows
