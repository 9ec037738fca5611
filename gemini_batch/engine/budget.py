"""What a run may cost: money is held for a call before it is sent, and what it really took is put in its place. Pure."""

from dataclasses import dataclass

from gemini_batch.records import Estimate


@dataclass(frozen=True, slots=True)
class Held:
    """Money that is set aside for one call of a model; `estimate_usd` is what its answer is expected to cost.

    It `trusts` when it is what answers before it cost, and not what one costs at worst.
    """

    model: str
    usd: float
    estimate_usd: float
    trusts: bool


@dataclass(slots=True)
class _Told:
    """What answers of one model have told of its cost."""

    answers: int = 0
    trusting: int = 0  # calls in flight for which no more is held than that
    dearest: float = 1.0  # as a share of its estimate


class Budget:
    """What is left of the most that a run may cost, at list price.

    More than the estimate is held: what no plan foresees, and as much more as the dearest answer of the model took. Until answers have told,
    what one costs at worst is held, by all but as many calls at once as answers came: a model that thinks ten times longer than foreseen is
    found out by few calls, not by all that fit the budget. A call of unknown price counts as nothing, so a run that has a budget must not
    have any.

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
        self._told: dict[str, _Told] = {}

    @property
    def is_held(self) -> bool:
        """Whether any call has not ended: then some of the money may come back."""
        return self._holders > 0

    def most_usd(self, model: str, estimate: Estimate) -> float:
        """Return the most that a call is expected to cost."""
        usd = estimate.cost_usd or 0.0
        return max(usd + estimate.extra_usd, usd * self._of(model).dearest)

    def hold(self, model: str, estimate: Estimate) -> Held | None:
        """Set money aside for a call; None when there is not enough, or not yet."""
        told, usd = self._of(model), self.most_usd(model, estimate)
        trusts = told.trusting < told.answers
        if self.max_usd is not None:
            left_usd = self.max_usd - self.spent_usd - self.held_usd
            at_worst_usd = (
                usd if trusts else max(usd, (estimate.cost_usd or 0.0) + estimate.max_extra_usd)
            )
            if (
                not self._holders and usd <= left_usd
            ):  # one alone may take all that is left: the rest waits for its answer
                at_worst_usd = min(at_worst_usd, left_usd)
            if at_worst_usd > left_usd:
                return None
            usd = at_worst_usd
        self.held_usd += usd
        self._holders += 1
        told.trusting += trusts
        return Held(model, usd, estimate.cost_usd or 0.0, trusts)

    def settle(self, held: Held, spent_usd: float) -> None:
        """Put what a call cost, or may have cost, in place of what was held for it."""
        told = self._of(held.model)
        told.trusting -= held.trusts
        self._holders -= 1
        self.held_usd = self.held_usd - held.usd if self._holders else 0.0  # no rounding is to stay
        self.spent_usd += spent_usd
        told.answers += spent_usd > 0
        if held.estimate_usd:
            told.dearest = max(told.dearest, spent_usd / held.estimate_usd)

    def _of(self, model: str) -> _Told:
        return self._told.setdefault(model, _Told())
