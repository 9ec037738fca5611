"""When a model answers nothing but errors of the server it is left in peace, for longer each time. Pure."""

# So many in a row are no chance: of answers that fail half of the time, four rows in a thousand.
MANY = 8
# A call has six attempts, and by the backoff alone they last for a minute. One call after each of these holds asks again: that is ten
# requests in a quarter of an hour, and who waits when it is over waits for two minutes at the most.
FIRST_HOLD_S = 15.0
MAX_HOLD_S = 120.0
# After so long the model is left for the next run: a cron job is to end before its next one begins.
MAX_STORM_S = 1800.0


class Storm:
    """Whether calls of one model may be sent: in a storm one after each hold, and the first answer that is none of these errors ends it.

    Attributes:
        http_status: What came back last.
    """

    def __init__(self) -> None:
        self.http_status = 0
        self._in_a_row = 0
        self._since_s = self._until_s = 0.0
        self._hold_s = FIRST_HOLD_S

    def failed(self, http_status: int, now_s: float) -> None:
        """Take in that the server could not answer."""
        self.http_status = http_status
        self._in_a_row += 1
        if self._in_a_row == MANY:
            self._since_s, self._until_s = now_s, now_s + self._hold_s

    def over(self) -> bool:
        """Take in any other answer; return whether there was a storm."""
        was_one = self._in_a_row >= MANY
        self._in_a_row, self._hold_s = 0, FIRST_HOLD_S
        return was_one

    @property
    def until_s(self) -> float:
        """Until when nothing of the model is to be sent, steady clock; in the past without a storm."""
        return self._until_s if self._in_a_row >= MANY else 0.0

    def probes(self, now_s: float) -> bool:
        """Return whether a call that is not held finds out whether a storm is over: then no other one does, for the next hold."""
        if self._in_a_row < MANY:
            return False
        self._hold_s = min(2 * self._hold_s, MAX_HOLD_S)
        self._until_s = now_s + self._hold_s
        return True

    def is_endless(self, now_s: float) -> bool:
        """Return whether it is no use to wait on in this run."""
        return self._in_a_row >= MANY and now_s - self._since_s >= MAX_STORM_S
