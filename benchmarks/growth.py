"""Growth of the commands with lines and rows: CPU seconds and peak RSS of each whole command.

With `--folder` the manifests and rows are kept there, and taken from there the next time.
"""

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import orjson
from manifest import KEY, write_manifest, write_results
from measure import FOLDER, Goal, Report, Round, arguments, median, workplace

ENDPOINT = "http://127.0.0.1:9"
MOST_GROWTH = 1.3
WITH_IMAGES = 100_000  # more files take longer to create than to plan
# A process of its own: the peak of a child begins with the memory of the process that starts it.
LAUNCHER = """
import json, os, subprocess, sys, time
started_s = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
figures = {"cpu_s": used.ru_utime + used.ru_stime, "wall_s": time.perf_counter() - started_s}
figures |= {"peak_rss_mb": used.ru_maxrss * 1024 / 1e6}
print(json.dumps(figures | {"exit_code": os.waitstatus_to_exitcode(status)}))
process.returncode = 0
"""
LIMITS = {  # at 10⁶ lines or rows: seconds, MB
    "plan, new": (4, 110),
    "plan, 10 % with a seed": (4, 110),
    "plan, 99 % done": (8, 80),
    "status": (5, 80),
    "verify": (8, 80),
}


def main() -> None:
    options = arguments(__doc__, repeats=1)
    report = Report("Growth", options, {"load": f"{os.getloadavg()[1]:.0f}"})
    sys.path.insert(0, str(FOLDER.parent))
    sizes = (1_000, 10_000) if options.quick else (10_000, 100_000, 1_000_000)
    found: dict[int, dict[str, list[Round]]] = {}
    parent: AbstractContextManager[Path] = (
        nullcontext(options.folder) if options.folder else workplace(None)
    )
    with parent as folder:
        for size in sizes:
            data = folder / str(size)
            written(data, size)
            found[size] = {
                name: [measured(command, data) for _ in range(options.repeats)]
                for name, command in commands(size).items()
            }
            report.scenarios[f"{size:,}"] = found[size]
    report.table("CPU s / peak RSS MB", ["", *(f"{size:,}" for size in sizes)], rows(found))
    report.goals += goals(found)
    report.write()


def commands(size: int) -> dict[str, list[str]]:
    """Return the arguments of each command, by its name in the table."""
    address = ["--base-url", ENDPOINT]
    made = {
        "plan, new": ["plan", "jobs.jsonl", "--out", "new.out", *address],
        "plan, 10 % with a seed": ["plan", "seed.jsonl", "--out", "new.out", *address],
        "plan, new, CSV": ["plan", "jobs.csv", "--out", "new.out", *address],
        "plan, 99 % done": ["plan", "jobs.jsonl", *address],
        "status": ["status", "jobs.out"],
        "verify": ["verify", "jobs.out"],
        "costs": ["costs", "jobs.out"],
        "gallery": ["gallery", "jobs.out"],
    }
    if size <= WITH_IMAGES:
        reuse = ["--reuse-from", "images.out"]
        made["plan, --reuse-from"] = [*made["plan, new"], *reuse]
        made["verify, images there"] = ["verify", "images.out"]
        made["plan, 99 % done, images there"] = [
            "plan",
            "jobs.jsonl",
            "--out",
            "images.out",
            *address,
        ]
    return made


def written(data: Path, size: int) -> None:
    """Write manifests, and the rows of a run that was stopped, where they are not there yet."""
    data.mkdir(exist_ok=True)
    out, images = data / "jobs.out", data / "images.out"
    if not (data / "seed.jsonl").exists():
        out.mkdir()
        write_manifest(data / "jobs.jsonl", size)
        write_results(data, data / "jobs.jsonl", out, ENDPOINT, 0.99)
        write_manifest(data / "seed.jsonl", size, others=10)
    if not (data / "jobs.csv").exists():
        write_table(data / "jobs.jsonl", data / "jobs.csv")
    if size <= WITH_IMAGES and not images.exists():
        images.mkdir()
        os.link(out / "results.jsonl", images / "results.jsonl")
        with (images / "results.jsonl").open("rb") as file:
            for line in file:
                image = orjson.loads(line)["images"][0]
                path = images / image["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(bytes(image["size_bytes"]))


def write_table(manifest: Path, table: Path) -> None:
    """Write the jobs of a manifest as CSV."""
    names = ["id", "prompt", "aspect_ratio", "image_size", "metadata.sku"]
    with manifest.open("rb") as lines, table.open("w", encoding="utf-8", newline="") as file:
        table_rows = csv.DictWriter(file, names)
        table_rows.writeheader()
        for line in lines:
            job = orjson.loads(line)
            table_rows.writerow({"metadata.sku": job.pop("metadata")["sku"]} | job)


def measured(command: Sequence[str], data: Path) -> Round:
    """Return what a whole command takes, its output included."""
    environment = os.environ | {
        "GEMINI_API_KEY": KEY,
        "GEMINI_BATCH_STATE_DIR": str(data / "state"),
        "PYTHONPATH": str(FOLDER.parent),
        "PYTHONUNBUFFERED": "",
    }
    ended = subprocess.run(  # noqa: PLW1510 # its exit code is in the figures
        [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "gemini_batch", *command],
        cwd=data,
        env=environment,
        capture_output=True,
        text=True,
    )
    figures: Round = orjson.loads(ended.stdout)
    if figures.pop("exit_code") not in (0, 4):  # 4: verify found problems
        raise SystemExit(f"{command}: {ended.stderr}")
    return figures


def rows(found: dict[int, dict[str, list[Round]]]) -> list[list[str]]:
    """Return the cells of the table, a command a row."""
    names = dict.fromkeys(name for of_size in found.values() for name in of_size)
    return [
        [name, *(_cell(of_size[name]) if name in of_size else "" for of_size in found.values())]
        for name in names
    ]


def _cell(rounds: Sequence[Round]) -> str:
    return f"{median(rounds, 'cpu_s'):.2f} / {median(rounds, 'peak_rss_mb'):.0f}"


def goals(found: dict[int, dict[str, list[Round]]]) -> list[Goal]:
    """Return the limits at the largest size, and the growth from the size before it."""
    *_, before, most = found
    made = []
    for name, (most_s, most_mb) in LIMITS.items():
        if most == 1_000_000:
            rounds = found[most][name]
            made.append(Goal(f"10⁶: {name}", median(rounds, "cpu_s"), "CPU s", most=most_s))
            made.append(Goal(f"10⁶: {name}", median(rounds, "peak_rss_mb"), "MB", most=most_mb))
    ratio = {
        name: median(found[most][name], "cpu_s") / median(found[before][name], "cpu_s")
        for name in found[most]
        if name in found[before]
    }
    worst = max(ratio, key=lambda name: ratio[name])
    growth = ratio[worst] * before / most
    words = f"CPU a line or row, {most:,} against {before:,}: {worst}, which grows most"
    made.append(Goal(words, growth, most=MOST_GROWTH))
    return made


if __name__ == "__main__":
    main()
