"""The windows of one model: of this run, next to those of runs with other limits. Pure."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from gemini_batch.quota.limits import (
    SLOTS_A_MINUTE,
    SLOTS_A_TEN_MINUTE_SLOT,
    Limit,
    LimitSet,
    Weights,
)
from gemini_batch.quota.windows import Window


class Use:
    """The windows of all runs whose limits are equal.

    A reservation ahead of time is *tentative* while a run with wider limits is there: it does not
    count against that run until its moment has come and its own limits still hold.

    Attributes:
        limits: Of each window; None means no limit.
        windows: Of requests, images and tokens a minute, and of dollars in ten minutes.
        run: The run that made the last reservation.
        last: The slot of the last reservation.
        sure: Later slots are tentative; None if none is.
    """

    def __init__(self, limits: Iterable[int | None]) -> None:
        self.limits = tuple(limits)
        *minute, ten_minutes = self.limits
        self.windows = [Window(limit, SLOTS_A_MINUTE) for limit in minute]
        self.windows.append(Window(ten_minutes, SLOTS_A_MINUTE, SLOTS_A_TEN_MINUTE_SLOT))
        self.run = ""
        self.last = 0
        self.sure: int | None = None

    def is_wider(self, other: "Use") -> bool:
        """Return whether a limit of this one is wider than the other's."""
        pairs = zip(self.limits, other.limits, strict=True)
        return any(_number(mine) > _number(theirs) for mine, theirs in pairs)

    def counted(self, place: int, limit: int, now: int) -> list[tuple[int, int]]:
        """Return the slots and weights in the window at `place` that count for a run's `limit`."""
        window, until = self.windows[place], now if self.sure is None else self.sure
        is_sure = _number(window.limit) >= limit
        return [
            (slot, weight)
            for slot, weight in window.entries
            if is_sure or slot * window.stride <= until
        ]

    def shift(self, slots: int, latest: int) -> None:
        """Move all by `slots`, but no reservation later than `latest`."""
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


class _Timeline:
    """The weight in one window over time."""

    def __init__(self, entries: Iterable[tuple[int, int]]) -> None:
        """Add up entries, (slot of the window, weight), in any order."""
        ordered = sorted(entries)
        self.slots = [slot for slot, _ in ordered]
        self._sums = [0, *accumulate(weight for _, weight in ordered)]

    def between(self, after: int, until: int) -> int:
        """Return the weight in slots later than `after`, up to `until`."""
        first, last = bisect_right(self.slots, after), bisect_right(self.slots, until)
        return self._sums[last] - self._sums[first]


@dataclass(frozen=True, slots=True)
class _Room:
    """The room that all runs leave in a window, and in reach of it.

    Attributes:
        counted: The use that counts for this run.
        widest: The use of the widest run, which also needs room after a slot.
    """

    window: Window
    reach: int
    counted: _Timeline
    widest: _Timeline

    def at(self, slot: int) -> int:
        """Return what the limit leaves in the model's slot `slot`."""
        own, reach = slot // self.window.stride, self.reach
        used = self.counted.between(own - reach - 1, own) + self.widest.between(own, own + reach)
        return (self.window.limit or 0) - used

    def opens(self) -> Iterator[int]:
        """Yield the model's slots in which an entry has passed out of reach."""
        for slot in (*self.counted.slots, *self.widest.slots):
            yield (slot + self.reach + 1) * self.window.stride


class Uses:
    """The use by all runs; `own` is that of the runs with these limits."""

    def __init__(self, bounds: LimitSet) -> None:
        spans = (*bounds.minute, *bounds.ten_minutes)
        self.own = Use(bound.limit for bound in spans)
        self._others: list[Use] = []
        self._windows = [*zip(spans, self.own.windows, strict=True)]

    def forget(self, now: int, guard: int) -> None:
        """Drop what is out of reach of now, and runs of which nothing is left."""
        for use in (self.own, *self._others):
            for window in use.windows:
                window.forget(now, guard)
        if self._others:
            self._others = [
                other for other in self._others if any(window.total for window in other.windows)
            ]

    def earliest(self, weights: Weights, now: int, guard: int) -> tuple[int, list[int], str]:
        """Return the earliest slot, the calls that fit it by each limit, and what they wait for."""
        if self._others:
            return self._earliest_among_others(weights, now, guard)
        # A slot that has room is followed by slots with room: the latest of all windows fits all.
        slot, why = self.own.last, "the calls before this one"
        for bound, window in self._windows:
            earliest = window.earliest(bound.weight(weights), self.own.last, guard)
            if earliest > slot:
                slot, why = earliest, bound.label
        fit = [
            (bound.limit - window.used(slot, guard)) // bound.weight(weights)
            for bound, window in self._windows
            if bound.limit is not None and bound.weight(weights)
        ]
        return slot, fit, why

    def reserve(self, weights: Weights, permits: int, slot: int, now: int) -> None:
        """Count a reservation; it is tentative if it is ahead of time and another run is wider."""
        own = self.own
        for bound, window in self._windows:
            window.add(permits * bound.weight(weights), slot)
        own.last = slot
        if not any(other.is_wider(own) for other in self._others):
            own.sure = None
        elif own.sure is None or slot <= now:
            own.sure = now

    def confirm(self, weights: Weights, permits: int, slot: int, guard: int) -> tuple[bool, bool]:
        """Use a reservation whose slot has come, or cancel it if others left no room for it.

        Returns whether it holds, and whether that changed anything.
        """
        own = self.own
        if not self._others or all(
            self._room(place, slot, guard).at(slot) >= 0 for place, *_ in self._limited(weights)
        ):
            if own.sure is None or own.sure >= slot:
                return True, False
            own.sure = slot
            return True, True
        self.correct(weights, slot, -permits)
        return False, True

    def correct(self, change: Weights, slot: int, times: int = 1) -> None:
        """Add a change, some number of times, to a reservation; windows it has left ignore it."""
        for bound, window in self._windows:
            window.correct(times * bound.weight(change), slot)

    def fill(self, weight: int, slot: int) -> None:
        """Count the same weight in each window."""
        self.own.last = slot
        for window in self.own.windows:
            window.add(weight, slot)

    def counted(self, now: int, guard: int) -> list[tuple[Limit, int, int]]:
        """Return each limit, the use that counts against it, and the slot that frees all of it."""
        found = []
        for place, (bound, window) in enumerate(self._windows):
            others = [other.windows[place] for other in self._others]
            used = window.used(max(now, self.own.last), guard)
            used += sum(other.used(now, guard) for other in others)
            found.append((bound, used, max(each.frees(guard) for each in (window, *others))))
        return found

    def shift(self, slots: int, latest: int) -> None:
        """Move all by `slots`, but no reservation later than `latest`."""
        for use in (self.own, *self._others):
            use.shift(slots, latest)

    def dump(self) -> list[dict[str, Any]]:
        """Return the state as JSON values."""
        return [use.dump() for use in (self.own, *self._others)]

    def load(self, states: Iterable[dict[str, Any]]) -> None:
        """Restore what `dump` returned, of runs with the same or other limits."""
        for state in states:
            use = self.own
            if tuple(state["limits"]) != use.limits:
                use = Use(state["limits"])
                self._others.append(use)
            use.load(state)

    def _earliest_among_others(
        self, weights: Weights, now: int, guard: int
    ) -> tuple[int, list[int], str]:
        """Return the same where room opens, and closes, with the use of others."""
        slot, fit, why = self.own.last, list[int](), "the calls before this one"
        limited = [*self._limited(weights)]
        rooms = [self._room(place, now, guard) for place, *_ in limited]
        opens = {slot, *(each for room in rooms for each in room.opens())}
        for slot in sorted(each for each in opens if each >= self.own.last):
            fit = [
                room.at(slot) // weight for room, (*_, weight) in zip(rooms, limited, strict=True)
            ]
            if all(number >= 1 for number in fit):
                break
            place, bound, weight = limited[fit.index(min(fit))]
            why = bound.label + self._used_by(place, slot, weight, guard)
        return slot, fit, why

    def _limited(self, weights: Weights) -> Iterator[tuple[int, Limit, int]]:
        """Yield the place of each window that limits a call, its limit, and the call's weight."""
        for place, (bound, _) in enumerate(self._windows):
            if bound.limit is not None and (weight := bound.weight(weights)):
                yield place, bound, weight

    def _room(self, place: int, now: int, guard: int) -> _Room:
        window, everyone = self.own.windows[place], (self.own, *self._others)
        counted, widest = list[tuple[int, int]](), list[tuple[int, int]]()
        for use in everyone:
            entries = use.counted(place, window.limit or 0, now)
            counted += entries
            if use is not self.own and not any(each.is_wider(use) for each in everyone):
                widest += entries
        return _Room(window, window.reach(guard), _Timeline(counted), _Timeline(widest))

    def _used_by(self, place: int, slot: int, weight: int, guard: int) -> str:
        """Return who leaves no room in a slot, if it is another run."""
        window = self.own.windows[place]
        if window.used(slot, guard) + weight > (window.limit or 0):
            return ""
        most = max(self._others, key=lambda other: other.windows[place].used(slot, guard))
        return f", used by {most.run or 'another run'}"


def _number(limit: int | None) -> float:
    return math.inf if limit is None else limit
