"""The README is up to date: tables and help match the code, examples work, links exist."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from gemini_batch.catalog import prices, tiers
from gemini_batch.records.job import Job
from tests import render

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
HELP = render.help_texts()
# Flags of other programs.
OTHERS_FLAGS = {"--quiet", "--editable", "--numprocesses", "--dist", "--check", "--kills", "--seed"}


def blocks(language: str) -> list[str]:
    """Return the README's code blocks in a language."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in render.BLOCKS if name != "help"])
def test_the_tables_are_the_models(name: str) -> None:
    """Manifest, rows, summary and exit codes: after a change, `python -m tests.render README.md` renders them."""
    assert render.rendered(README, (name,)) == README


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11),
    reason="each Python lays out help a little differently; 3.11 is the oldest",
)
def test_the_help_texts_are_those_of_the_commands() -> None:
    """The README has the help of every command; `python -m tests.render README.md` renders it."""
    assert render.rendered(README, ("help",)) == README


def test_a_block_that_is_gone_is_noticed() -> None:
    """A README without the place of a table is an error."""
    with pytest.raises(ValueError, match="has no place for 'rows'"):
        render.rendered(README.replace("<!-- rows: end -->", ""), ("rows",))


@pytest.mark.parametrize("command", render.commands())
def test_every_flag_says_what_it_is(command: str) -> None:
    """Each flag has a help text, and one that takes a number says what it is by default."""
    text = render.help_of([command, "--help"]).partition("\noptions:\n")[2]
    for entry in re.split(r"\n  (?=--[a-z])", text)[1:]:
        flag, said = re.fullmatch(r"(--\S+(?: \S+)?)\s+(.*)", entry, re.DOTALL).groups()  # type: ignore[union-attr]  # all do
        assert re.search(r"[a-z]{3}", said), flag
        assert flag.split()[-1] not in {"N", "USD", "SECONDS"} or "default" in said, flag


def test_every_tier_is_named() -> None:
    """The help of `--tier` has each built-in tier."""
    built_in = tomllib.loads(
        (resources.files("gemini_batch.catalog") / "tiers.toml").read_text("utf-8")
    )["tiers"]
    named = re.search(
        r"--tier NAME(.*?)--config",
        render.help_of(["run", "--help"]).partition("\nquota:")[2],
        re.DOTALL,
    )
    assert named is not None
    assert [tier for tier in built_in if tier not in re.split(r"[,\s]+", named[1])] == []


def test_the_variables_are_named() -> None:
    """Every environment variable is in the help."""
    for variable in (
        "GEMINI_BATCH_BASE_URL",
        "GEMINI_BATCH_STATE_DIR",
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
    ):
        assert variable in HELP


def test_every_flag_that_is_named_exists() -> None:
    """Every flag in the README exists."""
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", README.partition("<!-- help: begin")[0]))
    known = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", HELP))
    assert named - known - OTHERS_FLAGS == set()


def test_every_example_of_a_line_is_a_job() -> None:
    """The JSON of the README is a valid manifest."""
    lines = [line for block in blocks("json") for line in block.splitlines()]
    assert len(lines) >= 5
    for line in lines:
        Job.model_validate(json.loads(line))


def test_every_example_of_a_config_file_is_one() -> None:
    """The TOML of the README is a valid config file."""
    first, second = (tomllib.loads(block) for block in blocks("toml"))
    assert tiers.limits_of("ours", first["tiers"]).requests_per_min == 150
    assert prices.merged(prices.built_in(), second["prices"]) != prices.built_in()


@pytest.mark.loopback
def test_the_example_in_python_runs(tmp_path: Path) -> None:
    """The Python of the README runs unchanged: a run, then the rows of what is not done."""
    (code,) = blocks("python")
    environment = os.environ | {"GEMINI_BATCH_STATE_DIR": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    first, *rows = done.stdout.splitlines()
    assert (done.returncode, first) == (0, "{'succeeded': 1}"), done.stderr
    assert [row.split()[1] for row in rows] == ["succeeded"] * 2
    assert len(list((tmp_path / "robots.out/images").iterdir())) == 3


def test_each_promise_names_a_test_that_exists() -> None:
    """Every promise names the test that proves it."""
    promises = README.partition("## What it promises")[2].partition("\n## ")[0]
    for promise in promises.split("\n- **")[1:]:
        assert re.search(r"\*`tests/", promise), promise
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", promises):
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        names = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in names, f"{file} has no {name}"


@pytest.mark.skipif(
    not (ROOT / ".ci").is_dir(), reason="away from the sources there is only the README"
)
def test_every_file_that_is_linked_is_there() -> None:
    """No link or picture leads nowhere, and no link to a section either."""
    targets = re.findall(r"\]\(([^)]+)\)|(?:src|srcset)=\"([^\"]+)\"", README)
    sections = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }
    for target in filter(None, (path for pair in targets for path in pair)):
        if target.startswith("#"):
            assert target[1:] in sections, target
        elif not target.startswith("https://"):
            assert (ROOT / target).exists(), target
