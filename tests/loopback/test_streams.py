"""A command as cron, a daemon or a broken locale starts it: real processes, real descriptors."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from gemini_batch.cli import main
from tests.loopback.commands import ROOT, rows, use_key_and_state
from tests.simulated import QUICK_START, simulator

pytestmark = [pytest.mark.loopback, pytest.mark.slow]

LOCALES = {
    "none": {},
    "ascii": {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii",
    },
}
JOBS = [
    {"id": "größe/机器人", "prompt": "Ein Röböter · … 🤖"},
    {"id": "nein", "prompt": "… [[fault:safety]]"},
    {"id": "ü", "prompt": "· [[fault:400]]"},
]
RUN = "run jöbs.jsonl --rpm 6000 --json"
COMMANDS = (
    "plan jöbs.jsonl",
    "status jöbs.out",
    "verify jöbs.out",
    "gallery jöbs.out",
    "quota",
    "simulate --list-faults",
    "--help",
)
# Runs several commands, each as `python -m gemini_batch` does, and prints their exit codes.
SEVERAL = """\
import os, sys
from gemini_batch.cli import process
for line in sys.stdin.buffer.read().decode().splitlines():
    if path := os.environ.get("STDOUT"):
        os.dup2(os.open(path, os.O_WRONLY), 1)
    sys.argv, sys.stdout = ["gemini-batch", *line.split()], sys.__stdout__
    print(ascii(line), process(), file=sys.stderr)
"""
# The same, with the commands as arguments and the exit codes in a file: there may be no streams.
CODES = """\
import pathlib, sys
from gemini_batch.cli import process
codes = []
for line in sys.argv[1:]:
    sys.argv = ["gemini-batch", *line.split()]
    codes.append(process())
pathlib.Path("codes").write_text(str(codes))
"""


@pytest.fixture(autouse=True, scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A simulator, and the environment that names it."""
    with simulator() as server, pytest.MonkeyPatch.context() as patch:
        use_key_and_state(patch, tmp_path_factory.mktemp("state"))
        patch.setenv("GEMINI_BATCH_BASE_URL", server.base_url)
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a manifest of names and prompts that are not ASCII."""
    (tmp_path / "jöbs.jsonl").write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in JOBS))
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run of that manifest."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "jöbs.jsonl").write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in JOBS))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(RUN.split()) == 4
    return folder / "jöbs.out"


def command(
    folder: Path, arguments: str, *, redirect: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a folder with an environment as bare as cron's, redirected by a shell."""
    return shell(folder, f"-m gemini_batch {arguments} {redirect}", **environment)


def shell(
    folder: Path, arguments: str, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run Python by a shell."""
    bare = {"PATH": os.defpath, "HOME": str(folder), "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    bare |= {
        name: os.environ[name] for name in (*QUICK_START, "GEMINI_API_KEY", "GEMINI_BATCH_BASE_URL")
    }
    return subprocess.run(
        ["/bin/sh", "-c", f"{shlex.quote(sys.executable)} {arguments}"],
        cwd=folder,
        env=bare | environment,
        input=stdin.encode(),
        capture_output=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("locale", LOCALES)
def test_no_locale_breaks_a_run(folder: Path, locale: str) -> None:
    """Images have the names of the manifest in every locale, and the JSON on stdout is UTF-8."""
    found = command(folder, RUN, **LOCALES[locale])
    assert (found.returncode, b"bug" in found.stderr) == (4, False)
    assert orjson.loads(found.stdout)["by_status"] == {"succeeded": 1, "blocked": 1, "rejected": 1}
    assert orjson.loads(found.stdout)["out"] == "jöbs.out"
    assert (folder / "jöbs.out/images/größe/机器人.jpg").exists()


def test_no_locale_breaks_a_command(folder: Path, finished: Path) -> None:
    """Characters that ASCII lacks are escaped; JSON stays JSON."""
    shutil.copytree(finished, folder / "jöbs.out")
    ascii_text = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    found = shell(folder, f"-c {shlex.quote(SEVERAL)}", "\n".join(COMMANDS), **ascii_text)
    assert found.stderr.decode().splitlines() == [f"{line!a} 0" for line in COMMANDS]
    assert found.stdout.isascii()
    found = command(folder, f"{COMMANDS[0]} --json", **ascii_text)
    assert orjson.loads(found.stdout)["manifest"] == "jöbs.jsonl"


@pytest.mark.parametrize("redirect", ["<&- >&- 2>&-", "2>/dev/full"])
def test_a_run_needs_no_standard_streams(folder: Path, redirect: str) -> None:
    """With closed or full streams a run does all its work, and no message gets into its files."""
    found = shell(folder, f"-c {shlex.quote(CODES)} '{RUN}' 'verify jöbs.out' {redirect}")
    assert ((folder / "codes").read_text(), b"bug" in found.stderr) == ("[4, 0]", False)
    statuses = sorted(row["status"] for row in rows(folder / "jöbs.out"))
    assert statuses == ["blocked", "rejected", "succeeded"]


NO_ROOM = b"gemini-batch: stdout: can't be written: No space left on device"


@pytest.mark.parametrize("arguments", [RUN, "simulate --list-faults"])
def test_results_that_cannot_be_written_are_an_error(folder: Path, arguments: str) -> None:
    """Output on a full disk ends with 8 and a message, not with a traceback."""
    found = command(folder, arguments, redirect=">/dev/full")
    assert (found.returncode, found.stderr.splitlines()[-1]) == (8, NO_ROOM)
    assert b"Traceback" not in found.stderr


@pytest.mark.parametrize("is_unbuffered", [True, False])
def test_results_that_fail_while_they_are_written_are_an_error(
    folder: Path, finished: Path, *, is_unbuffered: bool
) -> None:
    """Errors of `PYTHONUNBUFFERED`, or of more text than a buffer takes, are the same error."""
    shutil.copytree(finished, folder / "jöbs.out")
    lines = [f"{RUN} --quiet", *COMMANDS, "simulate --port 0"] if is_unbuffered else ["schema job"]
    unbuffered = {"PYTHONUNBUFFERED": "1"} if is_unbuffered else {}
    found = shell(
        folder, f"-c {shlex.quote(SEVERAL)}", "\n".join(lines), STDOUT="/dev/full", **unbuffered
    )
    said = found.stderr.decode().splitlines()
    for line in lines:
        at = said.index(f"{line!a} 8")
        assert said[at - 1] == NO_ROOM.decode()
    assert b"Traceback" not in found.stderr


def test_with_all_output_blocked_the_exit_code_is_right(folder: Path) -> None:
    """With no room for results and messages the exit code is still 8."""
    redirect = ">/dev/full 2>/dev/full"
    assert command(folder, "plan jöbs.jsonl", redirect=redirect).returncode == 8


def test_a_reader_that_has_gone_changes_no_exit_code(folder: Path) -> None:
    """`run --json | head -c0` ends as the run did."""
    reader, writer = os.pipe()
    os.close(reader)
    line = [sys.executable, "-m", "gemini_batch", *shlex.split(RUN)]
    ended = subprocess.run(
        line, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=writer, check=False
    )
    os.close(writer)
    assert ended.returncode == 4


def test_a_killed_run_is_repaired_although_messages_fail(folder: Path, finished: Path) -> None:
    """Messages about a repair that can't be written stop no run."""
    shutil.copytree(finished, folder / "jöbs.out")
    with (folder / "jöbs.out/results.jsonl").open("ab") as file:
        file.write(b'{"torn')
    assert command(folder, RUN, redirect="2>/dev/full").returncode == 4


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A file name in another encoding fits into no row and no summary: nothing starts."""
    name = os.fsdecode(b"j\xf6bs.jsonl")
    found = command(tmp_path, f"run {name} --simulate")
    assert found.returncode == 2
    assert found.stderr == b"gemini-batch: 'j\\udcf6bs.jsonl': is not UTF-8; rename the file\n"
