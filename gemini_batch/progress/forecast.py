"""Estimate of when a run ends, from its quota, its recent pace and the rest of the day. Pure."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gemini_batch.quota.limits import (
    GUARD_S,
    SLOTS_A_MINUTE,
    SLOTS_A_TEN_MINUTE_SLOT,
    LimitSet,
    Weights,
    duration,
    limits_of,
)
from gemini_batch.records import Limits

if TYPE_CHECKING:
    from gemini_batch.quota.results import Used

_DAY_S = 86_400.0
# The quota limits the pace if at least this share of it was used: other runs may use it as well.
_QUOTA_BOUND_SHARE = 0.9
_BUCKETS = 240


class Pace:
    """Counts events of the last `horizon_s` seconds in 240 buckets."""

    def __init__(self, horizon_s: float) -> None:
        self._bucket_s = horizon_s / _BUCKETS
        self._counts: Counter[int] = Counter()

    def add(self, now_s: float, number: int = 1) -> None:
        """Count events that happen now."""
        bucket = int(now_s / self._bucket_s)
        if bucket not in self._counts:
            self._forget(bucket)
        self._counts[bucket] += number

    def recent(self, now_s: float) -> tuple[int, float]:
        """Return the number of events within the horizon, and the age of the first in seconds."""
        self._forget(int(now_s / self._bucket_s))
        if not self._counts:
            return 0, 0.0
        return self._counts.total(), max(0.0, now_s - min(self._counts) * self._bucket_s)

    def _forget(self, bucket: int) -> None:
        for old in [each for each in self._counts if each <= bucket - _BUCKETS]:
            del self._counts[old]


@dataclass(frozen=True, slots=True)
class ModelProgress:
    """Progress of the calls of one model.

    Attributes:
        left: Calls that have not ended; `unsent` of them have not been sent.
        weights: Of an average call.
        sent: Requests sent within the horizon, and the age of the first in seconds.
        ended: Calls that ended within the horizon; 0 while too few to say anything.
        latency_s: The average time to an answer.
        used: Usage of each limit by all runs that share the quota; empty if unknown.
        lane: The name of its lane, which decides about its limits.
    """

    left: int
    unsent: int
    weights: Weights
    sent: tuple[int, float]
    ended: int
    latency_s: float = 0.0
    used: "tuple[Used, ...]" = ()
    lane: str = ""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The expected end of a run.

    Attributes:
        ends_in_s: Seconds until all calls are done; None if the run ends before, with the day's
            quota.
        is_least: True if the pace of answers is unknown, so that `ends_in_s` is a lower bound.
        closes_in_s: Seconds until the day's quota is used up; None if it suffices.
        left_over: Calls that exceed the day's quota.
        days_more: Further days that they need.
        resets_in_s: Seconds until the next day of the quota.
    """

    ends_in_s: float | None
    is_least: bool = False
    closes_in_s: float | None = None
    left_over: int = 0
    days_more: int = 0
    resets_in_s: float = 0.0


def horizon_s(limits: Limits) -> float:
    """Return the horizon of a pace: three turns of the longest window, at least 60 seconds."""
    bounds = LimitSet.of(limits)
    turn_s = (SLOTS_A_MINUTE + bounds.guard_slots(GUARD_S) + 1) * bounds.slot_s
    if limits.usd_per_10min is not None:
        turn_s *= SLOTS_A_TEN_MINUTE_SLOT
    return max(60.0, 3 * turn_s)


def forecast(
    models: Iterable[ModelProgress], limits: Limits, *, waits_for_reset: bool = False
) -> Forecast:
    """Return when the calls of all models will be done; each model has its own quota.

    `waits_for_reset` is true if the run sleeps until the next day of a quota.
    """
    models = [model for model in models if model.left]
    each = [_of_model(model, limits_of(limits, model.lane)) for model in models]
    ends_in_s = max((of_one.ends_in_s or 0.0 for of_one in each), default=0.0)
    is_least = not all(model.ended for model in models)
    short = [of_one for of_one in each if of_one.closes_in_s is not None]
    if not short:
        return Forecast(ends_in_s, is_least)
    return Forecast(
        ends_in_s if waits_for_reset else None,
        is_least,
        closes_in_s=max(of_one.closes_in_s or 0.0 for of_one in short),
        left_over=sum(of_one.left_over for of_one in short),
        days_more=max(of_one.days_more for of_one in short),
        resets_in_s=max(of_one.resets_in_s for of_one in short),
    )


def _of_model(model: ModelProgress, limits: Limits) -> Forecast:
    today, per_day, resets_in_s = _day(model)
    closes_in_s = _sending_s(today, model, limits) if today else 0.0
    # The quota also suffices if the day ends before it is used up.
    if per_day is None or model.unsent <= today or closes_in_s >= resets_in_s:
        return Forecast(_sending_s(model.unsent, model, limits) + model.latency_s)
    left_over = model.unsent - today
    days_more = math.ceil(left_over / per_day)
    last_s = duration(left_over - (days_more - 1) * per_day, model.weights, limits).sending_s
    return Forecast(
        ends_in_s=resets_in_s + (days_more - 1) * _DAY_S + last_s,
        closes_in_s=closes_in_s,
        left_over=left_over,
        days_more=days_more,
        resets_in_s=resets_in_s,
    )


def _sending_s(calls: int, model: ModelProgress, limits: Limits) -> float:
    """Return the seconds that it takes to send `calls` more calls.

    Requests sent recently still fill the windows, so the time counts both and subtracts what has
    passed; it is never shorter than for the calls alone. If the quota would have allowed more
    requests than were sent, the pace of the answers decides.
    """
    if not calls:
        return 0.0
    number, since_s = model.sent
    # For these calls; for the recent ones and these; for the recent ones and one more.
    alone_s, all_s, one_more_s = (
        duration(each, model.weights, limits).sending_s
        for each in (calls, number + calls, number + 1)
    )
    by_quota_s = max(alone_s, all_s - since_s)
    if not model.ended or one_more_s >= _QUOTA_BOUND_SHARE * since_s:
        return by_quota_s
    return max(by_quota_s, calls * since_s / model.ended)


def _day(model: ModelProgress) -> tuple[int, int | None, float]:
    """Return the calls that today's quota allows, those of a whole day, and seconds to its reset.

    The second is None if there is no limit.
    """
    today, per_day, resets_in_s = model.unsent, None, 0.0
    for used in model.used:
        limit, weight = used.bound.limit, used.bound.weight(model.weights)
        if used.bound.span != "a day" or limit is None or not weight:
            continue
        today = min(today, (used.left or 0) // weight)
        per_day = min(per_day or limit, limit // weight)
        resets_in_s = used.frees_in_s
    return today, per_day, resets_in_s
