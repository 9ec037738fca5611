"""A run that is stopped leaves its batches running."""

import asyncio

import pytest

from gemini_batch.engine.session import Run
from gemini_batch.records import Stop, StopReason
from tests.virtual.batch_desk import BatchDesk


def test_ctrl_c_leaves_batches_running(batch_desk: BatchDesk) -> None:
    """A stop ends the waiting at once; the batches go on, and the next run collects them."""

    def during(going: Run) -> None:
        stop = Stop(StopReason.INTERRUPTED, "interrupted")
        asyncio.get_running_loop().call_later(600, going.interrupt, stop)

    batch_desk.write(2)
    summary = batch_desk.run(waits_for_batches=True, during=during)
    assert (summary.exit_code, summary.waiting) == (130, 2)
    assert summary.duration_s < 601
    assert batch_desk.run().exit_code == 0


@pytest.mark.parametrize("silent", ["get", "download"])
def test_ctrl_c_does_not_wait_for_a_silent_server(silent: str, batch_desk: BatchDesk) -> None:
    """What arrives is drained for some seconds; the next run reads it again, and pays nothing."""

    def during(going: Run) -> None:
        stop = Stop(StopReason.INTERRUPTED, "interrupted")
        asyncio.get_running_loop().call_later(600, going.interrupt, stop)

    batch_desk.write(3)
    batch_desk.run()
    batch_desk.server.silent = silent
    summary = batch_desk.run(during=during)
    assert (summary.exit_code, summary.waiting > 0) == (130, True)
    assert 600 <= summary.duration_s <= 611
    batch_desk.server.silent = ""
    assert batch_desk.run().exit_code == 0
    assert len(batch_desk.rows()) == 3
    assert not any(batch_desk.out.glob(".gemini_batch/incoming/*"))


def test_a_deadline_ends_the_waiting(batch_desk: BatchDesk) -> None:
    """The batches go on, and the next run collects them."""
    batch_desk.write(2)
    summary = batch_desk.run(waits_for_batches=True, deadline_s=600.0)
    assert (summary.exit_code, summary.waiting) == (5, 2)
    assert summary.duration_s < 601
    assert batch_desk.run().exit_code == 0
