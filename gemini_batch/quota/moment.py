"""A quota at the moment of a decision, and that moment on the clock of the asker. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime

from gemini_batch.quota.model_quota import ModelQuota
from gemini_batch.quota.results import Granted, Paused, ReserveResult
from gemini_batch.quota.server_clock import Sight
from gemini_batch.quota.state import SharedQuota


@dataclass(slots=True)
class Moment:
    """A quota, which a decision changes, and the moment of the decision.

    Attributes:
        now_s: In the time that the quota counts.
        not_before_s: From that time to the steady clock of the asker, for the start of a grant.
        not_after_s: The same for its end; both err on the safe side.
        sight: Of the storage's own clock.
        is_kept: Whether to write the state. If its clock began again it is written in any case.
    """

    state: SharedQuota
    is_new: bool
    now_s: float
    utc: datetime
    not_before_s: float = 0.0
    not_after_s: float = 0.0
    sight: Sight | None = None
    is_kept: bool = True

    @property
    def quota(self) -> ModelQuota:
        """The quota of the state."""
        return self.state.quota

    @property
    def server_id(self) -> str:
        """The server that grants, if it has a clock of its own."""
        return self.state.server_id if self.sight else ""

    def on_clock_of_asker(self, result: ReserveResult) -> ReserveResult:
        """Return a result with its moments on the steady clock of the asker."""
        match result:
            case Granted(grant=grant):
                at_s = grant.at_s + self.not_before_s
                expires_at_s = grant.expires_at_s + self.not_after_s
                grant = replace(
                    grant, at_s=at_s, expires_at_s=expires_at_s, server_id=self.server_id
                )
                return replace(result, grant=grant)
            case Paused(until_s=until_s):
                return replace(result, until_s=until_s + self.not_before_s)
        return result
