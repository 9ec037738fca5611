import os
from pathlib import Path

import pytest

from gemini_batch.client import interactive
from gemini_batch.engine import session
from gemini_batch.records import Stop
from tests.loopback.python_api.network import Network


@pytest.fixture(autouse=True)
def _state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    # Durability is another module's matter here, and real syncs are slow.
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda _descriptor: None)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """The network of the next runs."""
    network = Network()
    monkeypatch.setattr(interactive, "InteractiveTransport", lambda *_: network)
    return network


@pytest.fixture
def until_left(network: Network, monkeypatch: pytest.MonkeyPatch) -> Network:
    """The network of a run, which answers one call at once, and the others when the run is left."""
    network.answers_left = 1
    network.answers.set()
    leave = session.Run.interrupt

    def interrupt(run: session.Run, stop: Stop) -> None:
        leave(run, stop)
        network.rest.set()

    monkeypatch.setattr(session.Run, "interrupt", interrupt)
    return network
