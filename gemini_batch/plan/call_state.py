"""The state of a call after earlier runs, and who says it."""

from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import TypeAlias

from gemini_batch.records import Request


class CallState(IntEnum):
    """The state of a call after earlier runs."""

    NEW = 0
    DONE = 1  # the newest row of its id is final, and of this very request
    EDITED = 2  # finished once, but with another request: it will be paid for again
    RETRY = 3  # not finished the last time, or requested again
    REUSED = 4  # answered in another output folder: copied from there, at no cost
    UNFETCHED = 5  # paid for, but its image was not fetched: fetched now, and sent if it is gone
    WAITING = 6  # an open batch may still answer it
    LATER = 7  # not done, and not in the part that this run is for
    HELD = 8  # not done, and it uses a picture that this run can't bring
    ELSEWHERE = 9  # another worker's, and not done
    DONE_ELSEWHERE = 10  # another worker's, and done


OF_OTHERS = frozenset({CallState.ELSEWHERE, CallState.DONE_ELSEWHERE})
NOT_TO_DO = OF_OTHERS | {CallState.DONE, CallState.WAITING, CallState.LATER, CallState.HELD}


Aliases: TypeAlias = Callable[[Callable[[str], bool]], Iterable[tuple[str, Request]]]
"""Returns the id and the request of the same call by the other ids of its model, of known ids."""
StateOf: TypeAlias = Callable[[str, str, Aliases], CallState]
"""Returns the state of a call by its id, its `request_sha256` and its aliases."""
AreDone: TypeAlias = Callable[[Sequence[str], Sequence[str]], Sequence[bool]]
"""Returns which calls are done, by their ids and each `request_sha256`."""
