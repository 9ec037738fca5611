"""Waits before a call is sent again, in seconds. Pure."""

from collections.abc import Callable
from typing import TypeAlias

Random: TypeAlias = Callable[[], float]
"""Returns a number in [0, 1)."""

FIRST_BACKOFF_S = 2.0
MAX_BACKOFF_S = 60.0
# A 429 without details is the normal one of Vertex AI, whose capacity is shared: twice only the
# call waits, for some seconds (its page error-code-429, collected 2026-11-30). It may mean the
# minute as well: later waits are longer than a quarter of a minute, at last than a whole one.
SHORT_UNEXPLAINED_S = 1.0, 4.0
MAX_SHORT_UNEXPLAINED = 2
LONG_UNEXPLAINED_S = 15.0
MAX_UNEXPLAINED_S = 300.0
# Added to the wait that a server asks for: bodies round it down, and clients wake together.
MARGIN_S = 1.0
JITTER_S = 1.0


def backoff_s(attempt: int, random: Random) -> float:
    """Return a wait in seconds, evenly between 0 and 2 · 2^(attempt-1), capped: "full jitter".

    https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/ (2026-11-22)
    """
    return random() * doubled_s(FIRST_BACKOFF_S, attempt, MAX_BACKOFF_S)


def doubled_s(first_s: float, attempt: int, max_s: float) -> float:
    """Return a wait that doubles with each attempt, from 1."""
    return min(max_s, first_s * 2.0 ** min(attempt - 1, 30))


def unexplained_s(attempt: int, random: Random) -> float:
    """Return the wait of a call after a 429 without details."""
    if attempt <= MAX_SHORT_UNEXPLAINED:
        least_s, most_s = SHORT_UNEXPLAINED_S
        return least_s + (most_s - least_s) * random()
    return quota_s(None, attempt - MAX_SHORT_UNEXPLAINED, random)


def quota_s(asked_s: float | None, attempt: int, random: Random) -> float:
    """Return the wait after a 429 of the minute, whose server asked for one or not."""
    if asked_s is None:
        wait_s = doubled_s(LONG_UNEXPLAINED_S, attempt, MAX_UNEXPLAINED_S)
    elif attempt == 1:
        wait_s = asked_s
    else:  # it was too short before; six attempts then last for more than a minute
        wait_s = max(asked_s, doubled_s(FIRST_BACKOFF_S, attempt, MAX_BACKOFF_S))
    return wait_s + MARGIN_S + JITTER_S * random()
