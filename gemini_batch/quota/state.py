"""The stored state of one model's quota: its values, and the clock that they count from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from gemini_batch.quota.model_quota import ModelQuota
from gemini_batch.quota.storage.base import State
from gemini_batch.records import Limits

# Processes read their clocks before they get access. A clock that went back by more began again.
_BACK_S = 60.0


@dataclass(slots=True)
class SharedQuota:
    """The state of one model's quota, as the run with these limits sees it.

    Attributes:
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


def as_seen_by(stored: State | Mapping[str, Any], limits: Limits, empty: ModelQuota) -> SharedQuota:
    """Return a stored state loaded into `empty`, the quota of a run with these limits."""
    values = values_of(stored)
    empty.load(values["quota"])
    return SharedQuota(empty, limits, values["server_id"], values["seen_s"], values["used_at_s"])


def values_of(stored: State | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a state as JSON values."""
    return stored if isinstance(stored, Mapping) else stored.dump()
