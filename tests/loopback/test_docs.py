"""README and docs are up to date: tables and help match the code, examples work, links exist."""

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

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in render.FILES}
HELP = render.help_texts()
# Flags of other programs.
OTHERS_FLAGS = {
    "--requeue",
    "--rm",
    "--init",
    "--stop-timeout",
    "--build-arg",
    "--spec",
    "--quiet",
    "--editable",
    "--numprocesses",
    "--dist",
    "--kills",
    "--seed",
    "--from",
}

# The built wheel is tested away from the sources, with the README alone.
in_checkout = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="no docs without sources")


def blocks(language: str, text: str = "\n".join(PAGES.values())) -> list[str]:
    """Return the code blocks in a language."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)


@in_checkout
@pytest.mark.parametrize("name", [name for name in render.BLOCKS if name != "help"])
def test_the_generated_parts_are_those_of_the_code(name: str) -> None:
    """After a change `python -m tests.render` renders them; each is on one page."""
    with_it = [page for page, text in PAGES.items() if f"<!-- {name}: begin;" in text]
    assert len(with_it) == 1
    assert render.rendered(PAGES[with_it[0]], (name,)) == PAGES[with_it[0]]


@in_checkout
@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11),
    reason="each Python lays out help a little differently; 3.11 is the oldest",
)
def test_the_help_texts_are_those_of_the_commands() -> None:
    """The help of every command is on a page; `python -m tests.render` renders it."""
    page = PAGES["docs/command-line.md"]
    assert "<!-- help: begin;" in page
    assert render.rendered(page, ("help",)) == page


def test_the_readme_is_short() -> None:
    """README has at most 200 lines and 12 kB; longer texts are in docs."""
    assert len(README.splitlines()) <= 200
    assert len(README.encode()) <= 12_000


def test_the_commands_of_the_readme_are_lines_to_paste() -> None:
    """There are two, the quickstart and the tests, and each is one line."""
    assert [block.count("\n") for block in blocks("sh", README)] == [1, 1]


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
    """Every flag in README and docs exists."""
    said = "\n".join(text for page, text in PAGES.items() if page != "docs/command-line.md")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", said))
    known = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", HELP))
    assert named - known - OTHERS_FLAGS == set()


def test_every_example_of_a_line_is_a_job() -> None:
    """The JSON of README and docs is a valid manifest."""
    lines = [line for block in blocks("json") for line in block.splitlines()]
    assert len(lines) >= 5
    for line in lines:
        Job.model_validate(json.loads(line))


@in_checkout
def test_every_example_of_a_config_file_is_one() -> None:
    """The TOML of the docs is a valid config file."""
    found = [tomllib.loads(block) for block in blocks("toml")]
    (first,) = (each for each in found if "tiers" in each)
    (second,) = (each for each in found if "prices" in each)
    assert tiers.limits_of("ours", first["tiers"]).requests_per_min == 150
    assert prices.merged(prices.built_in(), second["prices"]) != prices.built_in()


@pytest.mark.loopback
def test_the_example_in_python_runs(tmp_path: Path) -> None:
    """The Python of the README runs unchanged: a run, then the rows of what is not done."""
    (code,) = blocks("python", README)
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


@in_checkout
@pytest.mark.parametrize("name", render.PROMISES)
def test_each_promise_has_a_test(name: str) -> None:
    """Every promise names the tests that hold it."""
    assert "::test_" in render.promise(name)


@in_checkout
def test_every_file_that_is_linked_is_there() -> None:
    """No link or picture leads nowhere; links inside docs are checked by its builder."""
    for page, text in PAGES.items():
        targets = re.findall(r"\]\(([^)]+)\)|(?:src|srcset)=\"([^\"]+)\"", text)
        for target in filter(None, (path for pair in targets for path in pair)):
            if not target.startswith(("https://", "#")):
                assert (ROOT / page).parent.joinpath(target.partition("#")[0]).exists(), target


@in_checkout
@pytest.mark.parametrize("contents", ["mkdocs.yml", "docs/llms.txt"])
def test_every_page_is_in_the_table_of_contents(contents: str) -> None:
    """That of the site, and that for assistants."""
    listed = re.findall(r"[\w-]+\.md", (ROOT / contents).read_text("utf-8"))
    pages = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}
    assert sorted({*listed, "index.md"}) == sorted(pages)
