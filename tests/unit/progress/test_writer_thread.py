import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from gemini_batch.progress import writer_thread
from gemini_batch.progress.writer_thread import WriterThread, writer


def opened(show: Callable[[list[str]], None]) -> WriterThread[str]:
    """Return a thread that counts dropped lines in one line."""
    return WriterThread(show, dropped_line="{} dropped".format)


@pytest.mark.parametrize("every_s", [None, 60.0])
def test_all_lines_are_shown_in_their_order(every_s: float | None) -> None:
    """Queued lines are written at the end, even if the interval is not over."""
    shown: list[str] = []
    with WriterThread[str](shown.extend, dropped_line=str, every_s=every_s) as out:
        for number in range(100):
            out.write(str(number))
    assert shown == [str(number) for number in range(100)]


@pytest.mark.parametrize("every_s", [None, 60.0])
def test_flush_waits_for_the_queued_lines(every_s: float | None) -> None:
    """Before a question is asked, all queued lines are shown."""
    shown: list[str] = []
    with WriterThread[str](shown.extend, dropped_line=str, every_s=every_s) as out:
        out.write("a")
        out.flush()
        assert shown == ["a"]


def test_a_blocked_reader_blocks_no_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines beyond a bound are dropped and counted, and the end waits for a bounded time."""
    monkeypatch.setattr(writer_thread, "MAX_LINES", 10)
    monkeypatch.setattr(writer_thread, "CLOSE_TIMEOUT_S", 0.01)
    reads, began, shown = threading.Event(), threading.Event(), list[str]()

    def show(lines: list[str]) -> None:
        began.set()
        reads.wait()
        shown.extend(lines)

    with opened(show) as out:
        out.write("first")
        assert began.wait(10)
        for number in range(50):
            out.write(str(number))
    assert shown == []
    reads.set()
    out._thread.join()
    assert shown[:2] == ["first", "0"]
    assert any(line.endswith("dropped") and int(line.split()[0]) >= 40 for line in shown)


def test_a_reader_that_has_gone_is_not_written_to() -> None:
    """After a closed pipe nothing is written, and nothing is queued."""
    reader, writing = os.pipe()
    os.close(reader)
    with (
        os.fdopen(writing, "w") as stream,
        opened(lambda lines: writer(stream)("".join(lines))) as out,
    ):
        out.write("a")
        out.flush()
        for _ in range(100):
            out.write("b")
        assert out._lines == []


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), ValueError("I/O operation on closed file"), MemoryError()]
)
def test_nothing_waits_for_lines_that_cannot_be_shown(
    error: Exception, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any error of the reader, flush returns at once, and no traceback is shown."""
    monkeypatch.setattr(writer_thread, "CLOSE_TIMEOUT_S", threading.TIMEOUT_MAX)

    def show(_lines: list[str]) -> None:
        raise error

    with opened(show) as out:
        out.write("a")
        out._thread.join()
        out.flush()
        assert out._lines == []
    assert capfd.readouterr() == ("", "")


def test_a_process_with_a_blocked_pipe_ends() -> None:
    """A thread blocked by a full pipe neither keeps Python from exiting, nor makes it abort."""
    code = (
        "import os, sys\n"
        "from gemini_batch.progress import writer_thread\n"
        "from gemini_batch.progress.writer_thread import WriterThread, writer\n"
        "writer_thread.CLOSE_TIMEOUT_S = 0.1\n"
        "os.dup2(os.pipe()[1], 2)\n"
        "def show(lines): writer(sys.stderr)(''.join(lines))\n"
        "with WriterThread(show, dropped_line=str) as out:\n"
        "    out.write('x' * 1_000_000)\n"
        "print('ended')\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (found.returncode, found.stdout) == (0, "ended\n")


def test_a_process_without_a_stderr_writes_nothing() -> None:
    """`2>&-` is no reason to fail."""
    writer(None)("text")
