"""Measure time and memory of collecting the results of a batch, and of planning a large manifest by batch."""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from batches import KEY, LARGE, MODEL, SMALL, lines, server
from measure import Goal, Report, Round, arguments, median, peak_rss_bytes, workplace

UUID = "0" * 32
COLUMNS = {
    "MB": lambda rounds: f"{median(rounds, 'megabytes'):,.0f}",
    "rows": lambda rounds: f"{median(rounds, 'rows'):,.0f}",
    "CPU s": lambda rounds: f"{median(rounds, 'cpu_s'):.1f}",
    "s": lambda rounds: f"{median(rounds, 'took_s'):.1f}",
    "MB a CPU second": lambda rounds: f"{median(rounds, 'mb_a_cpu_s'):,.0f}",
    "peak RSS MB": lambda rounds: f"{median(rounds, 'peak_rss_mb'):.0f}",
}
PLANNED = 1_000_000


def settings(base_url: str) -> Any:
    """Return the settings of a run."""
    from gemini_batch.config import Settings
    from gemini_batch.records import Limits

    return Settings("free", Limits(), base_url, base_url, MODEL, api_key=KEY)


def manifest(folder: Path, count: int) -> Path:
    """Write so many jobs with one prompt: all have the same request."""
    path = folder / "jobs.jsonl"
    with path.open("w") as file:
        file.writelines(f'{{"id":"n{number}","prompt":"A fox"}}\n' for number in range(count))
    return path


def opened(path: Path, config: Any) -> Any:
    """Open a run whose quota is its own."""
    from gemini_batch.engine import setup
    from gemini_batch.quota.shared import SharedLedger
    from gemini_batch.quota.storage import MemoryStorage

    ledger = SharedLedger(MemoryStorage(), config.limits)
    return setup.open_run(path, path.parent / "out", config, lambda _event: None, ledger)


def note(folder: Path, base: str, size_bytes: int, count: int) -> str:
    """Note a batch that a run has submitted; return the address of its server."""
    from contextlib import closing

    from gemini_batch.clock import Clock
    from gemini_batch.engine.result_row import facts_of
    from gemini_batch.output.batch_note import BatchNote, Step
    from gemini_batch.output.batches import BatchNotes
    from gemini_batch.quota.shared import project_of

    config, now = settings(base), Clock().utc()
    with opened(manifest(folder, count), config) as run:
        ((_, calls),) = run.planned.calls(lambda _call: True).items()
        facts = [facts_of(call) for call in calls]
        url = f"{base}/{size_bytes},{count},{UUID[:8]}.%d.{facts[0].request_sha256[:8]}"
        project = project_of(config.api_key, config.quota_scope)
        made = BatchNote(UUID, url, project, MODEL, count, 0, None, 0, now)
        with closing(BatchNotes(folder / "out")) as notes:
            notes.add(replace(made, step=Step.CREATED, name="batches/b", sent_at=now), facts)
    return url


async def collect(folder: Path, url: str) -> int:
    """Collect the batch, as a run does; return the number of its rows."""
    with opened(folder / "jobs.jsonl", settings(url)) as run:
        summary = await run.send(url)
    assert (summary.exit_code, summary.waiting) == (0, 0), summary
    return int(summary.by_status["succeeded"])


def client(folder: str, url: str, megabytes: str) -> None:
    """Collect once, and print the figures."""
    started_s = time.perf_counter()
    rows = asyncio.run(collect(Path(folder), url))
    took_s, cpu_s = time.perf_counter() - started_s, time.process_time()
    figures = {
        "megabytes": float(megabytes),
        "rows": rows,
        "cpu_s": cpu_s,
        "took_s": took_s,
        "mb_a_cpu_s": float(megabytes) / cpu_s,
        "peak_rss_mb": peak_rss_bytes() / 1e6,
    }
    print(json.dumps(figures))


def collected(folder: Path, base: str, size: tuple[int, int], share: int, number: int) -> Round:
    """Return the figures of one collection, in a process of its own."""
    size_bytes, count = size[0], size[1] // share
    place = folder / f"{size_bytes}-{number}"
    place.mkdir()
    url = note(place, base, size_bytes, count)
    megabytes = sum(map(len, lines(size_bytes, 1))) * count / 1e6
    command = [sys.executable, __file__, "client", str(place), url, str(megabytes)]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    figures: Round = json.loads(ended.stdout)
    return figures


def planned(folder: Path, count: int) -> Round:
    """Return the figures of a plan by batch, of the command itself."""
    path = manifest(folder, count)
    code = "import sys; from gemini_batch.cli import main; from measure import peak_rss_bytes; import time; main(sys.argv[1:]); print(time.process_time(), peak_rss_bytes())"
    command = [sys.executable, "-c", code, "plan", str(path), "--route", "batch", "--json"]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=Path(__file__).parent)
    cpu_s, peak_bytes = ended.stdout.split()[-2:]
    return {"calls": count, "cpu_s": float(cpu_s), "peak_rss_mb": float(peak_bytes) / 1e6}


def main() -> None:
    options = arguments(__doc__, repeats=1)
    report = Report("Collecting", options)
    share = 10 if options.quick else 1
    with workplace(options.folder) as folder, server() as base:
        rounds = {
            name: [
                collected(folder, base, size, share, number) for number in range(options.repeats)
            ]
            for name, size in (("11 MB a line", LARGE), ("3 kB a line", SMALL))
        }
        report.compared("Results of a batch, to durable rows", rounds, COLUMNS)
        large, small = rounds.values()
        plan = planned(folder, PLANNED // share)
        report.table(
            "Plan by batch",
            ["calls", "CPU s", "peak RSS MB"],
            [[f"{plan['calls']:,}", f"{plan['cpu_s']:.1f}", f"{plan['peak_rss_mb']:.0f}"]],
        )
        count = f"{median(small, 'rows'):,.0f}"
        report.goals += [
            Goal("CPU, 11 MB a line", median(large, "mb_a_cpu_s"), "MB/s", least=150),
            Goal("peak RSS, 11 MB a line", median(large, "peak_rss_mb"), "MB", most=150),
            Goal(f"{count} lines of 3 kB", median(small, "took_s"), "s", most=60 / share),
            Goal("peak RSS, 3 kB a line", median(small, "peak_rss_mb"), "MB", most=150),
            Goal(f"peak RSS, plan of {plan['calls']:,}", plan["peak_rss_mb"], "MB", most=150),
        ]
    report.write()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["client", *rest]:
            client(*rest)
        case _:
            main()
