"""Power cuts on a file system that keeps names in any order: what was not synced is there or not, each by itself."""

import os
import random
import shutil
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from gemini_batch.output import OutputFolder
from gemini_batch.output.rows import newest_rows
from gemini_batch.records import Status
from tests.builders import png, sha256
from tests.virtual.test_recovery_kills import Killed, a_run

CALLS = ("robot", "icons/cat", "dog")
# At every deed it takes half a minute: `STEP=1 pytest tests/virtual/test_power_cuts.py`.
STEP = int(os.environ.get("STEP", "10"))
NAMED = ("open", "mkdir", "rename", "unlink", "fsync", "fdatasync")

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")


@dataclass
class Named:
    """One change of names: `gone` lose theirs, `path` gets the inode (0 is a folder); in which folders."""

    path: str
    inode: int
    gone: str = ""
    is_durable: bool = False

    @property
    def folders(self) -> set[str]:
        """The folders whose sync makes it durable."""
        return {str(Path(each).parent) for each in (self.path, self.gone) if each}


@dataclass
class Disk:
    """Records what happens to the names and the contents below a folder, until a power cut before the `at`-th deed."""

    out: Path
    at: int
    deeds: int = 0
    changes: list[Named] = field(default_factory=list)
    synced: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # What is there at the start is durable.
        self.before = {str(path): inode(path) for path in self.out.rglob("*")}
        for path in self.out.rglob("*"):
            if path.is_file():
                self.synced[inode(path)] = path.read_bytes()

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Record all that this process does from now on."""
        for name in NAMED:
            patch.setattr(os, name, self._recorded(name, getattr(os, name)))

    def _recorded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        note = getattr(self, f"_{name}")

        def call(*arguments: Any, **options: Any) -> Any:
            if name == "open" and not arguments[1] & os.O_CREAT:
                return function(*arguments, **options)
            self.deeds += 1
            if self.deeds >= self.at:
                raise Killed
            return note(function, *arguments, **options)

        return call

    def _open(self, function: Callable[..., int], path: Any, *rest: Any, **options: Any) -> int:
        place = full(path, options.get("dir_fd"))
        is_new = not place.exists()
        descriptor = function(path, *rest, **options)
        if is_new:
            self._add(place, os.fstat(descriptor).st_ino)
        return descriptor

    def _mkdir(self, function: Callable[..., None], path: Any, *rest: Any, **options: Any) -> None:
        function(path, *rest, **options)
        self._add(full(path, options.get("dir_fd")), 0)

    def _rename(
        self, function: Callable[..., None], source: Any, target: Any, **options: Any
    ) -> None:
        old, new = (
            full(source, options.get("src_dir_fd")),
            full(target, options.get("dst_dir_fd")),
        )
        number = inode(old)
        function(source, target, **options)
        self._add(new, number, gone=str(old))

    def _unlink(self, function: Callable[..., None], path: Any, **options: Any) -> None:
        place = full(path, options.get("dir_fd"))
        function(path, **options)
        self._add(place, -1)

    def _fsync(self, function: Callable[..., None], descriptor: int) -> None:
        place = Path(f"/proc/self/fd/{descriptor}")
        if place.is_dir():
            synced = str(place.readlink())
            for change in self.changes:
                change.is_durable |= synced in change.folders
        else:
            self.synced[os.fstat(descriptor).st_ino] = place.read_bytes()
        del function  # nothing here is on a disk

    def _fdatasync(self, function: Callable[..., None], descriptor: int) -> None:
        self._fsync(function, descriptor)

    def _add(self, path: Path, number: int, gone: str = "") -> None:
        if path.is_relative_to(self.out):
            self.changes.append(Named(str(path), number, gone))

    def after_the_cut(self, target: Path, kept: Callable[[], bool]) -> None:
        """Make the folder that is left: `kept` decides on each change that is not durable, and on each content."""
        names, contents = dict(self.before), {}
        for file in self.out.rglob("*"):
            if file.is_file():
                contents[inode(file)] = file.read_bytes()
        for change in self.changes:
            if not (change.is_durable or kept()):
                continue
            if change.gone:
                names.pop(change.gone, None)
            if change.inode < 0:
                names.pop(change.path, None)
            else:
                names[change.path] = change.inode
        target.mkdir()
        for path, number in sorted(names.items()):
            place = target / Path(path).relative_to(self.out)
            if not place.parent.is_dir():
                continue  # its folder did not survive
            if number == 0 or Path(path).is_dir():
                place.mkdir(exist_ok=True)
            else:
                durable = self.synced.get(number, b"")
                place.write_bytes(contents.get(number, durable) if kept() else durable)


def inode(path: Path) -> int:
    """Return the number of a file, 0 of a folder."""
    return 0 if path.is_dir() else path.stat().st_ino


def full(path: Any, folder: int | None) -> Path:
    """Return a path that is relative to an open folder."""
    return Path(path) if folder is None else Path(f"/proc/self/fd/{folder}").readlink() / path


@contextmanager
def cut(out: Path, at: int, patch: pytest.MonkeyPatch) -> Any:
    """Record the block until its power cut; yield the record."""
    disk = Disk(out, at)
    with patch.context() as patched:
        disk.watch(patched)
        with suppress(Killed):
            yield disk


def check(out: Path, reported: list[str], where: object, *, old: bool) -> None:
    """Run again: what was reported is not done again, each row has its image, and no paid image is gone."""
    again: list[str] = []
    with OutputFolder(out).locked():
        a_run(OutputFolder(out), "new", again)
    assert not set(reported) & set(again), where
    files = {path: path.read_bytes() for path in out.rglob("*.png")}
    newest = {row["id"]: row for row in newest_rows(out)}
    assert {row["status"] for row in newest.values()} == {Status.SUCCEEDED}, where
    for call_id in CALLS:
        for image in (*newest[call_id]["images"], *newest[call_id]["drafts"]):
            assert sha256(files[out / image["path"]]) == image["sha256"], (where, call_id)
        if old:
            assert png(call_id + "old") in files.values(), (where, call_id)
            assert png(call_id + "old draft") in files.values(), (where, call_id)


@pytest.mark.parametrize("mode", ["none", "random"])
@pytest.mark.parametrize("old", [True, False], ids=["edited", "fresh"])
def test_a_power_cut_loses_no_paid_image(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: Literal["none", "random"],
    *,
    old: bool,
) -> None:
    """Cut at any deed, with none or some of what was not synced: reported rows stand with their images, and an earlier image is never gone."""
    source, cuts = random.Random(1), 0
    (earlier := tmp_path / "earlier").mkdir()
    if old:
        with OutputFolder(earlier).locked():
            a_run(OutputFolder(earlier), "old", [])
    for at in range(1, 1_000, STEP):
        out = tmp_path / f"{at}"
        shutil.copytree(earlier, out)
        reported: list[str] = []
        with cut(out, at, monkeypatch) as disk, OutputFolder(out).locked():
            a_run(OutputFolder(out), "new", reported)
        left = tmp_path / f"{at}-left"
        disk.after_the_cut(left, lambda: mode == "random" and source.random() < 0.5)
        check(left, reported, (mode, at), old=old)
        cuts += disk.deeds >= at
        if disk.deeds < at:
            break
    assert cuts > 20 / STEP
