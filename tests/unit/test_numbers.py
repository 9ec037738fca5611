import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_numbers_of_the_readme_are_those_that_were_measured() -> None:
    """Its table is what the benchmarks' JSON gives, and `python benchmarks/readme.py` would change nothing."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert runpy.run_path(str(ROOT / "benchmarks/readme.py"))["with_block"](text) == text
