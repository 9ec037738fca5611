"""The ledger that runs share: all its rules, on any storage.

Where `blocks` is true all of it blocks: use it off the event loop. Every method may raise
`StorageError`; then nothing was granted and nothing was changed.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Self, TypeVar

from gemini_batch.clock import Clock, boot_time_s
from gemini_batch.quota.access import QuotaAccess
from gemini_batch.quota.limits import GUARD_S, Weights
from gemini_batch.quota.model_quota import ModelQuota
from gemini_batch.quota.moment import Moment
from gemini_batch.quota.results import Grant, Granted, RealUse, ReserveResult, Used
from gemini_batch.quota.storage.base import (
    LedgerStorage,
    OnUnknown,
    QuotaKey,
)
from gemini_batch.records import Limits
from gemini_batch.records.service_tier import quota_name

T = TypeVar("T")

# A faster commit fits into the time that a grant holds; after a slower one, grants start later.
_SLOW_COMMIT_S = 0.1
_GROUP_S = 0.1
_NO_CHANGE = Weights(0, 0, 0, 0)


def project_of(api_key: str, scope: str | None = None) -> str:
    """Return the name of a project's quota: `scope`, or else a fingerprint of the key."""
    if scope:
        return scope
    digest = hashlib.sha256(b"gemini_batch quota project\0" + api_key.encode()).hexdigest()
    return f"key-{digest[:12]}"


class SharedLedger:
    """The use of each model, for all runs of a project; threads may share it if the storage allows.

    A model may be named with a service tier, as lanes are: priority has a quota of its own.

    A grant is reported when it is durable. Time that passes between the question and the decision,
    for a thread or the lock, is added to `now_s` and `utc`.
    """

    def __init__(
        self,
        storage: LedgerStorage,
        limits: Limits,
        *,
        endpoint: str = "",
        project: str = "",
        run_name: str = "",
        guard_s: float = GUARD_S,
        steady_s: Callable[[], float] = boot_time_s,
    ) -> None:
        """Share what an open storage holds.

        Args:
            storage: Closed together with the ledger.
            limits: Of each model alike.
            endpoint: The API that the quota is of, as rows carry it.
            project: As `project_of` names it.
            run_name: For the user of another run that waits for this one; "" is the process.
            guard_s: How much delays between sending and arrival may differ, in seconds.
            steady_s: The clock of every `now_s`.
        """
        self.limits = limits
        self.storage = storage
        self._owner = (endpoint, project)
        self._run_name = run_name or f"process {os.getpid()}"
        self._steady_s = steady_s
        self._access = QuotaAccess(storage, limits, guard_s, steady_s)
        self._commit_s = 0.0  # the time of a commit of this storage
        self._counts_tokens = limits.tokens_per_min is not None
        self._counts_usd = limits.usd_per_10min is not None or limits.usd_per_day is not None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the storage."""
        self.storage.close()

    @property
    def blocks(self) -> bool:
        """True if a method may take long, and so belongs in a thread."""
        return self.storage.blocks

    async def ask(self, clock: Clock, work: Callable[[], T]) -> T:
        """Do some work that asks the ledger, off the event loop where that may take long.

        A server is asked in threads that only wait, not in those that write to the disk.

        Cancellation: the work is done anyway.
        """
        if not self.blocks:
            return work()
        return await (clock.run_waiting if self.storage.has_own_clock else clock.run_blocking)(work)

    @property
    def is_away(self) -> bool:
        """True while the server of the storage can't be reached."""
        return self.storage.is_away

    def hurry(self) -> None:
        """Wait no longer than a moment for a server that is away: the user wants an end."""
        self.storage.hurry()

    @property
    def group_s(self) -> float:
        """The time for which the real use of calls is worth collecting: a server is far away."""
        return _GROUP_S if self.storage.has_own_clock else 0.0

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences for the user about the opening of the storage."""
        return self.storage.notices

    def reserve(
        self, model: str, weights: Weights, permits: int, now_s: float, utc: datetime
    ) -> ReserveResult:
        """Reserve the earliest slot for up to `permits` equal requests, at least one.

        Raises:
            ValueError: One request is larger than a limit.
        """
        lead_s = self._commit_s if self._commit_s > _SLOW_COMMIT_S else 0.0
        decided_s = 0.0
        new_at: datetime | None = None

        def decide(moment: Moment) -> ReserveResult:
            nonlocal decided_s, new_at
            new_at = moment.utc if moment.is_new else None
            decided_s = self._steady_s() if self.storage.blocks else 0.0
            at_s, at = moment.now_s + lead_s, moment.utc + timedelta(seconds=lead_s)
            result = moment.quota.reserve(weights, permits, at_s, at, self._run_name)
            moment.is_kept = moment.is_new or isinstance(result, Granted)
            return moment.on_clock_of_asker(result) if self.storage.has_own_clock else result

        result = self._transact(model, decide, now_s, utc)
        if self.storage.blocks:
            self._commit_s = max(self._steady_s() - decided_s, self._commit_s / 2)
        if new_at is not None:
            self._access.forget_unused(new_at)
        return result

    def holds(
        self,
        model: str,
        grant: Grant,
        now_s: float,
        permits: int = 1,
        utc: datetime | None = None,
    ) -> bool:
        """Return whether a reservation may be used now that its moment has come.

        It must not be late, or paused, or its day closed. If runs with wider limits left no room
        for it, it is cancelled, and its permits no longer count.
        """

        def decide(moment: Moment) -> bool:
            if grant.server_id != moment.server_id:  # it may not know the reservation
                moment.is_kept = False
                return False
            holds, moment.is_kept = moment.quota.confirm(grant, permits, moment.now_s, moment.utc)
            return holds

        # Once cancelled it must not be cancelled again: an unknown outcome is asked for.
        return now_s <= grant.expires_at_s and self._transact(
            model, decide, now_s, utc, on_unknown="ask", is_look=True
        )

    def reconcile_all(self, model: str, uses: Iterable[RealUse]) -> None:
        """Replace the estimates of some calls of a model by their real use, in one transaction.

        Nothing is written where no limit counts it, or the estimates were right.
        """
        changes = [(use.grant, self._change(use)) for use in uses]
        changes = [each for each in changes if each[1] != _NO_CHANGE]

        def correct(quota: ModelQuota) -> None:
            for grant, change in changes:
                quota.correct(grant, change)

        if changes:
            self._correct(model, correct)

    def _change(self, use: RealUse) -> Weights:
        was, tokens, usd_micros = use.grant.weights, use.tokens, use.usd_micros
        if tokens is None or not self._counts_tokens:
            tokens = was.tokens
        if usd_micros is None or not self._counts_usd:
            usd_micros = was.usd_micros
        return Weights(0, 0, tokens - was.tokens, usd_micros - was.usd_micros)

    def refund(self, model: str, grant: Grant, permits: int = 1) -> None:
        """Return permits whose requests never left to their day."""
        self._correct(model, lambda quota: quota.refund(grant, permits))

    def pause(
        self, model: str, until_s: float, why: str, now_s: float, *, overrun: bool = False
    ) -> None:
        """Send nothing of a model before `until_s`; `overrun` after a 429 of the minute."""

        def decide(moment: Moment) -> None:
            moment.quota.pause(until_s - moment.not_before_s, why, moment.now_s, overrun=overrun)

        self._transact(model, decide, now_s)

    def close_day(
        self,
        model: str,
        now_s: float,
        utc: datetime,
        grant: Grant | None = None,
        ends_in_s: float | None = None,
    ) -> None:
        """Close the date of `grant`, or else of now, for a model; or the next `ends_in_s`."""

        def decide(moment: Moment) -> None:
            moment.quota.close_day(moment.utc, grant, ends_in_s)

        self._transact(model, decide, now_s, utc)

    def used(self, model: str, now_s: float, utc: datetime) -> tuple[Used, ...]:
        """Return the use that counts against each limit of a model now."""

        def decide(moment: Moment) -> tuple[Used, ...]:
            moment.is_kept = False
            return moment.quota.used(moment.now_s, moment.utc)

        return self._transact(model, decide, now_s, utc, is_look=True)

    def _transact(
        self,
        model: str,
        decide: Callable[[Moment], T],
        now_s: float,
        utc: datetime | None = None,
        on_unknown: OnUnknown = "redo",
        *,
        is_look: bool = False,
    ) -> T:
        key = self._key(model)
        return self._access.decide(key, decide, now_s, utc, on_unknown, is_look=is_look)

    def _correct(self, model: str, change: Callable[[ModelQuota], None]) -> None:
        self._access.correct(self._key(model), change)

    def _key(self, model: str) -> QuotaKey:
        return QuotaKey(*self._owner, quota_name(model))
