"""A storage as a database server would be: a clock of its own, and commits of unknown outcome.

States pass as text. `break_commits` scripts what becomes of the next commits: "lost" takes no
effect, "unknown" takes effect; in both cases the connection breaks before the client knows.
`fails_next` lets the next transaction fail after its decision.
"""

import json
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

from gemini_batch.errors import StorageError
from gemini_batch.quota.storage.base import Decide, OnUnknown, QuotaKey, Snapshot

T = TypeVar("T")


class ServerStorage:
    """States on a server; several ledgers may share one."""

    name: ClassVar[str] = "server"
    blocks: ClassVar[bool] = True
    has_own_clock: ClassVar[bool] = True
    is_away = False
    notices: ClassVar[tuple[str, ...]] = ()
    lost_at_s: ClassVar[float | None] = None

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self.clock_s = clock_s
        self.server_id = "primary"
        self.break_commits = deque[str]()
        self.fails_next = False
        self.decisions = self.looks = self.asked = 0
        self._texts: dict[QuotaKey, str] = {}

    def open(self) -> None:
        """Do nothing."""

    def transact(
        self,
        keys: Sequence[QuotaKey],
        decide: Decide[T],
        on_unknown: OnUnknown,
        *,
        is_look: bool = False,
    ) -> T:
        """Decide, and again while the outcome of a commit is unknown."""
        self.looks += is_look
        while True:
            self.decisions += 1
            before = [self._loaded(key) for key in keys]
            result, states = decide(before, self.clock_s(), self.server_id)
            if self.fails_next:
                self.fails_next = False
                raise StorageError("gone")
            outcome = self.break_commits.popleft() if states and self.break_commits else "known"
            if outcome != "lost":
                for key, state in states.items():
                    if state is None:
                        self._texts.pop(key, None)
                    else:
                        self._texts[key] = json.dumps(state.dump())
            if outcome == "known":
                return result
            if on_unknown == "ask":
                self.asked += 1
                if outcome == "unknown":  # the server says that it was committed
                    return result

    def scan(self) -> Snapshot:
        """Return all states."""
        states = {key: self._loaded(key) for key in sorted(self._texts)}
        return Snapshot(states, self.clock_s(), self.server_id)

    def clear(self, endpoint: str | None = None, project: str | None = None) -> bool:
        """Delete the states of an endpoint and a project."""
        found = [key for key in self._texts if key.is_of(endpoint, project)]
        for key in found:
            del self._texts[key]
        return bool(found)

    def hurry(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def _loaded(self, key: QuotaKey) -> dict[str, Any] | None:
        text = self._texts.get(key)
        return None if text is None else json.loads(text)
