"""The ledger that runs share: all its rules, on any storage.

::

    storage = open_storage(state_path())
    with SharedLedger(storage, limits, endpoint=endpoint, project=project) as ledger:
        for notice in ledger.notices: …           # a damaged file was set aside
        limiter = RateLimiter(ledger, limits, clock, …)

Where `blocks` is true all of it blocks: use it off the event loop. Every method may raise
`StorageError`; then nothing was granted and nothing was changed.
"""

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeVar

from gemini_batch.clock import boot_time_s, utc_now
from gemini_batch.quota.limits import GUARD_S, Weights
from gemini_batch.quota.model_quota import (
    ZONE,
    Grant,
    Granted,
    ModelQuota,
    Paused,
    ReserveResult,
    Used,
)
from gemini_batch.quota.storage.base import (
    LedgerStorage,
    NewStates,
    OnUnknown,
    QuotaKey,
    StoredState,
)
from gemini_batch.records import Limits

T = TypeVar("T")

# A faster commit fits into the time that a grant holds; after a slower one, grants start later.
_SLOW_COMMIT_S = 0.1
# Processes read their clocks before they get access. A clock that went back by more began again.
_BACK_S = 60.0
# The most that an answer of a server with its own clock may have taken on its way.
_MAX_RETURN_S = 0.1
# No window and no day reaches back so far.
_KEPT_S = 8 * 86_400.0


def project_of(api_key: str, scope: str | None = None) -> str:
    """Return the name of a project's quota: `scope`, or else a fingerprint of the key."""
    if scope:
        return scope
    digest = hashlib.sha256(b"gemini_batch quota project\0" + api_key.encode()).hexdigest()
    return f"key-{digest[:12]}"


@dataclass(slots=True)
class SharedQuota:
    """The state of one model's quota.

    Attributes:
        quota: As the run with these limits sees it.
        limits: Of the run that used it last.
        server_id: Names the clock of its moments.
        seen_s: The latest moment of that clock.
        used_at_s: When it was used last, in seconds since 1970.
    """

    quota: ModelQuota
    limits: Limits
    server_id: str
    seen_s: float
    used_at_s: float

    def dump(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return {
            "server_id": self.server_id,
            "seen_s": self.seen_s,
            "used_at_s": self.used_at_s,
            "limits": asdict(self.limits),
            "quota": self.quota.dump(),
        }

    def follow(self, now_s: float, server_id: str, utc: datetime) -> bool:
        """Use the quota now; move its windows if the clock began again, and return if it did."""
        is_moved = server_id != self.server_id or now_s < self.seen_s - _BACK_S
        if is_moved:
            self.quota.restart(now_s, self.seen_s)
            self.server_id, self.seen_s = server_id, now_s
        self.seen_s = max(self.seen_s, now_s)
        self.used_at_s = utc.timestamp()
        return is_moved


@dataclass(slots=True)
class _Turn:
    """A quota and the moment of a decision about it.

    Attributes:
        quota: The quota, which the decision changes.
        is_new: Nothing was known of it.
        is_moved: Its clock began again: the move is written, or it would be made each time.
        now_s: The clock of the storage.
        utc: The same moment.
        not_before_s: From that clock to the steady clock of the asker, for the start of a grant.
        not_after_s: The same for its end; both err on the safe side.
        is_kept: Whether to write the quota.
    """

    quota: ModelQuota
    is_new: bool
    is_moved: bool
    now_s: float
    utc: datetime
    not_before_s: float = 0.0
    not_after_s: float = 0.0
    is_kept: bool = True


class SharedLedger:
    """The use of each model, for all runs of a project; threads may share it if the storage allows.

    A grant is reported when it is durable. Time that passes between the question and the decision,
    for a thread or the lock, is added to `now_s` and `utc`.

    Attributes:
        storage: Where the states are.
        storage: Where the states are.
        limits: Of each model alike.
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
        zone: str = ZONE,
        steady_s: Callable[[], float] = boot_time_s,
    ) -> None:
        """Share what an open storage holds.

        Args:
            storage: Closed together with the ledger.
            limits: Of each model alike.
            endpoint: The API that the quota is of, as rows carry it.
            project: The project that it is of: `project_of(…)`.
            run_name: Names this run for the user of another one that waits for it; "" is its
                process.
            guard_s: How much delays between sending and arrival may differ, in seconds.
            zone: The zone whose midnight begins a day, an IANA name.
            steady_s: The clock of every `now_s`.
        """
        self.limits = limits
        self.storage = storage
        self._owner = (endpoint, project)
        self._run_name = run_name or f"process {os.getpid()}"
        self._guard_s = guard_s
        self._zone = zone
        self._steady_s = steady_s
        self._commit_s = 0.0  # the time of a commit of this storage
        self._counts_tokens = limits.tokens_per_min is not None
        self._counts_usd = limits.usd_per_10min is not None or limits.usd_per_day is not None
        self._keys: dict[str, QuotaKey] = {}

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

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences for the user about the opening of the storage."""
        return self.storage.notices

    # --- before a call ----------------------------------------------------------------------------

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

        def decide(turn: _Turn) -> ReserveResult:
            nonlocal decided_s, new_at
            new_at = turn.utc if turn.is_new else None
            decided_s = self._steady_s() if self.storage.blocks else 0.0
            at_s, at = turn.now_s + lead_s, turn.utc + timedelta(seconds=lead_s)
            result = turn.quota.reserve(weights, permits, at_s, at, self._run_name)
            turn.is_kept = turn.is_new or isinstance(result, Granted)
            return _moved(result, turn)

        result = self._transact(model, decide, now_s, utc)
        if self.storage.blocks:
            self._commit_s = max(self._steady_s() - decided_s, self._commit_s / 2)
        if new_at is not None:
            self._forget_unused(new_at)
        return result

    def holds(self, model: str, grant: Grant, now_s: float, permits: int = 1) -> bool:
        """Return whether a reservation may be used now that its moment has come.

        It must not be late, or paused, or its day closed. If runs with wider limits left no room
        for it, it is cancelled, and its permits are not counted any more.
        """

        def decide(turn: _Turn) -> bool:
            holds, turn.is_kept = turn.quota.confirm(grant, permits, turn.now_s)
            return holds

        # Once cancelled it must not be cancelled again: an unknown outcome is asked for.
        return now_s <= grant.expires_at_s and self._transact(
            model, decide, now_s, on_unknown="ask"
        )

    # --- after a call -----------------------------------------------------------------------------

    def reconcile(
        self, model: str, grant: Grant, *, tokens: int | None = None, usd_micros: int | None = None
    ) -> None:
        """Replace the estimate of a call by its real use; None leaves the estimate.

        Nothing is written where no limit counts it, or the estimate was right.
        """
        was = grant.weights
        tokens = tokens if self._counts_tokens and tokens != was.tokens else None
        usd_micros = usd_micros if self._counts_usd and usd_micros != was.usd_micros else None
        if tokens is not None or usd_micros is not None:
            self._correct(
                model,
                lambda quota: quota.reconcile(grant, tokens=tokens, usd_micros=usd_micros),
            )

    def refund(self, model: str, grant: Grant, permits: int = 1) -> None:
        """Return permits whose requests never left to their day."""
        self._correct(model, lambda quota: quota.refund(grant, permits))

    def pause(
        self, model: str, until_s: float, why: str, now_s: float, *, overrun: bool = False
    ) -> None:
        """Send nothing of a model before `until_s`; `overrun` after a 429 of the minute."""

        def decide(turn: _Turn) -> None:
            turn.quota.pause(until_s - turn.not_before_s, why, turn.now_s, overrun=overrun)

        self._transact(model, decide, now_s)

    def close_day(
        self, model: str, now_s: float, utc: datetime, grant: Grant | None = None
    ) -> None:
        """Close the date of `grant`, or else of now, for a model."""
        self._transact(model, lambda turn: turn.quota.close_day(turn.utc, grant), now_s, utc)

    # --- display ----------------------------------------------------------------------------------

    def used(self, model: str, now_s: float, utc: datetime) -> tuple[Used, ...]:
        """Return the use that counts against each limit of a model now."""

        def decide(turn: _Turn) -> tuple[Used, ...]:
            turn.is_kept = False
            return turn.quota.used(turn.now_s, turn.utc)

        return self._transact(model, decide, now_s, utc)

    def day_left(self, model: str, weights: Weights, now_s: float, utc: datetime) -> int | None:
        """Return how many calls of these weights still fit today, None if any number."""

        def decide(turn: _Turn) -> int | None:
            turn.is_kept = False
            return turn.quota.day_left(weights, turn.utc)

        return self._transact(model, decide, now_s, utc)

    # --- one transaction --------------------------------------------------------------------------

    def _transact(
        self,
        model: str,
        decide: Callable[[_Turn], T],
        now_s: float,
        utc: datetime | None = None,
        on_unknown: OnUnknown = "redo",
    ) -> T:
        """Decide about a model's quota at the moment of access."""
        key = self._key(model)
        asked_s = self._steady_s() if self.storage.has_own_clock else now_s

        def decide_states(
            states: Sequence[StoredState], clock_s: float, server_id: str
        ) -> tuple[T, NewStates]:
            turn, state = self._turn(states[0], clock_s, server_id, asked_s, utc or utc_now())
            result = decide(turn)
            return result, {key: state} if turn.is_kept or turn.is_moved else {}

        return self.storage.transact((key,), decide_states, on_unknown)

    def _correct(self, model: str, change: Callable[[ModelQuota], None]) -> None:
        """Change a quota that is known, at no moment: it stays on the clock of its state."""
        key = self._key(model)

        def decide(
            states: Sequence[StoredState], _clock_s: float, _server_id: str
        ) -> tuple[None, NewStates]:
            if states[0] is None:
                return None, {}
            state = self._loaded(states[0])
            change(state.quota)
            return None, {key: state}

        self.storage.transact((key,), decide, "ask")

    def _turn(
        self, stored: StoredState, clock_s: float, server_id: str, asked_s: float, utc: datetime
    ) -> tuple[_Turn, SharedQuota]:
        """Return a quota at the moment of a decision, and its state."""
        here_s = sure_s = 0.0
        if self.storage.has_own_clock:
            now_s, utc = clock_s, datetime.fromtimestamp(clock_s, UTC)
            got_s = self._steady_s()
            here_s = got_s - clock_s
            sure_s = here_s - min(got_s - asked_s, _MAX_RETURN_S)
        else:
            now_s = max(asked_s, clock_s)
            utc += timedelta(seconds=now_s - asked_s)
        if stored is None:
            quota, lost_at_s = self._empty(), self.storage.lost_at_s
            if lost_at_s is not None:
                ago_s = max(0.0, utc.timestamp() - lost_at_s)
                quota.assume_full(now_s - ago_s, datetime.fromtimestamp(lost_at_s, UTC))
            state, is_moved = (
                SharedQuota(quota, self.limits, server_id, now_s, utc.timestamp()),
                False,
            )
        else:
            state = self._loaded(stored)
            is_moved = state.follow(now_s, server_id, utc)
        return _Turn(state.quota, stored is None, is_moved, now_s, utc, here_s, sure_s), state

    def _loaded(self, stored: StoredState) -> SharedQuota:
        if isinstance(stored, SharedQuota) and stored.limits == self.limits:
            return stored
        return as_seen_by(stored, self.limits, self._empty())

    def _empty(self) -> ModelQuota:
        return ModelQuota(self.limits, guard_s=self._guard_s, zone=self._zone)

    def _key(self, model: str) -> QuotaKey:
        if model not in self._keys:
            self._keys[model] = QuotaKey(*self._owner, model)
        return self._keys[model]

    def _forget_unused(self, utc: datetime) -> None:
        """Delete the quotas that were not used for long, so that a file does not grow for ever."""
        horizon_s = utc.timestamp() - _KEPT_S

        def decide(
            states: Sequence[StoredState], _clock_s: float, _server_id: str
        ) -> tuple[None, NewStates]:
            found = zip(keys, states, strict=True)
            return None, {key: None for key, state in found if _used_at_s(state) < horizon_s}

        states = self.storage.scan().states.items()
        if keys := [key for key, state in states if _used_at_s(state) < horizon_s]:
            self.storage.transact(keys, decide, "redo")


def as_seen_by(stored: StoredState, limits: Limits, empty: ModelQuota) -> SharedQuota:
    """Return a stored state loaded into `empty`, the quota of a run with these limits."""
    values = values_of(stored)
    empty.load(values["quota"])
    return SharedQuota(empty, limits, values["server_id"], values["seen_s"], values["used_at_s"])


def values_of(stored: StoredState) -> Mapping[str, Any]:
    """Return a state as JSON values."""
    if stored is None:
        return {"used_at_s": math.inf}
    return stored if isinstance(stored, Mapping) else stored.dump()


def _used_at_s(stored: StoredState) -> float:
    return float(values_of(stored)["used_at_s"])


def _moved(result: ReserveResult, turn: _Turn) -> ReserveResult:
    """Return a result with its moments on the steady clock of the asker."""
    if turn.not_before_s == turn.not_after_s == 0.0:
        return result
    match result:
        case Granted(grant=grant):
            at_s, expires_at_s = (
                grant.at_s + turn.not_before_s,
                grant.expires_at_s + turn.not_after_s,
            )
            return replace(result, grant=replace(grant, at_s=at_s, expires_at_s=expires_at_s))
        case Paused():
            return replace(result, until_s=result.until_s + turn.not_before_s)
    return result
