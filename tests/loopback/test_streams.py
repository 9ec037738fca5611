"""A command as cron, a daemon or a broken locale starts it: real processes, real descriptors."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

pytestmark = pytest.mark.loopback

ROOT = Path(__file__).parents[2]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LOCALES = {
    "none": {},
    "ascii words": {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    "ascii files": ASCII,
    "ascii all": ASCII | {"PYTHONIOENCODING": "ascii"},
}
JOBS = [
    {"id": "größe/机器人", "prompt": "Ein Röböter · … 🤖"},
    {"id": "nein", "prompt": "… [[fault:safety]]"},
    {"id": "ü", "prompt": "· [[fault:400]]"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a manifest of names and prompts that ASCII has no letters for."""
    (tmp_path / "jöbs.jsonl").write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in JOBS))
    return tmp_path


def command(
    folder: Path, words: str, *, redirect: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a folder with an environment as bare as cron's; `redirect` is in the shell's words."""
    line = f"{shlex.quote(sys.executable)} -m gemini_batch {words} {redirect}"
    bare = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder),
    } | environment
    return subprocess.run(
        ["/bin/sh", "-c", line], cwd=folder, env=bare, capture_output=True, check=False, timeout=60
    )


RUN = "run jöbs.jsonl --simulate --rpm 6000 --json"


@pytest.mark.parametrize("locale", LOCALES)
def test_no_locale_breaks_a_run(folder: Path, locale: str) -> None:
    """Whatever cron's locale, images get the names that the manifest gives them, and the JSON on stdout is UTF-8."""
    found = command(folder, RUN, **LOCALES[locale])
    assert (found.returncode, b"bug" in found.stderr) == (4, False)
    assert orjson.loads(found.stdout)["by_status"] == {"succeeded": 1, "blocked": 1, "rejected": 1}
    assert orjson.loads(found.stdout)["out"] == "jöbs.simulated"
    assert (folder / "jöbs.simulated/images/größe/机器人.jpg").exists()


COMMANDS = (
    "plan jöbs.jsonl --simulate",
    "status jöbs.simulated",
    "verify jöbs.simulated",
    "gallery jöbs.simulated",
    "quota",
    "simulate --list-faults",
    "--help",
)


def test_no_locale_breaks_a_command(folder: Path) -> None:
    """Words that ASCII can't show are shown as it can; JSON stays JSON."""
    command(folder, RUN)
    for words in COMMANDS:
        found = command(folder, words, **LOCALES["ascii words"])
        assert (words, found.returncode, found.stderr) == (words, 0, b"")
        assert found.stdout.isascii()
    found = command(folder, f"{COMMANDS[0]} --json", **LOCALES["ascii words"])
    assert orjson.loads(found.stdout)["manifest"] == "jöbs.jsonl"


@pytest.mark.parametrize("redirect", ["2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_a_run_needs_no_standard_streams(folder: Path, redirect: str) -> None:
    """Whichever of them are closed or full, the run does all its work, its exit code says how it ended, and no file of it has words in it."""
    found = command(folder, RUN, redirect=redirect)
    assert (found.returncode, b"bug" in found.stderr) == (4, False)
    rows = [
        orjson.loads(line)
        for line in (folder / "jöbs.simulated/results.jsonl").read_bytes().splitlines()
    ]
    assert sorted(row["status"] for row in rows) == ["blocked", "rejected", "succeeded"]
    assert command(folder, "verify jöbs.simulated", redirect=redirect).returncode == 0


NO_ROOM = b"gemini_batch: stdout: can't be written: No space left on device"


@pytest.mark.parametrize("words", [RUN, "simulate --list-faults"])
def test_results_that_find_no_room_are_an_error(folder: Path, words: str) -> None:
    """What was to be printed and could not be ends with 8 and a sentence, not with a traceback."""
    found = command(folder, words, redirect=">/dev/full")
    assert (found.returncode, found.stderr.splitlines()[-1]) == (8, NO_ROOM)
    assert b"Traceback" not in found.stderr


def test_results_find_no_room_while_they_are_written(folder: Path) -> None:
    """Where the very writing fails, for `PYTHONUNBUFFERED` or more text than a buffer takes, all commands end in the same way."""
    assert command(folder, RUN).returncode == 4
    commands = [
        (words, {"PYTHONUNBUFFERED": "1"})
        for words in (f"{RUN} --quiet", *COMMANDS, "simulate --port 0")
    ]
    for words, environment in (*commands, ("schema job", {})):
        found = command(folder, words, redirect=">/dev/full", **environment)
        assert (words, found.returncode, found.stderr.splitlines()[-1:]) == (words, 8, [NO_ROOM])


def test_nobody_hears_anything(folder: Path) -> None:
    """With no room for results nor for words the exit code is still ours."""
    assert (
        command(folder, "plan jöbs.jsonl --simulate", redirect=">/dev/full 2>/dev/full").returncode
        == 8
    )


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


def test_what_a_killed_run_left_is_repaired_though_nobody_hears_of_it(folder: Path) -> None:
    """Words about a repair that can't be written stop no run."""
    command(folder, RUN)
    with (folder / "jöbs.simulated/results.jsonl").open("ab") as file:
        file.write(b'{"torn')
    assert command(folder, RUN, redirect="2>/dev/full").returncode == 4


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A file name in another encoding could be written into no row and no summary: nothing begins."""
    name = os.fsdecode(b"j\xf6bs.jsonl")
    found = command(tmp_path, f"run {name} --simulate")
    assert found.returncode == 2
    assert found.stderr == b"gemini_batch: 'j\\udcf6bs.jsonl': is not UTF-8; rename the file\n"
