"""All limits of one model, decided together. Pure: time comes in as arguments, state goes out as plain numbers.

The answers: `Granted` leave to send at a moment · `Paused` nothing before a moment · `DayClosed` nothing on this date.
"""

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from gemini_batch.quota.limits import (
    GUARD_S,
    SLOTS_A_MINUTE,
    SLOTS_A_TEN_MINUTE_SLOT,
    Limit,
    LimitSet,
    Weights,
)
from gemini_batch.quota.windows import Days, Window
from gemini_batch.records import Limits

ZONE = "America/Los_Angeles"
"""Where a day of the quota begins: requests a day are counted from midnight Pacific time,
https://ai.google.dev/gemini-api/docs/rate-limits (collected 2026-11-22)."""

UNKNOWN = 10**15
"""More than any limit: what counts as used when nobody knows."""

_MAX_LEVEL = 3
_LEVEL_SLOTS = 10 * SLOTS_A_MINUTE


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to send one request. It holds in its slot and half the guard after it; later it is spent, unused or not.

    Attributes:
        at_s: Not before this moment of the steady clock.
        expires_at_s: Nor after this one.
        slot: Where its weight is counted, for settling.
        days: The dates that it counts on, as ordinals: two near midnight.
        weights: What is counted.
    """

    at_s: float
    expires_at_s: float
    slot: int
    days: tuple[int, ...]
    weights: Weights


@dataclass(frozen=True, slots=True)
class Granted:
    """Leave for `permits` equal requests; `why` is the limit that makes them wait, `""` when they need not."""

    grant: Grant
    permits: int
    why: str


@dataclass(frozen=True, slots=True)
class Paused:
    """Nothing is sent before `until_s` of the steady clock; `why` is a phrase for a person."""

    until_s: float
    why: str


@dataclass(frozen=True, slots=True)
class DayClosed:
    """This date has no room; the next one opens at `until`, UTC, in `wait_s` seconds. `why` is a phrase for a person."""

    until: datetime
    why: str
    wait_s: float = field(default=0.0, compare=False)


ReserveResult: TypeAlias = Granted | Paused | DayClosed


@dataclass(frozen=True, slots=True)
class Used:
    """What counts against a limit at a moment.

    Attributes:
        bound: The limit.
        used: How much of it; dollars in millionths. More than it when nobody knows.
        frees_in_s: In how many seconds nothing of this counts any more, or the day begins anew.
    """

    bound: Limit
    used: int
    frees_in_s: float = 0.0


class ModelQuota:
    """What was used of one model, and when more may be.

    Reservations never go back in time: first come, first served, and a heavy call at the head makes all wait.

    The guard doubles after a 429 of the minute that this ledger did not foresee, at most once a minute and three times in all
    (1, 2, 4, 8 s), and halves after every ten minutes without another.
    """

    def __init__(self, limits: Limits, *, guard_s: float = GUARD_S, zone: str = ZONE) -> None:
        """Make a quota of which nothing is used.

        Args:
            limits: What is to be held.
            guard_s: How far delays between leave and arrival spread, in seconds.
            zone: Whose midnight begins a day, an IANA name.
        """
        self.bounds = LimitSet.of(limits)
        self._slot_s = self.bounds.slot_s
        self._half_guard_s = guard_s / 2
        self._least_guard = self.bounds.guard_slots(guard_s)
        self._windows = [
            (bound, Window(bound.limit, SLOTS_A_MINUTE)) for bound in self.bounds.minute
        ] + [
            (bound, Window(bound.limit, SLOTS_A_MINUTE, SLOTS_A_TEN_MINUTE_SLOT))
            for bound in self.bounds.ten_minutes
        ]
        self._days = Days(tuple(bound.limit for bound in self.bounds.day), ZoneInfo(zone), guard_s)
        self._last = (
            0  # the latest slot that was decided for: none is ever asked for that lies before it
        )
        self._paused, self._paused_why = 0, ""  # the first slot after the pause
        self._level, self._level_at = (
            0,
            0,
        )  # how often the guard is doubled, and the slot of the last change

    # --- the decision -------------------------------------------------------------------------------------------------

    def reserve(
        self,
        weights: Weights,
        permits: int,
        now_s: float,
        utc: datetime,
    ) -> ReserveResult:
        """Reserve the earliest slot for up to `permits` equal requests.

        Args:
            weights: Of each of them.
            permits: How many are wanted, from 1; one at least is granted, and no more than fit the slot of the first.
            now_s: The steady clock.
            utc: The wall clock, of the same moment.

        Raises:
            ValueError: One request is larger than a limit.
        """
        self.bounds.check(weights)
        # What is not granted does not narrow the guard: a ledger in a file does not write it down.
        level = (self._level, self._level_at)
        verdict = self._decide(weights, permits, now_s, utc)
        if not isinstance(verdict, Granted):
            self._level, self._level_at = level
        return verdict

    def _decide(
        self,
        weights: Weights,
        permits: int,
        now_s: float,
        utc: datetime,
    ) -> ReserveResult:
        self._last = max(self._last, self._slot(now_s))
        self._narrow(self._last)
        slot, why = self._earliest(weights)
        at_s, end_s = (
            max(now_s, slot * self._slot_s),
            (slot + 1) * self._slot_s + self._half_guard_s,
        )
        days = self._days.dates(utc + timedelta(seconds=at_s - now_s), end_s - at_s)
        if (closed := self._closed(weights, days, utc)) is not None:
            return closed
        if self.is_paused(now_s):
            return Paused(self._paused * self._slot_s, self._paused_why)
        permits = max(
            1, min([permits, *self._fits(weights, slot), *self._fits_days(weights, days)])
        )
        for bound, window in self._windows:
            window.add(permits * bound.weight(weights), slot, self._guard)
        self._days.add(tuple(permits * bound.weight(weights) for bound in self.bounds.day), days)
        self._last = slot
        return Granted(
            Grant(at_s, end_s, slot, days, weights), permits, why if at_s > now_s else ""
        )

    def holds(self, grant: Grant, now_s: float) -> bool:
        """Return whether a grant, once slept for, may still be used: not late, not paused, its day not closed."""
        return (
            now_s <= grant.expires_at_s
            and not self.is_paused(now_s)
            and not any(map(self._days.is_closed, grant.days))
        )

    def is_paused(self, now_s: float) -> bool:
        """Return whether nothing may be sent now."""
        return now_s < self._paused * self._slot_s

    # --- what is learned later ----------------------------------------------------------------------------------------

    def settle(
        self, grant: Grant, *, tokens: int | None = None, usd_micros: int | None = None
    ) -> None:
        """Put what one call really used in place of its estimate, in the slot and on the days of its grant.

        Args:
            grant: The call's; one that has passed out of its windows is left alone there.
            tokens: Input tokens as the server counted them; None leaves the estimate.
            usd_micros: Its cost at list price, in millionths of a dollar; None leaves the estimate.
        """
        was = grant.weights
        change = Weights(
            requests=0,
            images=0,
            tokens=0 if tokens is None else tokens - was.tokens,
            usd_micros=0 if usd_micros is None else usd_micros - was.usd_micros,
        )
        for bound, window in self._windows:
            window.settle(bound.weight(change), grant.slot)
        self._days.add(tuple(bound.weight(change) for bound in self.bounds.day), grant.days)

    def give_back(self, grant: Grant) -> None:
        """Return a grant whose bytes never left to its day; its slot stays spent, for it is nearly over anyway."""
        self._days.add(tuple(-bound.weight(grant.weights) for bound in self.bounds.day), grant.days)

    def pause(self, until_s: float, why: str, now_s: float, *, overrun: bool = False) -> None:
        """Send nothing before `until_s`; a longer pause stands.

        Args:
            until_s: On the steady clock.
            why: A phrase for a person: "the server asked for a pause".
            now_s: The steady clock.
            overrun: The server counted more in a minute than this ledger did: the guard widens.
        """
        until = math.ceil(until_s / self._slot_s)
        if until > self._paused:
            self._paused, self._paused_why = until, why
        now = self._slot(now_s)
        self._narrow(now)
        # The answers of one episode come together; they are one lesson, not ten.
        if overrun and (self._level == 0 or now >= self._level_at + SLOTS_A_MINUTE):
            self._level, self._level_at = min(self._level + 1, _MAX_LEVEL), now

    def close_day(self, utc: datetime, grant: Grant | None = None) -> None:
        """Close the date of `grant`, whose answer said so, or else of `utc`.

        An answer that comes after midnight is about the day before: with its grant, the new day stays open.
        """
        self._days.close((grant.days if grant else self._days.dates(utc, 0.0))[0])

    def assume_full(self, now_s: float, utc: datetime) -> None:
        """Count every window, and the date, as used up at a moment: what was used is not known any more.

        Whatever the limits are, and also those of a later run: none is so large.
        """
        self._last = self._slot(now_s)
        for _, window in self._windows:
            window.add(UNKNOWN, self._last, self._guard)
        self._days.add((UNKNOWN,) * len(self.bounds.day), self._days.dates(utc, 0.0))

    # --- for people ---------------------------------------------------------------------------------------------------

    def used(self, now_s: float, utc: datetime) -> tuple[Used, ...]:
        """Return what counts against each limit now, those that are no limit included."""
        today = self._days.dates(utc, 0.0)[-1]
        slot, guard = max(self._slot(now_s), self._last), self._guard
        next_day_s = (self._days.opens_at(today + 1) - utc).total_seconds()
        return (
            *(
                Used(
                    bound,
                    window.used(slot, guard),
                    max(0.0, window.frees(guard) * self._slot_s - now_s),
                )
                for bound, window in self._windows
            ),
            *(
                Used(bound, self._days.used(i, today), next_day_s)
                for i, bound in enumerate(self.bounds.day)
            ),
        )

    def pause_left(self, now_s: float) -> tuple[float, str]:
        """Return for how many seconds nothing is sent, and why; 0 when there is no pause."""
        return max(0.0, self._paused * self._slot_s - now_s), self._paused_why

    def is_day_closed(self, utc: datetime) -> bool:
        """Return whether the server said that today's quota is used up."""
        return self._days.is_closed(self._days.dates(utc, 0.0)[-1])

    def day_left(self, weights: Weights, utc: datetime) -> int | None:
        """Return how many calls of these weights today still takes, None if any number."""
        if self.is_day_closed(utc):
            return 0
        return min(self._fits_days(weights, self._days.dates(utc, 0.0)), default=None)

    # --- state --------------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """Return the whole state as JSON values: numbers, lists and one phrase."""
        return {
            "slot_us": round(self._slot_s * 1e6),
            "last": self._last,
            "paused": [self._paused, self._paused_why],
            "level": [self._level, self._level_at],
            "windows": [window.dump() for _, window in self._windows],
            "days": self._days.dump(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `dump` gave, of a quota with the same or other limits; minutes of another length start anew."""
        self._days.load(state["days"])
        if state["slot_us"] != round(self._slot_s * 1e6):
            return
        self._last = state["last"]
        self._paused, self._paused_why = state["paused"]
        self._level, self._level_at = state["level"]
        for (_, window), numbers in zip(self._windows, state["windows"], strict=True):
            window.load(numbers)

    def restart(self, now_s: float) -> None:
        """Move the windows to a steady clock that began anew, after a reboot: the last reservation was made just now."""
        slots = self._slot(now_s) - self._last
        for _, window in self._windows:
            window.shift(slots)
        self._last += slots
        self._paused += slots
        self._level_at += slots

    # --- parts of the decision ----------------------------------------------------------------------------------------

    @property
    def _guard(self) -> int:
        return self._least_guard << self._level

    def _slot(self, now_s: float) -> int:
        return math.floor(now_s / self._slot_s)

    def _narrow(self, now: int) -> None:
        while self._level and now >= self._level_at + _LEVEL_SLOTS:
            self._level -= 1
            self._level_at += _LEVEL_SLOTS

    def _earliest(self, weights: Weights) -> tuple[int, str]:
        # What has room at a slot has room at every later one, so the latest of the windows' answers suits them all.
        slot, why = self._last, "the calls before this one"
        for bound, window in self._windows:
            earliest = window.earliest(bound.weight(weights), self._last, self._guard)
            if earliest > slot:
                slot, why = earliest, bound.words
        return slot, why

    def _closed(self, weights: Weights, days: tuple[int, ...], utc: datetime) -> DayClosed | None:
        """Return until when a date has no room, if one has none."""
        wanted = tuple(bound.weight(weights) for bound in self.bounds.day)
        if (found := self._days.full(wanted, days)) is None:
            return None
        day, place = found
        why = "the server closed the day" if place is None else self.bounds.day[place].words
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
            for i, bound in enumerate(self.bounds.day)
            for day in days
            if (left := self._days.left(i, day)) is not None and bound.weight(weights)
        ]
