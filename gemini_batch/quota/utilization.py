"""The share of each limit that a run used. Pure."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

from gemini_batch.quota.limits import Limit, LimitSet, limits_of
from gemini_batch.records import Limits
from gemini_batch.records.service_tier import quota_name

if TYPE_CHECKING:
    from gemini_batch.quota.results import Used

UsageLookup: TypeAlias = "Callable[[str], tuple[Used, ...] | None]"
"""The use of a model that counts against each limit now, of all runs; None if unknown."""


@dataclass(frozen=True, slots=True)
class WindowUse:
    """One limit of one model: the use of a run, and the use of all runs at its end.

    Attributes:
        model: Its model; each one has a quota of its own, and one more for its service tier
            priority, with ` (priority)` after the name.
        of: `requests`, `images`, `tokens` (of the input) or `usd` (at list price).
        span: `a minute`, `in ten minutes` or `a day` (a Pacific date).
        limit: The most in one span.
        used_by_run: The use of this run, from its first request to its last; tokens and dollars are
            those of answers.
        allowed: The most that the limit allows in that time: `limit` at its beginning, and again
            after each whole span; for a day, on each date that the run sent on.
        utilisation: `used_by_run` of `allowed`, from 0 to 1.
        used: The use by all runs that counted against the limit at the end of this one; null if
            unknown.
        left: What that leaves; null if unknown.
    """

    model: str
    of: str
    span: str
    limit: float
    used_by_run: float
    allowed: float
    utilisation: float
    used: float | None
    left: float | None


@dataclass(slots=True)
class _Sent:
    """The requests of a run to one model, and what their answers used."""

    first_s: float
    first_at: datetime
    last_s: float
    last_at: datetime
    requests: int = 0
    tokens: int = 0
    usd_micros: int = 0

    @property
    def images(self) -> int:
        return self.requests

    @property
    def dates(self) -> int:
        from gemini_batch.quota.days import PACIFIC  # zones take time to import

        first, last = (at.astimezone(PACIFIC).date() for at in (self.first_at, self.last_at))
        return 1 + max(0, (last - first).days)  # the wall clock may go back over midnight


class Utilization:
    """The use of each limit by a run in progress."""

    def __init__(self, limits: Limits) -> None:
        """Begin with no use; `limits` are those of each model."""
        self._limits = limits
        self._sent: dict[str, _Sent] = {}

    def sent(self, model: str, now_s: float, utc: datetime) -> None:
        """Count a request that is sent now, by the steady clock and by the wall clock."""
        found = self._sent.setdefault(quota_name(model), _Sent(now_s, utc, now_s, utc))
        found.requests += 1
        found.last_s, found.last_at = now_s, utc

    def answered(self, model: str, *, tokens: int, usd_micros: int) -> None:
        """Count the use of an answer."""
        if (
            found := self._sent.get(quota_name(model))
        ) is not None:  # else it was sent by an earlier run
            found.tokens += tokens
            found.usd_micros += usd_micros

    def windows(self, standing: UsageLookup) -> list[WindowUse]:
        """Return each limit of each model that something was sent to."""
        uses = []
        for model, sent in self._sent.items():
            stands = {(used.bound.of, used.bound.span): used for used in standing(model) or ()}
            bounds = LimitSet.of(limits_of(self._limits, model))
            uses += [
                _window(model, sent, bound, bounds, stands.get((bound.of, bound.span)))
                for bound in bounds.all
                if bound.limit is not None
            ]
        return uses


def _window(
    model: str, sent: _Sent, bound: Limit, bounds: LimitSet, stands: "Used | None"
) -> WindowUse:
    limit = bound.limit or 0
    used, allowed = int(getattr(sent, bound.of)), limit * _spans(sent, bound, bounds)
    from gemini_batch.quota.results import UNKNOWN

    if stands and stands.used >= UNKNOWN:
        stands = None
    return WindowUse(
        model=model,
        of="usd" if bound.of == "usd_micros" else bound.of,
        span=bound.span,
        limit=bound.value(limit),
        used_by_run=bound.value(used),
        allowed=bound.value(allowed),
        utilisation=round(used / allowed, 4) if allowed else 0.0,
        used=bound.value(stands.used) if stands else None,
        left=bound.value(stands.left or 0) if stands else None,
    )


def _spans(sent: _Sent, bound: Limit, bounds: LimitSet) -> int:
    if bound in bounds.day:
        return sent.dates
    span_s = bounds.minute_s * (1 if bound in bounds.minute else 10)
    return math.floor((sent.last_s - sent.first_s) / span_s) + 1
