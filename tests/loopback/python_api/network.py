"""Jobs, configs and a network that waits for the test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

from gemini_batch import (
    Job,
    RunConfig,
)
from gemini_batch.client.transport import Exchange
from gemini_batch.output import StagedAnswer
from gemini_batch.records import Answer, Call
from tests.builders import PICTURE, TIMING, says

# A test that fails is not to hang.
PATIENCE_S = 60


def simulated(out: Path, **settings: Any) -> RunConfig:
    """Return a config of a fast simulated run."""
    return RunConfig(simulate=True, out=out, rpm=6000, **settings)


def robots(number: int) -> list[Job]:
    """Return so many jobs."""
    return [Job(id=f"robot-{n}", prompt=f"Robot {n}") for n in range(number)]


async def as_they_come(jobs: list[Job]) -> AsyncIterator[Job]:
    """Yield jobs as a source does that is read over the network."""
    for job in jobs:
        await asyncio.sleep(0)
        yield job


class Network:
    """Stands in for the transport: answers when the test lets it."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.expected = 0
        self.answers_left = 1_000
        self.refuses_after = 1_000
        self.all_sent = asyncio.Event()
        self.arrived = asyncio.Event()
        self.answers = asyncio.Event()
        self.rest = asyncio.Event()

    async def is_reached(self) -> None:
        """Return when the first request has arrived."""
        await asyncio.wait_for(self.arrived.wait(), PATIENCE_S)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    async def send(
        self, call: Call, incoming: StagedAnswer, connected: Callable[[], None]
    ) -> Exchange:
        """Answer with a picture, once answers are let through."""
        connected()
        self.sent.append(call.id)
        self.arrived.set()
        if len(self.sent) == self.expected:
            self.all_sent.set()
        await self.answers.wait()
        if not self.answers_left:
            await self.rest.wait()
        self.answers_left = max(self.answers_left - 1, 0)
        step = PICTURE if len(self.sent) <= self.refuses_after else says(401)
        answer = step.answer(call, incoming)
        assert isinstance(answer, Answer)
        return Exchange(answer, TIMING)


async def first(rows: AsyncIterator[object]) -> object:
    """Return the first row."""
    return await anext(rows)
