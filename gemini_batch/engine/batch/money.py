"""Money of batches: what a run holds for their calls until each has its row."""

from dataclasses import dataclass, field

from gemini_batch.engine.budget import Budget, Reservation
from gemini_batch.records import Facts


@dataclass(eq=False, repr=False)
class BatchMoney:
    """The reservations of the batches that this run created, by their uuids and positions.

    A batch of an earlier run was paid for from the budget of that run. What its answers cost is
    taken into account, too: it shows what the next ones may cost.
    """

    budget: Budget
    _held: dict[str, list[Reservation | None]] = field(default_factory=dict, init=False)

    def hold(self, uuid: str, reservations: list[Reservation]) -> None:
        """Hold the money of the calls of a batch that is about to be created."""
        self._held[uuid] = [*reservations]

    def hand_back(self, uuid: str) -> None:
        """Hold nothing for a batch that was not created; its reservations stay with its calls."""
        del self._held[uuid]

    def answered(self, uuid: str, position: int, call: Facts, cost_usd: float | None) -> None:
        """Replace what is held for a call by the cost of its answer; None if that is unknown."""
        spent_usd = call.estimate.cost_usd or 0.0 if cost_usd is None else cost_usd
        if not self._settle(uuid, position, spent_usd):
            self.budget.observe(call.model, call.estimate.reserved_usd, spent_usd)

    def unanswered(self, uuid: str, position: int, spent_usd: float) -> None:
        """Replace what is held for a call by what it may have cost."""
        self._settle(uuid, position, spent_usd)

    def _settle(self, uuid: str, position: int, spent_usd: float) -> bool:
        """Return whether something was held."""
        held = self._held.get(uuid)
        if held is None or (money := held[position]) is None:
            return held is not None
        held[position] = None
        money.spent_usd = spent_usd
        self.budget.settle(money)
        return True
