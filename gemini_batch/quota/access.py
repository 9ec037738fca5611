"""Access to the states of quotas: one is loaded, moved to the moment of a decision, and written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from gemini_batch.clock import utc_now
from gemini_batch.quota.limits import limits_of
from gemini_batch.quota.model_quota import ModelQuota
from gemini_batch.quota.moment import Moment
from gemini_batch.quota.run_budget import is_budget
from gemini_batch.quota.server_clock import Sight
from gemini_batch.quota.state import SharedQuota, as_seen_by, values_of
from gemini_batch.quota.storage.base import (
    LedgerStorage,
    NewStates,
    OnUnknown,
    QuotaKey,
    State,
    StoredState,
)
from gemini_batch.records import Limits

T = TypeVar("T")

# No window and no day reaches back so far.
_KEPT_S = 8 * 86_400.0
# A run may be continued after a pause; then its budget counts on.
_BUDGET_KEPT_S = 400 * 86_400.0


class QuotaAccess:
    """The quotas in a storage, as a run with these limits sees them at the moment of a decision."""

    def __init__(
        self,
        storage: LedgerStorage,
        limits: Limits,
        guard_s: float,
        steady_s: Callable[[], float],
    ) -> None:
        """Use an open storage; `guard_s` and `steady_s` are those of `SharedLedger`."""
        self._storage = storage
        self._limits = limits
        self._guard_s = guard_s
        self._steady_s = steady_s
        self._sights: dict[QuotaKey, Sight] = {}  # each quota has a shift of its own

    def decide(
        self,
        key: QuotaKey,
        decide: Callable[[Moment], T],
        now_s: float,
        utc: datetime | None = None,
        on_unknown: OnUnknown = "redo",
        *,
        is_look: bool = False,
    ) -> T:
        """Decide about a quota at the moment of access; raises as the storage."""
        has_clock = self._storage.has_own_clock
        asked_s = self._steady_s() if has_clock else now_s
        sight: Sight | None = None

        def decide_states(
            states: Sequence[StoredState], clock_s: float, server_id: str
        ) -> tuple[T, NewStates]:
            nonlocal sight
            if has_clock:
                moment, is_moved = self._server_moment(key, states[0], clock_s, server_id, asked_s)
                sight = moment.sight
            else:
                moment, is_moved = self._moment(
                    key, states[0], clock_s, server_id, asked_s=asked_s, utc=utc or utc_now()
                )
            result = decide(moment)
            return result, {key: moment.state} if moment.is_kept or is_moved else {}

        result = self._storage.transact((key,), decide_states, on_unknown, is_look=is_look)
        if sight is not None:
            self._sights[key] = sight  # not before a change of the clock is written down
        return result

    def correct(self, key: QuotaKey, change: Callable[[ModelQuota], None]) -> None:
        """Change a quota that is known, at no moment: it stays on the clock of its state."""

        def decide(
            states: Sequence[StoredState], _clock_s: float, _server_id: str
        ) -> tuple[None, NewStates]:
            if states[0] is None:
                return None, {}
            state = self._loaded(key, states[0])
            change(state.quota)
            return None, {key: state}

        self._storage.transact((key,), decide, "ask")

    def _moment(
        self,
        key: QuotaKey,
        stored: StoredState,
        clock_s: float,
        server_id: str,
        *,
        asked_s: float,
        utc: datetime,
    ) -> tuple[Moment, bool]:
        """Return a quota at the moment of a decision, and whether its clock began again."""
        now_s = max(asked_s, clock_s)
        utc += timedelta(seconds=now_s - asked_s)
        if stored is not None:
            state = self._loaded(key, stored)
            is_moved = state.follow(now_s, server_id, utc)
            return Moment(state, False, now_s, utc), is_moved
        return Moment(self._new(key, server_id, now_s, utc), True, now_s, utc), False

    def _server_moment(
        self, key: QuotaKey, stored: StoredState, clock_s: float, server_id: str, asked_s: float
    ) -> tuple[Moment, bool]:
        """Return the same by a server's clock, which it read between `asked_s` and now."""
        utc, known = datetime.fromtimestamp(clock_s, UTC), self._sights.get(key)
        is_new = stored is None
        state = (
            self._new(key, server_id, clock_s, utc) if stored is None else self._loaded(key, stored)
        )
        sight = Sight.of(asked_s, clock_s, self._steady_s(), state.era)
        is_moved = state.follow_server(clock_s, server_id, sight, known)
        sight = replace(sight, era=state.era).after(known)
        before_s, after_s = (
            each - state.shift_s for each in (sight.not_before_s, sight.not_after_s)
        )
        now_s = clock_s + state.shift_s
        return Moment(state, is_new, now_s, utc, before_s, after_s, sight), is_moved

    def _new(self, key: QuotaKey, server_id: str, now_s: float, utc: datetime) -> SharedQuota:
        limits = limits_of(self._limits, key.model)
        quota = ModelQuota(limits, guard_s=self._guard_s)
        if (lost_at_s := self._storage.lost_at_s) is not None:
            ago_s = max(0.0, utc.timestamp() - lost_at_s)
            quota.assume_full(now_s - ago_s, datetime.fromtimestamp(lost_at_s, UTC))
        return SharedQuota(quota, limits, server_id, now_s, utc.timestamp())

    def _loaded(self, key: QuotaKey, stored: State | Mapping[str, Any]) -> SharedQuota:
        limits = limits_of(self._limits, key.model)
        if isinstance(stored, SharedQuota) and stored.limits == limits:
            return stored
        return as_seen_by(stored, limits, ModelQuota(limits, guard_s=self._guard_s))

    def forget_unused(self, utc: datetime) -> None:
        """Delete what was not used for long, so that a file does not grow for ever."""

        def is_old(key: QuotaKey, state: StoredState) -> bool:
            if state is None:
                return False
            kept_s = _BUDGET_KEPT_S if is_budget(key) else _KEPT_S
            return bool(values_of(state)["used_at_s"] < utc.timestamp() - kept_s)

        def decide(
            states: Sequence[StoredState], _clock_s: float, _server_id: str
        ) -> tuple[None, NewStates]:
            found = zip(keys, states, strict=True)
            return None, {key: None for key, state in found if is_old(key, state)}

        states = self._storage.scan().states
        if keys := [key for key, state in states.items() if is_old(key, state)]:
            self._storage.transact(keys, decide, "redo")
