"""A clock that can be moved forward, to test midnight at any time of day."""

from datetime import UTC, datetime, timedelta

from gemini_batch.clock import Clock

# A year before the last date of `datetime`, so that a next day exists in every time zone.
LATEST = datetime(9999, 1, 1, tzinfo=UTC)


class SettableClock:
    """The simulator's time: that of another clock, moved forward by `advance` and `set`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_s = 0.0

    def steady_s(self) -> float:
        """Return monotonic seconds."""
        return self._clock.steady_s() + self._ahead_s

    def utc(self) -> datetime:
        """Return the server's wall-clock time, UTC."""
        return self._clock.utc() + timedelta(seconds=self._ahead_s)

    def advance(self, seconds: float) -> None:
        """Move the time forward.

        Raises:
            ValueError: `seconds` is negative or NaN, or leads past `LATEST`; the time is unchanged.
        """
        if not seconds >= 0:
            raise ValueError(
                f"the server's time can't go back: got {seconds:g} seconds; allowed: 0 or more"
            )
        if seconds > (LATEST - self.utc()).total_seconds():
            raise ValueError(
                f"the server's time ends at {LATEST.isoformat()}: {seconds:g} seconds is too far"
            )
        self._ahead_s += seconds

    def set(self, at: datetime) -> None:
        """Move the time forward to `at`, an aware datetime.

        Raises:
            ValueError: `at` has no time zone, or is in the past, or past `LATEST`.
        """
        if at.tzinfo is None:
            raise ValueError(f"a time needs a time zone, such as {at.isoformat()}+00:00")
        now = self.utc()
        if at < now:
            raise ValueError(
                f"the server's time can't go back: got {at.isoformat()}, it is {now.isoformat()}"
            )
        if at > LATEST:
            raise ValueError(
                f"the server's time ends at {LATEST.isoformat()}: got {at.isoformat()}"
            )
        self.advance((at - now).total_seconds())
