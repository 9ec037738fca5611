"""Wrong commands and flags, and the completion of right ones."""

import subprocess
from pathlib import Path

import pytest

from gemini_batch.cli import main
from gemini_batch.cli.arguments import parser
from tests import render

COMMAND = 'gemini-batch: no such command: "{}"; use: {}'
FLAG = "gemini-batch: {}: no such flag"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("run x --dry-run", "; `gemini-batch plan` checks a manifest, and sends nothing"),
        ("run x --workers 3", '; did you mean "--concurrency"?'),
        ("run x --max-retries=2", '; did you mean "--max-attempts"?'),
        ("run x -o folder", '; did you mean "--out"?'),
        ("run x --proxy http://a", "; set HTTPS_PROXY in the environment"),
        (
            "run x --resume",
            "; each run continues where the last one ended: run the same command again",
        ),
        ("run x --xyzzy", ""),
        ("verify out -q", ""),
        ("status out --xyzzy", "; known: --json"),
    ],
)
def test_a_flag_of_another_tool_is_answered_with_ours(
    arguments: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What people try first is answered by what does it here, not by a list of thirty flags."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments.split())
    name = arguments.split()[2].partition("=")[0]
    assert capsys.readouterr().err.splitlines()[0] == FLAG.format(name) + said


def test_a_field_that_is_given_as_a_flag_is_called_a_field(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`--seed 3` is answered by where the seed belongs."""
    with pytest.raises(SystemExit, match="2"):
        main(["run", "x", "--seed", "3"])
    said = capsys.readouterr().err.splitlines()[0]
    assert said.endswith("--seed: is a field of a manifest line; see: gemini-batch schema job")


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("version", "gemini-batch --version"),
        ("validate", "gemini-batch plan"),
    ],
)
def test_a_command_of_another_tool_is_answered_with_ours(
    name: str, ours: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`version` is no command here; the message has what is, and no second advice."""
    with pytest.raises(SystemExit, match="2"):
        main([name])
    assert capsys.readouterr().err.splitlines() == [COMMAND.format(name, ours)]


@pytest.mark.parametrize(("arguments", "usage"), [("help", ""), ("help plan", "plan ")])
def test_help_is_a_command_too(
    arguments: str, usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`help` and `help COMMAND` print what `--help` prints."""
    with pytest.raises(SystemExit, match="0"):
        main(arguments.split())
    assert capsys.readouterr().out.startswith(f"usage: gemini-batch {usage}[-h]")


@pytest.mark.parametrize(
    ("given", "seconds"), [("600", 600), ("0.5", 0.5), ("45s", 45), ("10m", 600), ("1.5h", 5400)]
)
def test_a_time_may_have_a_unit(given: str, seconds: float) -> None:
    """Seconds count, and minutes and hours by their letter."""
    options = parser(["run"]).parse_args(["run", "jobs.jsonl", "--deadline", given])
    assert options.deadline_s == seconds


@pytest.mark.parametrize("given", ["10q", "m", "-5", "0", "1h30m", "1e3", "", "inf", "5 m"])
def test_a_time_that_is_none_names_the_units(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message has the units that are allowed."""
    with pytest.raises(SystemExit, match="2"):
        main(["run", "jobs.jsonl", f"--deadline={given}"])
    allowed = "seconds above 0, as in 600, or a time with a unit: 45s, 10m, 2h"
    assert f"--deadline: got {given}; allowed: {allowed}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "plan",
        "status",
        "verify",
        "gallery",
        "review",
        "export",
        "prune",
        "batches",
        "schema",
        "completion",
        "expand",
    ],
)
def test_a_wrong_flag_is_named_before_what_is_missing(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt flag in front of the folder is the mistake, not the folder that is still to come."""
    with pytest.raises(SystemExit, match="2"):
        main([command, "--xyzzy"])
    assert capsys.readouterr().err.startswith("gemini-batch: --xyzzy: no such flag")


@pytest.mark.parametrize(
    "arguments", ["plan -- - --out o", "run -- jobs.jsonl --quiet", "status -- out --json"]
)
def test_a_flag_after_two_hyphens_is_told_where_it_belongs(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It exists, so the message does not call it unknown."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments.split())
    assert 'is after "--", where nothing is a flag' in capsys.readouterr().err


def test_what_is_missing_is_named_where_all_flags_are_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The missing argument is the mistake then, also with flags that take values."""
    with pytest.raises(SystemExit, match="2"):
        main(["run", "--max-cost=2", "--model", "x"])
    assert "arguments are required: JOBS.jsonl" in capsys.readouterr().err


COMPLETES = """\
source "./$1"; shift
COMP_WORDS=(gemini-batch "$@") COMP_CWORD=$#
_shtab_gemini_batch
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["sta"], ["status"]),
        (["run", "--si"], ["--simulate"]),
        (["run", "--log-format", ""], ["text", "json"]),
        (["run", "jo"], ["jobs.jsonl"]),
    ],
)
def test_a_shell_completes_commands_flags_choices_and_files(
    typed: list[str], expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script for bash, run by bash, completes what was typed."""
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    (tmp_path / "jobs.jsonl").touch()
    line = ["bash", "-c", COMPLETES, "bash", "script", *typed]
    found = subprocess.run(line, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert found.stdout.splitlines() == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_script_has_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that is added is completed in every shell."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(command in script for command in render.commands())
