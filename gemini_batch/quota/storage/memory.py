"""The ledger of one process: it forgets all when the process ends, and nobody shares it."""

from datetime import datetime
from typing import ClassVar

from gemini_batch.quota.limits import GUARD_S, Weights
from gemini_batch.quota.model_quota import ZONE, Grant, ModelQuota, ReserveResult, Used
from gemini_batch.records import Limits


class MemoryLedger:
    """What was used of each model in this process.

    No method blocks or waits. `now_s` is always the steady clock in seconds, `utc` the wall clock of the same moment.
    """

    blocks: ClassVar[bool] = False
    """Whether a call of a method may take long, and so belongs in a thread."""

    def __init__(self, limits: Limits, *, guard_s: float = GUARD_S, zone: str = ZONE) -> None:
        """Make a ledger of which nothing is used.

        Args:
            limits: Of each model alike.
            guard_s: How far delays between leave and arrival spread, in seconds.
            zone: Whose midnight begins a day, an IANA name.
        """
        self.limits = limits
        self._guard_s = guard_s
        self._zone = zone
        self._models: dict[str, ModelQuota] = {}

    def reserve(
        self, model: str, weights: Weights, permits: int, now_s: float, utc: datetime
    ) -> ReserveResult:
        """Reserve the earliest slot for up to `permits` equal requests, one at least.

        Raises:
            ValueError: One request is larger than a limit.
        """
        return self._of(model).reserve(weights, permits, now_s, utc)

    def holds(self, model: str, grant: Grant, now_s: float) -> bool:
        """Return whether a grant, once slept for, may still be used: not late, not paused, its day not closed."""
        return self._of(model).holds(grant, now_s)

    def settle(
        self, model: str, grant: Grant, *, tokens: int | None = None, usd_micros: int | None = None
    ) -> None:
        """Put what one call really used in place of its estimate; None leaves the estimate."""
        self._of(model).settle(grant, tokens=tokens, usd_micros=usd_micros)

    def give_back(self, model: str, grant: Grant) -> None:
        """Return a grant whose bytes never left to its day."""
        self._of(model).give_back(grant)

    def pause(
        self, model: str, until_s: float, why: str, now_s: float, *, overrun: bool = False
    ) -> None:
        """Send nothing of a model before `until_s`; `overrun` after a 429 of the minute widens the guard."""
        self._of(model).pause(until_s, why, now_s, overrun=overrun)

    def close_day(
        self, model: str, now_s: float, utc: datetime, grant: Grant | None = None
    ) -> None:
        """Close the date of `grant`, or else of now, for a model."""
        self._of(model).close_day(utc, grant)

    def used(self, model: str, now_s: float, utc: datetime) -> tuple[Used, ...]:
        """Return what counts against each limit of a model now."""
        return self._of(model).used(now_s, utc)

    def day_left(self, model: str, weights: Weights, now_s: float, utc: datetime) -> int | None:
        """Return how many calls of these weights today still takes, None if any number."""
        return self._of(model).day_left(weights, utc)

    def _of(self, model: str) -> ModelQuota:
        if model not in self._models:
            self._models[model] = ModelQuota(self.limits, guard_s=self._guard_s, zone=self._zone)
        return self._models[model]
