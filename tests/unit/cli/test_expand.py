"""`expand`: a manifest on stdout, whole or not at all."""

import io
import sys
import tempfile
from pathlib import Path

import pytest

from gemini_batch.cli import main
from gemini_batch.cli.streams import _Stdout
from gemini_batch.errors import ExitCode

LINE = '{"id": "{animal}", "prompt": "Ein {animal}: größer"}\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder with a template and its variables; temporary files are there too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    Path("t.jsonl").write_text(LINE, "utf-8")
    Path("v.csv").write_text("animal\nfuchs\nuhu\n")
    return tmp_path


def test_a_manifest_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One job a line, and nothing else: no word, and no file."""
    assert main(["expand", "t.jsonl", "--vars", "v.csv"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out == (
        '{"id":"fuchs","prompt":"Ein fuchs: größer","metadata":{"animal":"fuchs"}}\n'
        '{"id":"uhu","prompt":"Ein uhu: größer","metadata":{"animal":"uhu"}}\n'
    )
    assert sorted(path.name for path in folder.iterdir()) == ["t.jsonl", "v.csv"]


def test_columns_are_multiplied(capsys: pytest.CaptureFixture[str]) -> None:
    """`--product` combines all values of the columns."""
    Path("t.jsonl").write_text('{"id": "{a}{b}", "prompt": "x"}')
    Path("v.csv").write_text("a,b\n1,x\n2,y\n")
    assert main(["expand", "t.jsonl", "--vars", "v.csv", "--product"]) == 0
    ids = [line.split('"')[3] for line in capsys.readouterr().out.splitlines()]
    assert ids == ["1x", "1y", "2x", "2y"]


def test_with_a_problem_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """All problems are on stderr, with file and line, and the exit code is 3."""
    Path("t.jsonl").write_text(LINE + '{"prompt": "{anmal}"}')
    with Path("v.csv").open("a") as file:
        file.write("a:b\nfuchs\n")
    assert main(["expand", "t.jsonl", "--vars", "v.csv"]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    starts = [line.partition(": got")[0][:32] for line in said.err.splitlines()]
    assert starts == [
        "gemini-batch: t.jsonl:2: prompt:",
        "gemini-batch: t.jsonl:2: uses no",
        "gemini-batch: v.csv:4: id",
        "gemini-batch: v.csv:5: id",
    ]


def test_product_needs_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Without `--vars` there are no columns: exit 2."""
    with pytest.raises(SystemExit) as ended:
        main(["expand", "t.jsonl", "--product"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(
        "gemini-batch: --product: combines the columns of a file; name it with --vars\n"
    )


def test_a_reader_that_leaves_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """`expand … | head -1` ends with 0."""

    class Left(_Stdout):
        def write(self, _data: object, /) -> int:
            raise BrokenPipeError

    Path("v.csv").write_text("animal\n" + "".join(f"fuchs-{n}\n" for n in range(9)))
    with Path("out").open("wb") as file:
        left = io.TextIOWrapper(io.BufferedWriter(Left(file.fileno(), "w", closefd=False), 8))
        monkeypatch.setattr(sys, "stdout", left)
        assert main(["expand", "t.jsonl", "--vars", "v.csv"]) == 0
        with pytest.raises(BrokenPipeError):
            left.close()


@pytest.mark.parametrize(
    "line", ['{"images": ["in/{n}.png"], ', '{"parts": [{"image": "a.png"}], ']
)
@pytest.mark.parametrize("is_file", [True, False])
def test_relative_images_need_the_folder_of_the_template(
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    is_file: bool,  # noqa: FBT001
) -> None:
    """Paths stay as they are; where they would lead nowhere, stderr says where the manifest belongs."""
    asked = '"id": "{n}"' if "parts" in line else '"id": "{n}", "prompt": "x"'
    (folder / "sub").mkdir()
    (folder / "sub/t.jsonl").write_text(line + asked + ', "vars": {"n": [1, 2]}}')
    said = []
    for place in ("sub/out.jsonl", "out.jsonl") if is_file else ("sub", "."):
        monkeypatch.chdir(folder if is_file else folder / place)
        into = Path(place if is_file else "/dev/null").open("w")  # noqa: SIM115
        with into, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", into)
            assert main(["expand", str(folder / "sub/t.jsonl")]) == ExitCode.DONE
        said.append(capfd.readouterr().err)
    image = "a.png" if "parts" in line else "in/1.png"
    advice = f"put it next to {folder}/sub/t.jsonl"
    assert said == [
        "",
        f"gemini-batch: {image}: relative images are looked for next to the manifest: {advice}\n",
    ]
    if is_file:
        assert Path("out.jsonl").read_bytes() == Path("sub/out.jsonl").read_bytes()


def test_images_with_a_place_of_their_own_are_no_matter(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An absolute path, or a URI, is the same anywhere."""
    Path("t.jsonl").write_text('{"prompt": "x", "images": ["/a.png", "https://a.org/b.png"]}')
    (folder / "sub").mkdir()
    monkeypatch.chdir(folder / "sub")
    assert main(["expand", "../t.jsonl"]) == 0
    assert capsys.readouterr().err == ""


def test_a_template_that_is_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """`vars` is no field of a job, and the message names the command."""
    Path("t.jsonl").write_text('{"prompt": "{a}", "vars": {"a": [1]}}')
    assert main(["plan", "t.jsonl"]) == 3
    assert capsys.readouterr().err == (
        "gemini-batch: t.jsonl:1: vars: belongs to a template: write the manifest with "
        "gemini-batch expand\n"
    )
