"""Adaptive concurrency: fewer calls in flight after overload, more again with success. Pure."""

DECREASE = 0.8


class AdaptiveConcurrency:
    """The number of calls that may be in flight, between 1 and the run's concurrency.

    Additive increase, multiplicative decrease, as in TCP
    (https://www.rfc-editor.org/rfc/rfc5681, 2026-11-22): an episode of overload cuts it once by a
    fifth; a whole round of successes adds one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._allowed = float(most)
        self._cut_s = float("-inf")

    @property
    def allowed(self) -> int:
        """The number of calls that may be in flight now."""
        return int(self._allowed)

    def overloaded(self, sent_s: float, now_s: float) -> None:
        """Note that a request met overload: 429, 503, or a timeout.

        One that was sent, by the steady clock, before the last cut belongs to its episode.
        """
        if sent_s >= self._cut_s:
            self._allowed = max(1.0, self._allowed * DECREASE)
            self._cut_s = now_s

    def succeeded(self) -> None:
        """Note that a call was answered."""
        self._allowed = min(float(self._most), self._allowed + 1 / self._allowed)
