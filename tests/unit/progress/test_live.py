import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from rich.text import Text

from gemini_batch.errors import ExitCode
from gemini_batch.events import (
    BatchNotice,
    CallNotReused,
    LittleRoom,
    ManifestWarning,
    Repaired,
    Stopping,
)
from gemini_batch.progress import live as live_module
from gemini_batch.progress import writer_thread
from gemini_batch.progress.live import LiveView, terminal_size
from gemini_batch.progress.run_state import RunState, Sample
from gemini_batch.progress.writer_thread import WriterThread
from gemini_batch.records import FailureKind, Limits, RowError, Status, Stop, StopReason
from tests.builders import MODEL
from tests.unit.progress.builders import (
    AGAIN,
    Screen,
    Times,
    finished,
    run_info,
    started,
    summary,
    used,
)

LIMITS = Limits(requests_per_min=60, requests_per_day=1500)
SAMPLE = Sample(3, {MODEL: used(LIMITS, 3, 3)})


class Terminal:
    """A live view that the test shows on a screen, with all that was written."""

    def __init__(self, columns: int = 80, lines: int = 30, name: str = "jobs.jsonl") -> None:
        self.times, self.screen, self.queued = Times(), Screen(columns), list[Text]()
        self.lines, self.is_in_foreground, self.written = lines, True, ""
        self.live = LiveView(
            run_info(self.times, name=name),
            RunState(LIMITS),
            self._write_text,
            self._size,
            lambda: self.is_in_foreground,
        )
        self.live.write_to(self.write, self.flush)

    def write(self, line: Text) -> None:
        """Queue a line until it is shown."""
        self.queued.append(line)

    def flush(self) -> None:
        """Show the queued lines."""
        self.show()

    def show(self) -> list[str]:
        """Paint the view; return the content of the screen."""
        lines, self.queued = self.queued, []
        self.live.show(lines)
        return self.screen.lines

    def _write_text(self, text: str) -> None:
        self.written += text
        self.screen.feed(text)

    def _size(self) -> tuple[int, int]:
        return self.screen.columns, self.lines


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal without colours."""
    monkeypatch.setenv("NO_COLOR", "1")
    with (terminal := Terminal()).live.painting():
        yield terminal


def test_the_region_begins_with_the_sending_and_goes_with_its_end(terminal: Terminal) -> None:
    """There are only lines before; then it appears at once; a short result replaces it at the end."""
    terminal.live.observe(Repaired("3 images got their names"))
    assert terminal.show() == [" 3 images got their names", ""]
    terminal.live.observe(started(300))
    assert not any("0 of 300" in line for line in terminal.show())
    terminal.live.update(SAMPLE)
    assert any("0 of 300" in line for line in terminal.show())
    terminal.live.end(summary())
    assert terminal.show()[-7:] == [
        "",
        " done in 12 min 4 s: jobs.jsonl",
        " calls   300 succeeded",
        " cost    $39.80 at list price, estimated $40.20",
        " images  jobs.out/images",
        " view    gemini-batch gallery jobs.out",
        "",
    ]
    assert not any(" of 300" in line for line in terminal.screen.lines)


def test_blocked_and_failed_calls_stay_in_sight_and_finished_ones_do_not_scroll_by(
    terminal: Terminal,
) -> None:
    """Successful answers are only counted; each other one is a line with its reason."""
    terminal.live.observe(started(300))
    terminal.live.update(SAMPLE)
    for number in range(100):
        terminal.live.observe(finished(f"good{number}"))
    terminal.live.observe(finished("x", Status.BLOCKED))
    terminal.live.observe(finished("y", Status.FAILED, "HTTP 503: overloaded"))
    terminal.live.observe(CallNotReused("z", "is gone"))
    terminal.live.observe(LittleRoom("jobs.out"))
    terminal.live.observe(ManifestWarning("jobs.jsonl:1: request.x: not a field"))
    terminal.live.warn("strange")
    seen = terminal.show()
    assert [line for line in seen if "good" in line] == []
    first = seen.index(" blocked   x  no reason given")
    assert seen[first : first + 6] == [
        " blocked   x  no reason given",
        " failed    y  HTTP 503: overloaded",
        " z: can't be reused, so it is sent: is gone",
        " jobs.out: little disk space left, so fewer calls are in flight",
        " jobs.jsonl:1: request.x: not a field",
        " strange",
    ]


def test_calls_that_a_batch_did_not_answer_are_one_line(terminal: Terminal) -> None:
    """A line about the batch counts them; what the server says of one of its calls has a line of its own."""
    terminal.live.observe(started(300))
    for status in (FailureKind.NO_RESULT.value, "INTERNAL"):
        event = finished(status, Status.FAILED, "no answer")
        error = RowError(None, status, None, "no answer")
        row = replace(event.row, route="batch", error=error)
        terminal.live.observe(replace(event, row=row))
    terminal.live.observe(BatchNotice("batches/1 (expired): 1 call has no answer"))
    seen = [line.strip() for line in terminal.show() if "no answer" in line]
    assert seen == ["failed    INTERNAL  no answer", "batches/1 (expired): 1 call has no answer"]


def test_what_to_run_next_can_be_copied(terminal: Terminal) -> None:
    """The command is on a line of its own, which only the terminal wraps."""
    terminal.live.observe(started(300))
    terminal.live.end(summary(ExitCode.INTERRUPTED, left=3))
    seen = terminal.show()
    assert seen[-3:] == [" next    run again to continue:", f" {AGAIN}", ""]


def test_long_lines_are_wrapped_at_spaces(terminal: Terminal) -> None:
    """Nothing is lost at the edge, and no word is split."""
    said = " ".join(f"word{number}" for number in range(40))
    terminal.live.observe(finished("y", Status.FAILED, said))
    seen = terminal.show()
    assert max(map(len, seen)) < 80
    assert " ".join(" ".join(seen).split()) == f"failed y {said}"


def test_untrusted_text_is_text() -> None:
    """Escape sequences and markup in a path, an id or a message have no effect."""
    hostile = "\x1b[2J[red]x[/red]\x9b1m\x07"
    terminal = Terminal(columns=200, name=hostile)
    terminal.live.observe(Repaired(hostile))
    terminal.live.observe(started(300, out=hostile))
    terminal.live.update(SAMPLE)
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
    """NO_COLOR changes only the colours, not the text or its place."""
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = Terminal()
    for each in (terminal, coloured):
        each.live.observe(started(300))
        each.live.update(SAMPLE)
        each.live.observe(finished("x", Status.BLOCKED))
        each.show()
    assert "\x1b[33m" not in terminal.written
    assert "\x1b[33m" in coloured.written
    assert coloured.screen.lines == terminal.screen.lines


def test_in_the_background_nothing_is_painted(terminal: Terminal) -> None:
    """In the background only the lines that stay are written; in front, painting starts again."""
    terminal.live.observe(started(300))
    terminal.live.update(SAMPLE)
    terminal.show()
    terminal.is_in_foreground = False
    terminal.screen.feed("\n$ ls\n")
    before = terminal.written
    terminal.live.observe(finished("x", Status.BLOCKED))
    terminal.show()
    assert terminal.written.removeprefix(before).count("\n") == 1
    assert "\x1b[J" not in terminal.written.removeprefix(before)
    terminal.is_in_foreground = True
    seen = terminal.show()
    assert seen[seen.index("$ ls") + 1] == " blocked   x  no reason given"
    # The old region, which is part of the scrollback, and the new one.
    assert sum(" of 300" in line for line in seen) == 2


def test_after_a_stop_by_the_shell_the_region_starts_again_below(terminal: Terminal) -> None:
    """After Ctrl-Z and `fg`, text typed in between is not painted over."""
    terminal.live.observe(started(300))
    terminal.live.update(SAMPLE)
    terminal.show()
    terminal.screen.feed("\n$ fg\n")
    signal.raise_signal(signal.SIGCONT)
    seen = terminal.show()
    assert seen[seen.index("$ fg") + 1] == ""
    assert seen[seen.index("$ fg") + 2].startswith(" jobs.jsonl ")


def test_a_blocked_terminal_does_not_block_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a write is blocked by Ctrl-S, events are counted, and the end waits for a bounded time."""
    monkeypatch.setattr(writer_thread, "CLOSE_TIMEOUT_S", 0.01)
    resumed, stuck = threading.Event(), threading.Event()

    def write(_text: str) -> None:
        stuck.set()
        resumed.wait()

    live = LiveView(run_info(Times()), RunState(LIMITS), write, lambda: (80, 24))
    with (
        WriterThread[Text](live.show, dropped_line=lambda _: Text(), every_s=0.01) as out,
        live.painting(),
    ):
        live.write_to(out.write, out.flush)
        live.observe(started(300))
        live.update(SAMPLE)
        assert stuck.wait(10)
        for number in range(1000):
            live.observe(finished(f"n{number}", Status.FAILED, "no"))
        live.observe(Stopping(Stop(StopReason.INTERRUPTED, "interrupted"), 12))
        live.end(summary())
        assert not resumed.is_set()
    resumed.set()
    out._thread.join()


def test_a_failing_layout_does_not_cost_the_lines(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the layout costs the region, not the lines."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(live_module, "rows_of", broken)
    terminal.live.observe(started(300))
    terminal.live.update(SAMPLE)
    terminal.live.observe(finished("x", Status.BLOCKED))
    assert " blocked   x  no reason given" in terminal.show()


def test_an_unknown_terminal_size_is_80_by_24() -> None:
    """A pseudo-terminal of 0 columns, or a closed one, counts as 80 by 24."""
    ours, theirs = os.openpty()
    assert terminal_size(theirs) == (80, 24)
    os.close(ours)
    os.close(theirs)
    assert terminal_size(theirs) == (80, 24)
