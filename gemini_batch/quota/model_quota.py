"""All limits of one model, decided together. Pure: time is an argument, state is plain numbers."""

import math
from datetime import datetime, timedelta
from typing import Any

from gemini_batch.quota.days import Days
from gemini_batch.quota.limits import GUARD_S, SLOTS_A_MINUTE, LimitSet, Weights
from gemini_batch.quota.results import (
    UNKNOWN,
    DayClosed,
    Grant,
    Granted,
    Paused,
    ReserveResult,
    Used,
)
from gemini_batch.quota.uses import Uses
from gemini_batch.records import Limits

CLOSED = "the server closed the day"
_MAX_LEVEL = 3
_LEVEL_SLOTS = 10 * SLOTS_A_MINUTE


class ModelQuota:
    """The use of one model by all runs, and when a run with these limits may use more.

    Reservations of runs with equal limits never go back in time: first come, first served, and a
    heavy call at the head makes all wait.

    A run whose limits are narrower than another's in some window waits while that one sends, and
    never delays it: a reservation ahead of its time counts against runs with a wider limit only
    when its moment has come, and `confirm` has found that all use is within the run's own limits.
    Then it also leaves room for what the widest run has reserved.

    The guard doubles after a 429 of the minute that this ledger did not foresee, at most once a
    minute and three times in all (1, 2, 4, 8 s), and halves after every ten minutes without one.
    """

    def __init__(self, limits: Limits, *, guard_s: float = GUARD_S) -> None:
        """Make an unused quota; delays between sending and arrival may differ by the guard."""
        self._bounds = LimitSet.of(limits)
        self._slot_s = self._bounds.slot_s
        self._half_guard_s = guard_s / 2
        self._least_guard = self._bounds.guard_slots(guard_s)
        self._uses = Uses(self._bounds)
        self._days = Days([bound.limit for bound in self._bounds.day], guard_s)
        self._paused, self._paused_why = 0, ""  # the first slot after the pause
        self._level, self._level_at = 0, 0  # how often the guard was doubled, and the last change

    def reserve(
        self, weights: Weights, permits: int, now_s: float, utc: datetime, run: str = ""
    ) -> ReserveResult:
        """Reserve the earliest slot for up to `permits` equal requests, at least one.

        `run` names the run for the user of another one that waits for it.

        Raises:
            ValueError: One request is larger than a limit.
        """
        self._bounds.check(weights)
        # A refusal does not narrow the guard: it is not written to a file.
        level = (self._level, self._level_at)
        result = self._decide(weights, permits, now_s, utc)
        if isinstance(result, Granted):
            self._uses.own.run = run
        else:
            self._level, self._level_at = level
        return result

    def _decide(self, weights: Weights, permits: int, now_s: float, utc: datetime) -> ReserveResult:
        own, now = self._uses.own, self._slot(now_s)
        own.last = max(own.last, now)
        self._narrow(own.last)
        self._uses.forget(now, self._guard)
        slot, fit, why = self._uses.earliest(weights, now, self._guard)
        at_s, end_s = max(now_s, slot * self._slot_s), self._expires_s(slot)
        days = self._days.dates(utc + timedelta(seconds=at_s - now_s), end_s - at_s)
        day_weights = self._of_day(weights)
        if (until := self._days.closed_until(utc)) is not None:
            return DayClosed(until, CLOSED, (until - utc).total_seconds())
        if (full := self._days.full(day_weights, days)) is not None:
            day, place = full
            why = CLOSED if place is None else self._bounds.day[place].label
            until = self._days.opens_at(day + 1)
            return DayClosed(until, why, (until - utc).total_seconds())
        if self._is_paused(now_s):
            return Paused(self._paused * self._slot_s, self._paused_why)
        permits = max(1, min([permits, *fit, *self._days.fit(day_weights, days)]))
        self._uses.reserve(weights, permits, slot, now)
        self._days.add([permits * weight for weight in day_weights], days)
        return Granted(
            Grant(at_s, end_s, slot, days, weights), permits, why if at_s > now_s else ""
        )

    def confirm(self, grant: Grant, permits: int, now_s: float, utc: datetime) -> tuple[bool, bool]:
        """Use a reservation whose moment has come, or cancel it if other runs left no room for it.

        Returns whether it holds, and whether that changed anything. It does not hold if it is late
        or paused, or its day is closed.
        """
        if (
            now_s > self._expires_s(grant.slot)
            or self._is_paused(now_s)
            or any(map(self._days.is_closed, grant.days))
            or self._days.closed_until(utc) is not None
        ):
            return False, False
        self._uses.forget(self._slot(now_s), self._guard)
        holds, is_changed = self._uses.confirm(grant.weights, permits, grant.slot, self._guard)
        if not holds:
            self.refund(grant, permits)
        return holds, is_changed

    def correct(self, grant: Grant, change: Weights) -> None:
        """Add a change to the use of one call, in its slot and on its days.

        A slot that has passed out of its window is left alone.
        """
        self._uses.correct(change, grant.slot)
        self._days.add(self._of_day(change), grant.days)

    def refund(self, grant: Grant, permits: int = 1) -> None:
        """Return permits whose requests never left to their day; their slot stays spent."""
        self._days.add([-permits * weight for weight in self._of_day(grant.weights)], grant.days)

    def pause(self, until_s: float, why: str, now_s: float, *, overrun: bool = False) -> None:
        """Send nothing before `until_s`; a longer pause remains.

        `why` is a phrase for the user. After an `overrun`, when the server counted more in a minute
        than this ledger, the guard widens.
        """
        until = math.ceil(until_s / self._slot_s)
        if until > self._paused:
            self._paused, self._paused_why = until, why
        now = self._slot(now_s)
        self._narrow(now)
        # The refusals of one episode arrive together; they widen the guard once.
        if overrun and (self._level == 0 or now >= self._level_at + SLOTS_A_MINUTE):
            self._level, self._level_at = min(self._level + 1, _MAX_LEVEL), now

    def pause_for_minute(self, now_s: float, why: str) -> None:
        """Send nothing until every minute is empty, also of uses that are not known."""
        slots = SLOTS_A_MINUTE + self._guard + 1
        self.pause(now_s + slots * self._slot_s, why, now_s)

    def close_day(
        self, utc: datetime, grant: Grant | None = None, ends_in_s: float | None = None
    ) -> None:
        """Close the date of `grant`, whose answer said so, or else of `utc`.

        An answer that comes after midnight is about the day before: with its grant, the new day
        stays open. With `ends_in_s` the server's day ends at another hour than midnight: it is
        closed until then.
        """
        if ends_in_s is None:
            self._days.close((grant.days if grant else self._days.dates(utc, 0.0))[0])
        else:
            self._days.close_until(utc + timedelta(seconds=ends_in_s))

    def assume_full(self, now_s: float, utc: datetime) -> None:
        """Count every window and the date as used up at a moment, because the real use is unknown.

        It holds for any limits, also those of a later run.
        """
        self._uses.fill(UNKNOWN, self._slot(now_s))
        self._days.add([UNKNOWN] * len(self._bounds.day), self._days.dates(utc, 0.0))

    def used(self, now_s: float, utc: datetime) -> tuple[Used, ...]:
        """Return the use that counts against each limit now, also where there is no limit."""
        today = self._days.dates(utc, 0.0)[-1]
        next_day_s = (self._days.opens_at(today + 1) - utc).total_seconds()
        spans = [
            Used(bound, used, self._seconds_to(frees, now_s))
            for bound, used, frees in self._uses.counted(self._slot(now_s), self._guard)
        ]
        days = [
            Used(bound, used, next_day_s)
            for bound, used in zip(self._bounds.day, self._days.used(today), strict=True)
        ]
        return (*spans, *days)

    def pause_left(self, now_s: float) -> tuple[float, str]:
        """Return for how many seconds nothing is sent, and why; 0 when there is no pause."""
        return self._seconds_to(self._paused, now_s), self._paused_why

    def is_day_closed(self, utc: datetime) -> bool:
        """Return whether the server said that today's quota is used up."""
        is_closed = self._days.is_closed(self._days.dates(utc, 0.0)[-1])
        return is_closed or self._days.closed_until(utc) is not None

    def dump(self) -> dict[str, Any]:
        """Return the whole state as JSON values."""
        return {
            "slot_us": round(self._slot_s * 1e6),
            "paused": [self._paused, self._paused_why],
            "level": [self._level, self._level_at],
            "days": self._days.dump(),
            "uses": self._uses.dump(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `dump` returned, of a quota with the same or other limits.

        Minutes of another length are dropped.
        """
        self._days.load(state["days"])
        if state["slot_us"] != round(self._slot_s * 1e6):
            return
        self._paused, self._paused_why = state["paused"]
        self._level, self._level_at = state["level"]
        # In the first version all runs were alike.
        self._uses.load(state.get("uses") or [{**state, "limits": self._uses.own.limits}])

    def restart(self, now_s: float, seen_s: float) -> None:
        """Move the windows to a steady clock that began again.

        `seen_s`, the latest moment of the old one, is now: the time between is unknown. A
        reservation for later counts as used now: the run that made it has ended with the clock.
        """
        now = self._slot(now_s)
        slots = now - self._slot(seen_s)
        self._uses.shift(slots, now)
        self._paused += slots
        self._level_at += slots

    @property
    def _guard(self) -> int:
        return self._least_guard << self._level

    def _slot(self, now_s: float) -> int:
        return math.floor(now_s / self._slot_s)

    def _expires_s(self, slot: int) -> float:
        return (slot + 1) * self._slot_s + self._half_guard_s

    def _is_paused(self, now_s: float) -> bool:
        return now_s < self._paused * self._slot_s

    def _seconds_to(self, slot: int, now_s: float) -> float:
        return max(0.0, slot * self._slot_s - now_s)

    def _of_day(self, weights: Weights) -> list[int]:
        return [bound.weight(weights) for bound in self._bounds.day]

    def _narrow(self, now: int) -> None:
        while self._level and now >= self._level_at + _LEVEL_SLOTS:
            self._level -= 1
            self._level_at += _LEVEL_SLOTS
