"""How many calls may be in flight: less after overload, more again with success. Pure."""

CUT = 0.8


class AdaptiveConcurrency:
    """The number of calls that may be in flight, between 1 and the run's concurrency.

    Additive increase, multiplicative decrease, as TCP does it (https://www.rfc-editor.org/rfc/rfc5681, 2026-11-22): an episode of 429 or 503
    answers cuts it once by a fifth, and each success grows it by a little, so that a whole round of successes makes it one more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._allowed = float(most)
        self._cut_s = float("-inf")

    @property
    def allowed(self) -> int:
        """How many calls may be in flight now."""
        return int(self._allowed)

    def overloaded(self, sent_s: float, now_s: float) -> None:
        """Take in that a server said 429 or 503.

        Args:
            sent_s: When the request was sent, steady clock. One that was sent before the last cut is of the same episode.
            now_s: The steady clock.
        """
        if sent_s >= self._cut_s:
            self._allowed = max(1.0, self._allowed * CUT)
            self._cut_s = now_s

    def succeeded(self) -> None:
        """Take in that a call was answered."""
        self._allowed = min(float(self._most), self._allowed + 1 / self._allowed)
