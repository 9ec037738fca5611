"""Signals of a run: the first one drains it, the second one abandons what is in flight."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from gemini_batch.engine.session import Run
from gemini_batch.records import Stop, StopReason

_STOP_OF_SIGNAL = {
    signal.SIGINT: Stop(StopReason.INTERRUPTED, "interrupted"),
    signal.SIGTERM: Stop(StopReason.TERMINATED, "ended by SIGTERM"),
    signal.SIGHUP: Stop(StopReason.TERMINATED, "the terminal was closed"),
}
# `timeout`, and a closed terminal, signal a whole process group: a wrapper that passes the signal
# on to its group makes two of one.
_ONE_SIGNAL_S = 1.0


@contextmanager
def interrupting(run: Run) -> Iterator[None]:
    """Interrupt the run at signals; the handlers belong to the running event loop.

    Of two signals within a second the later one repeats the first, unless it is the second Ctrl-C.
    """
    loop = asyncio.get_running_loop()
    first_s: float | None = None
    presses = 0

    def on_signal(received: signal.Signals) -> None:
        nonlocal first_s, presses
        presses += received == signal.SIGINT
        is_repeated = first_s is not None and loop.time() - first_s <= _ONE_SIGNAL_S
        if not is_repeated or presses > 1:
            run.interrupt(_STOP_OF_SIGNAL[received])
        first_s = loop.time() if first_s is None else first_s

    # `nohup` has SIGHUP ignored, and it stays ignored.
    handled = [
        each
        for each in _STOP_OF_SIGNAL
        if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN
    ]
    for each in handled:
        loop.add_signal_handler(each, on_signal, each)
    try:
        yield
    finally:
        for each in handled:
            loop.remove_signal_handler(each)
