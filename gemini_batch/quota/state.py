"""The stored state of one model's quota: its values, and the clock that they count from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from gemini_batch.quota.model_quota import ModelQuota
from gemini_batch.quota.server_clock import Sight
from gemini_batch.quota.storage.base import State
from gemini_batch.records import Limits

# Processes read their clocks before they get access. A clock that went back by more began again.
_BACK_S = 60.0
# The same of a server, which reads its clock when access is granted.
_SERVER_BACK_S = 1.0
# Its last commits may not have come to the server that takes over.
REPLACED = "the ledger's server was replaced"


@dataclass(slots=True)
class SharedQuota:
    """The state of one model's quota, as the run with these limits sees it.

    Attributes:
        server_id: Names the clock of its moments.
        seen_s: The latest moment of that clock.
        used_at_s: When it was used last, in seconds since 1970.
        shift_s: From the clock of a server to the time that is counted.
        era: How often the shift was changed.
    """

    quota: ModelQuota
    limits: Limits
    server_id: str
    seen_s: float
    used_at_s: float
    shift_s: float = 0.0
    era: int = 0

    def dump(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return {
            "server_id": self.server_id,
            "seen_s": self.seen_s,
            "used_at_s": self.used_at_s,
            "shift_s": self.shift_s,
            "era": self.era,
            "limits": asdict(self.limits),
            "quota": self.quota.dump(),
        }

    def follow(self, now_s: float, server_id: str, utc: datetime) -> bool:
        """Use the quota now; move its windows if the clock began again, and return if it did."""
        is_moved = server_id != self.server_id or now_s < self.seen_s - _BACK_S
        if is_moved:
            self.quota.restart(now_s, self.seen_s)
            self.server_id, self.seen_s = server_id, now_s
        self._use(now_s, utc)
        return is_moved

    def follow_server(
        self, clock_s: float, server_id: str, sight: Sight, known: Sight | None
    ) -> bool:
        """Use the quota now, by a server's clock; return if the clock was set, or replaced.

        `known` is what this process saw of the clock before: by that it notices that it was set.
        Another server may lack the last reservations: nothing is sent for a minute and the guard.
        """
        jump_s = sight.jump_s(known) if known is not None and known.era == self.era else 0.0
        if known is None and clock_s + self.shift_s < self.seen_s - _SERVER_BACK_S:
            jump_s = clock_s + self.shift_s - self.seen_s
        if jump_s:
            self.shift_s -= jump_s
            self.era += 1
        now_s = clock_s + self.shift_s
        self._use(now_s, datetime.fromtimestamp(clock_s, UTC))
        is_replaced = server_id != self.server_id
        if is_replaced:
            self.server_id = server_id
            self.quota.pause_for_minute(now_s, REPLACED)
        return is_replaced or jump_s != 0.0

    def _use(self, now_s: float, utc: datetime) -> None:
        self.seen_s = max(self.seen_s, now_s)
        self.used_at_s = utc.timestamp()


def as_seen_by(stored: State | Mapping[str, Any], limits: Limits, empty: ModelQuota) -> SharedQuota:
    """Return a stored state loaded into `empty`, the quota of a run with these limits."""
    values = values_of(stored)
    empty.load(values["quota"])
    return SharedQuota(
        empty,
        limits,
        values["server_id"],
        values["seen_s"],
        values["used_at_s"],
        values.get("shift_s", 0.0),
        values.get("era", 0),
    )


def values_of(stored: State | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a state as JSON values."""
    return stored if isinstance(stored, Mapping) else stored.dump()
