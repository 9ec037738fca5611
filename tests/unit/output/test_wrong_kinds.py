"""State files of another kind, notes that make no sense, and file systems with less: a sentence, or the run goes on."""

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.engine.disk_space import DiskReservations
from gemini_batch.engine.recovery import possibly_billed, recover
from gemini_batch.errors import FolderBusyError, StorageError
from gemini_batch.output import OutputFolder
from gemini_batch.output.files import fsync_all, open_regular, sync
from gemini_batch.output.results_file import ResultsFile
from tests.builders import arrive, line_of, make_row, png, sha256, tree

ROW = line_of(make_row())


def a_pipe(path: Path) -> None:
    """Make a named pipe that nobody writes to."""
    os.mkfifo(path)


def an_endless_device(path: Path) -> None:
    """Make a link to a device that is read without end."""
    path.symlink_to("/dev/zero")


def a_socket(path: Path) -> None:
    """Make a socket; its path is relative, for it must be short."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def a_folder(path: Path) -> None:
    """Make a folder with something in it."""
    (path / "in it").mkdir(parents=True)


KINDS = [a_pipe, an_endless_device, a_socket, a_folder]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return an output folder with one row and its image, without a lock."""
    out = tmp_path / "jobs.out"
    with OutputFolder(out).locked():
        (out / "results.jsonl").write_bytes(ROW)
        (out / "images").mkdir()
    return out


# --- no command hangs ---


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("command", ["status", "verify", "gallery"])
def test_a_command_reads_only_regular_rows(
    out: Path, command: str, make: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no regular file in the place of the rows ends a command with 8 and the file's name."""
    (out / "results.jsonl").unlink()
    make(out / "results.jsonl")
    assert main([command, str(out)]) == 8
    assert "results.jsonl: " in capsys.readouterr().err


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("name", ["summary.json", "images/robot.png"])
def test_a_command_waits_for_no_other_file(
    out: Path, make: Callable[[Path], None], name: str
) -> None:
    """A summary or an image that is no regular file is reported as damaged at most, and waited for by no command."""
    image = {"path": "images/robot.png", "mime_type": "image/png", "size_bytes": 3, "width": 1}
    image |= {"height": 1, "sha256": sha256(b"abc")}
    row = orjson.loads(ROW) | {"images": [image]}
    (out / "results.jsonl").write_bytes(orjson.dumps(row) + b"\n")
    make(out / name)
    codes = {command: main([command, str(out)]) for command in ("status", "verify", "gallery")}
    assert set(codes.values()) <= {0, 4, 8}
    assert codes["verify"] in {4, 8}


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("name", ["durable", "inflight.jsonl", "lock", "incoming", "inputs"])
def test_a_state_file_of_another_kind_is_a_sentence(
    out: Path, make: Callable[[Path], None], name: str
) -> None:
    """A state file that is a pipe, a device, a socket or a folder ends a run with 8 before anything is sent, and is named."""
    if make is a_folder and name in {"incoming", "inputs"}:
        pytest.skip("is a folder")
    path = out / ".gemini_batch" / name
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    make(path)
    folder = OutputFolder(out)

    def recovering() -> None:
        with folder.locked():
            recover(folder)
            possibly_billed(folder)

    with pytest.raises((StorageError, OSError)) as caught:
        recovering()
    error = caught.value
    assert name in str(error) or name in str(getattr(error, "filename", ""))


@pytest.mark.parametrize("make", KINDS)
def test_rows_of_another_kind_are_not_opened_for_writing(
    out: Path, make: Callable[[Path], None]
) -> None:
    """A run writes rows into a regular file only, and through no link."""
    (out / "results.jsonl").rename(out / "kept")
    make(out / "results.jsonl")
    with pytest.raises(OSError, match=r"is a|Is a"):
        ResultsFile(out)
    with pytest.raises(OSError, match=r"is a|Is a"):
        recover(OutputFolder(out))
    (out / "results.jsonl").unlink() if make is not a_folder else None
    if make is not a_folder:
        (out / "results.jsonl").symlink_to("kept")
        with pytest.raises(OSError, match="is a symbolic link"):
            ResultsFile(out)


def test_a_link_is_read_but_not_written_through(tmp_path: Path) -> None:
    """`open_regular` follows a link to a regular file unless it is told not to."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    os.close(open_regular(tmp_path / "link"))
    with pytest.raises(OSError, match="is a symbolic link, and must be a regular file"):
        open_regular(tmp_path / "link", os.O_WRONLY | os.O_NOFOLLOW)


def a_refused_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a file whose permissions are removed; root, who runs tests too, would be let in."""
    path.write_bytes(b"x")
    opened = os.open

    def refusing(name: str | Path, *arguments: Any, **options: Any) -> int:
        if name == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(name))
        return opened(name, *arguments, **options)

    monkeypatch.setattr(os, "open", refusing)


def a_file_below_a_file(path: Path, _: pytest.MonkeyPatch) -> None:
    """Put a file where the folder of the file must be."""
    path.parent.rmdir()
    path.parent.write_bytes(b"x")


def a_loop_of_links(path: Path, _: pytest.MonkeyPatch) -> None:
    """Make a link that leads to itself."""
    path.symlink_to(path.name)


def too_many_open_files(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process have no descriptor left."""
    path.write_bytes(b"x")

    def refusing(*_: Any, **__: Any) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", refusing)


@pytest.mark.parametrize(
    ("make", "number"),
    [
        (a_refused_file, errno.EACCES),
        (a_file_below_a_file, errno.ENOTDIR),
        (a_loop_of_links, errno.ELOOP),
        (too_many_open_files, errno.EMFILE),
    ],
)
def test_a_file_that_cannot_be_opened_keeps_its_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path, pytest.MonkeyPatch], None],
    number: int,
) -> None:
    """`open_regular` raises the system's error, with the path, for what is of the right kind."""
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    make(path, monkeypatch)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        open_regular(path)
    assert (caught.value.errno, caught.value.filename) == (number, str(path))


# --- notes that make no sense ---


@pytest.mark.parametrize(
    "note",
    [
        b"-1",
        b"-00000000000000000005",
        b"9" * 20,
        b"9" * 5_000,
        b"1e3",
        b"nan",
        b"\xff\xfe",
        b"",
        b"12 34",
        b"\xd9\xa1x",
    ],
)
def test_a_note_without_sense_counts_as_nothing(out: Path, note: bytes) -> None:
    """A note that is negative, huge or unreadable makes recovery look at all rows, and the run goes on."""
    (out / ".gemini_batch/durable").write_bytes(note)
    folder = OutputFolder(out)
    assert folder.durable_bytes() == 0
    assert recover(folder) == []
    assert folder.durable_bytes() == len(ROW)


def test_a_note_is_read_within_bounds(out: Path) -> None:
    """A note of any length is read at its start only."""
    with (out / ".gemini_batch/durable").open("wb") as file:
        file.truncate(1 << 34)
    assert OutputFolder(out).durable_bytes() == 0


def test_state_files_are_private(tmp_path: Path) -> None:
    """What a run keeps for itself is readable by its user only; rows and images follow the umask."""
    out = tmp_path / "out"
    folder = OutputFolder(out)
    with folder.locked():
        folder.note_durable(0)
        folder.set_aside("torn", [b"x"])
        (image,) = arrive(folder, "robot", png(""))
        folder.publish(image.file, "images/robot.png")
        ResultsFile(out).close()
        modes = {
            name: stat.S_IMODE((out / name).stat().st_mode) & 0o077
            for name in (".gemini_batch/lock", ".gemini_batch/durable", ".gemini_batch/torn.1")
        }
        assert set(modes.values()) == {0}
        for name in ("images/robot.png", "results.jsonl"):
            assert (out / name).stat().st_mode & 0o044, name


# --- file systems with less ---


def refusing(call: Callable[..., Any], error: int, *, folders: bool) -> Callable[..., Any]:
    """Return a system call that refuses folders, or files."""

    def refuse(descriptor: int, *arguments: Any) -> Any:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) is folders:
            raise OSError(error, os.strerror(error))
        return call(descriptor, *arguments)

    return refuse


@pytest.mark.parametrize(
    "error", [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.ENOSYS]
)
def test_a_file_system_that_syncs_no_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """Where a folder can't be synced there is nothing to sync: the folder is made, locked and written all the same."""
    monkeypatch.setattr(os, "fsync", refusing(os.fsync, error, folders=True))
    folder = OutputFolder(tmp_path / "deep/out")
    with folder.locked():
        folder.note_durable(7)
        (image,) = arrive(folder, "a/robot", png(""))
        folder.publish(image.file, "images/a/robot.png")
        folder.sync(["images/a/robot.png", *folder.moved()])
        folder.set_aside("torn", [b"x"])
        assert folder.durable_bytes() == 7


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EIO, errno.ENOSPC])
def test_a_file_that_can_not_be_synced_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """Only a folder may refuse; a disk that fails is believed for a folder too."""
    (tmp_path / "file").write_bytes(b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refusing(os.fsync, error, folders=False))
        with pytest.raises(OSError, match=os.strerror(error)):
            fsync_all([tmp_path / "file"])
    descriptor = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(os, "fsync", refusing(os.fsync, errno.EIO, folders=True))
    with pytest.raises(OSError, match="Input/output"):
        sync(descriptor)
    os.close(descriptor)


@pytest.mark.parametrize(
    ("blocks", "free", "fits"), [(0, 0, True), (1_000, 0, False), (1_000, 10, False)]
)
def test_a_size_that_is_not_told_is_no_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int, free: int, *, fits: bool
) -> None:
    """A file system that reports 0 blocks in all has room; one that has blocks and none free is full."""
    monkeypatch.setattr(
        os,
        "statvfs",
        lambda _path: os.statvfs_result((4096, 4096, blocks, free, free, 0, 0, 0, 0, 255)),
    )
    reservations = DiskReservations(tmp_path, lambda: 0.0)
    assert (reservations.reserve("4K") == "") is fits


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_that_has_no_statvfs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """Where the size can't be asked for, the run goes on; a folder that is gone is an error."""

    def refuse(_path: object) -> None:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", refuse)
        assert DiskReservations(tmp_path, lambda: 0.0).reserve("4K") == ""
    with pytest.raises(FileNotFoundError):
        DiskReservations(tmp_path / "gone", lambda: 0.0).reserve("4K")


# --- the lock ---


def test_a_removed_lock_lets_no_second_run_in(tmp_path: Path) -> None:
    """The folder itself is locked: removing the lock file, or all of .gemini_batch, lets nobody in."""
    out = tmp_path / "out"
    with OutputFolder(out).locked():
        (out / ".gemini_batch/lock").unlink()
        with pytest.raises(FolderBusyError):
            OutputFolder(out).locked().__enter__()
        (out / ".gemini_batch").rename(out / "elsewhere")
        with pytest.raises(FolderBusyError):
            OutputFolder(out).locked().__enter__()


@pytest.mark.parametrize("error", [errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL])
def test_a_file_system_that_locks_no_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """As on NFS: the lock file keeps runs apart, and a run whose lock was removed or replaced stops before it sends more."""
    monkeypatch.setattr(fcntl, "flock", refusing(fcntl.flock, error, folders=True))
    out = tmp_path / "out"
    lock = out / ".gemini_batch/lock"
    for change in (lock.unlink, lambda: lock.rename(out / "x"), lambda: a_new_file(lock)):
        folder = OutputFolder(out)
        with folder.locked():
            with pytest.raises(FolderBusyError):
                OutputFolder(out).locked().__enter__()
            folder.check("robot")
            change()
            with pytest.raises(StorageError, match="lock: was removed during the run"):
                folder.check("robot")


def a_new_file(path: Path) -> None:
    """Put a new file in the place of another."""
    new = path.with_name("new")
    new.touch()
    new.replace(path)


def test_a_file_system_without_locks_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be locked two runs can't be kept apart: the run does not begin."""

    def refuse(*_arguments: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StorageError, match="has no file locks"):
        OutputFolder(tmp_path / "out").locked().__enter__()


@pytest.mark.parametrize("name", [".", ".gemini_batch"])
@pytest.mark.parametrize("again", [True, False])
def test_a_folder_that_is_moved_away_is_noticed(tmp_path: Path, name: str, *, again: bool) -> None:
    """A run whose folder lost its name, or another got it, stops before it sends more."""
    out = tmp_path / "out"
    folder = OutputFolder(out)
    with folder.locked():
        (out / name).rename(tmp_path / "elsewhere")
        if again:
            (out / name).mkdir()
        with pytest.raises(StorageError, match="was moved or replaced during the run"):
            folder.check("robot")


# --- links that come during the run ---


def superseding(folder: OutputFolder, staged: str) -> None:
    """Publish an image in the place of an earlier one."""
    (folder.out / "images").mkdir()
    (folder.out / "images/robot.png").write_bytes(b"earlier")
    folder.publish(staged, "images/robot.png")


MOVES: list[tuple[str, Callable[[OutputFolder, str], object]]] = [
    ("images", lambda folder, staged: folder.publish(staged, "images/robot.png")),
    ("images/a", lambda folder, staged: folder.publish(staged, "images/a/robot.png")),
    ("images/a/b", lambda folder, staged: folder.publish(staged, "images/a/b/robot.png")),
    ("drafts", lambda folder, staged: folder.publish(staged, "drafts/robot.1.png")),
    ("superseded", superseding),
]


@pytest.mark.parametrize(("name", "move"), MOVES)
@pytest.mark.parametrize("kind", ["link", "link inside", "file"])
def test_what_takes_the_place_of_a_folder_is_refused_and_named(
    tmp_path: Path, name: str, kind: str, move: Callable[[OutputFolder, str], object]
) -> None:
    """A link, wherever it leads, or a file that took a folder's place during the run gets nothing, and the message names it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = OutputFolder(tmp_path / "out")
    with folder.locked():
        (image,) = arrive(folder, "robot", png(""))
        place = folder.out / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if kind == "file":
            place.write_bytes(b"mine")
        else:
            place.symlink_to(elsewhere if kind == "link" else folder.out / ".gemini_batch")
        with pytest.raises(StorageError, match=rf"out/{name}: is a (symbolic link|file)"):
            move(folder, image.file)
        assert Path(image.file).exists()
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("name", ["images/a", "images"])
def test_a_call_is_not_sent_when_its_image_could_get_no_name(tmp_path: Path, name: str) -> None:
    """A file in the place of a folder is found before the call is paid for."""
    folder = OutputFolder(tmp_path / "out")
    with folder.locked():
        folder.check("a/robot")
        (folder.out / name).parent.mkdir(exist_ok=True)
        (folder.out / name).write_bytes(b"mine")
        with pytest.raises(StorageError, match=rf"{name}: is a file, and must be a folder"):
            folder.check("a/robot")


@pytest.mark.parametrize("name", [".gemini_batch", ".gemini_batch/incoming"])
def test_staged_files_follow_no_link(tmp_path: Path, name: str) -> None:
    """Images arrive in the folder that was there at the start, whatever has its name by then."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "incoming").mkdir(parents=True)
    folder = OutputFolder(tmp_path / "out")
    with folder.locked():
        arrive(folder, "first", png(""))
        (folder.out / name).rename(folder.out / "was")
        (folder.out / name).symlink_to(elsewhere)
        arrive(folder, "robot", png(""))
        folder.stage("robot", 2).open_image(0).close()
    assert tree(elsewhere) == {}


def test_a_staged_file_is_no_link(tmp_path: Path) -> None:
    """A link of a staged file's name is not written through."""
    folder = OutputFolder(tmp_path / "out")
    (tmp_path / "mine").write_bytes(b"mine")
    with folder.locked():
        (image,) = arrive(folder, "robot", png(""))
        Path(image.file).unlink()
        Path(image.file).symlink_to(tmp_path / "mine")
        with pytest.raises(OSError, match="symbolic links"):
            arrive(folder, "robot", png(""))
    assert (tmp_path / "mine").read_bytes() == b"mine"
