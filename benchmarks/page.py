"""Writes the table of docs/benchmarks.md from what the benchmarks measured: `benchmarks/figures/*.json`."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs/benchmarks.md"
BENCHMARKS = ("answers", "uploads", "overhead", "manifest", "startup")
BEGIN, END = (
    "<!-- numbers: begin; made by `python benchmarks/page.py` -->\n",
    "<!-- numbers: end -->\n",
)


def block() -> str:
    """Return what stands between the marks."""
    reports = [
        json.loads((FOLDER / f"figures/{name}.json").read_text(encoding="utf-8"))
        for name in BENCHMARKS
    ]
    rows = [_row(goal) for report in reports for goal in report["goals"]]
    machine = reports[0]["machine"]
    about = f"{machine['cores']} cores ({machine['CPU']}), {machine['system']}, Python {machine['Python']}, aiohttp {machine['aiohttp']}"
    scripts = ", ".join(f"`{name}.py`" for name in BENCHMARKS)
    return f"\n| figure | goal | measured |\n| --- | --- | --- |\n{''.join(rows)}\nOn {about}, by {scripts}.\n\n"


def _row(goal: dict[str, Any]) -> str:
    unit = f" {goal['unit']}" if goal["unit"] else ""
    bound = f"≤ {goal['most']:g}" if goal["least"] is None else f"≥ {goal['least']:g}"
    measured = f"{goal['measured']:.3g}{unit}"
    return f"| {goal['figure']} | {bound}{unit} | {measured if goal['is_met'] else f'**{measured}**, missed'} |\n"


def with_block(text: str) -> str:
    """Return a page with the numbers as they were measured."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(
            f"{PAGE}: has not both of {BEGIN.strip()} and {END.strip()}, each on a line of its own"
        )
    return before + BEGIN + block() + END + after


if __name__ == "__main__":
    PAGE.write_text(with_block(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
