"""The batch route, killed."""

from pathlib import Path

from tests.torture.batches import torture_batches


def test_runs_of_batches_that_are_killed_pay_once(tmp_path: Path) -> None:
    """Killed around uploads, creates, looks and downloads, on a server with faults, and run again: each call is paid once, has its
    picture, and no batch is left.
    """
    measured = torture_batches(tmp_path, kills=4, seed=3, calls=40)
    assert measured.faults == []
    assert (measured.kills, measured.calls % 40) == (4, 0)
