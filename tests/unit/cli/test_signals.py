"""What a run makes of signals, with those of the system and a clock of the test's own."""

import asyncio
import signal
from typing import cast

import pytest

from gemini_batch.cli.signals import interrupting
from gemini_batch.engine.session import Run
from gemini_batch.records import Stop, StopReason

HUP, INT, TERM = signal.SIGHUP, signal.SIGINT, signal.SIGTERM
INTERRUPTED, TERMINATED = StopReason.INTERRUPTED, StopReason.TERMINATED


class Interrupted:
    """A run that keeps why it is to stop."""

    def __init__(self) -> None:
        self.reasons: list[StopReason] = []

    def interrupt(self, stop: Stop) -> None:
        """Keep the reason."""
        self.reasons.append(stop.reason)


@pytest.mark.parametrize(
    ("signals", "after_s", "reasons"),
    [
        ([TERM, TERM], 1.0, [TERMINATED]),
        ([INT, TERM], 1.0, [INTERRUPTED]),
        ([HUP, TERM], 1.0, [TERMINATED]),
        ([TERM, INT], 0.0, [TERMINATED]),
        ([TERM, HUP, TERM], 0.3, [TERMINATED]),
        ([TERM, TERM], 1.1, [TERMINATED, TERMINATED]),
        ([HUP, TERM], 1.1, [TERMINATED, TERMINATED]),
        ([INT, INT], 0.0, [INTERRUPTED, INTERRUPTED]),
    ],
)
async def test_a_signal_that_comes_twice_at_once_is_one(
    signals: list[signal.Signals],
    after_s: float,
    reasons: list[StopReason],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrapper that passes on the signal of its group does not make the run abandon its calls.

    What comes more than a second later is another signal, and so is a second Ctrl-C.
    """
    loop, run, now_s, handled = asyncio.get_running_loop(), Interrupted(), 1000.0, asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, handled.set)  # comes after the others
    with interrupting(cast("Run", run)):
        for number, each in enumerate(signals):
            monkeypatch.setattr(loop, "time", lambda at=now_s + number * after_s: at)
            signal.raise_signal(each)
            signal.raise_signal(signal.SIGUSR1)
            await handled.wait()
            handled.clear()
        monkeypatch.undo()
    loop.remove_signal_handler(signal.SIGUSR1)
    assert run.reasons == reasons
