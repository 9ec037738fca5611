"""Signals of a run: the first one drains it, the second one abandons what is in flight."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from gemini_batch.engine.session import Run
from gemini_batch.records import Stop, StopReason

STOP_OF_SIGNAL = {
    signal.SIGINT: Stop(StopReason.INTERRUPTED, "interrupted"),
    signal.SIGTERM: Stop(StopReason.TERMINATED, "ended by SIGTERM"),
    signal.SIGHUP: Stop(StopReason.TERMINATED, "the terminal was closed"),
}
"""The stop of a run for each signal."""

# `timeout`, and a closed terminal, signal a whole process group: a wrapper that passes the signal
# on to its group makes two of one.
_ONE_SIGNAL_S = 1.0


class Signals:
    """The signals that a process has received, without those that repeat the first.

    Of two signals within a second the later one repeats the first, unless it is the second Ctrl-C.
    """

    def __init__(self) -> None:
        self._first_s: float | None = None
        self._presses = 0

    def is_new(self, received: signal.Signals, now_s: float) -> bool:
        """Return whether a signal is the first, or another one."""
        self._presses += received == signal.SIGINT
        first_s, self._first_s = self._first_s, now_s if self._first_s is None else self._first_s
        is_repeated = first_s is not None and now_s - first_s <= _ONE_SIGNAL_S
        return not is_repeated or self._presses > 1


def handled() -> list[signal.Signals]:
    """Return the signals that end a run: `nohup` has SIGHUP ignored, and it stays ignored."""
    is_hup_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [each for each in STOP_OF_SIGNAL if each != signal.SIGHUP or not is_hup_ignored]


@contextmanager
def interrupting(run: Run) -> Iterator[None]:
    """Interrupt the run at signals; the handlers belong to the running event loop."""
    loop, signals, names = asyncio.get_running_loop(), Signals(), handled()

    def on_signal(received: signal.Signals) -> None:
        if signals.is_new(received, loop.time()):
            run.interrupt(STOP_OF_SIGNAL[received])

    for each in names:
        loop.add_signal_handler(each, on_signal, each)
    try:
        yield
    finally:
        for each in names:
            loop.remove_signal_handler(each)
