"""Mean of what was expected and what was observed. Pure."""

import math
from dataclasses import dataclass

_EXPECTED_COUNTS_AS = 20
_ENOUGH = 10  # with fewer values their spread says little
_STANDARD_ERRORS = 3.0


@dataclass(slots=True)
class Observations:
    """Values of one kind. A good expectation is more precise than the mean of a few of them.

    The expectation counts as much as 20 values; but as nothing once their mean differs from it by
    more than chance explains, three standard errors.
    """

    number: int = 0
    _sum: float = 0.0
    _squares: float = 0.0

    def add(self, value: float) -> None:
        """Add a value."""
        self.number += 1
        self._sum += value
        self._squares += value * value

    def mean(self, expected: float) -> float:
        """Return the expected value, corrected by those that were observed."""
        weight = 0 if self._contradict(expected) else _EXPECTED_COUNTS_AS
        return (expected * weight + self._sum) / (weight + self.number)

    def _contradict(self, expected: float) -> bool:
        if self.number < _ENOUGH:
            return False
        mean = self._sum / self.number
        variance = max(0.0, self._squares / self.number - mean * mean)
        standard_error = math.sqrt(variance / self.number)
        return abs(mean - expected) > _STANDARD_ERRORS * standard_error
