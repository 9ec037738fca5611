"""A clock that can be set, so that a day's end can be tested at noon."""

from datetime import UTC, datetime, timedelta

from gemini_batch.clock import Clock

# A year before the last day that Python knows, so that there is room for a next day in every zone.
LATEST = datetime(9999, 1, 1, tzinfo=UTC)


class SettableClock:
    """The time of a simulator: that of another clock, moved forward by `advance` and `set`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_s = 0.0

    def steady_s(self) -> float:
        """Return seconds that never go back."""
        return self._clock.steady_s() + self._ahead_s

    def utc(self) -> datetime:
        """Return the server's wall clock, UTC."""
        return self._clock.utc() + timedelta(seconds=self._ahead_s)

    def advance(self, seconds: float) -> None:
        """Move the time forward.

        Raises:
            ValueError: `seconds` is negative or no number, or leads past `LATEST`; the time is as before then.
        """
        if not seconds >= 0:
            raise ValueError(
                f"the server's time can't go back: got {seconds:g} seconds; allowed: 0 or more"
            )
        if seconds > (LATEST - self.utc()).total_seconds():
            raise ValueError(
                f"the server's time ends at {LATEST.isoformat()}: {seconds:g} seconds lead past it"
            )
        self._ahead_s += seconds

    def set(self, at: datetime) -> None:
        """Move the time forward to `at`, an aware datetime.

        Raises:
            ValueError: `at` has no time zone, or is in the past, or past `LATEST`.
        """
        if at.tzinfo is None:
            raise ValueError(f"a time needs its zone, such as {at.isoformat()}+00:00")
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
