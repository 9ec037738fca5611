"""Writes the table of docs/benchmarks.md from what the benchmarks measured: `benchmarks/figures/*.json`."""

import json
from pathlib import Path
from statistics import median
from typing import Any

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs/benchmarks.md"
BENCHMARKS = ("answers", "uploads", "overhead", "manifest", "startup", "collecting", "review")
GROWTH = FOLDER / "figures/growth.json"  # measured on a quiet machine only
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
    table = f"| figure | goal | measured |\n| --- | --- | --- |\n{''.join(rows)}"
    growth = _growth(json.loads(GROWTH.read_text(encoding="utf-8"))) if GROWTH.exists() else ""
    return f"\n{table}\nOn {about}, by {scripts}.\n\n{growth}"


def _growth(report: dict[str, Any]) -> str:
    """Return the table of time and memory of whole commands by the number of lines or rows."""
    of_sizes = report["scenarios"]
    names = dict.fromkeys(name for of_size in of_sizes.values() for name in of_size)
    head = f"| lines or rows | {' | '.join(of_sizes)} |\n|{' --- |' * (1 + len(of_sizes))}\n"
    rows = [
        f"| {name} | {' | '.join(_cell(of_size.get(name)) for of_size in of_sizes.values())} |\n"
        for name in names
    ]
    about = f"CPU seconds and peak memory of whole commands, at a load of {report['machine']['load']} on these cores:"
    return f"{about}\n\n{head}{''.join(rows)}\n"


def _cell(rounds: list[dict[str, float]] | None) -> str:
    if rounds is None:
        return ""
    cpu_s, peak_rss_mb = (
        median(each[name] for each in rounds) for name in ("cpu_s", "peak_rss_mb")
    )
    return f"{cpu_s:.2f} s, {peak_rss_mb:.0f} MB"


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
