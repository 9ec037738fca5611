"""Budget of a run: money is reserved for each call before it is sent. Pure."""

from collections import defaultdict
from dataclasses import dataclass

from gemini_batch.records import Estimate, Stop, StopReason
from gemini_batch.wording import usd


@dataclass(slots=True)
class Reservation:
    """Money that is reserved for one call.

    Attributes:
        usd: How much is reserved.
        estimate_usd: What its answer is expected to cost.
        uses_observed_cost: It relies on what earlier answers cost, not on the worst case.
        in_batch: Its call is sent in a batch, and ends after hours, perhaps in another run.
        spent_usd: What the call cost, or may have cost.
    """

    model: str
    usd: float
    estimate_usd: float
    uses_observed_cost: bool
    in_batch: bool = False
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
        max_usd: None means no limit.
        spent_usd: Cost of the calls that ended, those included that may have been billed.
        reserved_usd: For calls that have not ended.
        calls_in_batches: Those of them that are in batches: their money may come back in hours.
    """

    def __init__(self, max_usd: float | None) -> None:
        self.max_usd = max_usd
        self.spent_usd = 0.0
        self.reserved_usd = 0.0
        self.calls_in_batches = 0
        self._reservations = 0
        self._observed: defaultdict[str, _Observed] = defaultdict(_Observed)

    @property
    def is_reserved(self) -> bool:
        """True while a single call has not ended, so that some of its money may come back."""
        return self._reservations > self.calls_in_batches

    def expected_usd(self, model: str, estimate: Estimate) -> float:
        """Return the most that a call is expected to cost."""
        usd = estimate.reserved_usd
        return max(usd + estimate.extra_usd, usd * self._observed[model].max_cost_ratio)

    def needed_usd(self, model: str, estimate: Estimate) -> float:
        """Return the least money for which a call is sent now."""
        usd = self.expected_usd(model, estimate)
        is_alone = not self._reservations  # it may take all: the rest waits
        return usd if is_alone or self._is_observed(model) else _worst_usd(usd, estimate)

    def reserve(
        self, model: str, estimate: Estimate, *, in_batch: bool = False
    ) -> Reservation | None:
        """Reserve money for a call; None when there is not enough, or not yet."""
        usd, uses_observed_cost = self.expected_usd(model, estimate), self._is_observed(model)
        if self.max_usd is not None:
            left_usd = self.max_usd - self.spent_usd - self.reserved_usd
            if self.needed_usd(model, estimate) > left_usd:
                return None
            usd = usd if uses_observed_cost else min(_worst_usd(usd, estimate), left_usd)
        self.reserved_usd += usd
        self._reservations += 1
        self.calls_in_batches += in_batch
        self._observed[model].relying += uses_observed_cost
        return Reservation(model, usd, estimate.reserved_usd, uses_observed_cost, in_batch)

    def _is_observed(self, model: str) -> bool:
        """Return whether one more call may rely on what earlier answers cost."""
        observed = self._observed[model]
        return observed.relying < observed.answers

    def settle(self, reservation: Reservation) -> None:
        """Replace a reservation by what the call cost."""
        spent_usd = reservation.spent_usd
        self._observed[reservation.model].relying -= reservation.uses_observed_cost
        self._reservations -= 1
        self.calls_in_batches -= reservation.in_batch
        # Without reservations no rounding error stays.
        self.reserved_usd = self.reserved_usd - reservation.usd if self._reservations else 0.0
        self.spent_usd += spent_usd
        self.observe(reservation.model, reservation.estimate_usd, spent_usd)

    def observe(self, model: str, estimate_usd: float, cost_usd: float) -> None:
        """Take into account what an answer cost, also one that another run paid for."""
        observed = self._observed[model]
        observed.answers += cost_usd > 0
        if estimate_usd:
            observed.max_cost_ratio = max(observed.max_cost_ratio, cost_usd / estimate_usd)


def used_up(budget: Budget, model: str, estimate: Estimate) -> Stop:
    """Return the stop of a run whose budget does not pay for another call.

    It is of one model while batches hold money: there may be enough once they have ended.
    """
    max_usd = budget.max_usd or 0.0
    left_usd = round(max_usd - budget.spent_usd, 6)
    next_usd = budget.needed_usd(model, estimate)
    if left_usd < 0:
        state = f"is exceeded by {usd(-left_usd)}: answers cost more than estimated"
    elif budget.calls_in_batches:
        state = (
            f"has {usd(left_usd)} left, and holds {usd(budget.reserved_usd)} of it for "
            f"{budget.calls_in_batches:,} calls in batches until these have ended; the next call "
            f"may cost up to {usd(next_usd)}"
        )
        message = f"the budget of {usd(max_usd)} {state}"
        return Stop(StopReason.BUDGET, message, model=model)
    else:
        state = f"has {usd(left_usd)} left, and the next call may cost up to {usd(next_usd)}"
    message = f"the budget of {usd(max_usd)} {state}: --max-cost sets what a run may cost"
    return Stop(StopReason.BUDGET, message, model=model if budget.calls_in_batches else "")


def _worst_usd(expected_usd: float, estimate: Estimate) -> float:
    return max(expected_usd, estimate.reserved_usd + estimate.max_extra_usd)
