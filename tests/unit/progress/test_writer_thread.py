import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from gemini_batch.progress import writer_thread
from gemini_batch.progress.writer_thread import WriterThread, writer


def opened(show: Callable[[list[str]], None], **options: float) -> WriterThread[str]:
    """Return an outlet whose leavings are counted in one line."""
    return WriterThread(show, left_out="{} left out".format, **options)


@pytest.mark.parametrize("every_s", [None, 60.0])
def test_all_lines_are_shown_in_their_order(every_s: float | None) -> None:
    """What was said before the end is written at the end, also when the next moment to show it would be much later."""
    shown: list[str] = []
    with WriterThread[str](shown.extend, left_out=str, every_s=every_s) as out:
        for number in range(100):
            out.say(str(number))
    assert shown == [str(number) for number in range(100)]


@pytest.mark.parametrize("every_s", [None, 60.0])
def test_what_was_said_can_be_waited_for(every_s: float | None) -> None:
    """Before a question is asked, all that was said is on the screen."""
    shown: list[str] = []
    with WriterThread[str](shown.extend, left_out=str, every_s=every_s) as out:
        out.say("a")
        out.flush()
        assert shown == ["a"]


def test_a_reader_who_does_not_read_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines beyond a bound are left out and counted, saying them never waits, and the end waits only for so long."""
    monkeypatch.setattr(writer_thread, "MOST_LINES", 10)
    reads, began, shown = threading.Event(), threading.Event(), list[str]()

    def show(lines: list[str]) -> None:
        began.set()
        reads.wait()
        shown.extend(lines)

    with opened(show, leave_after_s=0.01) as out:
        out.say("first")
        assert began.wait(10)
        for number in range(50):
            out.say(str(number))
    assert shown == []
    reads.set()
    out._thread.join()
    assert shown[:2] == ["first", "0"]
    assert any(line.endswith("left out") and int(line.split()[0]) >= 40 for line in shown)


def test_whoever_has_gone_is_not_written_to() -> None:
    """A pipe whose reader has gone ends the words, and nothing else: not even memory is kept for them."""
    reader, writing = os.pipe()
    os.close(reader)
    with (
        os.fdopen(writing, "w") as stream,
        opened(lambda lines: writer(stream)("".join(lines))) as out,
    ):
        out.say("a")
        out.flush()
        for _ in range(100):
            out.say("b")
        assert out._lines.qsize() == 0


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), ValueError("I/O operation on closed file"), MemoryError()]
)
def test_nobody_waits_for_words_that_can_not_be_shown(
    error: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever went wrong with the reader, what is to be waited for is over at once, and no traceback is shown."""

    def show(_lines: list[str]) -> None:
        raise error

    with opened(show) as out:
        out.say("a")
        out._thread.join()
        assert out._mark().is_set()
    assert capfd.readouterr() == ("", "")


def test_a_process_whose_words_are_stuck_ends() -> None:
    """A thread that waits for a full pipe does not keep Python from ending, nor make it abort."""
    code = (
        "import os, sys\n"
        "from gemini_batch.progress.writer_thread import WriterThread, writer\n"
        "os.dup2(os.pipe()[1], 2)\n"
        "with WriterThread(lambda lines: writer(sys.stderr)(''.join(lines)), left_out=str, leave_after_s=0.1) as out:\n"
        "    out.say('x' * 1_000_000)\n"
        "print('ended')\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (found.returncode, found.stdout) == (0, "ended\n")


def test_a_process_without_a_stderr_says_nothing() -> None:
    """`2>&-` is no reason to fail."""
    writer(None)("words")
