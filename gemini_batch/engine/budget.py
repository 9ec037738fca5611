"""Budget of a run: money is reserved for each call before it is sent. Pure."""

from collections import defaultdict
from dataclasses import dataclass

from gemini_batch.records import Estimate


@dataclass(slots=True)
class Reservation:
    """Money that is reserved for one call.

    Attributes:
        usd: How much is reserved.
        estimate_usd: What its answer is expected to cost.
        uses_observed_cost: It relies on what earlier answers cost, not on the worst case.
        spent_usd: What the call cost, or may have cost.
    """

    model: str
    usd: float
    estimate_usd: float
    uses_observed_cost: bool
    spent_usd: float = 0.0


@dataclass(slots=True)
class _Observed:
    """Costs of the answers of one model."""

    answers: int = 0
    relying: int = 0  # calls in flight that use the observed cost
    max_cost_ratio: float = 1.0  # of an answer's cost to its estimate


class Budget:
    """Keeps the cost of a run, at list price, within a limit.

    A call reserves its estimate, raised by what no plan foresees and by the largest ratio of cost
    to estimate among the answers of its model. Until answers came it reserves the worst case. Then
    only as many calls at once as answers came rely on the observed cost: a model that thinks ten
    times longer than expected is detected by few calls, not by all that fit the budget. The
    estimate is that of the more expensive service tier: asked for, or standard. Prices
    must be known: a call of unknown price counts as nothing.

    Attributes:
        max_usd: None is no limit.
        spent_usd: Cost of the calls that ended, those included that may have been billed.
        reserved_usd: For calls that have not ended.
    """

    def __init__(self, max_usd: float | None) -> None:
        self.max_usd = max_usd
        self.spent_usd = 0.0
        self.reserved_usd = 0.0
        self._reservations = 0
        self._observed: defaultdict[str, _Observed] = defaultdict(_Observed)

    @property
    def is_reserved(self) -> bool:
        """True while a call has not ended, so that some of its money may come back."""
        return self._reservations > 0

    def expected_usd(self, model: str, estimate: Estimate) -> float:
        """Return the most that a call is expected to cost."""
        usd = estimate.reserved_usd
        return max(usd + estimate.extra_usd, usd * self._observed[model].max_cost_ratio)

    def reserve(self, model: str, estimate: Estimate) -> Reservation | None:
        """Reserve money for a call; None when there is not enough, or not yet."""
        observed, usd = self._observed[model], self.expected_usd(model, estimate)
        uses_observed_cost = observed.relying < observed.answers
        if self.max_usd is not None:
            left_usd = self._left_usd
            worst_usd = max(usd, estimate.reserved_usd + estimate.max_extra_usd)
            needed_usd = usd if uses_observed_cost else worst_usd
            if not self._reservations and usd <= left_usd:
                needed_usd = min(needed_usd, left_usd)  # alone it may take all: the rest waits
            if needed_usd > left_usd:
                return None
            usd = needed_usd
        self.reserved_usd += usd
        self._reservations += 1
        observed.relying += uses_observed_cost
        return Reservation(model, usd, estimate.reserved_usd, uses_observed_cost)

    def hold(self, model: str, estimate: Estimate) -> Reservation | None:
        """Reserve what a call of a batch is expected to cost; None when there is not enough.

        Nothing can be learnt from the answers of a batch before all of it is paid for.
        """
        usd = self.expected_usd(model, estimate)
        if self.max_usd is not None and usd > self._left_usd:
            return None
        self.reserved_usd += usd
        self._reservations += 1
        return Reservation(model, usd, estimate.reserved_usd, uses_observed_cost=False)

    @property
    def _left_usd(self) -> float:
        return (self.max_usd or 0.0) - self.spent_usd - self.reserved_usd

    def settle(self, reservation: Reservation) -> None:
        """Replace a reservation by what the call cost."""
        observed, spent_usd = self._observed[reservation.model], reservation.spent_usd
        observed.relying -= reservation.uses_observed_cost
        self._reservations -= 1
        # Without reservations no rounding error stays.
        self.reserved_usd = self.reserved_usd - reservation.usd if self._reservations else 0.0
        self.spent_usd += spent_usd
        observed.answers += spent_usd > 0
        if reservation.estimate_usd:
            ratio = spent_usd / reservation.estimate_usd
            observed.max_cost_ratio = max(observed.max_cost_ratio, ratio)
