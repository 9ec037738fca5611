import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gemini_batch.errors import FolderBusyError, StorageError
from gemini_batch.output import OutputFolder
from gemini_batch.output.lock import FolderLock, hold
from gemini_batch.output.staging import staged_name
from gemini_batch.output.tree import Tree
from tests.builders import JPEG_HEAD, arrive, png, sha256, tree
from tests.virtual.clock import NOON_UTC

HOLD = "gemini_batch.output.lock.hold"


@pytest.fixture
def folder(tmp_path: Path) -> OutputFolder:
    """Return an output folder that exists."""
    folder = OutputFolder(tmp_path / "out")
    (folder.private / "incoming").mkdir(parents=True)
    return folder


# --- the lock ---


def test_a_second_holder_gets_the_process_of_the_first(tmp_path: Path) -> None:
    """Two processes never hold one folder; the error of the second names the first."""
    code = (
        "import sys; from pathlib import Path; from gemini_batch.output import OutputFolder\n"
        f"with OutputFolder(Path({str(tmp_path / 'out')!r})).locked(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(FolderBusyError, match=rf"held by another run \(process {first.pid}\)"):
            OutputFolder(tmp_path / "out").locked().__enter__()
        first.communicate()
    with OutputFolder(tmp_path / "out").locked():
        pass  # the first one is gone


def test_a_refused_holder_leaves_the_first_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run that starts at the same moment removes nothing of the first one."""
    out = tmp_path / "out"
    first, second = OutputFolder(out), OutputFolder(out)
    holders: list[Any] = []

    def hold_late(tree: Tree) -> FolderLock:
        # Between its look at the folder that is not there and its lock, the first one comes.
        monkeypatch.setattr(HOLD, hold)
        holders.append(first.locked())
        holders[0].__enter__()
        return hold(tree)

    monkeypatch.setattr(HOLD, hold_late)
    with pytest.raises(FolderBusyError):
        second.locked().__enter__()

    assert (out / ".gemini_batch" / "lock").exists()
    holders[0].__exit__(None, None, None)


def test_a_removed_lock_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that is removed between its opening and its locking is created again."""
    folder, os_open, taken = OutputFolder(tmp_path / "out"), os.open, list[str]()

    def open_then_lose(path: Any, *arguments: Any, **options: Any) -> int:
        descriptor = os_open(path, *arguments, **options)
        if not taken and str(path).endswith("lock"):
            taken.append(str(path))
            (folder.private / "lock").unlink()
        return descriptor

    monkeypatch.setattr(os, "open", open_then_lose)
    with folder.locked():
        assert taken
        with pytest.raises(FolderBusyError):
            OutputFolder(tmp_path / "out").locked().__enter__()


def test_an_unused_folder_is_removed(tmp_path: Path) -> None:
    """A folder that a run created and did not use is removed, and its new parents."""
    folder = OutputFolder(tmp_path / "deep" / "out")

    def fail() -> None:
        with folder.locked():
            folder.note_durable(0)
            raise ValueError("bad manifest")

    with pytest.raises(ValueError, match="bad manifest"):
        fail()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["results.jsonl", ".gemini_batch/inflight.jsonl", ".gemini_batch/incoming/part"]
)
def test_a_used_folder_stays(tmp_path: Path, name: str) -> None:
    """A folder with any file of a run stays, including the durable note."""
    folder = OutputFolder(tmp_path / "out")
    with folder.locked():
        folder.note_durable(7)
        (folder.out / name).write_text("x")

    assert {name: b"x", ".gemini_batch/durable": b"%020d" % 7} == tree(folder.out)


def test_an_existing_folder_stays(tmp_path: Path) -> None:
    """A folder that the user created is not removed."""
    with OutputFolder(tmp_path).locked():
        pass

    assert tmp_path.exists()


def test_an_unwritable_folder_is_an_error(tmp_path: Path) -> None:
    """The error says what to do."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        StorageError, match="can't be written: Not a directory; choose another folder with --out"
    ):
        OutputFolder(tmp_path / "file" / "out").locked().__enter__()


@pytest.mark.parametrize("name", [".gemini_batch", "images", "drafts", "superseded"])
def test_a_link_out_of_the_folder_is_found_before_the_run(tmp_path: Path, name: str) -> None:
    """A symbolic link that leads out is refused, and nothing is written to its target."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / name).symlink_to(elsewhere)

    with pytest.raises(StorageError, match=rf"{name}: is a symbolic link, and nothing is written"):
        OutputFolder(out).locked().__enter__()

    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("loop", ["out", "out/images", "out/.gemini_batch"])
def test_a_loop_of_links_is_an_error(tmp_path: Path, loop: str) -> None:
    """A symbolic link to itself is found before anything is sent."""
    (tmp_path / loop).parent.mkdir(exist_ok=True)
    (tmp_path / loop).symlink_to(tmp_path / loop)

    for out in (tmp_path / "out", tmp_path / loop / "out"):
        with pytest.raises(
            StorageError, match=r"is a symbolic link|Too many levels of symbolic links"
        ) as caught:
            OutputFolder(out).locked().__enter__()
        assert str(caught.value).endswith("choose another folder with --out")
    assert (tmp_path / loop).is_symlink()


# --- staged files ---


def test_a_staged_file_describes_its_content(
    folder: OutputFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Size, SHA-256 and head cover all bytes, also with partial writes."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:7])))
    data = png("x" * 100)

    part = folder.stage("robot", 1).open_image(0)
    for start in range(0, len(data), 30):
        part.write(data[start : start + 30])
    part.close()

    image = part.image()
    assert (len(data), sha256(data), data[:64]) == (image.size_bytes, image.sha256, image.head)
    assert data == Path(image.file).read_bytes()


def test_discard_removes_unpublished_files(folder: OutputFolder) -> None:
    """Unpublished files are removed, published ones stay, and all are closed."""
    incoming = folder.stage("robot", 1)
    for index in range(2):
        incoming.open_image(index).write(png(str(index)))
    folder.publish(incoming.arrived()[0].file, "images/robot.png")
    before = len(list(Path("/dev/fd").iterdir()))

    incoming.discard()

    assert {"images/robot.png": png("0")} == tree(folder.out)
    assert before - 2 == len(list(Path("/dev/fd").iterdir()))


def test_the_first_image_has_its_file_before_anything_is_sent(folder: OutputFolder) -> None:
    """A failing disk is found before the request; an image that does not come leaves no file."""
    incoming = folder.stage("robot", 1, NOON_UTC)
    assert [part.name for part in folder.staged_files("robot", 1)] == [
        f"{staged_name('robot', 1)}.0"
    ]
    incoming.discard()
    assert folder.staged_files("robot", 1) == []
    folder.stage("robot", 2, NOON_UTC)  # killed while it waits: no image is lost
    assert folder.remove_staged_files() == 0


def test_an_answer_is_journaled_until_it_has_its_row(folder: OutputFolder) -> None:
    """One file is overwritten again and again; an answer without a row stays."""
    for number in range(3):
        incoming = folder.stage(f"robot-{number}", 1, NOON_UTC)
        incoming.journal(b"{" + b" " * (30 - 10 * number) + b"}")
        found = folder.journaled_answer(f"robot-{number}")
        assert found is not None
        assert found.envelope == b"{" + b" " * (30 - 10 * number) + b"}"
        incoming.discard()
        assert folder.journaled_answer(f"robot-{number}") is None
    rowless, later = folder.stage("cat", 1, NOON_UTC), folder.stage("dog", 1, NOON_UTC)
    with folder.locked():
        rowless.journal(b'{"a": 1}')
        later.journal(b'{"b": 2}')
        assert folder.journaled_answer("dog") is not None
        later.discard()
    cat = folder.journaled_answer("cat")
    assert cat is not None
    assert cat.envelope == b'{"a": 1}'
    assert folder.journaled_answer("dog") is None
    folder.remove_journaled(cat)
    assert not folder.has_staged_files()


def test_an_answer_that_was_tried_is_not_replaced(folder: OutputFolder) -> None:
    """A run was killed while it made a row of an answer; those of later runs leave it there."""
    for call_id, suffix in (("ant", ".tried"), ("bee", ".tried-again"), ("cat", ".answer")):
        with folder.locked():
            folder.stage(call_id, 1, NOON_UTC).journal(b"{}")
        for file in list((folder.private / "incoming").glob("*.answer")):
            file.rename(file.with_suffix(suffix))
    cat = folder.journaled_answer("cat")
    assert cat is not None

    with folder.trying(cat):
        assert folder.journaled_answer("ant") is not None

    assert folder.journaled_answer("ant") is not None
    assert folder.journaled_answer("cat") is not None
    assert len(folder.set_tried_aside()) == 1


def test_a_torn_answer_is_ignored(folder: OutputFolder) -> None:
    """Any part of a write over an earlier answer is never read as a mix of both."""
    before, after = b'{"first": "%b"}' % (b"x" * 40), b'{"second": "%b"}' % (b"y" * 30)
    incoming = folder.stage("robot", 1, NOON_UTC)
    incoming.journal(before)
    file = next((folder.private / "incoming").glob("*.answer"))
    first = file.read_bytes()
    incoming.discard()
    incoming = folder.stage("robot", 1, NOON_UTC)
    incoming.journal(after)
    second = file.read_bytes()
    assert len(first) == len(second)  # written over, and the end of the first is still there
    whole = second.index(after) + len(after)
    for size in range(len(second)):
        mixed = second[:size] + first[size:]
        file.write_bytes(mixed)
        found = folder.journaled_answer("robot")
        assert (found and found.envelope) == (
            before if mixed == first else after if size >= whole else None
        )


def test_staged_files_are_found_by_call_and_attempt(folder: OutputFolder) -> None:
    """The files of one attempt are found by name, for any id."""
    arrive(folder, "icons/a*b", png("1"), png("2"), attempt=2)
    arrive(folder, "icons/a*b", png("3"), attempt=1)
    arrive(folder, "icons/axb", png("4"), attempt=2)

    assert [png("1"), png("2")] == [
        part.read_bytes() for part in folder.staged_files("icons/a*b", 2)
    ]
    assert folder.has_staged_files()
    assert folder.remove_staged_files() == 4
    assert not folder.has_staged_files()


# --- images ---


@pytest.mark.parametrize(
    ("head", "said", "expected"),
    [
        (png(""), "image/jpeg", ("images/robot.png", "image/png")),
        (JPEG_HEAD, "text/html", ("images/robot.jpg", "image/jpeg")),
        (b"RIFF1234WEBPVP8 ", "", ("images/robot.webp", "image/webp")),
        (b"something else", "image/png", ("images/robot.png", "image/png")),
        (b"something else", "../../etc/x", ("images/robot.bin", "../../etc/x")),
        (b"something else", "", ("images/robot.bin", "application/octet-stream")),
    ],
)
def test_the_extension_follows_the_bytes(
    folder: OutputFolder, head: bytes, said: str, expected: tuple[str, str]
) -> None:
    """The bytes decide the type; the server's type counts only if they don't, and never as a path."""
    (image,) = arrive(folder, "robot", head)

    described = folder.describe(
        type(image)(image.file, image.size_bytes, image.sha256, image.head, said), "images/robot"
    )

    assert expected == (described.path, described.mime_type)
    assert (described.width, described.height) == (None, None)


def test_pixels_are_read_from_the_image(folder: OutputFolder, tmp_path: Path) -> None:
    """Width and height are those of the image."""
    Image.new("RGB", (30, 20)).save(tmp_path / "p.jpg")
    (image,) = arrive(folder, "robot", (tmp_path / "p.jpg").read_bytes())

    described = folder.describe(image, "images/robot")

    assert (described.width, described.height) == (30, 20)


def test_placing_never_overwrites(folder: OutputFolder) -> None:
    """An earlier file moves to superseded/, each to its own name."""
    for number in range(3):
        (image,) = arrive(folder, "icons/robot", png(str(number)))
        folder.publish(image.file, "images/icons/robot.png")

    assert {
        "images/icons/robot.png": png("2"),
        "superseded/icons/robot.png": png("0"),
        "superseded/icons/robot.2.png": png("1"),
    } == tree(folder.out)


def test_retire_moves_image_and_drafts_of_any_extension(folder: OutputFolder) -> None:
    """The files of an earlier answer move away for any extension; those of other calls stay."""
    names = [
        "images/robot.jpg",
        "images/robot.bin",
        "drafts/robot.1.png",
        "drafts/robot.2.jpg",
        "drafts/robot.3.png",
    ]
    others = ["images/robot.2.png", "drafts/robot.2.1.png", "images/robots.png"]
    for name in [*names, *others]:
        folder.publish(arrive(folder, name, name.encode())[0].file, name)

    folder.retire("robot")

    moved = {"superseded/" + name.removeprefix("images/"): name.encode() for name in names}
    assert moved | {name: name.encode() for name in others} == tree(folder.out)


def test_a_link_that_came_later_is_refused(folder: OutputFolder, tmp_path: Path) -> None:
    """A symbolic link that leads out gets no image and no folder, and nothing is read from it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder.out / "images").mkdir()
    (folder.out / "images" / "icons").symlink_to(elsewhere)
    (image,) = arrive(folder, "robot", png(""))

    with pytest.raises(StorageError, match="images/icons: is a symbolic link"):
        folder.publish(image.file, "images/icons/deep/robot.png")
    (elsewhere / "cat.png").write_bytes(b"mine")
    with pytest.raises(StorageError, match="images/icons: is a symbolic link"):
        folder.retire("icons/cat")
    (elsewhere / "cat.png").unlink()

    assert list(elsewhere.iterdir()) == []
    assert Path(image.file).exists()


def test_a_path_that_leads_out_is_refused(folder: OutputFolder, tmp_path: Path) -> None:
    """A forged row can't have a file outside the folder written or moved."""
    (image,) = arrive(folder, "robot", png(""))
    (tmp_path / "mine.png").write_bytes(b"mine")
    (folder.out / "images").mkdir()

    with pytest.raises(StorageError):
        folder.publish(image.file, "../robot.png")
    with pytest.raises(StorageError):
        folder.retire("../../mine")

    assert (tmp_path / "mine.png").read_bytes() == b"mine"


# --- durability ---


def test_sync_reaches_files_and_all_folders_above(
    folder: OutputFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All folders in which a name changed, and their parents, are synced once."""
    folder.moved()
    synced: list[str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        synced.append(os.path.relpath(Path(f"/proc/self/fd/{descriptor}").readlink(), folder.out))
        fsync(descriptor)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to name what is synced")
    monkeypatch.setattr(os, "fsync", record)
    for data in (b"1", b"2"):
        (image,) = arrive(folder, "a/b/robot", png("") + data)
        folder.publish(image.file, "images/a/b/robot.png")
    synced.clear()

    folder.sync(["images/a/b/robot.png"])
    assert synced == ["images/a/b/robot.png"]

    folder.sync(folder.moved())
    folders = {
        ".",
        ".gemini_batch",
        ".gemini_batch/incoming",
        "images",
        "images/a",
        "images/a/b",
        "superseded",
    }
    assert sorted(folders | {"superseded/a", "superseded/a/b"}) == sorted(synced[1:])
    assert folder.moved() == []


def test_the_note_of_what_is_durable(folder: OutputFolder) -> None:
    """A damaged note is 0, a missing one is None."""
    assert folder.durable_bytes() is None
    folder.note_durable(123_456)
    assert folder.durable_bytes() == 123_456
    folder.note_durable(99)
    assert folder.durable_bytes() == 99
    (folder.private / "durable").write_bytes(bytes(20))
    assert folder.durable_bytes() == 0


def test_set_aside_never_overwrites(folder: OutputFolder) -> None:
    """Each call writes a new file."""
    paths = [folder.set_aside("torn", [data]) for data in (b"1", b"2")]

    assert [path.read_bytes() for path in paths] == [b"1", b"2"]
