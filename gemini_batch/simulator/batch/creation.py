"""Creation of batches, within the limits of a project."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gemini_batch.errors import ConfigError
from gemini_batch.simulator import bodies
from gemini_batch.simulator.batch import errors
from gemini_batch.simulator.batch.batch import Batch
from gemini_batch.simulator.batch.draws import Draws
from gemini_batch.simulator.batch.line_maker import LineMaker
from gemini_batch.simulator.batch.lines import Input, Line, as_spool, read_lines
from gemini_batch.simulator.batch.store import BatchStore
from gemini_batch.simulator.batch.stored_files import FileStore
from gemini_batch.simulator.batch_faults import BATCH_FAULTS, At, parse_batch_faults
from gemini_batch.simulator.batch_schedule import Drawn, PlacedMarker, batch_markers
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.checks import ImageRequest
from gemini_batch.simulator.clock import SettableClock
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.models import Model

_TURN_LINES = 100


@dataclass(frozen=True, slots=True)
class Created:
    """A new batch, and the faults of the answer that names it."""

    batch: Batch
    drawn: Drawn


@dataclass(eq=False, repr=False)
class Creator:
    """Makes batches."""

    _config: SimulatorConfig
    _clock: SettableClock
    _files: FileStore
    _store: BatchStore
    _maker: LineMaker
    _draws: Draws
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def create(
        self, project: str, model: Model, asked: dict[str, Any], origin: str
    ) -> Created | ErrorBody:
        """Return a new batch, or the error that refuses it."""
        name = asked.get("display_name", "")
        if not name:
            return bodies.bad_argument("BatchGenerateContentRequest.batch.display_name: required")
        found = await self._input(project, model, asked.get("input_config", {}))
        if isinstance(found, ErrorBody):
            return found
        try:
            async with self._one_at_a_time:
                return await self._add(project, model, name, found, origin)
        except ConfigError as problem:
            return bodies.error(400, f"simulator: {problem}")

    async def _add(
        self, project: str, model: Model, name: str, found: Input, origin: str
    ) -> Created | ErrorBody:
        """Return a batch of checked requests, unless a fault or a limit refuses it.

        Raises:
            ConfigError: A marker has an unknown name, or an invalid time or count.
        """
        markers = tuple(_markers(found.lines))
        drawn = self._draws.draw(At.CREATE, name, model=model.id, markers=markers)
        refusal = _drawn_refusal(drawn, model) or self._over_limits(project, model, found)
        if refusal is not None:
            return refusal
        for number, line in enumerate(found.lines):
            self._maker.decide(line)
            if number % _TURN_LINES == 0:
                await asyncio.sleep(0)  # other requests are answered in between
        batch = self._store.add(project, model, name, found, origin=origin, markers=markers)
        return Created(batch, drawn)

    def _over_limits(self, project: str, model: Model, found: Input) -> ErrorBody | None:
        """Return the 429 if a project has too many open batches, or too many tokens in them."""
        still_open = self._store.open(project)
        enqueued = sum(batch.tokens for batch in still_open if batch.model is model) + found.tokens
        limit = self._config.batch_tokens
        if limit is None and self._config.tier != "unlimited":
            limit = model.batch_tokens
        if len(still_open) < self._config.max_batches and enqueued <= (limit or enqueued):
            return None
        return errors.no_batch_quota()

    async def _input(self, project: str, model: Model, asked: dict[str, Any]) -> Input | ErrorBody:
        """Return the checked requests of a file, or of the body."""
        name: str | None = asked.get("file_name")
        metadata: list[Any] = []
        if name is not None:
            file_id = name.removeprefix("files/")
            file = self._files.get(project, file_id)
            if file is None:
                return errors.no_file(file_id)
            if self._clock.utc() < file.active_at:
                return errors.not_active(file_id)
            data = file.data
        else:
            requests = asked.get("requests", {}).get("requests", [])
            if not all(isinstance(item, dict) for item in requests):
                return bodies.bad_argument("BatchGenerateContentRequest.batch.input_config")
            data, metadata = as_spool(requests)
        lines = await asyncio.to_thread(read_lines, data, model)
        return lines if isinstance(lines, ErrorBody) else Input(name, data, metadata, lines)


def _markers(lines: list[Line]) -> Iterator[PlacedMarker]:
    """Yield the markers of prompts that hold for the whole batch.

    Raises:
        ConfigError: A marker has an unknown name, or an invalid time or count.
    """
    for line in lines:
        if isinstance(line.request, ImageRequest) and "[[fault:" in line.request.prompt:
            for placed in batch_markers(line.request.prompt):
                names = [name for name, _ in parse_batch_faults(placed.marker.faults)]
                if any(BATCH_FAULTS[name].at is not At.LINE for name in names):
                    yield placed


def _drawn_refusal(drawn: Drawn, model: Model) -> ErrorBody | None:
    """Return the error of a fault that refuses a batch."""
    if "create-400" in drawn:
        return errors.unknown_field()
    if "create-429" in drawn:
        return errors.no_batch_quota()
    if "create-429-zero" in drawn:
        return errors.no_batches_at_all(model.id)
    return errors.unavailable() if "create-503" in drawn else None
