"""Quota as the server enforces it, per key and model: requests, tokens, images and USD.

The window of a minute depends on `enforce`: the last 60 seconds, the clock's minute, or a token
bucket that starts full and is refilled at limit/minute.
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

# Priority has a share of the standard limits of its own:
# https://ai.google.dev/gemini-api/docs/rate-limits (2026-08-18).
PRIORITY_SHARE = 0.3
_PRIORITY = " (priority)"

Weights: TypeAlias = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time on both clocks: windows use monotonic seconds, days use UTC."""

    steady_s: float
    utc: datetime


@dataclass(frozen=True, slots=True)
class Violation:
    """A limit that a request would exceed; after `wait_s` seconds it would fit."""

    kind: str
    limit: float
    wait_s: float


class QuotaWindow(Protocol):
    """A limit over a span of time."""

    limit: float

    def used(self, now: Moment) -> float:
        """Return the weight that counts at `now`."""
        ...

    def wait_s(self, now: Moment, weight: float) -> float:
        """Return 0 if `weight` fits at `now`, else the seconds until it does."""
        ...

    def add(self, now: Moment, weight: float) -> None:
        """Count `weight`, even if it does not fit."""
        ...


class SlidingWindow:
    """At most `limit` in any `span_s` seconds, the measured behaviour of the API."""

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
        """Return 0 if `weight` fits at `now`, else the seconds until it does."""
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
    """At most `limit` in each span of the wall clock.

    Bursts on both sides of a boundary are admitted: twice the limit within a moment.
    """

    def __init__(self, limit: float, span_s: float) -> None:
        self.limit = limit
        self._span_s = span_s
        self._index = -1.0
        self._sum = 0.0

    def used(self, now: Moment) -> float:
        """Return the weight of the current span."""
        index = now.utc.timestamp() // self._span_s  # infinite for a tiny span
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


class TokenBucket:
    """A token bucket that holds `limit`, starts full and is refilled at `limit / span_s`.

    Up to twice the limit is admitted in the first span.
    """

    def __init__(self, limit: float, span_s: float) -> None:
        self.limit = limit
        self._span_s = span_s
        self._level = limit
        self._at: float | None = None

    def used(self, now: Moment) -> float:
        """Return the weight that is missing from the full bucket."""
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
        """Remove `weight`, at most until the bucket is empty."""
        self._level = max(0.0, self.limit - self.used(now) - weight)


class CalendarDay:
    """At most `limit` per calendar day of a time zone; days have 23, 24 or 25 hours."""

    def __init__(self, limit: float, zone: ZoneInfo) -> None:
        self.limit = limit
        self._zone = zone
        self._date = ""
        self._sum = 0.0

    def used(self, now: Moment) -> float:
        """Return the weight of the current date."""
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


_WINDOWS: dict[Enforce, type[SlidingWindow | FixedWindow | TokenBucket]] = {
    "sliding": SlidingWindow,
    "fixed": FixedWindow,
    "bucket": TokenBucket,
}


def priority_of(model: str) -> str:
    """Return the name of the quota of a model's service tier priority."""
    return model + _PRIORITY


class Quota:
    """The quotas of all keys and models."""

    def __init__(self, config: SimulatorConfig) -> None:
        self._config = config
        self._zone = ZoneInfo(config.day_zone)
        self._windows: dict[tuple[str, str], dict[str, QuotaWindow]] = {}

    def charge(self, key: str, model: str, now: Moment, weights: Weights) -> list[Violation]:
        """Count one request that arrived at `now`.

        Args:
            key: Key of the project, or its fingerprint.
            model: The model's id, or `priority_of` it.
            now: Time of arrival; never earlier than in the previous call.
            weights: Its usage by kind of limit (requests 1, tokens, images, USD).

        Returns:
            The limits that it exceeds; empty if it is admitted. A rejected request counts as a
            request if the config says so (`count_rejected`), never as tokens, images or USD.
        """
        if (key, model) not in self._windows:
            share = PRIORITY_SHARE if model.endswith(_PRIORITY) else 1.0
            self._windows[key, model] = self._open(share)
        windows = self._windows[key, model]
        over = [
            kind
            for kind, window in windows.items()
            if window.wait_s(now, weights.get(kind, 0.0)) > 0
        ]
        for kind, window in windows.items():
            if not over or (self._config.count_rejected and kind in COUNTS_REQUESTS):
                window.add(now, weights.get(kind, 0.0))
        # Computed after counting: a client that waits this long must be admitted.
        return [
            Violation(kind, windows[kind].limit, windows[kind].wait_s(now, weights.get(kind, 0.0)))
            for kind in over
        ]

    def used(self, key: str, model: str, now: Moment) -> dict[str, tuple[float, float]]:
        """Return the used amount and the limit by kind."""
        windows = self._windows.get((key, model), {})
        return {kind: (window.used(now), window.limit) for kind, window in windows.items()}

    def _open(self, share: float) -> dict[str, QuotaWindow]:
        config = self._config
        minute = _WINDOWS[config.enforce]
        windows: dict[str, QuotaWindow] = {}
        if config.minute_limit is not None:
            windows[REQUESTS_PER_MIN] = minute(config.minute_limit * share, config.minute_s)
        if config.tokens_per_min is not None:
            windows[TOKENS_PER_MIN] = minute(config.tokens_per_min * share, config.minute_s)
        if config.images_per_min is not None:
            windows[IMAGES_PER_MIN] = minute(config.images_per_min * share, config.minute_s)
        if config.usd_per_10min is not None:
            # Documented as a rolling window, independent of `enforce`.
            usd = config.usd_per_10min * share
            windows[USD_PER_10MIN] = SlidingWindow(usd, 10 * config.minute_s)
        if config.day_limit is not None:
            windows[REQUESTS_PER_DAY] = CalendarDay(config.day_limit * share, self._zone)
        return windows
