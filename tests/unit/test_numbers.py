import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_numbers_of_the_docs_are_those_that_were_measured() -> None:
    """The table is what the benchmarks' JSON gives, and `python benchmarks/page.py` would change nothing."""
    text = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    assert runpy.run_path(str(ROOT / "benchmarks/page.py"))["with_block"](text) == text
