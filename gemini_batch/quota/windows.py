"""One limit over one span: a window that slides with time, and the days of a calendar. Pure."""

from collections import deque
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

# A date that is later is a mistake; this one has a midnight in every zone.
_LAST_DAY = date(9000, 1, 1).toordinal()


class Window:
    """How much weight each slot of the last span holds, and from which slot on there is room for more.

    A reservation fits slot k when the span + guard slots before k, and k itself with the reservation, hold at most the limit.
    Two weights that are not counted together then leave at least span + guard slots apart, so that any interval as long as
    the span holds at most the limit where they arrive, though one may be up to the guard longer on its way than another.

    Time is a whole number, the model's slot: slots of different windows compare without rounding. Reservations never go back
    in time, so the oldest slots are dropped as they pass out of reach, and each operation is O(1) amortised.
    """

    def __init__(self, limit: int | None, span: int, stride: int = 1) -> None:
        """Make an empty window.

        Args:
            limit: The most weight in any interval as long as the span. None: only counted, never full.
            span: Length of the window, in its own slots.
            stride: How many of the model's slots make one slot of this window.
        """
        self.limit = limit
        self._span = span
        self._stride = stride
        self._used: deque[list[int]] = deque()  # [own slot, weight], ascending and sparse
        self._total = 0

    def earliest(self, weight: int, slot: int, guard: int) -> int:
        """Return the first of the model's slots, `slot` or later, that has room for `weight`.

        Args:
            weight: At most the limit.
            slot: Not before the last reservation.
            guard: The guard, in the model's slots.
        """
        self._forget(slot, guard)
        if self.limit is None or not weight:
            return slot
        reach = self._reach(guard)
        own, total = slot // self._stride, self._total
        for used_slot, used in self._used:
            if own <= used_slot + reach:
                if total + weight <= self.limit:
                    break
                own = used_slot + reach + 1
            total -= used
        return max(slot, own * self._stride)

    def used(self, slot: int, guard: int) -> int:
        """Return the weight that counts against a reservation in the model's slot `slot`."""
        horizon = slot // self._stride - self._reach(guard)
        total = self._total
        for used_slot, used in self._used:
            if used_slot >= horizon:
                break
            total -= used
        return total

    def frees(self, guard: int) -> int:
        """Return the first of the model's slots against which nothing counts that is counted now; 0 when nothing is."""
        last = max((slot for slot, weight in self._used if weight), default=None)
        return 0 if last is None else (last + self._reach(guard) + 1) * self._stride

    def add(self, weight: int, slot: int, guard: int) -> None:
        """Count `weight` in the model's slot `slot`, which is not before the last one."""
        self._forget(slot, guard)
        own = slot // self._stride
        if self._used and self._used[-1][0] >= own:  # later by one after a shift
            self._used[-1][1] += weight
        else:
            self._used.append([own, weight])  # a weight of 0 too: it may be settled upwards
        self._total += weight

    def settle(self, change: int, slot: int) -> None:
        """Correct the weight of the model's slot `slot`; a slot that is out of reach is left alone.

        A correction upwards may pass the limit: what was used was used, and what follows waits for it.
        """
        own = slot // self._stride
        for entry in reversed(self._used):
            if entry[0] == own:
                change = max(change, -entry[1])
                entry[1] += change
                self._total += change
            if entry[0] <= own:
                return

    def shift(self, slots: int) -> None:
        """Move all that is counted by so many of the model's slots; rounded to the later slot of this window."""
        own = -(-slots // self._stride)
        for entry in self._used:
            entry[0] += own

    def dump(self) -> list[int]:
        """Return slot, weight, slot, weight, … as plain numbers."""
        return [number for entry in self._used for number in entry]

    def load(self, numbers: Iterable[int]) -> None:
        """Take over what `dump` of another window gave; limits may differ, spans may not."""
        flat = iter(numbers)
        self._used = deque([slot, weight] for slot, weight in zip(flat, flat, strict=True))
        self._total = sum(weight for _, weight in self._used)

    def _reach(self, guard: int) -> int:
        return self._span - (-guard // self._stride)

    def _forget(self, slot: int, guard: int) -> None:
        horizon = slot // self._stride - self._reach(guard)
        while self._used and self._used[0][0] < horizon:
            self._total -= self._used.popleft()[1]


class Days:
    """What was used on each date of a zone, and which dates are over.

    Days have 23, 24 or 25 hours, as the zone has it. Within the guard of midnight a grant counts on both dates, for nobody can
    say by whose clock it arrives. The date never goes back, even if the wall clock does; a date more than one day ahead is dropped.
    """

    def __init__(self, limits: tuple[int | None, ...], zone: ZoneInfo, guard_s: float) -> None:
        """Make an empty calendar; `limits` are the most of each thing on one date, None is no limit."""
        self.limits = limits
        self._zone = zone
        self._guard = timedelta(seconds=guard_s)
        self._used: dict[int, list[int]] = {}  # date ordinal → used of each limit
        self._today = 0  # no earlier date is counted any more
        self._closed = 0  # this date and all before it are over: the server said so

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
        """Return the latest of `dates` without room for `weights` and which limit is in the way, or None if all have room.

        The limit is its place in `limits`, or None when the server closed the date.
        """
        for day in reversed(dates):
            if self.is_closed(day):
                return self._closed, None
            for place, (limit, weight) in enumerate(zip(self.limits, weights, strict=True)):
                if limit is not None and self._of(day)[place] + weight > limit:
                    return day, place
        return None

    def left(self, place: int, day: int) -> int | None:
        """Return what the limit at `place` leaves on a date, at least 0; None without a limit."""
        limit = self.limits[place]
        return None if limit is None else max(0, limit - self._of(day)[place])

    def used(self, place: int, day: int) -> int:
        """Return what was used on a date of the limit at `place`."""
        return self._of(day)[place]

    def is_closed(self, day: int) -> bool:
        """Return whether the server closed the date."""
        return day <= self._closed

    def add(self, weights: tuple[int, ...], dates: tuple[int, ...]) -> None:
        """Count `weights`, which may be negative, on each of `dates`; a date that is long past is left alone.

        Only what is counted moves the date on: a slot after midnight that was looked at may not have been taken.
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
        """Close a date and the one before it."""
        self._closed = max(self._closed, day)

    def opens_at(self, day: int) -> datetime:
        """Return when the first grant of a date is possible that counts on it alone, UTC."""
        midnight = datetime.combine(
            date.fromordinal(min(day, _LAST_DAY)), datetime.min.time(), self._zone
        )
        return midnight.astimezone(UTC) + self._guard

    def dump(self) -> list[list[int]]:
        """Return all as plain numbers: [today, closed], then [date, used, used, …] of each date."""
        return [[self._today, self._closed], *([day, *used] for day, used in self._used.items())]

    def load(self, rows: Iterable[list[int]]) -> None:
        """Take over what `dump` of another calendar gave; limits may differ."""
        (self._today, self._closed), *days = rows
        self._used = {day: used for day, *used in days}

    def _drop_after(self, day: int) -> None:
        """Drop dates after `day`: one more than a day ahead was set by a wrong clock."""
        self._used = {each: used for each, used in self._used.items() if each <= day}
        self._today = self._today if self._today <= day else 0
        self._closed = self._closed if self._closed <= day else 0

    def _of(self, day: int) -> list[int]:
        return self._used.get(day) or [0] * len(self.limits)

    def _date(self, moment: datetime) -> int:
        return moment.astimezone(self._zone).date().toordinal()
