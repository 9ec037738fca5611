import asyncio
import errno
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gemini_batch.clock import Clock
from gemini_batch.engine import commit
from gemini_batch.engine.commit import Committer
from gemini_batch.engine.recovery import recover
from gemini_batch.errors import StorageError
from gemini_batch.events import CallFinished, Event
from gemini_batch.output import OutputFolder
from gemini_batch.output.results_file import ResultsFile
from gemini_batch.output.rows import read_rows
from gemini_batch.output.staging import staged_name
from gemini_batch.records import ApiError, Status, Usage
from tests.builders import arrive, make_attempted, make_call, make_committer, make_reply, png, tree
from tests.virtual.clock import run

T = TypeVar("T")


class Disk:
    """A folder with a committer, and a list of all that it does to the disk, in order; each deed can be made to fail."""

    def __init__(self, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = OutputFolder(out)
        (self.store.private / "incoming").mkdir(parents=True)
        self.log = ResultsFile(out)
        self.deeds: list[str] = []
        self.faults: dict[str, OSError] = {}
        self._files = {self.log._descriptor: "results.jsonl"}
        for name in ("open", "close", "write", "pwrite", "rename", "fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._recording(name, getattr(os, name)))

    def committer(self, clock: Clock) -> Committer:
        """Return a committer that reports into `deeds`."""
        return make_committer(self.store, self.log, clock, self.observe)

    def observe(self, event: Event) -> None:
        """Note what is reported."""
        assert isinstance(event, CallFinished)
        self.deeds.append(f"finished {event.row.id}")

    @property
    def finished(self) -> list[str]:
        """The calls that were reported as finished."""
        return [deed.split()[1] for deed in self.deeds if deed.startswith("finished")]

    def _recording(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            deed = name
            if name == "rename":
                source = self._short(arguments[0], options.get("src_dir_fd"))
                deed += f" {source} {self._short(arguments[1], options.get('dst_dir_fd'))}"
            elif name not in {"open", "close"}:
                deed += f" {self._files.get(arguments[0], '?')}"
            if fault := next(
                (fault for start, fault in self.faults.items() if deed.startswith(start)), None
            ):
                self.deeds.append(f"{deed} FAILED")
                raise fault
            result = function(*arguments, **options)
            if name == "open":
                self._files[result] = self._short(arguments[0], options.get("dir_fd"))
            elif name != "close":
                self.deeds.append(deed)
            return result

        return call

    def _short(self, path: Any, folder: int | None = None) -> str:
        if folder is not None:
            return os.path.normpath(f"{self._files.get(folder, '?')}/{path}")
        return os.path.relpath(path, self.store.out)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Return a recorded disk."""
    disk = Disk(tmp_path / "out", monkeypatch)
    yield disk
    disk.log.close()


def commit_picture(disk: Disk, committer: Committer, call_id: str, prompt: str = "A robot") -> None:
    """Let an answer arrive, and commit it."""
    (image,) = arrive(disk.store, call_id, png(call_id + prompt))
    committer.reply(make_attempted(make_call(call_id, prompt=prompt)), make_reply(image))


def eio() -> OSError:
    """Return what a broken disk says."""
    return OSError(errno.EIO, os.strerror(errno.EIO))


def test_the_order_of_a_commit(disk: Disk) -> None:
    """Row, then names; then the files, the rows, the folders and the note become durable in this order; then it is reported."""

    async def scenario(clock: Clock) -> None:
        committer = disk.committer(clock)
        images = arrive(disk.store, "robot", png("1"), png("2"))
        disk.deeds.clear()
        committer.reply(make_attempted(), make_reply(*images))
        await committer.flush()

    run(scenario)

    incoming = f".gemini_batch/incoming/{staged_name('robot', 1)}"
    assert [
        "write results.jsonl",
        f"rename {incoming}.0 images/robot.png",
        f"rename {incoming}.1 drafts/robot.1.png",
        "fsync images/robot.png",
        "fsync drafts/robot.1.png",
        "fdatasync results.jsonl",
        "fsync images",
        "fsync drafts",
        "fsync .gemini_batch/incoming",
        "fsync .gemini_batch",
        "fsync .",
        "pwrite .gemini_batch/durable",
        "fsync .gemini_batch/durable",
        "fsync .gemini_batch",
        "finished robot",
    ] == disk.deeds


def test_a_row_without_images_makes_the_rows_file_durable(disk: Disk) -> None:
    """The first row of a folder is durable by name too: the folder is synced though no image came."""

    async def scenario(clock: Clock) -> None:
        committer = disk.committer(clock)
        disk.deeds.clear()
        committer.error(
            make_attempted(), Status.REJECTED, ApiError(400, "INVALID_ARGUMENT", None, "no")
        )
        await committer.flush()

    run(scenario)

    assert disk.deeds[:3] == ["write results.jsonl", "fdatasync results.jsonl", "fsync ."]
    assert [row["status"] for row in read_rows(disk.store.out)] == ["rejected"]


def test_an_earlier_image_moves_before_its_successor_comes(disk: Disk) -> None:
    """The image of an edited call is kept under superseded/, whatever its extension."""

    async def scenario(clock: Clock) -> None:
        committer = disk.committer(clock)
        (image,) = arrive(disk.store, "robot", b"\xff\xd8\xff old")
        committer.reply(make_attempted(), make_reply(image))
        await committer.flush()
        commit_picture(disk, committer, "robot", "new")
        await committer.flush()

    run(scenario)

    images = {
        name: data for name, data in tree(disk.store.out).items() if name.endswith(("png", "jpg"))
    }
    assert {
        "images/robot.png": png("robotnew"),
        "superseded/robot.jpg": b"\xff\xd8\xff old",
    } == images


def test_a_retired_image_is_durable_before_its_successor_has_the_name(disk: Disk) -> None:
    """A power cut never takes an earlier image, in whatever order the file system writes names: its new folder, then its new name there, then
    the successor.
    """

    async def scenario(clock: Clock) -> None:
        committer = disk.committer(clock)
        commit_picture(disk, committer, "icons/robot", "old")
        await committer.flush()
        disk.deeds.clear()
        commit_picture(disk, committer, "icons/robot", "new")
        await committer.flush()

    run(scenario)

    part = f".gemini_batch/incoming/{staged_name('icons/robot', 1)}.0"
    assert [
        "write results.jsonl",
        f"rename {part} {part}.late",
        f"fsync {part}.late",
        "fsync .",
        "fsync superseded",
        "rename images/icons/robot.png superseded/icons/robot.png",
        "fsync superseded/icons",
        f"rename {part}.late images/icons/robot.png",
    ] == disk.deeds[1:9]
    assert disk.deeds[-1] == "finished icons/robot"


@pytest.mark.parametrize("fault", ["rename images", "fsync superseded", "rename .gemini_batch/inc"])
def test_an_earlier_image_that_can_not_retire_stays(disk: Disk, fault: str) -> None:
    """If it can't move, or not durably, its successor is not reported, and the next run has both."""

    async def scenario(clock: Clock) -> None:
        committer = disk.committer(clock)
        commit_picture(disk, committer, "robot", "old")
        await committer.flush()
        commit_picture(disk, committer, "robot", "new")
        disk.faults[fault] = eio()
        with pytest.raises(StorageError):
            await committer.flush()
        disk.faults.clear()

    run(scenario)

    assert disk.finished == ["robot"]
    recover(disk.store)
    images = {name: data for name, data in tree(disk.store.out).items() if name.endswith("png")}
    assert {
        "images/robot.png": png("robotnew"),
        "superseded/robot.png": png("robotold"),
    } == images


def test_nothing_comes_between_answer_and_row() -> None:
    """Committing never gives way to the event loop."""
    assert not inspect.iscoroutinefunction(Committer.reply)
    assert not inspect.iscoroutinefunction(Committer.error)


def gated(clock: Clock) -> tuple[Clock, asyncio.Event, asyncio.Event]:
    """Return a clock whose blocking work waits to be let go, and the events "it has begun" and "go"."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def run_gated(function: Callable[[], T], /) -> T:
        begun.set()
        await go.wait()
        return function()

    return replace(clock, run_blocking=run_gated), begun, go


def test_the_durable_offset_covers_no_row_whose_image_is_not_synced(disk: Disk) -> None:
    """A row that is written while others are being synced is not durable with them, nor reported."""

    async def scenario(clock: Clock) -> None:
        clock, begun, go = gated(clock)
        committer = disk.committer(clock)
        commit_picture(disk, committer, "early")
        after_early = disk.log.end_bytes
        async with asyncio.TaskGroup() as group:
            group.create_task(committer.wait_for_disk())
            flush = group.create_task(committer.flush())
            await begun.wait()
            commit_picture(disk, committer, "late")
            noted: list[int] = []
            note = disk.store.note_durable

            def note_durable(end_bytes: int) -> None:
                noted.append(end_bytes)
                note(end_bytes)

            disk.store.note_durable = note_durable  # type: ignore[method-assign]
            go.set()
            await flush
        assert [after_early, disk.log.end_bytes] == noted

    run(scenario)

    assert disk.deeds.index("finished early") < disk.deeds.index("fsync images/late.png")
    assert disk.finished == ["early", "late"]


@pytest.mark.parametrize("fault", ["fsync images/robot.png", "fdatasync", "fsync images", "pwrite"])
def test_a_disk_that_fails_once_is_not_believed_again(disk: Disk, fault: str) -> None:
    """When a sync fails nothing is reported, and a later one that works reports nothing either: its pages may be lost."""

    async def scenario(clock: Clock) -> None:
        committer = disk.committer(clock)
        commit_picture(disk, committer, "robot")
        disk.faults[fault] = eio()
        for _ in range(2):
            with pytest.raises(StorageError, match=r"can't be made durable: .*Input/output error"):
                await committer.flush()
            disk.faults.clear()
        commit_picture(disk, committer, "cat")
        with pytest.raises(StorageError):
            await committer.flush()

    run(scenario)

    assert disk.finished == []
    assert not disk.store.durable_bytes()


@pytest.mark.parametrize("fault", ["rename .gemini_batch"])
def test_a_row_without_its_image_is_left_to_recovery(disk: Disk, fault: str) -> None:
    """When an image can't be given its name, its row is not reported and not called durable; those before it are, the part stays."""

    async def scenario(clock: Clock) -> int:
        committer = disk.committer(clock)
        commit_picture(disk, committer, "robot", "old")
        await committer.flush()
        commit_picture(disk, committer, "dog")
        before = disk.log.end_bytes
        disk.faults[fault] = eio()
        with pytest.raises(
            StorageError, match="robot: its image can't be published, the next run tries again"
        ):
            commit_picture(disk, committer, "robot", "new")
        disk.faults.clear()
        commit_picture(disk, committer, "cat")
        await committer.flush()
        return before

    before = run(scenario)

    assert disk.finished == ["robot", "dog", "cat"]
    assert disk.store.durable_bytes() == before
    assert len(disk.store.staged_files("robot", 1)) == 1


def test_a_row_that_cannot_be_written_moves_nothing(disk: Disk) -> None:
    """Without a row no image gets its name, and what stands there stays."""

    async def scenario(clock: Clock) -> None:
        committer = disk.committer(clock)
        commit_picture(disk, committer, "robot", "old")
        await committer.flush()
        (image,) = arrive(disk.store, "robot", png("new"))
        disk.faults["write results"] = eio()
        with pytest.raises(StorageError, match="robot: its row can't be written"):
            committer.reply(make_attempted(), make_reply(image))
        await committer.flush()

    run(scenario)

    assert disk.finished == ["robot"]
    assert png("robotold") == (disk.store.out / "images/robot.png").read_bytes()


def test_calls_that_end_together_are_one_group(disk: Disk) -> None:
    """All that is committed within 20 ms is made durable at once: the rows are synced once for them all."""

    async def scenario(clock: Clock) -> None:
        committer = disk.committer(clock)
        async with asyncio.TaskGroup() as group:
            durability = group.create_task(committer.keep_durable())
            for number in range(10):
                commit_picture(disk, committer, f"robot{number}")
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.1)
            assert len(disk.finished) == 10
            durability.cancel()

    run(scenario)

    assert disk.deeds.count("fdatasync results.jsonl") == 1


def test_not_too_many_rows_wait(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds too many rows pending waits for the disk, also when nobody else makes anything durable."""
    monkeypatch.setattr(commit, "MAX_PENDING", 3)

    async def scenario(clock: Clock) -> None:
        committer = disk.committer(clock)
        for number in range(10):
            commit_picture(disk, committer, f"robot{number}")
            await committer.wait_for_disk()
            assert number + 1 - len(disk.finished) < 3

    run(scenario)


def test_nobody_waits_for_a_disk_that_has_failed(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With too many rows pending and a sync that failed, waiting is an error and no deadlock."""
    monkeypatch.setattr(commit, "MAX_PENDING", 1)

    async def scenario(clock: Clock) -> None:
        committer = disk.committer(clock)
        disk.faults["fdatasync"] = eio()
        commit_picture(disk, committer, "robot")
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(expect_failure(committer))

    async def expect_failure(committer: Committer) -> None:
        with pytest.raises(StorageError):
            await committer.wait_for_disk()

    run(scenario)


@pytest.mark.parametrize("patience", [0, 1])
def test_cancellation_loses_nothing(disk: Disk, patience: int) -> None:
    """When a flush is cancelled the disk goes on, and the next flush reports each row once."""

    async def scenario(clock: Clock) -> None:
        clock, begun, go = gated(clock)
        committer = disk.committer(clock)
        commit_picture(disk, committer, "robot")
        async with asyncio.TaskGroup() as group:
            durability = group.create_task(committer.keep_durable())
            flush = group.create_task(committer.flush())
            if patience:
                await begun.wait()
            durability.cancel()
            flush.cancel()
        commit_picture(disk, committer, "cat")
        go.set()
        await committer.flush()

    run(scenario)

    assert disk.finished == ["robot", "cat"]
    assert disk.store.durable_bytes() == disk.log.end_bytes


def test_the_row_says_what_was_paid(disk: Disk) -> None:
    """The size that was asked for counts in its price, a safety answer is free, and no row has more digits than a millionth of a dollar."""

    async def scenario(clock: Clock) -> None:
        committer = disk.committer(clock)
        call = make_call("raw")
        (image,) = arrive(disk.store, "raw", png(""))
        reply = replace(make_reply(image), usage=None)
        committer.reply(make_attempted(replace(call, image_size="4K")), reply)
        committer.reply(make_attempted(make_call("blocked")), make_reply(None))
        (image,) = arrive(disk.store, "thinks", png(""))
        usage = Usage(
            prompt_tokens=10, candidates_tokens=1290, total_tokens=1300
        )  # 0.13645999999999997 as floats add up
        committer.reply(
            make_attempted(make_call("thinks")), replace(make_reply(image), usage=usage)
        )

    run(scenario)

    assert [row["cost_usd"] for row in read_rows(disk.store.out)] == [0.24002, 0.0, 0.13646]
