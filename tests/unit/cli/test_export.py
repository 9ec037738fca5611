"""`export`: pictures under their names, unchanged, and an index of them."""

import csv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gemini_batch.cli import main
from gemini_batch.output.marks import Mark, Marks
from tests.builders import sha256
from tests.unit.gallery.folder import picture, row, write_rows

HOSTILE = '=1+1,"\n🤖'


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with three pictures, one of them superseded, and a call without one."""
    folder = tmp_path / "jobs.out"
    rows = []
    for number, call_id in enumerate(("cat", "icons/robot", "cat")):
        data = picture(("teal", "red", "blue")[number])
        path = folder / f"images/{call_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        image = {
            "path": f"images/{call_id}.png",
            "sha256": sha256(data),
            "size_bytes": len(data),
            "width": 40,
            "height": 20,
            "mime_type": "image/png",
        }
        metadata = {"sku": 7, "tags": ["a"]} if call_id == "cat" else None
        rows.append(row(call_id, images=[image], prompt=HOSTILE, metadata=metadata))
    write_rows(folder, *rows, row("gone", status="blocked"))
    return folder


def in_folder(path: Path) -> dict[str, bytes]:
    """Return the files below a folder by name."""
    files = (each for each in path.rglob("*") if each.is_file())
    return {str(each.relative_to(path)): each.read_bytes() for each in files}


def in_zip(path: Path) -> dict[str, bytes]:
    """Return the files of a ZIP file by name."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(
    ("name", "read"), [("all", in_folder), ("all.zip", in_zip), ("ALL.ZIP", in_zip)]
)
def test_the_newest_pictures_are_copied_as_they_are(
    out: Path, tmp_path: Path, name: str, read: Callable[[Path], dict[str, bytes]]
) -> None:
    """Each under the id of its call, byte by byte; the index has any prompt, and metadata in columns."""
    assert main(["export", str(out), "--to", str(tmp_path / name)]) == 0
    found = read(tmp_path / name)
    index = found.pop("index.csv").decode("utf-8-sig")
    assert found == {
        "cat.png": (out / "images/cat.png").read_bytes(),
        "icons/robot.png": (out / "images/icons/robot.png").read_bytes(),
    }
    lines = {line["file"]: line for line in csv.DictReader(index.splitlines(keepends=True))}
    assert lines["cat.png"]["prompt"] == lines["icons/robot.png"]["prompt"] == HOSTILE
    assert (lines["cat.png"]["metadata.sku"], lines["cat.png"]["metadata.tags"]) == ("7", '["a"]')
    assert lines["icons/robot.png"]["metadata.sku"] == ""


def test_only_the_picked_ones(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pick of an earlier picture of a call is no pick of the newest one."""
    assert main(["export", str(out), "--to", str(tmp_path / "picked"), "--picked"]) == 3
    assert "has no picked pictures to export" in capsys.readouterr().err
    assert not (tmp_path / "picked").exists()
    marks = Marks(out)
    marks.set(Mark("cat", sha256(picture("teal")), "pick"))
    marks.set(Mark("icons/robot", sha256(picture("red")), "pick"))
    assert main(["export", str(out), "--to", str(tmp_path / "picked"), "--picked"]) == 0
    assert {*in_folder(tmp_path / "picked")} == {"icons/robot.png", "index.csv"}


def test_a_missing_picture_is_named(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are copied, and the exit code says that not all are there."""
    (out / "images/cat.png").unlink()
    assert main(["export", str(out), "--to", str(tmp_path / "all")]) == 4
    assert "  missing: images/cat.png" in capsys.readouterr().out.splitlines()
    assert {*in_folder(tmp_path / "all")} == {"icons/robot.png", "index.csv"}


@pytest.mark.parametrize("name", ["taken", "taken.zip", "file"])
def test_nothing_is_overwritten(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """What is there stays as it is."""
    (tmp_path / "taken").mkdir()
    for path in (tmp_path / "taken/mine", tmp_path / "taken.zip", tmp_path / "file"):
        path.write_bytes(b"mine")
    before = in_folder(tmp_path)
    assert main(["export", str(out), "--to", str(tmp_path / name)]) == 3
    assert f"--to: {tmp_path / name}: exists" in capsys.readouterr().err
    assert in_folder(tmp_path) == before
