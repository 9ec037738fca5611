"""Kills of runs into a bucket whose disk is gone with them."""

import os
from pathlib import Path

import pytest

from tests.buckets import moto
from tests.torture.bucket_shards import torture
from tests.torture.buckets import torture_bucket
from tests.torture.shards import served


def test_a_kill_with_the_disk_repeats_no_mirrored_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has a row in the bucket is not sent again; repeated is at most what was in flight, and within one PUT."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    with monkeypatch.context(), moto(tmp_path) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        measured = torture_bucket(tmp_path, 5, 1, environment)
    assert measured.faults == []
    assert measured.kills == 5
    assert measured.committed_again == 0


def test_chains_over_four_workers_end_whole_though_one_is_killed_with_its_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call ends once, made of its parent's picture; repeated is at most what was in flight, or not uploaded."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    folder = tmp_path / "run"
    folder.mkdir()
    with moto(tmp_path) as environment, served() as server:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        measured = torture(folder, server, environment, chains=10, counts=[4], seed=5)
    assert measured.faults == []
    assert measured.kills == 1
