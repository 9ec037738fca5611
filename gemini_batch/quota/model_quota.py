"""All limits of one model, decided together. Pure: time is an argument, state is plain numbers.

The results: `Granted` permits from a moment on · `Paused` nothing before a moment · `DayClosed`
nothing on this date.
"""

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from gemini_batch.quota.days import Days
from gemini_batch.quota.limits import (
    GUARD_S,
    SLOTS_A_MINUTE,
    SLOTS_A_TEN_MINUTE_SLOT,
    Limit,
    LimitSet,
    Weights,
)
from gemini_batch.quota.windows import Window
from gemini_batch.records import Limits

ZONE = "America/Los_Angeles"
"""The zone of a day of the quota: requests a day are counted from midnight Pacific time,
https://ai.google.dev/gemini-api/docs/rate-limits (collected 2026-11-22)."""

UNKNOWN = 10**15
"""More than any limit: the use that is counted when the real one is unknown."""

_MAX_LEVEL = 3
_LEVEL_SLOTS = 10 * SLOTS_A_MINUTE


@dataclass(frozen=True, slots=True)
class Grant:
    """A permit for one request. It holds in its slot and half the guard after it.

    Attributes:
        at_s: Not before this moment of the steady clock.
        expires_at_s: Nor after this one.
        slot: The slot that its weight is counted in.
        days: The dates that it counts on, as ordinals: two near midnight.
        weights: Its weight.
    """

    at_s: float
    expires_at_s: float
    slot: int
    days: tuple[int, ...]
    weights: Weights


@dataclass(frozen=True, slots=True)
class Granted:
    """Permits for `permits` equal requests; `why` is the limit that they wait for, `""` if none."""

    grant: Grant
    permits: int
    why: str


@dataclass(frozen=True, slots=True)
class Paused:
    """Nothing is sent before `until_s` of the steady clock; `why` is a phrase for the user."""

    until_s: float
    why: str


@dataclass(frozen=True, slots=True)
class DayClosed:
    """This date has no room; the next one opens at `until`, UTC, in `wait_s` seconds.

    `why` is a phrase for the user.
    """

    until: datetime
    why: str
    wait_s: float = field(default=0.0, compare=False)


ReserveResult: TypeAlias = Granted | Paused | DayClosed


@dataclass(frozen=True, slots=True)
class Used:
    """The use that counts against a limit at a moment.

    Attributes:
        bound: The limit.
        used: Dollars in millionths; `UNKNOWN` or more when the use is unknown.
        frees_in_s: In how many seconds nothing of it counts any more, or the day begins again.
    """

    bound: Limit
    used: int
    frees_in_s: float = 0.0


class ModelQuota:
    """The use of one model, and when more is possible.

    Reservations never go back in time: first come, first served, and a heavy call at the head makes
    all wait.

    The guard doubles after a 429 of the minute that this ledger did not foresee, at most once a
    minute and three times in all (1, 2, 4, 8 s), and halves after every ten minutes without one.
    """

    def __init__(self, limits: Limits, *, guard_s: float = GUARD_S, zone: str = ZONE) -> None:
        """Make an unused quota.

        Args:
            limits: The limits that hold.
            guard_s: How much delays between sending and arrival may differ, in seconds.
            zone: The zone whose midnight begins a day, an IANA name.
        """
        self.bounds = LimitSet.of(limits)
        self._slot_s = self.bounds.slot_s
        self._half_guard_s = guard_s / 2
        self._least_guard = self.bounds.guard_slots(guard_s)
        ten = SLOTS_A_TEN_MINUTE_SLOT
        self._windows = [(each, Window(each.limit, SLOTS_A_MINUTE)) for each in self.bounds.minute]
        self._windows += [
            (each, Window(each.limit, SLOTS_A_MINUTE, ten)) for each in self.bounds.ten_minutes
        ]
        self._days = Days(tuple(bound.limit for bound in self.bounds.day), ZoneInfo(zone), guard_s)
        self._last = 0  # the latest slot of a decision: no later one is for an earlier slot
        self._paused, self._paused_why = 0, ""  # the first slot after the pause
        self._level, self._level_at = 0, 0  # how often the guard was doubled, and the last change

    # --- the decision -----------------------------------------------------------------------------

    def reserve(self, weights: Weights, permits: int, now_s: float, utc: datetime) -> ReserveResult:
        """Reserve the earliest slot for up to `permits` equal requests.

        Args:
            weights: Of each of them.
            permits: How many are wanted, from 1; at least one is granted, and no more than fit the
                slot of the first.
            now_s: The steady clock.
            utc: The wall clock at the same moment.

        Raises:
            ValueError: One request is larger than a limit.
        """
        self.bounds.check(weights)
        # A refusal does not narrow the guard: it is not written to a file.
        level = (self._level, self._level_at)
        result = self._decide(weights, permits, now_s, utc)
        if not isinstance(result, Granted):
            self._level, self._level_at = level
        return result

    def _decide(self, weights: Weights, permits: int, now_s: float, utc: datetime) -> ReserveResult:
        self._last = max(self._last, self._slot(now_s))
        self._narrow(self._last)
        slot, why = self._earliest(weights)
        at_s, end_s = max(now_s, slot * self._slot_s), self._expires_s(slot)
        days = self._days.dates(utc + timedelta(seconds=at_s - now_s), end_s - at_s)
        if (closed := self._closed(weights, days, utc)) is not None:
            return closed
        if self.is_paused(now_s):
            return Paused(self._paused * self._slot_s, self._paused_why)
        fits = (*self._fits(weights, slot), *self._fits_days(weights, days))
        permits = max(1, min(permits, *fits)) if fits else permits
        for bound, window in self._windows:
            window.add(permits * bound.weight(weights), slot, self._guard)
        self._days.add(self._of_day(weights, permits), days)
        self._last = slot
        grant = Grant(at_s, end_s, slot, days, weights)
        return Granted(grant, permits, why if at_s > now_s else "")

    def holds(self, grant: Grant, now_s: float) -> bool:
        """Return whether a grant may be used now: not late, not paused, its day not closed."""
        return (
            now_s <= self._expires_s(grant.slot)
            and not self.is_paused(now_s)
            and not any(map(self._days.is_closed, grant.days))
        )

    def is_paused(self, now_s: float) -> bool:
        """Return whether nothing may be sent now."""
        return now_s < self._paused * self._slot_s

    # --- corrections ------------------------------------------------------------------------------

    def reconcile(
        self, grant: Grant, *, tokens: int | None = None, usd_micros: int | None = None
    ) -> None:
        """Replace the estimate of one call by its real use, in its slot and on its days.

        Args:
            grant: The call's; a slot that has passed out of its window is left alone.
            tokens: Input tokens as the server counted them; None leaves the estimate.
            usd_micros: Its cost at list price, in millionths; None leaves the estimate.
        """
        was = grant.weights
        change = Weights(
            requests=0,
            images=0,
            tokens=0 if tokens is None else tokens - was.tokens,
            usd_micros=0 if usd_micros is None else usd_micros - was.usd_micros,
        )
        for bound, window in self._windows:
            window.correct(bound.weight(change), grant.slot)
        self._days.add(self._of_day(change), grant.days)

    def refund(self, grant: Grant, permits: int = 1) -> None:
        """Return permits whose requests never left to their day; their slot stays spent."""
        self._days.add(self._of_day(grant.weights, -permits), grant.days)

    def pause(self, until_s: float, why: str, now_s: float, *, overrun: bool = False) -> None:
        """Send nothing before `until_s`; a longer pause stands.

        Args:
            until_s: On the steady clock.
            why: A phrase for the user: "the server asked for a pause".
            now_s: The steady clock.
            overrun: The server counted more in a minute than this ledger: the guard widens.
        """
        until = math.ceil(until_s / self._slot_s)
        if until > self._paused:
            self._paused, self._paused_why = until, why
        now = self._slot(now_s)
        self._narrow(now)
        # The refusals of one episode arrive together; they widen the guard once.
        if overrun and (self._level == 0 or now >= self._level_at + SLOTS_A_MINUTE):
            self._level, self._level_at = min(self._level + 1, _MAX_LEVEL), now

    def close_day(self, utc: datetime, grant: Grant | None = None) -> None:
        """Close the date of `grant`, whose answer said so, or else of `utc`.

        An answer that comes after midnight is about the day before: with its grant, the new day
        stays open.
        """
        self._days.close((grant.days if grant else self._days.dates(utc, 0.0))[0])

    def assume_full(self, now_s: float, utc: datetime) -> None:
        """Count every window, and the date, as used up at a moment, for the real use is unknown.

        It holds for any limits, also those of a later run.
        """
        self._last = self._slot(now_s)
        for _, window in self._windows:
            window.add(UNKNOWN, self._last, self._guard)
        self._days.add((UNKNOWN,) * len(self.bounds.day), self._days.dates(utc, 0.0))

    # --- display ----------------------------------------------------------------------------------

    def used(self, now_s: float, utc: datetime) -> tuple[Used, ...]:
        """Return the use that counts against each limit now, also where there is no limit."""
        today = self._days.dates(utc, 0.0)[-1]
        slot, guard = max(self._slot(now_s), self._last), self._guard
        next_day_s = (self._days.opens_at(today + 1) - utc).total_seconds()
        spans = [
            Used(bound, window.used(slot, guard), self._seconds_to(window.frees(guard), now_s))
            for bound, window in self._windows
        ]
        days = [
            Used(bound, self._days.used(place, today), next_day_s)
            for place, bound in enumerate(self.bounds.day)
        ]
        return (*spans, *days)

    def pause_left(self, now_s: float) -> tuple[float, str]:
        """Return for how many seconds nothing is sent, and why; 0 when there is no pause."""
        return self._seconds_to(self._paused, now_s), self._paused_why

    def is_day_closed(self, utc: datetime) -> bool:
        """Return whether the server said that today's quota is used up."""
        return self._days.is_closed(self._days.dates(utc, 0.0)[-1])

    def day_left(self, weights: Weights, utc: datetime) -> int | None:
        """Return how many calls of these weights still fit today, None if any number."""
        if self.is_day_closed(utc):
            return 0
        return min(self._fits_days(weights, self._days.dates(utc, 0.0)), default=None)

    # --- state ------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """Return the whole state as JSON values."""
        return {
            "slot_us": round(self._slot_s * 1e6),
            "last": self._last,
            "paused": [self._paused, self._paused_why],
            "level": [self._level, self._level_at],
            "windows": [window.dump() for _, window in self._windows],
            "days": self._days.dump(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `dump` returned, of a quota with the same or other limits.

        Minutes of another length are dropped.
        """
        self._days.load(state["days"])
        if state["slot_us"] != round(self._slot_s * 1e6):
            return
        self._last = state["last"]
        self._paused, self._paused_why = state["paused"]
        self._level, self._level_at = state["level"]
        for (_, window), numbers in zip(self._windows, state["windows"], strict=True):
            window.load(numbers)

    def restart(self, now_s: float) -> None:
        """Move the windows to a steady clock that began again: the last use was just now."""
        slots = self._slot(now_s) - self._last
        for _, window in self._windows:
            window.shift(slots)
        self._last += slots
        self._paused += slots
        self._level_at += slots

    # --- parts of the decision --------------------------------------------------------------------

    @property
    def _guard(self) -> int:
        return self._least_guard << self._level

    def _slot(self, now_s: float) -> int:
        return math.floor(now_s / self._slot_s)

    def _expires_s(self, slot: int) -> float:
        return (slot + 1) * self._slot_s + self._half_guard_s

    def _seconds_to(self, slot: int, now_s: float) -> float:
        return max(0.0, slot * self._slot_s - now_s)

    def _of_day(self, weights: Weights, permits: int = 1) -> tuple[int, ...]:
        return tuple(permits * bound.weight(weights) for bound in self.bounds.day)

    def _narrow(self, now: int) -> None:
        while self._level and now >= self._level_at + _LEVEL_SLOTS:
            self._level -= 1
            self._level_at += _LEVEL_SLOTS

    def _earliest(self, weights: Weights) -> tuple[int, str]:
        # A slot that has room is followed by slots with room: the latest of all windows fits all.
        slot, why = self._last, "the calls before this one"
        for bound, window in self._windows:
            earliest = window.earliest(bound.weight(weights), self._last, self._guard)
            if earliest > slot:
                slot, why = earliest, bound.label
        return slot, why

    def _closed(self, weights: Weights, days: tuple[int, ...], utc: datetime) -> DayClosed | None:
        """Return until when a date has no room, if one has none."""
        if (found := self._days.full(self._of_day(weights), days)) is None:
            return None
        day, place = found
        why = "the server closed the day" if place is None else self.bounds.day[place].label
        until = self._days.opens_at(day + 1)
        return DayClosed(until, why, (until - utc).total_seconds())

    def _fits(self, weights: Weights, slot: int) -> list[int]:
        return [
            (bound.limit - window.used(slot, self._guard)) // bound.weight(weights)
            for bound, window in self._windows
            if bound.limit is not None and bound.weight(weights)
        ]

    def _fits_days(self, weights: Weights, days: tuple[int, ...]) -> list[int]:
        return [
            left // bound.weight(weights)
            for place, bound in enumerate(self.bounds.day)
            for day in days
            if (left := self._days.left(place, day)) is not None and bound.weight(weights)
        ]
