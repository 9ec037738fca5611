import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gemini_batch.errors import FolderBusyError, StorageError
from gemini_batch.output import OutputFolder
from gemini_batch.output.lock import hold
from gemini_batch.output.staging import staged_name
from tests.builders import JPEG_HEAD, arrive, png, sha256, tree
from tests.virtual.clock import NOON_UTC

HOLD = "gemini_batch.output.lock.hold"


@pytest.fixture
def store(tmp_path: Path) -> OutputFolder:
    """Return the store of a folder that is there and has an `incoming`."""
    store = OutputFolder(tmp_path / "out")
    (store.private / "incoming").mkdir(parents=True)
    return store


# --- the lock ---


def test_a_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    """Two runs never share a folder, also not two processes; the second one learns the first one's process."""
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
    """A second run that began at the same moment, when there was no folder yet, takes nothing of the first one away."""
    out = tmp_path / "out"
    first, second = OutputFolder(out), OutputFolder(out)
    holders: list[Any] = []

    def hold_late(*arguments: Path) -> int:
        # Between its look at the folder that is not there and its lock, the first one comes.
        monkeypatch.setattr(HOLD, hold)
        holders.append(first.locked())
        holders[0].__enter__()
        return hold(*arguments)

    monkeypatch.setattr(HOLD, hold_late)
    with pytest.raises(FolderBusyError):
        second.locked().__enter__()

    assert (out / ".gemini_batch" / "lock").exists()
    holders[0].__exit__(None, None, None)


def test_a_lock_that_was_taken_away_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opens the lock just before its holder removes the folder makes a new one, and does not hold a file without a name."""
    store, os_open, taken = OutputFolder(tmp_path / "out"), os.open, list[str]()

    def open_then_lose(path: Any, *arguments: Any) -> int:
        descriptor = os_open(path, *arguments)
        if not taken and str(path).endswith("lock"):
            taken.append(str(path))
            Path(path).unlink()
        return descriptor

    monkeypatch.setattr(os, "open", open_then_lose)
    with store.locked():
        assert taken
        with pytest.raises(FolderBusyError):
            OutputFolder(tmp_path / "out").locked().__enter__()


def test_a_run_that_did_nothing_leaves_no_trace(tmp_path: Path) -> None:
    """A folder that a run made and put nothing into is gone afterwards, and the folders above it that it made."""
    store = OutputFolder(tmp_path / "deep" / "out")

    def fail() -> None:
        with store.locked():
            store.note_durable(0)
            raise ValueError("bad manifest")

    with pytest.raises(ValueError, match="bad manifest"):
        fail()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["results.jsonl", ".gemini_batch/inflight.jsonl", ".gemini_batch/incoming/part"]
)
def test_what_came_in_stays(tmp_path: Path, name: str) -> None:
    """A folder that something came into stays whole, the note of what is durable included."""
    store = OutputFolder(tmp_path / "out")
    with store.locked():
        store.note_durable(7)
        (store.out / name).write_text("x")

    assert {name: b"x", ".gemini_batch/durable": b"%020d" % 7} == tree(store.out)


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    """A folder that the person made is not ours to remove."""
    with OutputFolder(tmp_path).locked():
        pass

    assert tmp_path.exists()


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    """Where no folder can be made, the error says what to do."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        StorageError, match="can't be written: Not a directory; choose another folder with --out"
    ):
        OutputFolder(tmp_path / "file" / "out").locked().__enter__()


@pytest.mark.parametrize("name", [".gemini_batch", "images", "drafts", "superseded"])
def test_a_link_out_of_the_folder_is_found_before_the_run(tmp_path: Path, name: str) -> None:
    """A symbolic link that leads out is refused before anything is sent, and nothing is written where it leads."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / name).symlink_to(elsewhere)

    with pytest.raises(StorageError, match="a symbolic link leads out of"):
        OutputFolder(out).locked().__enter__()

    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("loop", ["out", "out/images", "out/.gemini_batch"])
def test_links_in_a_circle_are_a_sentence(tmp_path: Path, loop: str) -> None:
    """A symbolic link that leads to itself can be no folder, and is found before anything is sent."""
    (tmp_path / loop).parent.mkdir(exist_ok=True)
    (tmp_path / loop).symlink_to(tmp_path / loop)

    for out in (tmp_path / "out", tmp_path / loop / "out"):
        with pytest.raises(StorageError) as caught:
            OutputFolder(out).locked().__enter__()
        assert (
            str(caught.value)
            == f"{out}: can't be written: Too many levels of symbolic links; choose another folder with --out"
        )
    assert (tmp_path / loop).is_symlink()


# --- parts ---


def test_a_part_knows_what_passed(store: OutputFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Size, sha256 and head are those of all bytes, also when the system takes a few at a time."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:7])))
    data = png("x" * 100)

    part = store.stage("robot", 1).open_image(0)
    for start in range(0, len(data), 30):
        part.write(data[start : start + 30])
    part.close()

    image = part.image()
    assert (len(data), sha256(data), data[:64]) == (image.size_bytes, image.sha256, image.head)
    assert data == Path(image.file).read_bytes()


def test_discard_removes_what_has_no_name(store: OutputFolder) -> None:
    """Parts of an attempt that came to nothing are removed, those that were placed are not, and its files are closed."""
    incoming = store.stage("robot", 1)
    for index in range(2):
        incoming.open_image(index).write(png(str(index)))
    store.publish(incoming.arrived()[0].file, "images/robot.png")
    before = len(list(Path("/dev/fd").iterdir()))

    incoming.discard()

    assert {"images/robot.png": png("0")} == tree(store.out)
    assert before == len(list(Path("/dev/fd").iterdir()))


def test_the_first_image_has_its_file_before_anything_is_sent(store: OutputFolder) -> None:
    """A disk that would not take an answer is found out while it still costs nothing; what does not come leaves nothing."""
    incoming = store.stage("robot", 1, NOON_UTC)
    assert [part.name for part in store.staged_files("robot", 1)] == [
        f"{staged_name('robot', 1)}.0"
    ]
    incoming.discard()
    assert store.staged_files("robot", 1) == []
    store.stage(
        "robot", 2, NOON_UTC
    )  # killed while it waits: no image is lost that could be told of
    assert store.remove_staged_files() == 0


def test_an_answer_is_kept_until_it_has_its_row(store: OutputFolder) -> None:
    """One file is written over and over, and removed in the end; an answer without a row is never written over, and stays."""
    for number in range(3):
        incoming = store.stage(f"robot-{number}", 1, NOON_UTC)
        incoming.journal(b"{" + b" " * (30 - 10 * number) + b"}")
        found = store.journaled_answer(f"robot-{number}")
        assert found is not None
        assert found.envelope == b"{" + b" " * (30 - 10 * number) + b"}"
        incoming.discard()
        assert store.journaled_answer(f"robot-{number}") is None
    rowless, later = store.stage("cat", 1, NOON_UTC), store.stage("dog", 1, NOON_UTC)
    with store.locked():
        rowless.journal(b'{"a": 1}')
        later.journal(b'{"b": 2}')
        assert store.journaled_answer("dog") is not None
        later.discard()
    cat = store.journaled_answer("cat")
    assert cat is not None
    assert cat.envelope == b'{"a": 1}'
    assert store.journaled_answer("dog") is None
    store.remove_journaled(cat)
    assert not store.has_staged_files()


def test_an_answer_that_is_cut_off_is_none(store: OutputFolder) -> None:
    """Whatever a kill left of a write over an earlier answer, the two are never taken for one."""
    before, after = b'{"first": "%b"}' % (b"x" * 40), b'{"second": "%b"}' % (b"y" * 30)
    incoming = store.stage("robot", 1, NOON_UTC)
    incoming.journal(before)
    file = next((store.private / "incoming").glob("*.answer"))
    first = file.read_bytes()
    incoming.discard()
    incoming = store.stage("robot", 1, NOON_UTC)
    incoming.journal(after)
    second = file.read_bytes()
    assert len(first) == len(second)  # written over, and the end of the first is still there
    whole = second.index(after) + len(after)
    for size in range(len(second)):
        mixed = second[:size] + first[size:]
        file.write_bytes(mixed)
        found = store.journaled_answer("robot")
        assert (found and found.envelope) == (
            before if mixed == first else after if size >= whole else None
        )


def test_parts_are_found_by_call_and_attempt(store: OutputFolder) -> None:
    """The parts of one attempt are known by name, whatever the id holds."""
    arrive(store, "icons/a*b", png("1"), png("2"), attempt=2)
    arrive(store, "icons/a*b", png("3"), attempt=1)
    arrive(store, "icons/axb", png("4"), attempt=2)

    assert [png("1"), png("2")] == [
        part.read_bytes() for part in store.staged_files("icons/a*b", 2)
    ]
    assert store.has_staged_files()
    assert store.remove_staged_files() == 4
    assert not store.has_staged_files()


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
    store: OutputFolder, head: bytes, said: str, expected: tuple[str, str]
) -> None:
    """The bytes say what an image is; the server's word counts only where they say nothing, and never makes a path."""
    (image,) = arrive(store, "robot", head)

    described = store.describe(
        type(image)(image.file, image.size_bytes, image.sha256, image.head, said), "images/robot"
    )

    assert expected == (described.path, described.mime_type)
    assert (described.width, described.height) == (None, None)


def test_pixels_are_read_from_the_image(store: OutputFolder, tmp_path: Path) -> None:
    """Width and height are those of the picture."""
    Image.new("RGB", (30, 20)).save(tmp_path / "p.jpg")
    (image,) = arrive(store, "robot", (tmp_path / "p.jpg").read_bytes())

    described = store.describe(image, "images/robot")

    assert (described.width, described.height) == (30, 20)


def test_placing_never_overwrites(store: OutputFolder) -> None:
    """What stands at a name moves to superseded/, each to a name of its own."""
    for number in range(3):
        (image,) = arrive(store, "icons/robot", png(str(number)))
        store.publish(image.file, "images/icons/robot.png")

    assert {
        "images/icons/robot.png": png("2"),
        "superseded/icons/robot.png": png("0"),
        "superseded/icons/robot.2.png": png("1"),
    } == tree(store.out)


def test_retire_moves_image_and_drafts_of_any_extension(store: OutputFolder) -> None:
    """The files of an earlier answer move away though the next one has other extensions; those of other calls stay."""
    names = [
        "images/robot.jpg",
        "images/robot.bin",
        "drafts/robot.1.png",
        "drafts/robot.2.jpg",
        "drafts/robot.3.png",
    ]
    others = ["images/robot.2.png", "drafts/robot.2.1.png", "images/robots.png"]
    for name in [*names, *others]:
        store.publish(arrive(store, name, name.encode())[0].file, name)

    store.retire("robot")

    moved = {"superseded/" + name.removeprefix("images/"): name.encode() for name in names}
    assert moved | {name: name.encode() for name in others} == tree(store.out)


def test_a_link_that_came_later_is_refused(store: OutputFolder, tmp_path: Path) -> None:
    """Through a symbolic link that leads out no image is written, no folder is made, and nothing is fetched."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (store.out / "images").mkdir()
    (store.out / "images" / "icons").symlink_to(elsewhere)
    (image,) = arrive(store, "robot", png(""))

    with pytest.raises(StorageError, match="a symbolic link leads out of"):
        store.publish(image.file, "images/icons/deep/robot.png")
    (elsewhere / "cat.png").write_bytes(b"mine")
    with pytest.raises(StorageError, match="a symbolic link leads out of"):
        store.retire("icons/cat")
    (elsewhere / "cat.png").unlink()

    assert list(elsewhere.iterdir()) == []
    assert Path(image.file).exists()


def test_a_path_that_leads_out_is_refused(store: OutputFolder, tmp_path: Path) -> None:
    """A row that somebody forged can't make us write, or move, files outside the folder."""
    (image,) = arrive(store, "robot", png(""))
    (tmp_path / "mine.png").write_bytes(b"mine")
    (store.out / "images").mkdir()

    with pytest.raises(StorageError):
        store.publish(image.file, "../robot.png")
    with pytest.raises(StorageError):
        store.retire("../../mine")

    assert (tmp_path / "mine.png").read_bytes() == b"mine"


# --- durability ---


def test_sync_reaches_files_and_all_folders_above(
    store: OutputFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All folders in which a name changed are made durable, and those above up to the output folder, each once."""
    store.moved()
    synced: list[str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        synced.append(os.path.relpath(Path(f"/proc/self/fd/{descriptor}").readlink(), store.out))
        fsync(descriptor)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to name what is synced")
    monkeypatch.setattr(os, "fsync", record)
    for data in (b"1", b"2"):
        (image,) = arrive(store, "a/b/robot", png("") + data)
        store.publish(image.file, "images/a/b/robot.png")

    store.sync(["images/a/b/robot.png"])
    assert synced == ["images/a/b/robot.png"]

    store.sync(store.moved())
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
    assert store.moved() == []


def test_the_note_of_what_is_durable(store: OutputFolder) -> None:
    """The note is read back; one that is damaged says nothing is durable, and one that is not there says nothing at all."""
    assert store.durable_bytes() is None
    store.note_durable(123_456)
    assert store.durable_bytes() == 123_456
    store.note_durable(99)
    assert store.durable_bytes() == 99
    (store.private / "durable").write_bytes(bytes(20))
    assert store.durable_bytes() == 0


def test_keep_beside_never_overwrites(store: OutputFolder) -> None:
    """What is cut off goes into a new file each time."""
    paths = [store.set_aside("torn", data) for data in (b"1", b"2")]

    assert [path.read_bytes() for path in paths] == [b"1", b"2"]
