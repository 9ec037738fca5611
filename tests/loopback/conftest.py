from collections.abc import Iterator

import pytest

from gemini_batch.simulator import Simulator
from tests.simulated import simulator


@pytest.fixture
def server() -> Iterator[Simulator]:
    """A simulator that answers at once."""
    with simulator() as running:
        yield running
