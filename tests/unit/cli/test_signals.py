"""What a run makes of signals, with those of the system and a clock of the test's own."""

import asyncio
import os
import signal
import sys
from typing import cast

import pytest

import gemini_batch.cli
from gemini_batch.cli import signals as signals_of_a_run
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
    monkeypatch.setattr(signals_of_a_run, "handled", lambda: [INT, TERM, HUP])  # also below `nohup`
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


def test_a_command_that_is_terminated_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGTERM before a run has begun, or in `quota` and `doctor` while they wait: one sentence, and 143."""
    monkeypatch.setattr(sys, "argv", ["gemini-batch", "quota"])
    monkeypatch.setattr(gemini_batch.cli, "parser", lambda _: os.kill(os.getpid(), TERM))
    for name in ("ensure_utf8_mode", "open_missing_streams", "flush"):
        monkeypatch.setattr(gemini_batch.cli.streams, name, lambda *_: None)
    before = signal.getsignal(TERM)
    try:
        code = gemini_batch.cli.process()
    finally:
        signal.signal(TERM, before)

    assert code == 143
    assert "ended by SIGTERM; nothing was sent" in capsys.readouterr().err
