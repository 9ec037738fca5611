"""How much memory 64 requests take that each send an image of 5 MB, all of them on the way at once."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from measure import Goal, Report, Round, arguments, compare, median, server, workplace
from server import png

CLIENTS = ("engine", "aiohttp-whole", "genai")
IMAGE_BYTES = 5_000_000
COLUMNS: dict[str, Callable[[Sequence[Round]], str]] = {
    "uploads/s": lambda rounds: f"{median(rounds, 'calls_a_s'):.0f}",
    "CPU ms an upload": lambda rounds: f"{median(rounds, 'cpu_ms_a_call'):.1f}",
    "peak RSS MB": lambda rounds: f"{median(rounds, 'peak_rss_mb'):.0f}",
    "stall p99 ms": lambda rounds: f"{median(rounds, 'stall_p99_ms'):.0f}",
    "longest stall ms": lambda rounds: f"{median(rounds, 'stall_max_ms'):.0f}",
}


def images(folder: Path, count: int) -> list[str]:
    """Return so many files; to a client they are all different, on the disk they are one."""
    first = folder / "0.png"
    first.write_bytes(png(IMAGE_BYTES))
    others = [folder / f"{number}.png" for number in range(1, count)]
    for path in others:
        os.link(first, path)
    return [str(path) for path in (first, *others)]


def main() -> None:
    options = arguments(__doc__, repeats=5)
    report = Report("Uploads", options)
    count = 16 if options.quick else 64
    with workplace(options.folder) as folder, server() as url:
        scenario = {
            "url": f"{url}/answer=0,together={count},read_ms=5",
            "calls": count,
            "in_flight": count,
            "inputs": images(folder, count),
            "cold": True,
        }
        rounds = compare(CLIENTS, folder, scenario, repeats=options.repeats)
    report.compared(f"{count} uploads of 5 MB in flight", rounds, COLUMNS)
    if not options.quick:
        report.goals.append(
            Goal(
                "RSS, 64 uploads of 5 MB in flight",
                median(rounds["engine"], "peak_rss_mb"),
                "MB",
                most=120,
            )
        )
    report.write()


if __name__ == "__main__":
    main()
