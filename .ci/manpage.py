"""Write the man page from the command line's own help: `manpage.py man/gemini-batch.1`; `--check` compares instead."""

import argparse
import os
import re
import sys
from itertools import groupby
from pathlib import Path

os.environ["COLUMNS"] = "79"  # of the usage lines

from argparse_manpage.manpage import Manpage  # after the width

sys.path.insert(0, str(Path(__file__).parents[1]))
from gemini_batch.cli.arguments import parser  # of these sources
from gemini_batch.version import __version__

NAME = r"gemini\-batch \- batch generation with the Gemini image API"
SEE = """.SH FILES
.nf
JOBS.out/results.jsonl   one row per finished call; the newest row of an id counts
JOBS.out/images/         the pictures, named by the ids of their calls
.fi
.SH SEE ALSO
The documentation of each file, field and flag is in the README and in docs/ of the sources.
"""


def page() -> str:
    """Return the page; the same for each day and terminal."""
    lines = str(Manpage(parser())).splitlines()
    lines[0] = f'.TH GEMINI\\-BATCH 1 "" "gemini\\-batch {__version__}" "User Commands"'
    lines[lines.index(".SH NAME") + 1] = NAME
    text = "\n".join(_with_examples(lines)) + "\n"
    text = re.sub(r"^\.SH\n(?=\S)", ".SH ", text, flags=re.MULTILINE)
    text = text.replace(".SH COMMENTS\nexit codes:\n", ".SH EXIT STATUS\n")
    return re.sub(r"\n{2,}", "\n.PP\n", text).replace("\n.PP\n.SH", "\n.SH") + SEE


def _with_examples(lines: list[str]) -> list[str]:
    """Keep the line ends of usages, examples and lists, which are indented."""
    found: list[str] = []
    for is_kept, block in groupby(lines, lambda line: line.startswith((" ", "usage: "))):
        kept = [*block]
        found += [".nf", *kept, ".fi"] if is_kept else kept
    return found


def main() -> int:
    """Write or compare the page; return the exit code."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("file", type=Path)
    options.add_argument("--check", action="store_true")
    given = options.parse_args()
    if not given.check:
        given.file.write_text(page(), encoding="utf-8")
    elif given.file.read_text(encoding="utf-8") != page():
        print(f"{given.file}: is not current; run: python .ci/manpage.py {given.file}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
