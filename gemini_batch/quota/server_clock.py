"""The clock of a ledger's server, seen from the steady clock of a machine. Pure.

A ledger counts time that never jumps: the server's clock and a shift. When the clock is set, the
first process that notices it changes the shift for all, and raises the era, by which the others
know that it is done.
"""

from dataclasses import dataclass, replace
from typing import Self

_JUMP_S = 0.5
"""A clock that is set by less passes for the delays that the guard allows."""

# Clocks drift apart by that much of the time: NTP slews at most so fast, a crystal much less.
_DRIFT = 0.001
# The most that an answer may have taken on its way, of a server that was asked once.
_MAX_RETURN_S = 0.1


@dataclass(frozen=True, slots=True)
class Sight:
    """The bounds of the steady clock's lead over the server's, from one or more answers.

    Attributes:
        low_s: The lead if the server read its clock at once.
        high_s: The lead if its answer took no time.
        got_s: When the last answer came, on the steady clock.
        era: Of the ledger's shift at that moment.
    """

    low_s: float
    high_s: float
    got_s: float
    era: int = 0

    @classmethod
    def of(cls, asked_s: float, clock_s: float, got_s: float, era: int) -> Self:
        """Return the sight of one answer: the server's clock was read between two moments."""
        return cls(asked_s - clock_s, got_s - clock_s, got_s, era)

    def after(self, known: "Sight | None") -> "Sight":
        """Return this sight within the bounds that earlier answers of the same clock leave."""
        if known is None or known.era != self.era or self.jump_s(known):
            return self
        drift_s = max(0.0, _DRIFT * (self.got_s - known.got_s))
        low_s = max(self.low_s, known.low_s - drift_s)
        return replace(
            self, low_s=low_s, high_s=max(low_s, min(self.high_s, known.high_s + drift_s))
        )

    def jump_s(self, known: "Sight") -> float:
        """Return by how much the server's clock was set forward since; 0 if it was not."""
        drift_s = max(0.0, _DRIFT * (self.got_s - known.got_s))
        if self.high_s < known.low_s - drift_s - _JUMP_S:
            return known.high_s - self.high_s
        if self.low_s > known.high_s + drift_s + _JUMP_S:
            return known.low_s - self.low_s
        return 0.0

    @property
    def not_before_s(self) -> float:
        """The lead for the start of a grant: at least the real one."""
        return self.high_s

    @property
    def not_after_s(self) -> float:
        """The lead for the end of a grant: at most the real one, but for a slow first answer."""
        return max(self.low_s, self.high_s - _MAX_RETURN_S)
