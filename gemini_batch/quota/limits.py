"""The limits of a model, what one call takes of them, and how long many calls take. Pure."""

import math
from dataclasses import dataclass, fields, replace
from typing import Self

from gemini_batch.records import Estimate, Limits, Load
from gemini_batch.records.service_tier import model_and_tier
from gemini_batch.wording import usd

SLOTS_A_MINUTE = 240
SLOTS_A_TEN_MINUTE_SLOT = 10
"""The ten-minute window has slots ten times as long, and so has as many of them."""

GUARD_S = 1.0
"""The difference allowed between the delays of two requests on their way, in seconds.

It does not shrink with a simulator's short minute: the network is no faster."""

# The share of the standard limits that the service tier priority has, on top of them
# (https://ai.google.dev/gemini-api/docs/rate-limits, 2026-08-18).
PRIORITY_SHARE = 0.3

# A minute's quota is spent over a sixth of it: no burst, and the rest of the minute to catch up.
_PACE = 1 / 6
_MICROS = 1_000_000


@dataclass(frozen=True, slots=True)
class Weights:
    """The use of each limit by one call; dollars in millionths, so that sums are exact."""

    requests: int = 1
    images: int = 1
    tokens: int = 0
    usd_micros: int = 0

    @classmethod
    def of(cls, estimate: Estimate) -> Self:
        """Return the expected weights of one call; an unknown price counts as no dollars."""
        return cls(tokens=estimate.input_tokens, usd_micros=micros(estimate.reserved_usd))

    @classmethod
    def average(cls, load: Load) -> Self:
        """Return the weights of an average call; an unknown price counts as no dollars."""
        calls = load.calls or 1
        return cls(
            tokens=-(-load.input_tokens // calls), usd_micros=micros((load.cost_usd or 0.0) / calls)
        )


@dataclass(frozen=True, slots=True)
class Limit:
    """The most of an attribute of `Weights` in any span; None means no limit.

    Dollars are in millionths. `unit` is in the singular, `request`, and `span` has an article,
    `a minute`.
    """

    of: str
    limit: int | None
    unit: str
    span: str

    @property
    def label(self) -> str:
        """The limit as text: `60 requests a minute`."""
        most = f"any {self.unit}s" if self.limit is None else self.amount(self.limit)
        return f"{most} {self.span}"

    def amount(self, number: int) -> str:
        """Return an amount as text: `1,500 tokens`, `$0.134`."""
        if self.of == "usd_micros":
            return usd(self.value(number))
        return f"{number:,} {self.unit}{'' if number == 1 else 's'}"

    def value(self, number: int) -> float:
        """Return an amount as a number, dollars instead of their millionths."""
        return number / _MICROS if self.of == "usd_micros" else number

    def weight(self, weights: Weights) -> int:
        """Return what one call takes of this limit."""
        return int(getattr(weights, self.of))

    def calls(self, weights: Weights) -> int | None:
        """Return how many such calls fit one span, None if any number."""
        weight = self.weight(weights)
        return self.limit // weight if self.limit is not None and weight else None


@dataclass(frozen=True, slots=True)
class LimitSet:
    """All limits of a model, by span, with those that only count and have no limit."""

    minute: tuple[Limit, ...]
    ten_minutes: tuple[Limit, ...]
    day: tuple[Limit, ...]
    minute_s: float

    @classmethod
    def of(cls, limits: Limits) -> Self:
        """Return the set of `limits`."""
        return cls(
            minute=(
                Limit("requests", limits.requests_per_min, "request", "a minute"),
                Limit("images", limits.images_per_min, "image", "a minute"),
                Limit("tokens", limits.tokens_per_min, "token", "a minute"),
            ),
            ten_minutes=(_dollars(limits.usd_per_10min, "in ten minutes"),),
            day=(
                Limit("requests", limits.requests_per_day, "request", "a day"),
                _dollars(limits.usd_per_day, "a day"),
            ),
            minute_s=limits.minute_s,
        )

    @property
    def all(self) -> tuple[Limit, ...]:
        """The limits of all spans, from the shortest."""
        return (*self.minute, *self.ten_minutes, *self.day)

    @property
    def calls_a_minute(self) -> int | None:
        """The most calls in a minute, by requests or by images; None if any number."""
        counts = (bound.limit for bound in self.minute if bound.of != "tokens")
        return min((count for count in counts if count is not None), default=None)

    @property
    def gap_s(self) -> float:
        """Seconds between two requests at the pace of a sixth of a minute; 0 for no pace."""
        calls = self.calls_a_minute
        return self.minute_s * _PACE / calls if calls else 0.0

    @property
    def slot_s(self) -> float:
        """Length of a slot, in seconds."""
        return self.minute_s / SLOTS_A_MINUTE

    def guard_slots(self, guard_s: float) -> int:
        """Return a guard as whole slots, 1 at least."""
        return max(1, math.ceil(guard_s / self.slot_s))

    def clamped(self, of: str, weight: int) -> int:
        """Return a weight of this attribute of `Weights`, at most the least of its limits."""
        limits = [each.limit for each in self.all if each.of == of and each.limit is not None]
        return min([weight, *limits])

    def check(self, weights: Weights) -> None:
        """Make sure that one call fits every limit.

        Raises:
            ValueError: It never will; the text says which limit, and how large the call is.
        """
        for bound in self.all:
            if bound.limit is not None and bound.weight(weights) > bound.limit:
                found = bound.amount(bound.weight(weights))
                raise ValueError(
                    f"one call takes {found}, and the limit is {bound.label}: it can never be sent"
                )


@dataclass(frozen=True, slots=True)
class Duration:
    """The least time that a quota takes for a number of calls.

    `sending_s` is from the first request to the last, all `days` together: dates, 0 when there is
    nothing to send. `bound_by` is the limit that takes longest, `""` without one.
    """

    sending_s: float
    days: int
    bound_by: str


def duration(calls: int, weights: Weights, limits: Limits) -> Duration:
    """Estimate how long it takes to send calls of average weights as fast as the quota allows.

    Raises:
        ValueError: One call is larger than a limit.
    """
    bounds = LimitSet.of(limits)
    bounds.check(weights)
    if calls == 0:
        return Duration(0.0, 0, "")
    sending_s, bound_by = _sending(calls, weights, bounds)
    days = 1
    for bound in bounds.day:
        if (a_day := bound.calls(weights)) and (needed := math.ceil(calls / a_day)) > days:
            days, bound_by = needed, bound.label
    return Duration(sending_s, days, bound_by)


def _sending(calls: int, weights: Weights, bounds: LimitSet) -> tuple[float, str]:
    """Return the seconds from the first of `calls` to the last, and the limit in the way.

    A full window opens when its first slot has passed out of reach, span + guard + 1 slots later,
    and then repeats: whole cycles, and the rest by the windows of shorter spans.
    """
    guard, slot_s, gap_s = bounds.guard_slots(GUARD_S), bounds.slot_s, bounds.gap_s
    minute_cycle_s = (SLOTS_A_MINUTE + guard + 1) * slot_s
    ten_minute_guard = math.ceil(guard / SLOTS_A_TEN_MINUTE_SLOT)
    ten_minute_cycle_s = (SLOTS_A_MINUTE + ten_minute_guard + 1) * slot_s * SLOTS_A_TEN_MINUTE_SLOT

    def in_minutes(calls: int) -> tuple[float, str]:
        longest = ((calls - 1) * gap_s, "")
        for bound in bounds.minute:
            if a_minute := bound.calls(weights):
                cycles, rest = divmod(calls - 1, a_minute)
                taken_s = cycles * minute_cycle_s + rest * gap_s
                longest = max(longest, (taken_s, bound.label if cycles else ""))
        return longest

    longest = in_minutes(calls)
    for bound in bounds.ten_minutes:
        if in_ten := bound.calls(weights):
            cycles, rest = divmod(calls - 1, in_ten)
            if cycles:
                taken_s = cycles * ten_minute_cycle_s + in_minutes(rest + 1)[0]
                longest = max(longest, (taken_s, bound.label))
    return longest


def limits_of(limits: Limits, quota: str) -> Limits:
    """Return the limits of a quota by its name; each count of priority is 1 at least."""
    if model_and_tier(quota)[1] != "priority":
        return limits
    given = {each.name: getattr(limits, each.name) for each in fields(limits)}
    shares = {
        name: limit * PRIORITY_SHARE
        if name.startswith("usd_")
        else max(1, math.floor(limit * PRIORITY_SHARE + 1e-9))
        for name, limit in given.items()
        if limit is not None and name != "minute_s"
    }
    return replace(limits, **shares)


def micros(usd: float) -> int:
    """Return dollars in millionths."""
    return round(usd * _MICROS)


def _dollars(usd: float | None, span: str) -> Limit:
    return Limit("usd_micros", None if usd is None else micros(usd), "dollar", span)
