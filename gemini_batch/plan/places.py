"""Places of the calls of a plan, and what each call of a child adds to it, as compact arrays."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple


class CallLoad(NamedTuple):
    """Usage of one call of a job: its lane and size, its line, and its tokens and searches."""

    group: tuple[str, str]
    line: int
    input_tokens: int
    more_thinking: int = 0
    searches: int = 0


class Places:
    """The place of the first call of each job among all calls.

    Only jobs whose number of calls is not one are noted.
    """

    def __init__(self) -> None:
        self._jobs = array("I")
        self._more = array("q", (0,))  # calls before the next job, but for one a job

    def add(self, index: int, calls: int) -> None:
        """Note the number of calls of the next job; one call need not be noted."""
        if calls != 1:
            self._jobs.append(index)
            self._more.append(self._more[-1] + calls - 1)

    def of(self, index: int) -> int:
        """Return the place of a job's first call."""
        return index + self._more[bisect_left(self._jobs, index)]


class Children:
    """The loads of the jobs that use pictures of others.

    Attributes:
        indexes: The index of each job, ascending.
    """

    def __init__(self) -> None:
        self.indexes = array("I")
        self._groups: list[tuple[str, str]] = []
        self._group_of = array("I")
        self._lines = array("I")
        self._tokens = array("I")
        self._thinking = array("i")
        self._keys, self._first = array("Q"), array("I")

    def add(self, index: int, load: CallLoad, keys: Iterable[int]) -> None:
        """Add the next job, with the fingerprints of the ids of its calls.

        It has no searches, which only raw requests have.
        """
        self._first.append(len(self._keys))
        self._keys.extend(keys)
        if load.group not in self._groups:
            self._groups.append(load.group)
        self.indexes.append(index)
        self._group_of.append(self._groups.index(load.group))
        self._lines.append(load.line)
        self._tokens.append(load.input_tokens)
        self._thinking.append(load.more_thinking)

    def key(self, number: int, place: int) -> int:
        """Return the fingerprint of a call's id, by the rank of its job and its place in it."""
        return self._keys[self._first[number] + place]

    def load(self, number: int) -> CallLoad:
        """Return the load of the job of this rank."""
        return CallLoad(
            self._groups[self._group_of[number]],
            self._lines[number],
            self._tokens[number],
            self._thinking[number],
        )
