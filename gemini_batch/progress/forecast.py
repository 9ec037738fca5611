"""When a run will be through: what its windows still let by, how fast it is really answered, and how much today still takes. Pure."""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from gemini_batch.quota.limits import (
    GUARD_S,
    SLOTS_A_MINUTE,
    SLOTS_A_TEN_MINUTE_SLOT,
    LimitSet,
    Weights,
    duration,
)
from gemini_batch.quota.model_quota import Used
from gemini_batch.records import Limits

_DAY_S = 86_400.0
# Others use the same quota, and a grant is not used to the last moment.
_MOSTLY = 0.9
# Of a pace.
_BUCKETS = 240


class Pace:
    """Counts what happened in the last `horizon_s` seconds, to a 240th of it, in as many numbers; `now_s` never goes back."""

    def __init__(self, horizon_s: float) -> None:
        self._bucket_s = horizon_s / _BUCKETS
        self._counts: deque[list[int]] = deque()  # [bucket, how many]

    def add(self, now_s: float, number: int = 1) -> None:
        """Count what happens now."""
        bucket = int(now_s / self._bucket_s)
        if self._counts and self._counts[-1][0] >= bucket:
            self._counts[-1][1] += number
        else:
            self._counts.append([bucket, number])
            self._forget(bucket)

    def recent(self, now_s: float) -> tuple[int, float]:
        """Return how often it happened within the horizon, and how many seconds ago it did first; (0, 0.0) when it did not."""
        self._forget(int(now_s / self._bucket_s))
        if not self._counts:
            return 0, 0.0
        return sum(number for _, number in self._counts), max(
            0.0, now_s - self._counts[0][0] * self._bucket_s
        )

    def _forget(self, bucket: int) -> None:
        while self._counts and self._counts[0][0] <= bucket - _BUCKETS:
            self._counts.popleft()


@dataclass(frozen=True, slots=True)
class Course:
    """How one model's calls are getting on.

    Attributes:
        left: Calls that have not ended.
        unsent: Those of them whose request has not left.
        weights: Of an average call.
        sent: How many requests left of late (`horizon_s`), and how many seconds ago the first of them.
        ended: How many calls ended in that time; 0 while it would tell little.
        latency_s: How long an answer takes.
        used: What counts against each limit, by all runs that share the quota; empty when nobody asked.
    """

    left: int
    unsent: int
    weights: Weights
    sent: tuple[int, float]
    ended: int
    latency_s: float = 0.0
    used: tuple[Used, ...] = ()


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected.

    Attributes:
        ends_in_s: Seconds until all is done; None when today's quota does not suffice and the run ends with it.
        is_least: Nothing is known yet of how fast answers come: it is what the quota takes at the least.
        closes_in_s: Seconds until today's quota is used up; None when it suffices.
        left_over: Calls that today's quota does not take.
        days_more: On how many more days they are sent.
        resets_in_s: Seconds until the next day of the quota.
    """

    ends_in_s: float | None
    is_least: bool = False
    closes_in_s: float | None = None
    left_over: int = 0
    days_more: int = 0
    resets_in_s: float = 0.0


def horizon_s(limits: Limits) -> float:
    """Return what "of late" is, in seconds: three turns of the longest window, and never less than a minute."""
    bounds = LimitSet.of(limits)
    turn_s = (SLOTS_A_MINUTE + bounds.guard_slots(GUARD_S) + 1) * bounds.slot_s
    if limits.usd_per_10min is not None:
        turn_s *= SLOTS_A_TEN_MINUTE_SLOT
    return max(60.0, 3 * turn_s)


def forecast(
    courses: Iterable[Course], limits: Limits, *, waits_for_reset: bool = False
) -> Forecast:
    """Return when the calls of all models, whose quotas are apart, will be done.

    Args:
        courses: One a model.
        limits: Of each model.
        waits_for_reset: Whether the run sleeps until a quota's next day.
    """
    courses = [course for course in courses if course.left]
    each = [_of_one(course, limits) for course in courses]
    is_least = any(not course.ended for course in courses)
    closing = [of_one for of_one in each if of_one.closes_in_s is not None]
    if not closing:
        return Forecast(max((of_one.ends_in_s or 0.0 for of_one in each), default=0.0), is_least)
    return Forecast(
        ends_in_s=max(of_one.ends_in_s or 0.0 for of_one in each) if waits_for_reset else None,
        is_least=is_least,
        closes_in_s=max(of_one.closes_in_s or 0.0 for of_one in closing),
        left_over=sum(of_one.left_over for of_one in closing),
        days_more=max(of_one.days_more for of_one in closing),
        resets_in_s=max(of_one.resets_in_s for of_one in closing),
    )


def _of_one(course: Course, limits: Limits) -> Forecast:
    today, a_day, resets_in_s = _day(course)
    closes_in_s = _stretch_s(today, course, limits) if today else 0.0
    # Also plain when the day ends before its quota does.
    if a_day is None or course.unsent <= today or closes_in_s >= resets_in_s:
        return Forecast(_stretch_s(course.unsent, course, limits) + course.latency_s)
    left_over = course.unsent - today
    days_more = math.ceil(left_over / a_day)
    last_s = duration(left_over - (days_more - 1) * a_day, course.weights, limits).sending_s
    return Forecast(
        ends_in_s=resets_in_s + (days_more - 1) * _DAY_S + last_s,
        closes_in_s=closes_in_s,
        left_over=left_over,
        days_more=days_more,
        resets_in_s=resets_in_s,
    )


def _stretch_s(calls: int, course: Course, limits: Limits) -> float:
    """Return how many seconds it takes to send so many more calls.

    What was sent of late still fills the windows: so the time for it and them together, less what has passed of it; but never
    less than they take by themselves. When the quota would have let more by of late, the pace is that of the answers.
    """
    if not calls:
        return 0.0
    number, since_s = course.sent

    def takes_s(calls: int) -> float:
        return duration(calls, course.weights, limits).sending_s

    by_quota_s = max(takes_s(calls), takes_s(number + calls) - since_s)
    is_quota_the_reason = takes_s(number + 1) >= _MOSTLY * since_s
    return (
        by_quota_s
        if is_quota_the_reason or not course.ended
        else max(by_quota_s, calls * since_s / course.ended)
    )


def _day(course: Course) -> tuple[int, int | None, float]:
    """Return how many calls today still takes, how many a day takes (None: any number), and the seconds until the next one."""
    today, a_day, resets_in_s = course.unsent, None, 0.0
    for used in course.used:
        limit, weight = used.bound.limit, used.bound.weight(course.weights)
        if used.bound.span != "a day" or limit is None or not weight:
            continue
        today = min(today, max(0, limit - used.used) // weight)
        a_day = min(a_day or limit, limit // weight)
        resets_in_s = used.frees_in_s
    return today, a_day, resets_in_s
