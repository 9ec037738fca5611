"""What a run may cost: money is held for a call before it is sent, and what it really took is put in its place. Pure."""

from dataclasses import dataclass

from gemini_batch.records import Estimate


@dataclass(frozen=True, slots=True)
class Held:
    """Money that is set aside for one call; `estimate_usd` is what its answer is expected to cost."""

    usd: float
    estimate_usd: float


class Budget:
    """What is left of the most that a run may cost, at list price.

    More than the estimate is held: what no plan foresees, and as much more as the dearest answer so far took. A call of unknown price
    counts as nothing, so a run that has a budget must not have any.

    Attributes:
        max_usd: The most; None is no limit.
        spent_usd: By calls that ended, those included that may have been billed.
        held_usd: For calls that have not ended.
    """

    def __init__(self, max_usd: float | None) -> None:
        self.max_usd = max_usd
        self.spent_usd = 0.0
        self.held_usd = 0.0
        self._holders = 0
        self._dearest = 1.0  # what an answer cost, as a share of its estimate

    @property
    def is_held(self) -> bool:
        """Whether any call has not ended: then some of the money may come back."""
        return self._holders > 0

    def most_usd(self, estimate: Estimate) -> float:
        """Return the most that a call is expected to cost."""
        usd = estimate.cost_usd or 0.0
        return max(usd + estimate.unforeseen_usd, usd * self._dearest)

    def hold(self, estimate: Estimate) -> Held | None:
        """Set money aside for a call; None when there is not enough."""
        usd = self.most_usd(estimate)
        if self.max_usd is not None and self.spent_usd + self.held_usd + usd > self.max_usd:
            return None
        self.held_usd += usd
        self._holders += 1
        return Held(usd, estimate.cost_usd or 0.0)

    def settle(self, held: Held, spent_usd: float) -> None:
        """Put what a call cost, or may have cost, in place of what was held for it."""
        self._holders -= 1
        self.held_usd = self.held_usd - held.usd if self._holders else 0.0  # no rounding is to stay
        self.spent_usd += spent_usd
        if held.estimate_usd:
            self._dearest = max(self._dearest, spent_usd / held.estimate_usd)
