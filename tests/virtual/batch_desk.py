"""A manifest whose calls are sent in batches; each `run` is one run of the engine with a server in memory."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.client import interactive, remote_images
from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.engine import setup
from gemini_batch.engine.batch import opening
from gemini_batch.engine.summary import Summary
from gemini_batch.events import Event
from gemini_batch.output.batches import BatchNotes
from gemini_batch.output.images import ImageFolders
from gemini_batch.output.paths import BATCHES, PRIVATE, RESULTS
from gemini_batch.output.results_file import ResultsFile
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import MemoryStorage
from tests.builders import ENDPOINT, ScriptedFetcher, ScriptedTransport, Step
from tests.virtual.batch_server import BatchServer, FakeBatches, FakeFiles, FakeSession, Killed
from tests.virtual.clock import NOON_UTC, run
from tests.virtual.desk import CONFIG

BATCH = replace(CONFIG, route="batch", batch_lines=3)


class BatchDesk:
    """An output folder and a server, over several runs in which time passes.

    Attributes:
        server: All that survives a kill of the client.
        at: When the next run begins.
        kill_at: The number of the deed, of the client or the server, before which it is killed.
        killed_in: The steps of the batches on the disk when it was killed.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.path, self.out = folder / "jobs.jsonl", folder / "jobs.out"
        self.snapshot = folder / "snapshot"
        self.at = NOON_UTC
        self.server = BatchServer(now=self._utc)
        self.events: list[Event] = []
        self.transport: ScriptedTransport | None = None
        self.fetcher = ScriptedFetcher()
        self.kill_at = 0
        self.killed_in: set[str] = set()
        self.deeds: list[str] = []
        self._patch = patch
        self._left_behind: BatchServer | None = None
        self._now: Callable[[], datetime] = lambda: self.at
        for owner, name in (
            (BatchNotes, "write"),
            (BatchNotes, "add"),
            (BatchNotes, "remove"),
            (ResultsFile, "append"),
            (ImageFolders, "publish"),
        ):
            patch.setattr(owner, name, self._deed(name, getattr(owner, name)))

    def write(self, number: int = 4, **prompts: str) -> None:
        """Write the manifest: calls `a`, `b` … with a prompt of their own, changed by `prompts`."""
        names = [chr(ord("a") + each) for each in range(number)]
        jobs = ({"id": each, "prompt": prompts.get(each, f"prompt {each}")} for each in names)
        self.path.write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in jobs))

    def run(
        self,
        config: Settings = BATCH,
        *,
        after_h: float = 2.0,
        script: dict[str, list[Step]] | None = None,
        during: Callable[[Any], None] | None = None,
        **changes: Any,
    ) -> Summary:
        """Run the manifest, and let time pass; return the summary."""
        self.events = []
        self.server.before = self._before
        config = replace(config, **changes)

        async def scenario(clock: Clock) -> datetime:
            self._now = clock.utc
            self.transport = ScriptedTransport(clock, script or {})
            self._patch.setattr(interactive, "InteractiveTransport", lambda *_: self.transport)
            self._patch.setattr(remote_images, "RemoteImages", lambda *_: self.fetcher)
            self._patch.setattr(opening, "RestSession", lambda *_: FakeSession(self.server))
            self._patch.setattr(opening, "Files", FakeFiles)
            self._patch.setattr(opening, "Batches", FakeBatches)
            if during:
                during(going)
            await going.send(ENDPOINT, clock)
            return clock.utc()

        with setup.open_run(
            self.path,
            self.out,
            config,
            self.events.append,
            SharedLedger(MemoryStorage(), config.limits),
        ) as going:
            ended_at = run(scenario, start=self.at)
        self.at = ended_at + timedelta(hours=after_h)
        self._now = lambda: self.at
        assert going.summary is not None
        return going.summary

    def survives(self, config: Settings = BATCH, *, runs: int = 12, **changes: Any) -> Summary:
        """Run until nothing waits, restarting after the kill; return the last summary."""
        summary: Summary | None = None
        for _ in range(runs):
            summary = self.restarted(config, **changes)
            if not summary.waiting and not summary.left:
                return summary
        raise AssertionError(f"it does not come to an end: {summary}")

    def restarted(self, config: Settings = BATCH, **changes: Any) -> Summary:
        """Run, and after a kill once more; return the summary."""
        try:
            return self.run(config, **changes)
        except BaseException:
            if self._left_behind is None:
                raise
            self._resume()
        return self.run(config, **changes)

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows."""
        with suppress(FileNotFoundError):
            return [orjson.loads(line) for line in (self.out / RESULTS).read_bytes().splitlines()]
        return []

    def final(self) -> dict[str, str]:
        """Return the status of the newest row of each id."""
        return {row["id"]: row["status"] for row in self.rows() if row["status"] != "late"}

    def images(self) -> dict[str, bytes]:
        """Return the image of each call."""
        return {path.stem: path.read_bytes() for path in (self.out / "images").iterdir()}

    def notes(self) -> list[dict[str, Any]]:
        """Return the notes of batches that are on the disk."""
        folder = self.out / PRIVATE / BATCHES
        return [orjson.loads(each.read_bytes()) for each in folder.glob("*/batch.json")]

    def said(self) -> str:
        """Return the messages of the last run."""
        return "\n".join(str(getattr(event, "message", "")) for event in self.events)

    def _utc(self) -> datetime:
        return self._now()

    def _before(self, what: str) -> None:
        self.deeds.append(what)
        if len(self.deeds) == self.kill_at:
            shutil.rmtree(self.snapshot, ignore_errors=True)
            shutil.copytree(self.out, self.snapshot, symlinks=True)
            self._left_behind = self.server.fork()
            self.killed_in = {note["step"] for note in self.notes()}
            raise Killed

    def _resume(self) -> None:
        """Continue with the folder and the server as they were when the client was killed."""
        assert self._left_behind is not None
        shutil.rmtree(self.out)
        self.snapshot.rename(self.out)
        self.server, self._left_behind = self._left_behind, None
        self.server.now = self._utc
        self._now = lambda: self.at
        self.at += timedelta(hours=2)

    def _deed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self._before(name)
            return function(*arguments, **options)

        return call
