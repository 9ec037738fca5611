"""The use of one model by runs of equal limits, next to runs of other limits. Pure."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from gemini_batch.quota.limits import SLOTS_A_MINUTE, SLOTS_A_TEN_MINUTE_SLOT, LimitSet
from gemini_batch.quota.windows import Window


class Use:
    """The windows of all runs whose limits are equal.

    A reservation ahead of time is *tentative* while a run with wider limits is there: it does not
    count against that run until its moment has come and its own limits still hold.

    Attributes:
        limits: Of each window; None is no limit.
        windows: Of requests, images and tokens a minute, and of dollars in ten minutes.
        run: The run that made the last reservation.
        last: The slot of the last reservation.
        sure: Later slots are tentative; None if none is.
    """

    def __init__(self, limits: Sequence[int | None]) -> None:
        self.limits = tuple(limits)
        *minute, ten_minutes = self.limits
        self.windows = [Window(limit, SLOTS_A_MINUTE) for limit in minute]
        self.windows.append(Window(ten_minutes, SLOTS_A_MINUTE, SLOTS_A_TEN_MINUTE_SLOT))
        self.run = ""
        self.last = 0
        self.sure: int | None = None

    @classmethod
    def of(cls, bounds: LimitSet) -> "Use":
        """Return an empty use of runs with these limits."""
        return cls([bound.limit for bound in (*bounds.minute, *bounds.ten_minutes)])

    def is_wider(self, other: "Use") -> bool:
        """Return whether a limit of this one is wider than the other's."""
        pairs = zip(self.limits, other.limits, strict=True)
        return any(_number(mine) > _number(theirs) for mine, theirs in pairs)

    def is_empty(self) -> bool:
        """Return whether nothing is counted any more."""
        return not any(window.total for window in self.windows)

    def forget(self, slot: int, guard: int) -> None:
        """Drop what is out of reach of a slot."""
        for window in self.windows:
            window.forget(slot, guard)

    def counted_until(self, place: int, limit: int, now: int) -> float:
        """Return the last slot that counts in the window at `place` for a run with this limit.

        Args:
            place: Of the window.
            limit: Of the run that asks.
            now: The slot of now.
        """
        if _number(self.limits[place]) >= limit:
            return math.inf
        return now if self.sure is None else self.sure

    def shift(self, slots: int, latest: int) -> None:
        """Move all by so many slots, but no reservation later than `latest`."""
        for window in self.windows:
            window.shift(slots, latest)
        self.last = min(self.last + slots, latest)
        self.sure = None

    def dump(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return {
            "limits": self.limits,
            "run": self.run,
            "last": self.last,
            "sure": self.sure,
            "windows": [window.dump() for window in self.windows],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `dump` returned, or the windows of the first version."""
        self.run, self.last = state.get("run", ""), state["last"]
        self.sure = state.get("sure")
        for window, numbers in zip(self.windows, state["windows"], strict=True):
            window.load(numbers)


class Timeline:
    """The weight in one window over time, of all runs that count for the one that asks."""

    def __init__(self, entries: Iterable[tuple[int, int]]) -> None:
        """Add up entries, [slot of the window, weight], in any order."""
        ordered = sorted(entries)
        self.slots = [slot for slot, _ in ordered]
        self._sums = [0, *accumulate(weight for _, weight in ordered)]

    def between(self, after: int, until: int) -> int:
        """Return the weight in slots later than `after`, up to `until`."""
        return (
            self._sums[bisect_right(self.slots, until)]
            - self._sums[bisect_right(self.slots, after)]
        )


def _number(limit: int | None) -> float:
    return math.inf if limit is None else limit
