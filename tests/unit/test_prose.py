import subprocess
import sys
from pathlib import Path

import pytest

PROSE = Path(__file__).parents[2] / ".ci" / "prose.py"

pytestmark = pytest.mark.skipif(not PROSE.exists(), reason="the checks are not part of a release")


def _run(folder: Path, source: str, name: str = "page.py") -> tuple[int, list[str]]:
    """Return the exit code and the lines that the check prints for one file."""
    path = folder / name
    path.write_text(source, encoding="utf-8")
    command = [sys.executable, str(PROSE), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, [line.replace(f"{path}:", "") for line in done.stdout.splitlines()]


def test_first_words(tmp_path: Path) -> None:
    """A docstring that begins with an interrogative is reported with its line, at every level and below an attribute."""
    source = (
        '"""How it works."""\n\nclass Page:\n    """What a page is."""\n\n'
        '    def turn(self) -> None:\n        """\n        Whether it turned.\n        """\n'
        'SIZE = 1\n"""How large a page is."""\n'
    )
    say = 'say "a verb and an object, or a noun phrase"'
    assert _run(tmp_path, source) == (
        1,
        [f'1: "How": {say}', f'4: "What": {say}', f'7: "Whether": {say}', f'11: "How": {say}'],
    )


def test_banned_words(tmp_path: Path) -> None:
    """A banned word is reported in a comment, a string and a name, also across lines."""
    source = (
        '"""Show a page.\n\nIt is printed anew in\nplace of another.\n"""\n\n'
        "# It waits for a\n# person.\n"
        'says = f"{1}\\nNobody " "goes " "on"\n'
        "def toldPages(_dear_page: int) -> None:\n    ...\n"
    )
    assert _run(tmp_path, source) == (
        1,
        [
            '3: "anew": say "again"',
            '3: "in place of": say "instead of"',
            '7: "a person": say "the user"',
            '9: "Nobody": say "no one"',
            '9: "goes on": say "continue"',
            '10: "_dear_page": say "expensive"',
            '10: "toldPages": say "say or report"',
        ],
    )


def test_long_lines(tmp_path: Path) -> None:
    """A line of 101 columns is reported, one of 100 is not."""
    assert _run(tmp_path, f"# {'x' * 98}\n# {'y' * 99}\n") == (
        1,
        ['2: "101 columns": say "at most 100"'],
    )


def test_clean_file(tmp_path: Path) -> None:
    """A clean file passes; longer words that contain a banned one are not reported, nor are calls of other libraries."""
    source = (
        '"""Return whether the page changed.\n\nBesides, passwords and amendments are fine."""\n\n'
        'import io\n\nrecommended = io.BytesIO(b"retold").tell()\nprint("x", end="brainstorm")\n'
        'password = f"{recommended:>5} calls in one second"\n'
    )
    assert _run(tmp_path, source) == (0, ["prose: 1 files read, nothing found"])


def test_pages(tmp_path: Path) -> None:
    """A page in Markdown is checked outside of its code."""
    source = "# Pages\n\nIn\nplace of `anew`:\n\n```text\nanew\n```\n\nStart it anew.\n"
    assert _run(tmp_path, source, "page.md") == (
        1,
        ['3: "In place of": say "instead of"', '10: "anew": say "again"'],
    )
