import os
from pathlib import Path

import pytest

from gemini_batch.output import OutputFolder
from tests.virtual.batch_desk import BatchDesk
from tests.virtual.desk import Desk


@pytest.fixture
def no_real_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability is another module's matter here, and real syncs are slow."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda _descriptor: None)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Return a desk with three jobs."""
    desk = Desk(tmp_path, monkeypatch)
    desk.write(a="A robot", b="A cat", c="A dog")
    return desk


@pytest.fixture
def store(tmp_path: Path) -> OutputFolder:
    """Return the store of a folder that is there and has an `incoming`."""
    store = OutputFolder(tmp_path / "out")
    (store.private / "incoming").mkdir(parents=True)
    return store


@pytest.fixture
def batch_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BatchDesk:
    """Return a desk whose server has batches."""
    return BatchDesk(tmp_path, monkeypatch)
