import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemini_batch.clock import Clock
from gemini_batch.engine.recovery import recover
from gemini_batch.output import OutputFolder
from gemini_batch.output.results_file import ResultsFile
from gemini_batch.output.rows import newest_rows, read_rows
from gemini_batch.records import Status
from tests.builders import (
    arrive,
    make_attempted,
    make_call,
    make_committer,
    make_reply,
    png,
    sha256,
)
from tests.virtual.clock import run
from tests.virtual.test_recovery import CAT, image_row, images_in, place, recover_twice, written


class Killed(BaseException):  # nobody is to handle it
    """The process is gone."""


class Killer:
    """Ends the process before the `at`-th deed on the disk; a dead process does no more deeds."""

    NAMES = ("write", "pwrite", "rename", "fsync", "fdatasync", "mkdir", "unlink", "ftruncate")

    def __init__(self, at: int, *, tears: bool, patch: pytest.MonkeyPatch) -> None:
        self.at = at
        self.deeds = 0
        for name in self.NAMES:
            patch.setattr(os, name, self._deed(name, getattr(os, name), tears=tears))

    def _deed(self, name: str, function: Callable[..., Any], *, tears: bool) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.deeds += 1
            if self.deeds == self.at and tears and name == "write":
                function(arguments[0], arguments[1][: len(arguments[1]) // 2])
            if self.deeds >= self.at:
                raise Killed
            return function(*arguments, **options)

        return call


def a_run(store: OutputFolder, words: str, reported: list[str]) -> None:
    """Do what a run does to the disk: recover, then commit three answers that are not there yet, in two groups."""

    async def scenario(clock: Clock) -> None:
        log = ResultsFile(store.out)
        try:
            done = {
                row["id"]
                for row in newest_rows(store.out)
                if row["request_sha256"] == sha256(words.encode())
            }
            done -= {row["id"] for row in newest_rows(store.out) if row["status"] == Status.LOST}
            committer = make_committer(
                store,
                log,
                clock,
                lambda event: reported.append(event.row.id),  # type: ignore[union-attr]
            )
            for call_id in ("robot", "icons/cat", "dog"):
                if call_id not in done:
                    images = arrive(
                        store, call_id, png(call_id + words), png(call_id + words + " draft")
                    )
                    call = make_call(call_id, prompt=words)
                    committer.reply(make_attempted(call), make_reply(*images))
                if call_id == "icons/cat":
                    await committer.flush()
            await committer.flush()
        finally:
            log.close()

    recover(store)
    run(scenario)


@pytest.mark.parametrize("tears", [False, True], ids=["kill", "torn write"])
@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.torture), 4])
@pytest.mark.promise("kept")
def test_a_kill_at_any_step_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, tears: bool, every: int
) -> None:
    """Killed before any write, rename or sync of an edited manifest's run, and run again: each call ends once, and no image is lost."""
    kills = 0
    for at in range(1, 1000, every):
        store = OutputFolder(tmp_path / str(at))
        (store.private / "incoming").mkdir(parents=True)
        a_run(store, "old", [])
        reported: list[str] = []
        with monkeypatch.context() as patch:
            killer = Killer(at, tears=tears, patch=patch)
            try:
                a_run(OutputFolder(store.out), "new", reported)
            except Killed:
                kills += 1
        written_rows = {row["id"] for row in read_rows(store.out) if row["prompt"] == "new"}
        store = OutputFolder(store.out)
        again: list[str] = []
        a_run(store, "new", again)

        # No reported call, and none that had its row, was sent again; and each has one row.
        assert not set(reported) & set(again), at
        assert not written_rows & set(again), at
        ids = [row["id"] for row in read_rows(store.out) if row["prompt"] == "new"]
        assert sorted(ids) == ["dog", "icons/cat", "robot"], at
        # Every image of every row is there, and so is each one that it stands in place of.
        expected: dict[str, bytes] = {}
        for call_id in ("robot", "icons/cat", "dog"):
            expected[f"images/{call_id}.png"] = png(call_id + "new")
            expected[f"drafts/{call_id}.1.png"] = png(call_id + "new draft")
            expected[f"superseded/{call_id}.png"] = png(call_id + "old")
            expected[f"superseded/drafts/{call_id}.1.png"] = png(call_id + "old draft")
        assert expected == images_in(store), at
        if killer.deeds < at:
            break
    assert kills > 50 / every


@pytest.mark.parametrize("tears", [False, True], ids=["kill", "torn write"])
def test_a_kill_while_recovering_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, tears: bool
) -> None:
    """Killed before any deed of a recovery that has all there is to do, the next recovery ends it."""
    kills = 0
    for at in range(1, 1000):
        store = OutputFolder(tmp_path / str(at))
        (store.private / "incoming").mkdir(parents=True)
        rows = [
            image_row("robot", png("1"), png("2")),
            image_row("gone", png("3")),
            bytes(50),
            b"\n",
            CAT,
            b"torn",
        ]
        written(store, *rows, durable=0)
        place(store, "images/robot.jpg", png("old"))
        arrive(store, "robot", png("1"), png("2"))
        arrive(store, "dog", png("half"))
        with monkeypatch.context() as patch:
            killer = Killer(at, tears=tears, patch=patch)
            try:
                recover(OutputFolder(store.out))
            except Killed:
                kills += 1

        recover_twice(OutputFolder(store.out))

        newest = {row["id"]: row["status"] for row in newest_rows(store.out)}
        assert newest == {"robot": "succeeded", "gone": "lost", "cat": "blocked"}, at
        names = {
            "images/robot.png": png("1"),
            "drafts/robot.1.png": png("2"),
            "superseded/robot.jpg": png("old"),
        }
        assert names == images_in(store), at
        if killer.deeds < at:
            break
    assert kills > 10


@pytest.mark.parametrize("name", ["rename", "fsync", "fdatasync", "pwrite"])
def test_a_disk_that_fails_while_recovering_is_an_error(
    store: OutputFolder, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A repair that the disk refuses is raised, and nothing is claimed that was not done."""
    written(store, image_row("robot", png("1")), durable=0)
    arrive(store, "robot", png("1"))

    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, name, refuse)
    with pytest.raises(OSError, match="Input/output"):
        recover(store)

    assert store.durable_bytes() == 0
