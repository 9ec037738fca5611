"""The results of a quota: permits, refusals, and the use of each limit. Pure."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from gemini_batch.quota.limits import Limit, Weights

UNKNOWN = 10**15
"""More than any limit: the use that is counted when the real one is unknown."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A permit for one request, from `at_s` to `expires_at_s` of the steady clock.

    It holds in `slot`, where its weights are counted, and half the guard after it. `days` are the
    dates that it counts on, as ordinals: two near midnight. `server_id` names the server that
    granted it, if that has a clock of its own.
    """

    at_s: float
    expires_at_s: float
    slot: int
    days: tuple[int, ...]
    weights: Weights
    server_id: str = ""


@dataclass(frozen=True, slots=True)
class RealUse:
    """The real use of a call that was granted, in the place of its estimate; None leaves that."""

    grant: Grant
    tokens: int | None = None
    usd_micros: int | None = None


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
        used: Dollars in millionths; `UNKNOWN` or more when the use is unknown.
        frees_in_s: Seconds until nothing of it counts, or the day begins again.
    """

    bound: Limit
    used: int
    frees_in_s: float = 0.0

    @property
    def left(self) -> int | None:
        """The use that the limit leaves, at least 0; None without a limit."""
        return None if self.bound.limit is None else max(0, self.bound.limit - self.used)
