import os
import signal
import threading
from collections.abc import Iterator

import pytest
from rich.text import Text

from gemini_batch.errors import ExitCode
from gemini_batch.events import CallNotReused, LittleRoom, Repaired, Stopping
from gemini_batch.progress import live as live_module
from gemini_batch.progress.live import Live, terminal_size
from gemini_batch.progress.run_state import RunState, Sample
from gemini_batch.progress.writer_thread import WriterThread
from gemini_batch.records import Limits, Status, Stop, StopReason
from tests.builders import MODEL
from tests.unit.progress.builders import (
    AGAIN,
    Screen,
    Times,
    about,
    finished,
    started,
    summary,
    used,
)

LIMITS = Limits(requests_per_min=60, requests_per_day=1500)
SAMPLE = Sample(3, {MODEL: used(LIMITS, 3, 3)})


class Terminal:
    """A live view, shown by hand on a screen of which all is kept."""

    def __init__(self, columns: int = 80, lines: int = 30, name: str = "jobs.jsonl") -> None:
        self.times, self.screen, self.said = Times(), Screen(columns), list[Text]()
        self.lines, self.is_in_front, self.written = lines, True, ""
        self.live = Live(
            about(self.times, name=name),
            RunState(LIMITS),
            self._write,
            self._size,
            lambda: self.is_in_front,
        )
        self.live.speak_through(self)

    def say(self, line: Text) -> None:
        """Keep a line until it is shown."""
        self.said.append(line)

    def flush(self) -> None:
        """Show what was said."""
        self.show()

    def show(self) -> list[str]:
        """Let the view paint; return what is on the screen."""
        lines, self.said = self.said, []
        self.live.show(lines)
        return self.screen.lines

    def _write(self, text: str) -> None:
        self.written += text
        self.screen.feed(text)

    def _size(self) -> tuple[int, int]:
        return self.screen.columns, self.lines


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Return a terminal without colours, and no pause for signals that never come."""
    monkeypatch.setenv("NO_COLOR", "1")
    with (terminal := Terminal()).live:
        yield terminal


def test_the_region_begins_with_the_sending_and_goes_with_its_end(terminal: Terminal) -> None:
    """Before there is nothing but lines; then it appears whole; after, a short end stands in its place."""
    terminal.live.observe(Repaired("3 images got their names"))
    assert terminal.show() == [" 3 images got their names", ""]
    terminal.live.observe(started(300))
    assert not any("0 of 300" in line for line in terminal.show())
    terminal.live.take(SAMPLE)
    assert any("0 of 300" in line for line in terminal.show())
    terminal.live.end(summary())
    assert terminal.show()[-7:] == [
        "",
        " done in 12 min 4 s: jobs.jsonl",
        " calls   300 succeeded",
        " cost    $39.80 at list price, estimated $40.20",
        " images  jobs.out/images",
        " look    gemini-batch gallery jobs.out",
        "",
    ]
    assert not any(" of 300" in line for line in terminal.screen.lines)


def test_blocked_and_failed_calls_stay_in_sight_and_finished_ones_do_not_scroll_by(
    terminal: Terminal,
) -> None:
    """Ten thousand good answers are a number; each bad one is a line with its reason."""
    terminal.live.observe(started(300))
    terminal.live.take(SAMPLE)
    for number in range(100):
        terminal.live.observe(finished(f"good{number}"))
    terminal.live.observe(finished("x", Status.BLOCKED))
    terminal.live.observe(finished("y", Status.FAILED, "HTTP 503: overloaded"))
    terminal.live.observe(CallNotReused("z", "is gone"))
    terminal.live.observe(LittleRoom("jobs.out"))
    terminal.live.tell("strange")
    seen = terminal.show()
    assert [line for line in seen if "good" in line] == []
    first = seen.index(" blocked   x  no reason was given")
    assert seen[first : first + 6] == [
        " blocked   x  no reason was given",
        " failed    y  HTTP 503: overloaded",
        " z: can't be reused, and is sent: is gone",
        " jobs.out: the disk has little room: fewer calls are in flight, so that each",
        "   answer fits",
        " strange",
    ]


def test_what_to_run_next_can_be_copied(terminal: Terminal) -> None:
    """The command is a line of its own, which only the terminal breaks."""
    terminal.live.observe(started(300))
    terminal.live.end(summary(ExitCode.INTERRUPTED, left=3))
    seen = terminal.show()
    assert seen[-3:] == [" next    run again to go on:", f" {AGAIN}", ""]


def test_long_lines_are_broken_between_words(terminal: Terminal) -> None:
    """Nothing is lost at the edge, and no word is cut."""
    words = " ".join(f"word{number}" for number in range(40))
    terminal.live.observe(finished("y", Status.FAILED, words))
    seen = terminal.show()
    assert max(map(len, seen)) < 80
    assert " ".join(" ".join(seen).split()) == f"failed y {words}"


def test_what_strangers_wrote_is_text() -> None:
    """Neither escape sequences nor markup in a path, an id or a message are obeyed."""
    hostile = "\x1b[2J[red]x[/red]\x9b1m\x07"
    terminal = Terminal(columns=200, name=hostile)
    terminal.live.observe(Repaired(hostile))
    terminal.live.observe(started(300, out=hostile))
    terminal.live.take(SAMPLE)
    terminal.live.observe(finished(hostile, Status.FAILED, hostile))
    terminal.show()
    terminal.live.end(
        summary(ExitCode.INCOMPLETE, out=hostile, by_status={"succeeded": 1, "failed": 1})
    )
    terminal.show()
    assert "\x1b[2J" not in terminal.written
    assert {"\x9b", "\x07"}.isdisjoint(terminal.written)
    assert terminal.written.count("\\x1b[2J[red]x[/red]\\x9b1m\\x07") >= 7


def test_without_colour_the_region_is_the_same(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_COLOR leaves words, places and weights; with colour the words are the same."""
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = Terminal()
    for each in (terminal, coloured):
        each.live.observe(started(300))
        each.live.take(SAMPLE)
        each.live.observe(finished("x", Status.BLOCKED))
        each.show()
    assert "\x1b[33m" not in terminal.written
    assert "\x1b[33m" in coloured.written
    assert coloured.screen.lines == terminal.screen.lines


def test_behind_a_shell_nothing_is_painted(terminal: Terminal) -> None:
    """A run in the background leaves the terminal to others, but for the lines that stay; in front again it begins anew."""
    terminal.live.observe(started(300))
    terminal.live.take(SAMPLE)
    terminal.show()
    terminal.is_in_front = False
    terminal.screen.feed("\n$ ls\n")
    before = terminal.written
    terminal.live.observe(finished("x", Status.BLOCKED))
    terminal.show()
    assert terminal.written.removeprefix(before).count("\n") == 1
    assert "\x1b[J" not in terminal.written.removeprefix(before)
    terminal.is_in_front = True
    seen = terminal.show()
    assert seen[seen.index("$ ls") + 1] == " blocked   x  no reason was given"
    assert (
        sum(" of 300" in line for line in seen) == 2
    )  # the one before, which belongs to the past, and the new one


def test_a_run_that_was_stopped_by_a_shell_is_painted_anew_below_it(terminal: Terminal) -> None:
    """After Ctrl-Z and `fg` nothing of what was typed in between is painted over."""
    terminal.live.observe(started(300))
    terminal.live.take(SAMPLE)
    terminal.show()
    terminal.screen.feed("\n$ fg\n")
    signal.raise_signal(signal.SIGCONT)
    seen = terminal.show()
    assert seen[seen.index("$ fg") + 1] == ""
    assert seen[seen.index("$ fg") + 2].startswith(" jobs.jsonl ")


def test_a_terminal_that_takes_nothing_does_not_hold_up_the_loop() -> None:
    """While a write waits for Ctrl-Q, events are counted as fast as ever, and the end waits only for so long."""
    resumed, stuck = threading.Event(), threading.Event()

    def write(_text: str) -> None:
        stuck.set()
        resumed.wait()

    live = Live(about(Times()), RunState(LIMITS), write, lambda: (80, 24))
    with (
        WriterThread[Text](
            live.show, left_out=lambda _: Text(), every_s=0.01, leave_after_s=0.01
        ) as out,
        live,
    ):
        live.speak_through(out)
        live.observe(started(300))
        live.take(SAMPLE)
        assert stuck.wait(10)
        for number in range(1000):
            live.observe(finished(f"n{number}", Status.FAILED, "no"))
        live.observe(Stopping(Stop(StopReason.INTERRUPTED, "interrupted"), 12))
        live.end(summary())
        assert not resumed.is_set()
    resumed.set()
    out._thread.join()


def test_a_picture_that_fails_does_not_take_the_words_with_it(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in the view costs the view, not what has to be said."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(live_module, "picture", broken)
    terminal.live.observe(started(300))
    terminal.live.take(SAMPLE)
    terminal.live.observe(finished("x", Status.BLOCKED))
    assert " blocked   x  no reason was given" in terminal.show()


def test_a_terminal_that_does_not_say_its_size_is_a_common_one() -> None:
    """A pseudo-terminal of 0 columns, or none at all, is 80 by 24."""
    ours, theirs = os.openpty()
    assert terminal_size(theirs) == (80, 24)
    os.close(ours)
    os.close(theirs)
    assert terminal_size(theirs) == (80, 24)
