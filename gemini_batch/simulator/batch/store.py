"""The batches of all projects."""

import random
from collections.abc import Iterator
from datetime import timedelta

from gemini_batch.simulator.batch.batch import LIFE, OPEN, Batch
from gemini_batch.simulator.batch.draws import Draws
from gemini_batch.simulator.batch.lines import Input
from gemini_batch.simulator.batch_faults import At
from gemini_batch.simulator.batch_schedule import Drawn, PlacedMarker
from gemini_batch.simulator.clock import SettableClock
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.models import Model

_ID_LENGTH = 36
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


class BatchStore:
    """Every batch that was made, by id, and the faults of requests for it."""

    def __init__(self, config: SimulatorConfig, clock: SettableClock, draws: Draws) -> None:
        self._config = config
        self._clock = clock
        self._draws = draws
        self._rng = random.Random(f"{config.seed}/batches")
        self.batches: dict[str, Batch] = {}

    def add(
        self,
        project: str,
        model: Model,
        name: str,
        found: Input,
        *,
        origin: str,
        markers: tuple[PlacedMarker, ...],
    ) -> Batch:
        """Keep a new batch, and choose its course."""
        turnaround_s = min(self._config.batch_turnaround_s, 2 * LIFE.total_seconds())
        batch = Batch(
            "".join(self._rng.choices(_LETTERS, k=_ID_LENGTH)),
            len(self.batches) + 1,
            project,
            model,
            name,
            found,
            self._clock.utc(),
            timedelta(seconds=turnaround_s),
            origin,
            markers,
        )
        batch.faults = self.draw(At.COURSE, batch)
        self.batches[batch.id] = batch
        return batch

    def draw(self, at: At, batch: Batch) -> Drawn:
        """Return the faults of a request for a batch."""
        return self._draws.draw(at, batch.display_name, model=batch.model.id, markers=batch.markers)

    def get(self, project: str, batch_id: str) -> Batch | None:
        """Return a batch of the project."""
        batch = self.batches.get(batch_id)
        if batch is None or batch.project != project or batch.is_gone(self._clock.utc()):
            return None
        return batch

    def listed(self, project: str) -> Iterator[Batch]:
        """Yield the batches that the list of a project has, newest first."""
        now = self._clock.utc()
        for batch in reversed(self.batches.values()):
            if batch.project == project and batch.is_listed(now):
                yield batch

    def open(self, project: str) -> list[Batch]:
        """Return the batches of a project that have not ended, also those that were deleted."""
        now = self._clock.utc()
        return [
            batch
            for batch in self.batches.values()
            if batch.project == project and batch.state(now) in OPEN
        ]
