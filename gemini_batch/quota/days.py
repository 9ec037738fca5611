"""The quota of a day: what was used on each date of a zone, and which dates are over. Pure."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

# A later date is a mistake; this one has a midnight in every zone.
_LAST_DAY = date(9000, 1, 1).toordinal()


class Days:
    """The use of each date, counted by its ordinal.

    Days have 23, 24 or 25 hours, as the zone has it. Within the guard of midnight a grant counts on
    both dates, for it may arrive on either. The date never goes back, even if the wall clock does;
    a date more than one day ahead was set by a wrong clock and is dropped.
    """

    def __init__(self, limits: tuple[int | None, ...], zone: ZoneInfo, guard_s: float) -> None:
        """Make an empty calendar; `limits` are of each unit on one date, None is no limit."""
        self.limits = limits
        self._zone = zone
        self._guard = timedelta(seconds=guard_s)
        self._used: dict[int, list[int]] = {}  # date ordinal -> used of each limit
        self._today = 0  # no earlier date is counted any more
        self._closed = 0  # the server closed this date and all before it
        self._known = (0, datetime.max.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))

    def dates(self, start: datetime, length_s: float) -> tuple[int, ...]:
        """Return the ordinals of the one or two dates that a grant counts on.

        Args:
            start: When the grant begins, UTC.
            length_s: For how many seconds it holds.
        """
        first = self._date(start - self._guard)
        last = self._date(start + timedelta(seconds=length_s) + self._guard)
        if max(self._today, self._closed) > first + 1:
            self._drop_after(first + 1)
        return tuple(range(max(self._today, first), max(self._today, last) + 1))

    def full(
        self, weights: tuple[int, ...], dates: tuple[int, ...]
    ) -> tuple[int, int | None] | None:
        """Return the latest of `dates` without room for `weights`, and the limit in the way.

        The limit is its place in `limits`, or None when the server closed the date. None if all
        dates have room.
        """
        for day in reversed(dates):
            if self.is_closed(day):
                return self._closed, None
            for place, (limit, weight) in enumerate(zip(self.limits, weights, strict=True)):
                if limit is not None and self.used(place, day) + weight > limit:
                    return day, place
        return None

    def left(self, place: int, day: int) -> int | None:
        """Return what the limit at `place` leaves on a date, at least 0; None without a limit."""
        limit = self.limits[place]
        return None if limit is None else max(0, limit - self.used(place, day))

    def used(self, place: int, day: int) -> int:
        """Return what was used on a date of the limit at `place`."""
        used = self._used.get(day)
        return used[place] if used else 0

    def is_closed(self, day: int) -> bool:
        """Return whether the server closed the date."""
        return day <= self._closed

    def add(self, weights: tuple[int, ...], dates: tuple[int, ...]) -> None:
        """Count `weights`, which may be negative, on each of `dates`; a long past date is ignored.

        Only a reservation moves the date: a slot after midnight may be considered and not taken.
        """
        self._today = max(self._today, dates[0])
        for day in dates:
            if day < self._today - 1:
                continue
            used = self._used.setdefault(day, [0] * len(self.limits))
            for place, weight in enumerate(weights):
                used[place] = max(0, used[place] + weight)
        for day in [day for day in self._used if day < self._today - 1]:
            del self._used[day]

    def close(self, day: int) -> None:
        """Close a date and all before it."""
        self._closed = max(self._closed, day)

    def opens_at(self, day: int) -> datetime:
        """Return when the first grant of a date is possible that counts on it alone, UTC."""
        midnight = datetime.combine(
            date.fromordinal(min(day, _LAST_DAY)), datetime.min.time(), self._zone
        )
        return midnight.astimezone(UTC) + self._guard

    def dump(self) -> list[list[int]]:
        """Return plain numbers: [today, closed], then [date, used, used, …] of each date."""
        return [[self._today, self._closed], *([day, *used] for day, used in self._used.items())]

    def load(self, rows: Iterable[list[int]]) -> None:
        """Restore what `dump` returned; limits may differ."""
        (self._today, self._closed), *days = rows
        self._used = {day: used for day, *used in days}

    def _drop_after(self, day: int) -> None:
        self._used = {each: used for each, used in self._used.items() if each <= day}
        self._today = self._today if self._today <= day else 0
        self._closed = self._closed if self._closed <= day else 0

    def _date(self, moment: datetime) -> int:
        day, start, end = self._known
        if not start <= moment < end:
            found = moment.astimezone(self._zone).date()
            day = found.toordinal()
            start, end = (self.opens_at(each) - self._guard for each in (day, day + 1))
            self._known = day, start, end
        return day
