"""Manifests that are a table, standard input, or said to be something: `plan` and `run` take them."""

import io
import sys
import tempfile
from pathlib import Path

import orjson
import pytest

from gemini_batch.cli import main
from tests.builders import png

JSONL = '{"id": "robot", "prompt": "A robot"}\n'
CSV = "id,prompt\nrobot,A robot\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, where temporary files are, too."""
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path.parent / "state"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def give(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    """Let standard input have a content."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))


@pytest.mark.parametrize("command", ["plan", "run"])
def test_standard_input_needs_an_output_folder(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Nothing is next to it, so the command ends with 2 and says which flag is missing."""
    give(monkeypatch, JSONL)
    with pytest.raises(SystemExit) as ended:
        main([command, "-", "--simulate"])
    assert ended.value.code == 2
    said = "gemini-batch: --out: name the output folder of a manifest from standard input (-)\n"
    assert capsys.readouterr().err.startswith(said)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("content", "flags"),
    [
        (JSONL, []),
        (JSONL, ["--format", "jsonl"]),
        (CSV, ["--format", "csv"]),
        (CSV, ["--format", "tsv"]),
        (CSV.replace(",", "\t"), ["--format", "csv"]),
    ],
)
def test_standard_input_is_a_manifest(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    content: str,
    flags: list[str],
) -> None:
    """It is called stdin, and nothing of the copy is left."""
    give(monkeypatch, content)
    assert main(["plan", "-", "--out", "pictures.out", "--json", *flags]) == 0
    found = orjson.loads(capsys.readouterr().out)
    assert (found["manifest"], found["calls"], found["out"]) == ("stdin", 1, "pictures.out")
    assert not list(folder.iterdir())


def test_images_of_standard_input_are_in_the_current_folder(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths start where the command does."""
    (folder / "in").mkdir()
    (folder / "in/a.png").write_bytes(png("x"))
    give(monkeypatch, '{"prompt": "x", "images": ["in/a.png"]}\n{"prompt": "x", "images": ["b"]}')
    assert main(["plan", "-", "--out", "pictures.out"]) == 3
    assert capsys.readouterr().err == (
        f'gemini-batch: stdin:2: images[0]: got "b"; there is no such file: looked for {folder}/b\n'
    )


PROBLEMS: dict[str, tuple[str, list[str]]] = {
    " is CSV: give it a name that ends in .csv, or add --format csv": (CSV, []),
    ' has no jobs; write one per line, such as {"prompt": "A cute robot mascot"}': ("", []),
    '1: promt: no such field; did you mean "prompt"?': ("id,promt\na,x\n", ["--format", "csv"]),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_problem_of_standard_input_has_its_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    """Both commands end with 3; nothing is written."""
    content, flags = PROBLEMS[problem]
    for command in ("plan", "run"):
        give(monkeypatch, content)
        assert main([command, "-", "--out", "o", "--simulate", *flags]) == 3
        assert capsys.readouterr().err == f"gemini-batch: stdin:{problem}\n"
    assert not list(folder.iterdir())


@pytest.mark.usefixtures("folder")
def test_a_file_may_be_said_to_be_something_else(capsys: pytest.CaptureFixture[str]) -> None:
    """`--format` counts, and not the suffix; messages and folders have the name of the file."""
    Path("jobs.txt").write_text(CSV)
    Path("jobs.csv").write_text("\n" + JSONL + JSONL)
    assert main(["plan", "jobs.txt", "--format", "csv", "--json"]) == 0
    found = orjson.loads(capsys.readouterr().out)
    assert (found["manifest"], found["out"]) == ("jobs.txt", "jobs.out")
    assert main(["plan", "jobs.csv", "--format", "jsonl"]) == 3
    assert capsys.readouterr().err.startswith("gemini-batch: jobs.csv:3: id: ")
    assert main(["plan", "nowhere.txt", "--format", "csv"]) == 3
    assert capsys.readouterr().err == "gemini-batch: nowhere.txt: there is no such file\n"


def test_a_disk_without_space_for_the_copy_ends_with_8(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """The message says where space is needed."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    give(monkeypatch, JSONL)
    open_ = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, *given: open_(
            Path("/dev/full") if self.parent.parent == folder else self, *given
        ),
    )
    assert main(["plan", "-", "--out", "o"]) == 8
    assert capsys.readouterr().err == (
        "gemini-batch: stdin: can't be copied; make space for temporary files, or set TMPDIR: "
        "No space left on device\n"
    )
