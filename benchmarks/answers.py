"""How many images a second, and for how much CPU and memory, from answers of 1.5 to 20 MB."""

from collections.abc import Callable, Sequence
from pathlib import Path

from measure import (
    Goal,
    Report,
    Round,
    arguments,
    certificate,
    compare,
    file_creation_us,
    median,
    ratio,
    server,
    workplace,
)

CLIENTS = ("engine", "engine-light", "aiohttp-discard", "aiohttp-whole", "genai")
# Megabytes an answer, calls a round, in flight, over TLS. With fewer calls the start of a run, some
# 50 ms, is a part of each.
SCENARIOS = (
    (1.5, 512, 32, False),
    (1.5, 512, 32, True),
    (8.0, 64, 32, False),
    (20.0, 16, 8, False),
)
TOGETHER = 128
COLUMNS: dict[str, Callable[[Sequence[Round]], str]] = {
    "images/s": lambda rounds: f"{median(rounds, 'calls_a_s'):.0f}",
    "CPU ms an image": lambda rounds: f"{median(rounds, 'cpu_ms_a_call'):.1f}",
    "peak RSS MB": lambda rounds: f"{median(rounds, 'peak_rss_mb'):.0f}",
    "stall p99 ms": lambda rounds: f"{median(rounds, 'stall_p99_ms'):.0f}",
    "longest stall ms": lambda rounds: f"{median(rounds, 'stall_max_ms'):.0f}",
}


def goals(megabytes: float, rounds: dict[str, list[Round]], *, is_tls: bool) -> list[Goal]:
    """Return what is asked of these answers."""
    of_genai = ratio(rounds, "cpu_ms_a_call", "engine", "genai")
    if is_tls:
        return [Goal("the same over TLS", of_genai, most=0.45)]
    if megabytes == 1.5:
        of_discard = ratio(rounds, "calls_a_s", "engine-light", "aiohttp-discard")
        light = "images/s, 1.5 MB, without sha256 and fsync, against read-and-discard"
        return [
            Goal(light, of_discard, least=0.25),
            Goal("CPU an image, 1.5 MB, against google-genai", of_genai, most=0.38),
        ]
    if megabytes == 8:
        of_whole = ratio(rounds, "cpu_ms_a_call", "engine", "aiohttp-whole")
        return [Goal("CPU an image, 8 MB, against reading all", of_whole, most=0.40)]
    return []


def together(folder: Path, megabytes: float, *settings: str) -> dict[str, list[Round]]:
    """Return what many answers take that arrive at the same time, by processes of their own."""
    with server() as url:
        scenario = {
            "url": ",".join((f"{url}/answer={megabytes * 1e6:.0f},together={TOGETHER}", *settings)),
            "calls": TOGETHER,
            "in_flight": TOGETHER,
            "cold": True,
        }
        return compare(["engine", "aiohttp-discard"], folder, scenario, repeats=1)


def main() -> None:
    options = arguments(__doc__, repeats=3)
    report = Report("Answers", options)
    scenarios = SCENARIOS[:1] if options.quick else SCENARIOS
    with workplace(options.folder) as folder:
        report.conditions["a new file"] = f"{file_creation_us(folder):.0f} µs"
        pem = certificate(folder)
        for megabytes, calls, in_flight, is_tls in scenarios:
            with server(pem if is_tls else None) as url:
                scenario = {
                    "url": f"{url}/answer={megabytes * 1e6:.0f}",
                    "calls": calls,
                    "in_flight": in_flight,
                }
                rounds = compare(
                    CLIENTS, folder, scenario, repeats=options.repeats, pem=pem if is_tls else None
                )
            how = "TLS" if is_tls else "plain"
            report.compared(f"{megabytes:g} MB, {how}, {in_flight} in flight", rounds, COLUMNS)
            report.goals += goals(megabytes, rounds, is_tls=is_tls)
        if not options.quick:
            fast = together(folder, 8)
            report.compared(f"8 MB, fast, {TOGETHER} in flight", fast, COLUMNS)
            trickling = together(folder, 20, "piece=65536", "gap_ms=30")
            report.compared(f"20 MB, trickling, {TOGETHER} in flight", trickling, COLUMNS)
            of = f"{TOGETHER} answers of"
            peak, stall = "peak_rss_mb", "stall_p99_ms"
            report.goals += [
                Goal(
                    f"peak RSS, {of} 8 MB that arrive fast",
                    median(fast["engine"], peak),
                    "MB",
                    most=100,
                ),
                Goal(
                    f"stalls p99, {of} 8 MB that arrive fast",
                    median(fast["engine"], stall),
                    "ms",
                    most=30,
                ),
                Goal(
                    f"peak RSS, {of} 20 MB, trickling",
                    median(trickling["engine"], peak),
                    "MB",
                    most=140,
                ),
            ]
    report.write()


if __name__ == "__main__":
    main()
