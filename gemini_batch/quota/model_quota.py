"""All limits of one model, decided together. Pure: time is an argument, state is plain numbers.

The results: `Granted` permits from a moment on · `Paused` nothing before a moment · `DayClosed`
nothing on this date.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from gemini_batch.quota.days import Days
from gemini_batch.quota.limits import GUARD_S, SLOTS_A_MINUTE, Limit, LimitSet, Weights
from gemini_batch.quota.uses import Timeline, Use
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
    """The use of one model by all runs, and when a run with these limits may use more.

    Reservations of runs with equal limits never go back in time: first come, first served, and a
    heavy call at the head makes all wait.

    A run whose limits are narrower than another's in some window waits while that one sends, and
    never delays it: a reservation ahead of its time counts against runs with a wider limit only
    when its moment has come, and `holds` has found that all use is within the run's own limits.
    Then it also leaves room for what the widest run has reserved.

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
        self._own, self._others = Use.of(self.bounds), list[Use]()
        spans = (*self.bounds.minute, *self.bounds.ten_minutes)
        self._windows = [*zip(spans, self._own.windows, strict=True)]
        self._days = Days(tuple(bound.limit for bound in self.bounds.day), ZoneInfo(zone), guard_s)
        self._paused, self._paused_why = 0, ""  # the first slot after the pause
        self._level, self._level_at = 0, 0  # how often the guard was doubled, and the last change

    # --- the decision -----------------------------------------------------------------------------

    def reserve(
        self, weights: Weights, permits: int, now_s: float, utc: datetime, run: str = ""
    ) -> ReserveResult:
        """Reserve the earliest slot for up to `permits` equal requests.

        Args:
            weights: Of each of them.
            permits: How many are wanted, from 1; at least one is granted, and no more than fit the
                slot of the first.
            now_s: The steady clock.
            utc: The wall clock at the same moment.
            run: Names the run, for the user of another one that waits for it.

        Raises:
            ValueError: One request is larger than a limit.
        """
        self.bounds.check(weights)
        # A refusal does not narrow the guard: it is not written to a file.
        level = (self._level, self._level_at)
        result = self._decide(weights, permits, now_s, utc)
        if isinstance(result, Granted):
            self._own.run = run
        else:
            self._level, self._level_at = level
        return result

    def _decide(self, weights: Weights, permits: int, now_s: float, utc: datetime) -> ReserveResult:
        own, now = self._own, self._slot(now_s)
        own.last = max(own.last, now)
        self._narrow(own.last)
        self._forget(now)
        slot, fit, why = self._earliest(weights, now)
        at_s, end_s = max(now_s, slot * self._slot_s), self._expires_s(slot)
        days = self._days.dates(utc + timedelta(seconds=at_s - now_s), end_s - at_s)
        if (closed := self._closed(weights, days, utc)) is not None:
            return closed
        if self.is_paused(now_s):
            return Paused(self._paused * self._slot_s, self._paused_why)
        permits = max(1, min([permits, *fit, *self._fits_days(weights, days)]))
        for bound, window in self._windows:
            window.add(permits * bound.weight(weights), slot)
        self._days.add(self._of_day(weights, permits), days)
        own.last = slot
        if not self._yields():
            own.sure = None
        elif own.sure is None or slot <= now:
            own.sure = now
        grant = Grant(at_s, end_s, slot, days, weights)
        return Granted(grant, permits, why if at_s > now_s else "")

    def holds(self, grant: Grant, now_s: float) -> bool:
        """Return whether a grant may be used now: not late, not paused, its day not closed."""
        return (
            now_s <= self._expires_s(grant.slot)
            and not self.is_paused(now_s)
            and not any(map(self._days.is_closed, grant.days))
        )

    def confirm(self, grant: Grant, permits: int, now_s: float) -> tuple[bool, bool]:
        """Use a reservation whose moment has come, or cancel it if other runs left no room for it.

        Returns whether it `holds`, and whether that changed anything.
        """
        if not self.holds(grant, now_s):
            return False, False
        self._forget(self._slot(now_s))
        own, weights = self._own, grant.weights
        if not self._others or all(
            self._room(place, grant.slot, self._timelines(place, grant.slot)) >= 0
            for place, (bound, window) in enumerate(self._windows)
            if window.limit is not None and bound.weight(weights)
        ):
            is_new = own.sure is not None and own.sure < grant.slot
            own.sure = grant.slot if is_new else own.sure
            return True, is_new
        for bound, window in self._windows:
            window.correct(-permits * bound.weight(weights), grant.slot)
        self.refund(grant, permits)
        return False, True

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
        self._own.last = self._slot(now_s)
        for _, window in self._windows:
            window.add(UNKNOWN, self._own.last)
        self._days.add((UNKNOWN,) * len(self.bounds.day), self._days.dates(utc, 0.0))

    # --- display ----------------------------------------------------------------------------------

    def used(self, now_s: float, utc: datetime) -> tuple[Used, ...]:
        """Return the use that counts against each limit now, also where there is no limit."""
        today = self._days.dates(utc, 0.0)[-1]
        now, guard = self._slot(now_s), self._guard
        next_day_s = (self._days.opens_at(today + 1) - utc).total_seconds()
        spans = []
        for place, (bound, window) in enumerate(self._windows):
            others = [other.windows[place] for other in self._others]
            used = window.used(max(now, self._own.last), guard)
            used += sum(other.used(now, guard) for other in others)
            frees = max(each.frees(guard) for each in (window, *others))
            spans.append(Used(bound, used, self._seconds_to(frees, now_s)))
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
            "paused": [self._paused, self._paused_why],
            "level": [self._level, self._level_at],
            "days": self._days.dump(),
            "uses": [use.dump() for use in (self._own, *self._others)],
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
        for use in state.get("uses") or [{**state, "limits": self._own.limits}]:
            is_own = tuple(use["limits"]) == self._own.limits
            (self._own if is_own else self._other(use["limits"])).load(use)

    def restart(self, now_s: float, seen_s: float) -> None:
        """Move the windows to a steady clock that began again.

        A reservation for later counts as used now: the run that made it has ended with the clock.

        Args:
            now_s: The new clock.
            seen_s: The latest moment of the old one, which is now: the time between is unknown.
        """
        now = self._slot(now_s)
        slots = now - self._slot(seen_s)
        for use in (self._own, *self._others):
            use.shift(slots, now)
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

    def _other(self, limits: Sequence[int | None]) -> Use:
        self._others.append(Use(limits))
        return self._others[-1]

    def _forget(self, now: int) -> None:
        for use in (self._own, *self._others):
            use.forget(now, self._guard)
        if self._others:
            self._others = [other for other in self._others if not other.is_empty()]

    def _yields(self) -> bool:
        """Return whether another run is wider, so that reservations ahead are tentative."""
        return any(other.is_wider(self._own) for other in self._others)

    def _earliest(self, weights: Weights, now: int) -> tuple[int, list[int], str]:
        """Return the earliest slot, the calls that fit it by each limit, and what they wait for."""
        if self._others:
            return self._earliest_among_others(weights, now)
        # A slot that has room is followed by slots with room: the latest of all windows fits all.
        slot, why = self._own.last, "the calls before this one"
        for bound, window in self._windows:
            earliest = window.earliest(bound.weight(weights), self._own.last, self._guard)
            if earliest > slot:
                slot, why = earliest, bound.label
        fit = [
            (bound.limit - window.used(slot, self._guard)) // bound.weight(weights)
            for bound, window in self._windows
            if bound.limit is not None and bound.weight(weights)
        ]
        return slot, fit, why

    # --- next to runs with other limits -----------------------------------------------------------

    def _earliest_among_others(self, weights: Weights, now: int) -> tuple[int, list[int], str]:
        """Return the same where room opens, and closes, with the use of others."""
        own, why = self._own, "the calls before this one"
        limited = {
            place: (bound, bound.weight(weights), self._timelines(place, now))
            for place, (bound, _) in enumerate(self._windows)
            if bound.limit is not None and bound.weight(weights)
        }
        # Room opens when an entry passes out of reach.
        opens = {own.last}
        for place, (_, _, timelines) in limited.items():
            window = own.windows[place]
            after = window.reach(self._guard) + 1
            opens.update(
                (slot + after) * window.stride for line in timelines for slot in line.slots
            )
        slot, fit = own.last, list[int]()
        for slot in sorted(each for each in opens if each >= own.last):
            fit = [
                self._room(place, slot, timelines) // weight
                for place, (_, weight, timelines) in limited.items()
            ]
            if all(number >= 1 for number in fit):
                break
            at = fit.index(min(fit))
            place = [*limited][at]
            why = limited[place][0].label + self._used_by(place, slot, limited[place][1])
        return slot, fit, why

    def _timelines(self, place: int, now: int) -> tuple[Timeline, Timeline]:
        """Return the use that counts in a window for this run, and that of the widest run."""
        limit, counted, widest = self._own.limits[place] or 0, list[tuple[int, int]](), list[Any]()
        everyone = (self._own, *self._others)
        for use in everyone:
            until = math.inf if use is self._own else use.counted_until(place, limit, now)
            is_widest = use is not self._own and not any(each.is_wider(use) for each in everyone)
            stride = use.windows[place].stride
            for slot, weight in use.windows[place].entries():
                if slot * stride <= until:
                    counted.append((slot, weight))
                    if is_widest:
                        widest.append((slot, weight))
        return Timeline(counted), Timeline(widest)

    def _room(self, place: int, slot: int, timelines: tuple[Timeline, Timeline]) -> int:
        """Return what a limit leaves in a slot: before it, and for the widest run after it."""
        window, (counted, widest) = self._own.windows[place], timelines
        own, reach = slot // window.stride, window.reach(self._guard)
        used = counted.between(own - reach - 1, own) + widest.between(own, own + reach)
        return (window.limit or 0) - used

    def _used_by(self, place: int, slot: int, weight: int) -> str:
        """Return who leaves no room in a slot, if it is another run."""
        window, guard = self._own.windows[place], self._guard
        if window.used(slot, guard) + weight > (window.limit or 0):
            return ""
        most = max(self._others, key=lambda other: other.windows[place].used(slot, guard))
        return f", used by {most.run or 'another run'}"

    def _closed(self, weights: Weights, days: tuple[int, ...], utc: datetime) -> DayClosed | None:
        """Return until when a date has no room, if one has none."""
        if (found := self._days.full(self._of_day(weights), days)) is None:
            return None
        day, place = found
        why = "the server closed the day" if place is None else self.bounds.day[place].label
        until = self._days.opens_at(day + 1)
        return DayClosed(until, why, (until - utc).total_seconds())

    def _fits_days(self, weights: Weights, days: tuple[int, ...]) -> list[int]:
        return [
            left // bound.weight(weights)
            for place, bound in enumerate(self.bounds.day)
            for day in days
            if (left := self._days.left(place, day)) is not None and bound.weight(weights)
        ]
