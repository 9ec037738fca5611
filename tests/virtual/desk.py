import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.client import interactive, remote_images
from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.engine import session, setup
from gemini_batch.engine.run_record import RENEWED
from gemini_batch.engine.summary import Summary
from gemini_batch.events import Event
from gemini_batch.output.runs import read_runs, run_line
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import LedgerStorage, MemoryStorage
from gemini_batch.records import FailureKind, Limits
from tests.builders import (
    ENDPOINT,
    MODEL,
    ScriptedFetcher,
    ScriptedTransport,
    Step,
    fails,
    says,
)
from tests.virtual.clock import run

CONFIG = Settings(
    tier="test",
    limits=Limits(),
    endpoint=ENDPOINT,
    base_url=ENDPOINT,
    model=MODEL,
    concurrency=4,
    max_attempts=2,
)
REFUSED, GONE = [says(401)], [fails(FailureKind.UNREACHABLE)]


class Desk:
    """A manifest and its output folder; each `run` is one run of the engine with a scripted network."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "jobs.jsonl"
        self.out = folder / "jobs.out"
        self.events: list[Event] = []
        self.transport: ScriptedTransport | None = None
        self.fetcher = ScriptedFetcher()
        self.storage: LedgerStorage | None = None  # of several runs; a new one for each if None
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(folder / "state"))

    def write(self, **prompts: str) -> None:
        """Write the manifest: the prompt of each id."""
        self.write_jobs(*({"id": call_id, "prompt": prompt} for call_id, prompt in prompts.items()))

    def write_jobs(self, *jobs: dict[str, Any]) -> None:
        """Write the manifest's lines."""
        self.path.write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in jobs))

    def run(
        self,
        script: dict[str, list[Step]] | None = None,
        *,
        during: Callable[[session.Run], Any] | None = None,
        cancel_at_s: float | None = None,
        watch: Callable[[Event], None] = lambda _event: None,
        **changes: Any,
    ) -> Summary:
        """Run the manifest; return the summary."""
        self.events = []

        def observe(event: Event) -> None:
            self.events.append(event)
            watch(event)

        async def scenario(clock: Clock) -> None:
            self.transport = ScriptedTransport(clock, script or {})
            self._monkeypatch.setattr(
                interactive, "InteractiveTransport", lambda *_: self.transport
            )
            self._monkeypatch.setattr(remote_images, "RemoteImages", lambda *_: self.fetcher)
            async with asyncio.TaskGroup() as group:
                running = group.create_task(going.send(ENDPOINT, clock))
                if cancel_at_s is not None:
                    asyncio.get_running_loop().call_later(cancel_at_s, running.cancel)
                if during:
                    group.create_task(during(going))

        config = replace(CONFIG, **changes)
        ledger = SharedLedger(self.storage or MemoryStorage(), config.limits)
        with setup.open_run(self.path, self.out, config, observe, ledger) as going:
            run(scenario)
        assert going.summary is not None
        if (self.out / ".gemini_batch").exists():  # else a test moved it
            sent = going.planned.plan.todo > 0
            self._check_record(going.out, orjson.loads(going.summary.json()), sent=sent)
        return going.summary

    def _check_record(self, out: Path, said: dict[str, Any], *, sent: bool) -> None:
        """Check that `summary.json` and `runs.jsonl` say what the summary of a run says."""
        written = orjson.loads((out / "summary.json").read_bytes())
        names = said if sent else RENEWED
        assert {name: written[name] for name in names} == {name: said[name] for name in names}
        assert [*read_runs(out)][-1] == run_line(said)

    def sent(self) -> list[str]:
        """What the last run sent."""
        return [call_id for _, call_id in self.transport.sent] if self.transport else []
