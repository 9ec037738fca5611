from collections.abc import Iterator
from pathlib import Path

import pytest

from gemini_batch.simulator import Simulator, SimulatorConfig
from tests.simulated import simulator
from tests.torture.commands import KEY


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GEMINI_BATCH_BASE_URL", raising=False)
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def server() -> Iterator[Simulator]:
    """A simulator that takes a moment, so that several calls are in flight."""
    with simulator(SimulatorConfig(tier="unlimited", pixels=16, latency_s=0.02)) as running:
        yield running
