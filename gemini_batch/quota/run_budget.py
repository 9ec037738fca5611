"""The budget of one run that several shards share. Pure; dollars in millionths."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from gemini_batch.quota.storage.base import QuotaKey

_PREFIX = "budget of "


def budget_key(endpoint: str, project: str, run_id: str) -> QuotaKey:
    """Return the key of a run's budget; clearing the quotas of a project leaves it alone."""
    return QuotaKey(f"{_PREFIX}{endpoint}", project, run_id)


def is_budget(key: QuotaKey) -> bool:
    """Return whether a key is that of a budget, not of a quota."""
    return key.endpoint.startswith(_PREFIX)


def micros_up(usd: float) -> int:
    """Return dollars in millionths, rounded up, but not for an error of the float."""
    return math.ceil(round(usd * 1e6, 3))


@dataclass(slots=True)
class Share:
    """The part of a budget that one shard has used.

    Attributes:
        epoch: How often the shard was started.
        spent: By calls that ended, those included that may have been billed.
        reserved: For calls that have not ended.
    """

    epoch: int = 0
    spent: int = 0
    reserved: int = 0

    @property
    def used(self) -> int:
        """All that counts against the budget."""
        return self.spent + self.reserved


@dataclass(slots=True)
class RunBudget:
    """The shares of all shards of a run, by the names of the shards."""

    shares: dict[str, Share] = field(default_factory=dict)
    used_at_s: float = 0.0

    @classmethod
    def loaded(cls, state: Mapping[str, Any] | None) -> Self:
        """Return what `dump` returned; an unused budget for None."""
        if state is None:
            return cls()
        shares = {name: Share(**share) for name, share in state["shares"].items()}
        return cls(shares, state["used_at_s"])

    def dump(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        shares = {name: asdict(share) for name, share in self.shares.items()}
        return {"shares": shares, "used_at_s": self.used_at_s}

    def join(self, shard: str) -> Share:
        """Start a shard; what it had reserved before it was killed may have been billed: spent."""
        was = self.shares.get(shard, Share())
        self.shares[shard] = share = Share(was.epoch + 1, was.used)
        return share

    def put(self, shard: str, share: Share) -> bool:
        """Set the share of a shard; return False if the shard was started again since.

        The whole share is set, so that to set it twice is harmless.
        """
        if (was := self.shares.get(shard)) is not None and was.epoch > share.epoch:
            return False
        self.shares[shard] = share
        return True

    def room(self, usd_micros: int, least: int, limit: int) -> int | None:
        """Return how much of `usd_micros` may be reserved, None if not enough is left.

        All of it, or, while no shard has anything reserved, what is left if it is `least` or more:
        the rest waits.
        """
        left = limit - sum(share.used for share in self.shares.values())
        if usd_micros <= left:
            return usd_micros
        is_reserved = any(share.reserved for share in self.shares.values())
        return None if is_reserved or least > left else left
