"""The quota of a day: the use of each Pacific date, and which dates are over. Pure."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

PACIFIC = ZoneInfo("America/Los_Angeles")
"""The zone of a day of the quota: requests a day are counted from midnight Pacific time,
https://ai.google.dev/gemini-api/docs/rate-limits (collected 2026-11-22)."""

# A later date is a mistake; this one has a midnight in every zone.
_LAST_DAY = date(9000, 1, 1).toordinal()
# A day that the server closed until a later moment was closed by a wrong clock.
_LONGEST = timedelta(days=2)


class Days:
    """The use of each date, counted by its ordinal.

    Days have 23, 24 or 25 hours, as the zone has it. Within the guard of midnight a grant counts on
    both dates, because it may arrive on either. The date never goes back, even if the wall clock
    does; a date more than one day ahead was set by a wrong clock and is dropped.
    """

    def __init__(self, limits: Sequence[int | None], guard_s: float) -> None:
        """Make an empty calendar; `limits` are of each unit on one date, None means no limit."""
        self._limits = limits
        self._guard = timedelta(seconds=guard_s)
        self._used: dict[int, list[int]] = {}  # date ordinal -> used of each limit
        self._today = 0  # earlier dates are not counted
        self._closed = 0  # the server closed this date and all before it
        self._closed_until_s = 0  # the server closed its own day until then, in Unix time
        self._known = (0, datetime.max.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))

    def dates(self, start: datetime, length_s: float) -> tuple[int, ...]:
        """Return the ordinals of the one or two dates of a grant from `start`, UTC."""
        first = self._date(start - self._guard)
        last = self._date(start + timedelta(seconds=length_s) + self._guard)
        if max(self._today, self._closed) > (most := first + 1):
            self._used = {day: used for day, used in self._used.items() if day <= most}
            self._today = self._today if self._today <= most else 0
            self._closed = self._closed if self._closed <= most else 0
        return tuple(range(max(self._today, first), max(self._today, last) + 1))

    def full(self, weights: list[int], dates: tuple[int, ...]) -> tuple[int, int | None] | None:
        """Return the latest of `dates` without room for `weights`; None if all have room.

        With it comes the place of the limit in the way, None when the server closed the date.
        """
        for day in reversed(dates):
            if self.is_closed(day):
                return self._closed, None
            of_day = zip(self._limits, weights, self.used(day), strict=True)
            for place, (limit, weight, used) in enumerate(of_day):
                if limit is not None and used + weight > limit:
                    return day, place
        return None

    def fit(self, weights: list[int], dates: tuple[int, ...]) -> list[int]:
        """Return how many times `weights` fit each limit on each of `dates`, which have room."""
        return [
            (limit - used) // weight
            for day in dates
            for limit, weight, used in zip(self._limits, weights, self.used(day), strict=True)
            if limit is not None and weight
        ]

    def used(self, day: int) -> list[int]:
        """Return the use of each limit on a date."""
        return self._used.get(day) or [0] * len(self._limits)

    def is_closed(self, day: int) -> bool:
        """Return whether the server closed the date."""
        return day <= self._closed

    def add(self, weights: list[int], dates: tuple[int, ...]) -> None:
        """Count `weights`, which may be negative, on each of `dates`; a long past date is ignored.

        Only a reservation moves the date: a slot after midnight may be considered and not taken.
        """
        self._today = max(self._today, dates[0])
        for day in dates:
            if day < self._today - 1:
                continue
            used = self._used.setdefault(day, [0] * len(self._limits))
            for place, weight in enumerate(weights):
                used[place] = max(0, used[place] + weight)
        for day in [day for day in self._used if day < self._today - 1]:
            del self._used[day]

    def close(self, day: int) -> None:
        """Close a date and all before it."""
        self._closed = max(self._closed, day)

    def close_until(self, ends_at: datetime) -> None:
        """Close the server's own day, which ends at another hour than the date; UTC."""
        self._closed_until_s = max(self._closed_until_s, math.ceil(ends_at.timestamp()))

    def closed_until(self, utc: datetime) -> datetime | None:
        """Return until when the server's own day is closed, UTC; None if it is open."""
        left = timedelta(seconds=self._closed_until_s - utc.timestamp()) + self._guard
        return utc + left if timedelta(0) < left < _LONGEST else None

    def opens_at(self, day: int) -> datetime:
        """Return when the first grant of a date is possible that counts on it alone, UTC."""
        midnight = datetime.combine(
            date.fromordinal(min(day, _LAST_DAY)), datetime.min.time(), PACIFIC
        )
        return midnight.astimezone(UTC) + self._guard

    def dump(self) -> list[list[int]]:
        """Return plain numbers: [today, closed, closed until], then [date, used, …] of each."""
        head = [self._today, self._closed, self._closed_until_s]
        return [head, *([day, *used] for day, used in self._used.items())]

    def load(self, rows: Iterable[list[int]]) -> None:
        """Restore what `dump` returned; limits may differ."""
        (self._today, self._closed, *until_s), *days = rows
        self._closed_until_s = until_s[0] if until_s else 0
        self._used = {day: used for day, *used in days}

    def _date(self, moment: datetime) -> int:
        day, start, end = self._known
        if not start <= moment < end:
            found = moment.astimezone(PACIFIC).date()
            day = found.toordinal()
            start, end = (self.opens_at(each) - self._guard for each in (day, day + 1))
            self._known = day, start, end
        return day
