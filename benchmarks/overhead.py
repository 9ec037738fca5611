"""What a call costs beside its image: answers of one pixel, by the whole engine, against clients that do less."""

from collections.abc import Callable, Sequence

from measure import (
    Goal,
    Report,
    Round,
    arguments,
    compare,
    file_creation_us,
    median,
    ratio,
    server,
    workplace,
)

CLIENTS = ("engine", "engine-memory", "genai-bare", "aiohttp-bare")
COLUMNS: dict[str, Callable[[Sequence[Round]], str]] = {
    "calls/s": lambda rounds: f"{median(rounds, 'calls_a_s'):.0f}",
    "CPU ms a call": lambda rounds: f"{median(rounds, 'cpu_ms_a_call'):.2f}",
    "peak RSS MB": lambda rounds: f"{median(rounds, 'peak_rss_mb'):.0f}",
}


def main() -> None:
    options = arguments(__doc__, repeats=7, quick=2)
    report = Report("Overhead", options)
    calls, in_flight = (300 if options.quick else 2000), 64
    with workplace(options.folder) as folder, server() as url:
        report.conditions["a new file"] = f"{file_creation_us(folder):.0f} µs"
        scenario = {
            "url": f"{url}/answer=0",
            "calls": calls,
            "in_flight": in_flight,
            "stalls": False,
        }
        rounds = compare(CLIENTS, folder, scenario, repeats=options.repeats)
    report.compared(f"{calls:,} tiny answers, {in_flight} in flight", rounds, COLUMNS)
    cpu = "cpu_ms_a_call"
    report.goals += [
        Goal(
            "CPU a call, SQLite ledger and durable files, against google-genai bare",
            ratio(rounds, cpu, "engine", "genai-bare"),
            most=0.6,
        ),
        Goal(
            "CPU a call, memory ledger and no fsync, against bare aiohttp",
            ratio(rounds, cpu, "engine-memory", "aiohttp-bare"),
            most=5,
        ),
    ]
    report.write()


if __name__ == "__main__":
    main()
