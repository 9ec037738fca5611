"""The summary of a run with several workers."""

from dataclasses import asdict

import pytest

from gemini_batch.engine.summary import RunTotals
from gemini_batch.output.whole_summary import with_rows

ROWS = asdict(RunTotals(finished=9, sent=11, retries=2, cost_usd=0.9, latency_p50_s=3.0))


def test_a_worker_that_was_started_again_is_counted_whole() -> None:
    """Rows are those of all its starts; what was in flight at the kill was sent, and is not answered."""
    last_start = asdict(
        RunTotals(finished=4, sent=4, cost_usd=0.4, possibly_billed=2, estimated_answered_usd=0.4)
    )

    run = with_rows({"this_run": last_start}, ROWS)["this_run"]

    assert (run["finished"], run["cost_usd"], run["latency_p50_s"]) == (9, 0.9, 3.0)
    assert (run["sent"], run["retries"], run["possibly_billed"]) == (13, 2, 2)
    assert run["estimated_answered_usd"] == 0.0  # rows do not have it


@pytest.mark.parametrize("counted", [None, {}])
def test_workers_without_a_summary(counted: dict[str, object] | None) -> None:
    """Their rows are counted all the same."""
    assert with_rows({"this_run": counted}, ROWS)["this_run"]["sent"] == 11


def test_workers_that_ran_through() -> None:
    """Requests that no row has, for they failed before, are those that the workers counted."""
    counted = asdict(RunTotals(finished=9, sent=15, submitted=3, estimated_answered_usd=1.0))

    run = with_rows({"this_run": counted}, ROWS)["this_run"]

    assert (run["sent"], run["submitted"], run["estimated_answered_usd"]) == (15, 3, 1.0)
