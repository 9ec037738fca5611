"""Circuit breaker: stops sending to a model, or to a server, that does not answer. Pure."""

from collections.abc import Callable
from math import inf

from gemini_batch.engine.backoff import Random, backoff_s, doubled_s

# A model's breaker. Eight errors of the server in a row are no chance: of answers that fail half of
# the time, four rows in a thousand would be. A call has six attempts, which last for a minute by
# backoff alone; one probe after each of these delays makes ten requests in a quarter of an hour.
MODEL_FAILURES = 8
FIRST_DELAY_S = 15.0
MAX_DELAY_S = 120.0
# Then the model is left to the next run: a cron job must end before the next one begins.
MODEL_GIVES_UP_AFTER_S = 1800.0
# The server's breaker: the run ends after this time without any connection.
SERVER_GIVES_UP_AFTER_S = 120.0


class CircuitBreaker:
    """Closed: every call may be sent. Open: none. Half-open: one call probes whether to close.

    It opens after `opens_after` failures in a row and is half-open after each delay. A failed probe
    opens it again for the next delay; any success closes it.

    Attributes:
        reason: The message of the last failure; empty while closed.
    """

    def __init__(
        self, *, opens_after: int, delay_s: Callable[[int], float], gives_up_after_s: float
    ) -> None:
        """Create a closed breaker; `delay_s` returns the seconds to stay open in round 1, 2, …."""
        self._opens_after = opens_after
        self._delay_s = delay_s
        self._gives_up_after_s = gives_up_after_s
        self._reset()

    def _reset(self) -> None:
        self.reason = ""
        self._patience_s = self._gives_up_after_s
        self._failures = self._rounds = 0
        self._opened_s: float | None = None
        self._until_s = 0.0
        self._candidate: str | None = None  # the call that was handed out to probe
        self._probe: str | None = None  # the call that was sent, or is about to be

    @property
    def is_open(self) -> bool:
        """True while calls are held back, also half-open."""
        return self._opened_s is not None

    @property
    def ready_at_s(self) -> float:
        """Time when the next call may be handed out, steady clock.

        0 while closed, infinity while a call probes.
        """
        if self._opened_s is None:
            return 0.0
        return self._until_s if self._candidate is None and self._probe is None else inf

    def hand_out(self, call_id: str) -> None:
        """Note that a call was handed out at or after `ready_at_s`; if half-open it probes."""
        if self._opened_s is not None:
            self._candidate = call_id

    def allows(self, call_id: str, now_s: float) -> bool:
        """Return whether a call may be sent now; while half-open the first to ask probes.

        That may be a call that was handed out before the breaker opened.
        """
        if self._opened_s is None:
            return True
        if now_s < self._until_s:
            return False
        self._probe = self._probe or call_id
        return self._probe == call_id

    def release(self, call_id: str) -> None:
        """Note that a call has ended or was put back: if it probed, another one may."""
        if self._candidate == call_id:
            self._candidate = None
        if self._probe == call_id:
            self._probe = None

    def failed(self, now_s: float, reason: str, patience_s: float = inf) -> bool:
        """Note a failure; return whether it opened the breaker, first or again.

        Calls that were in flight when it opened and fail within the delay do not extend it. A
        failure of this kind is outwaited for `patience_s` seconds at most.
        """
        self._patience_s = min(self._gives_up_after_s, patience_s)
        self._failures += 1
        if self._failures < self._opens_after:
            return False
        self.reason = reason
        if self._opened_s is None:
            self._opened_s = now_s
        if self._rounds and now_s < self._until_s:
            return False
        self._rounds += 1
        self._until_s = now_s + self._delay_s(self._rounds)
        return True

    def succeeded(self) -> bool:
        """Note a success and close; return whether the breaker was open."""
        was_open = self._opened_s is not None
        self._reset()
        return was_open

    def left_s(self, now_s: float) -> float:
        """Return for how many seconds more it stays open; 0 while closed or half-open."""
        return max(0.0, self._until_s - now_s)

    def exhausted_after_s(self, now_s: float) -> float | None:
        """Return the seconds after which it was given up; None while waiting is worth it."""
        if self._opened_s is None or now_s - self._opened_s < self._patience_s:
            return None
        return self._patience_s


def model_breaker() -> CircuitBreaker:
    """Return a breaker for one model: it counts answers that are errors of the server."""
    return CircuitBreaker(
        opens_after=MODEL_FAILURES,
        delay_s=lambda round_: doubled_s(FIRST_DELAY_S, round_, MAX_DELAY_S),
        gives_up_after_s=MODEL_GIVES_UP_AFTER_S,
    )


def server_breaker(random: Random) -> CircuitBreaker:
    """Return a breaker for the server: it counts connections that could not be made."""
    return CircuitBreaker(
        opens_after=1,
        delay_s=lambda round_: backoff_s(round_, random),
        gives_up_after_s=SERVER_GIVES_UP_AFTER_S,
    )
