"""Creation of batches within the limits of a project, and the batches of all projects."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from gemini_batch.errors import ConfigError
from gemini_batch.simulator import bodies
from gemini_batch.simulator.batch import errors
from gemini_batch.simulator.batch.batch import LIFE, OPEN, Batch
from gemini_batch.simulator.batch.line_maker import LineMaker
from gemini_batch.simulator.batch.lines import Line, as_spool, read_lines
from gemini_batch.simulator.batch.results import Results
from gemini_batch.simulator.batch.spool import Spool
from gemini_batch.simulator.batch.stored_files import FileStore
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.clock import SettableClock
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.models import Model

_ID_LENGTH = 36
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(slots=True)
class Input:
    """Input of a batch: where it is, and what is in it."""

    file: str | None
    data: Spool
    metadata: list[Any]
    lines: list[Line]


class BatchStore:
    """The batches of all projects."""

    def __init__(self, config: SimulatorConfig, clock: SettableClock) -> None:
        self._config = config
        self._clock = clock
        self._rng = random.Random(f"{config.seed}/batches")
        self.batches: dict[str, Batch] = {}

    def add(self, project: str, model: Model, name: str, found: Input, origin: str) -> Batch:
        """Keep a new batch."""
        batch = Batch(
            "".join(self._rng.choices(_LETTERS, k=_ID_LENGTH)),
            len(self.batches) + 1,
            project,
            model,
            name,
            found.file,
            found.metadata,
            self._clock.utc(),
            timedelta(seconds=min(self._config.batch_turnaround_s, 2 * LIFE.total_seconds())),
            found.data,
            found.lines,
            origin,
        )
        self.batches[batch.id] = batch
        return batch

    def get(self, project: str, batch_id: str) -> Batch | None:
        """Return a batch of the project."""
        batch = self.batches.get(batch_id)
        return batch if batch and batch.project == project and not batch.is_deleted else None

    def of(self, project: str) -> Iterator[Batch]:
        """Yield the batches of a project, newest first."""
        for batch in reversed(list(self.batches.values())):
            if batch.project == project and not batch.is_deleted:
                yield batch

    def open(self, project: str) -> list[Batch]:
        """Return the batches of a project that have not ended."""
        now = self._clock.utc()
        return [
            batch
            for batch in self.batches.values()
            if batch.project == project and batch.state(now) in OPEN
        ]


class Creator:
    """Makes batches."""

    def __init__(
        self,
        config: SimulatorConfig,
        clock: SettableClock,
        files: FileStore,
        store: BatchStore,
        maker: LineMaker,
    ) -> None:
        self._config = config
        self._clock = clock
        self._files = files
        self._store = store
        self._maker = maker

    async def create(
        self, project: str, model: Model, asked: dict[str, Any], origin: str
    ) -> Batch | ErrorBody:
        """Return a new batch, or the error that refuses it."""
        name = asked.get("display_name", "")
        if not name:
            return bodies.bad_argument("BatchGenerateContentRequest.batch.display_name: required")
        if len(self._store.open(project)) >= self._config.max_batches:
            return errors.no_batch_quota()
        found = await self._input(project, model, asked.get("input_config", {}))
        if isinstance(found, ErrorBody):
            return found
        enqueued = sum(
            batch.tokens for batch in self._store.open(project) if batch.model is model
        ) + sum(line.tokens for line in found.lines)
        limit = self._config.batch_tokens
        if limit is None and self._config.tier != "unlimited":
            limit = model.batch_tokens
        if limit is not None and enqueued > limit:
            return errors.no_batch_quota()
        try:
            for line in found.lines:
                self._maker.decide(line)
        except ConfigError as problem:
            return bodies.error(400, f"simulator: {problem}")
        return self._store.add(project, model, name, found, origin)

    async def _input(self, project: str, model: Model, asked: dict[str, Any]) -> Input | ErrorBody:
        name: str | None = asked.get("file_name")
        metadata: list[Any] = []
        if name is not None:
            file = self._files.get(project, name.removeprefix("files/"))
            if file is None:
                return errors.no_file(name.removeprefix("files/"))
            if self._clock.utc() < file.active_at:
                return bodies.error(
                    400,
                    f"The File {file.id} is not in an ACTIVE state and usage is not allowed.",
                    status="FAILED_PRECONDITION",
                )
            data = file.data
        else:
            requests = asked.get("requests", {}).get("requests", [])
            if not all(isinstance(item, dict) for item in requests):
                return bodies.bad_argument("BatchGenerateContentRequest.batch.input_config")
            data, metadata = as_spool(requests)
        lines = await asyncio.to_thread(read_lines, data, model)
        return lines if isinstance(lines, ErrorBody) else Input(name, data, metadata, lines)

    async def inlined(self, batch: Batch) -> list[Any]:
        """Return the answers of a batch whose requests are inlined."""
        now = self._clock.utc()
        if not batch.has_output(now):
            return []
        answers = []
        for line in batch.answered(now):
            made = await asyncio.to_thread(self._maker.make, line, batch.data, batch.origin)
            metadata = batch.metadata[line.number - 1]
            answers.append({**made, **({} if metadata is None else {"metadata": metadata})})
        return answers

    def find_results(self, project: str, file_id: str) -> Results | None:
        """Return the result file with this id, or None if it can't be had."""
        batch = self._store.get(project, file_id.removeprefix("batch-"))
        now = self._clock.utc()
        if batch is None or batch.output_id != file_id or not batch.has_output(now):
            return None
        if batch.results is None:
            batch.results = Results(batch.answered(now), batch.data, self._maker, batch.origin)
        return batch.results
