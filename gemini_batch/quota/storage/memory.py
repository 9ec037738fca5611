"""The storage of one process, which loses all when the process ends."""

from collections.abc import Sequence
from typing import ClassVar, TypeVar

from gemini_batch.quota.storage.base import Decide, OnUnknown, QuotaKey, Snapshot, State

T = TypeVar("T")


class MemoryStorage:
    """Live states of this process. No method blocks; it is not for several threads."""

    name: ClassVar[str] = "memory"
    blocks: ClassVar[bool] = False
    has_own_clock: ClassVar[bool] = False
    is_away: ClassVar[bool] = False
    notices: ClassVar[tuple[str, ...]] = ()
    lost_at_s: ClassVar[float | None] = None

    def __init__(self) -> None:
        self._states: dict[QuotaKey, State] = {}

    def open(self) -> None:
        """Do nothing."""

    def transact(
        self,
        keys: Sequence[QuotaKey],
        decide: Decide[T],
        _on_unknown: OnUnknown,
        *,
        is_look: bool = False,
    ) -> T:
        """Decide at the moment of asking; states come back as the objects that they are."""
        result, states = decide([*map(self._states.get, keys)], 0.0, "")
        for key, state in states.items():
            if state is None:
                self._states.pop(key, None)
            else:
                self._states[key] = state
        return result

    def scan(self) -> Snapshot:
        """Return all states."""
        return Snapshot(dict(sorted(self._states.items())), 0.0, "")

    def clear(self, endpoint: str | None = None, project: str | None = None) -> bool:
        """Delete the states of an endpoint and a project; return if there were any."""
        found = [key for key in self._states if key.is_of(endpoint, project)]
        for key in found:
            del self._states[key]
        return bool(found)

    def hurry(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
