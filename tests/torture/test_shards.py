"""Workers of one run that are killed, in processes of their own."""

from pathlib import Path

import pytest

from tests.torture.shards import budget, hurt_budget, resume, served

pytestmark = pytest.mark.torture


@pytest.mark.promise("once")
def test_another_number_of_workers_sends_nothing_finished_again(tmp_path: Path) -> None:
    """4, 7 and 3 workers, the first two groups killed: each call is answered once, and no more is repeated than was in flight."""
    with served() as server:
        found = resume(tmp_path, server, calls=150, counts=(4, 7, 3), seed=1)
    assert found.faults == []
    assert found.kills >= 8


@pytest.mark.promise("budget")
def test_a_worker_that_is_killed_ten_times_keeps_the_budget(tmp_path: Path) -> None:
    """All requests of all workers, also those whose answers a kill lost, cost no more than `--max-cost`."""
    with served() as server:
        found = budget(tmp_path, server, calls=300, kills=10, seed=1)
    assert found.faults == []
    assert found.kills == 10


@pytest.mark.promise("budget")
@pytest.mark.parametrize("what", ["server", "reset"])
def test_a_ledger_that_goes_away_keeps_the_budget(tmp_path: Path, what: str) -> None:
    """Its server is killed between reservations and settlements, or all that it knows is deleted: no more is spent than `--max-cost`, and the exit code is 0 or 5."""
    with served() as server:
        found = hurt_budget(what, tmp_path, server, calls=150, kills=4, seed=1)
    assert found.faults == []
