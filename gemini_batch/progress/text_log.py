"""A run without a terminal, as cron mails it: a line at the start, one a minute at the most, one at the end, then what to do next."""

from typing import ClassVar

from gemini_batch.engine.summary import Summary
from gemini_batch.errors import ExitCode
from gemini_batch.events import (
    CallNotReused,
    Event,
    LittleRoom,
    Repaired,
    RunStarted,
    Stopping,
    Waiting,
)
from gemini_batch.progress import messages
from gemini_batch.progress.formatting import plain, usd, whole_span
from gemini_batch.progress.run_state import RunState, Sample, State
from gemini_batch.progress.view import WORTH_SAYING_S, Held, Out, RunInfo, is_asked_for


class Lines:
    """Says what happens, a line at a time; when quiet, only what needs a person.

    Args:
        about: What is known beforehand.
        tally: Counts; not shared.
        out: Takes lines without their ends.
    """

    every_s: ClassVar[float] = 60.0

    def __init__(self, about: RunInfo, tally: RunState, out: Out[str]) -> None:
        self._about = about
        self._tally = tally
        self.flush = out.flush
        self._words = Held[str](lambda words: out.say(plain(words)), is_quiet=about.is_quiet)
        self._said: tuple[int, str] = (0, "")

    def observe(self, event: Event) -> None:
        """Say what is worth saying of an event."""
        self._tally.observe(event, self._about.clock.steady_s())
        match event:
            case RunStarted() if event.todo + event.reused:
                self._words.say(" · ".join(messages.started(self._about.name, event)))
            case Repaired(message):
                self._words.hold(message)
            case CallNotReused():
                self._words.hold(messages.not_reused(event))
            case LittleRoom():
                self._words.hold(messages.little_room(event))
            case Stopping():
                say = self._words.say_now if is_asked_for(event) else self._words.hold
                say(messages.stopping(event))
            case _:
                pass

    def take(self, sample: Sample) -> None:
        """Say how far the run is, unless nothing has changed since it was said."""
        self._tally.take(sample)
        state = self._tally.state(self._about.clock.steady_s(), self._about.clock.utc())
        standing = (state.todo - state.left, waiting.why if (waiting := _long_wait(state)) else "")
        if standing != self._said and not state.is_stopping:
            self._said = standing
            self._words.say(_progress(state))

    def tell(self, message: str) -> None:
        """Say what no event tells."""
        self._words.hold(message)

    def end(self, summary: Summary) -> None:
        """Say what the run came to, and last what to run next and when, if anything."""
        if words := messages.nothing_to_do(self._about.name, summary):
            self._words.say(words)
            return
        say = self._words.say
        if summary.exit_code != ExitCode.DONE:
            self._words.release()
            say = self._words.say_now
        say(messages.ended(summary))
        if summary.exit_code != ExitCode.DONE:
            for words in messages.reasons(summary):
                say(f"  {words}")
        if advice := messages.advice(summary):
            say(f"{advice}: {self._about.again}")


def _progress(state: State) -> str:
    parts = [
        f"{state.todo - state.left:,} of {state.todo:,}: {messages.counts(state.by_status)}",
        usd(state.cost_usd),
        messages.eta(state.forecast, state.left, state.now),
    ]
    if state.again:
        parts.append(f"{state.again:,} to be sent again")
    if waiting := _long_wait(state):
        parts.append(f"waiting {whole_span(waiting.wait_s)}: {waiting.why}")
    return " · ".join(parts)


def _long_wait(state: State) -> Waiting | None:
    return state.waiting if state.waiting and state.waiting.wait_s >= WORTH_SAYING_S else None
