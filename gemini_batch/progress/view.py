"""What every way of showing a run is made of and asked for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Protocol, TypeVar

from gemini_batch.clock import Clock
from gemini_batch.engine.summary import Summary
from gemini_batch.events import Event, Stopping
from gemini_batch.progress.run_state import Sample
from gemini_batch.records import StopReason

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

# What is kept for the end of a quiet run; a run that goes wrong a thousand times says so once.
_MOST_KEPT = 100
# Shorter waits are the pace of every run.
WORTH_SAYING_S = 5.0


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a view knows of its run beforehand.

    Attributes:
        name: The manifest, as it was given.
        again: The command that goes on with the run.
        program: How this program is called, for other commands.
        is_quiet: Say nothing unless something needs a person.
        clock: The times of the run.
    """

    name: str
    again: str
    program: str = "gemini-batch"
    is_quiet: bool = False
    clock: Clock = field(default_factory=Clock)


class View(Protocol):
    """Shows a run. Only `flush` blocks: the others are called on the event loop."""

    every_s: ClassVar[float]
    """How often it wants a `Sample`."""

    def observe(self, event: Event) -> None:
        """Take in what happened."""
        ...

    def take(self, sample: Sample) -> None:
        """Take in what it asked for."""
        ...

    def end(self, summary: Summary) -> None:
        """Say what the run came to, and last what to run next and when, if anything."""
        ...

    def tell(self, message: str) -> None:
        """Say what no event tells."""
        ...

    def flush(self) -> None:
        """Wait until what was said is to be seen, unless nobody reads: a question is about to be asked below it."""
        ...


class Out(Protocol[T_contra]):
    """Where a view leaves its lines."""

    def say(self, line: T_contra, /) -> None:
        """Leave a line; does not block."""
        ...

    def flush(self) -> None:
        """Wait until what was left is written, unless nobody reads."""
        ...


class Held(Generic[T]):
    """Says things at once, or keeps them for the end when the run is to be quiet; then they are said if it needs a person."""

    def __init__(self, say: Callable[[T], None], *, is_quiet: bool) -> None:
        self._say = say
        self._is_quiet = is_quiet
        self._kept: list[T] = []

    def say(self, words: T) -> None:
        """Say what is only for those who look on."""
        if not self._is_quiet:
            self._say(words)

    def hold(self, words: T) -> None:
        """Say what explains an end that needs a person."""
        if not self._is_quiet:
            self._say(words)
        elif len(self._kept) < _MOST_KEPT:
            self._kept.append(words)

    def say_now(self, words: T) -> None:
        """Say what a person waits for."""
        self._say(words)

    def release(self) -> None:
        """Say what was kept, for the run needs a person."""
        for words in self._kept:
            self._say(words)
        self._kept.clear()


def is_asked_for(event: Stopping) -> bool:
    """Return whether a person, or what started the process, asked for this end and waits for an answer."""
    return event.stop.reason in {StopReason.INTERRUPTED, StopReason.TERMINATED}
