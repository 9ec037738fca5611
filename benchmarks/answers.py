"""How many images a second, and for how much CPU and memory, from answers of 1.5 to 20 MB."""

from collections.abc import Callable, Sequence

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
# Megabytes an answer, calls a round, in flight.
SCENARIOS = ((1.5, 128, 32), (8.0, 40, 32), (20.0, 8, 8))
TRICKLING = 128
COLUMNS: dict[str, Callable[[Sequence[Round]], str]] = {
    "images/s": lambda rounds: f"{median(rounds, 'calls_a_s'):.0f}",
    "CPU ms an image": lambda rounds: f"{median(rounds, 'cpu_ms_a_call'):.1f}",
    "peak RSS MB": lambda rounds: f"{median(rounds, 'peak_rss_mb'):.0f}",
    "stall p99 ms": lambda rounds: f"{median(rounds, 'stall_p99_ms'):.0f}",
    "longest stall ms": lambda rounds: f"{median(rounds, 'stall_max_ms'):.0f}",
}


def goals(megabytes: float, rounds: dict[str, list[Round]]) -> list[Goal]:
    """Return what is asked of the plain connection."""
    if megabytes == 1.5:
        return [
            Goal(
                "CPU an image, 1.5 MB, against google-genai",
                ratio(rounds, "cpu_ms_a_call", "engine", "genai"),
                most=0.70,
            ),
            Goal(
                "the same without sha256 and fsync",
                ratio(rounds, "cpu_ms_a_call", "engine-light", "genai"),
                most=0.45,
            ),
            Goal(
                "images/s, 1.5 MB, without sha256 and fsync, against read-and-discard",
                ratio(rounds, "calls_a_s", "engine-light", "aiohttp-discard"),
                least=0.5,
            ),
        ]
    if megabytes == 8:
        whole = "aiohttp-whole"
        return [
            Goal(
                "CPU an image, 8 MB, against reading all",
                ratio(rounds, "cpu_ms_a_call", "engine", whole),
                most=0.40,
            ),
            Goal(
                "the same without sha256 and fsync",
                ratio(rounds, "cpu_ms_a_call", "engine-light", whole),
                most=0.25,
            ),
            Goal(
                "stalls, 8 MB, 32 in flight, p99",
                median(rounds["engine"], "stall_p99_ms"),
                "ms",
                most=25,
            ),
        ]
    return []


def main() -> None:
    options = arguments(__doc__, repeats=3)
    report = Report("Answers", options)
    scenarios = SCENARIOS[:1] if options.quick else SCENARIOS
    with workplace(options.folder) as folder:
        report.conditions["a new file"] = f"{file_creation_us(folder):.0f} µs"
        for pem in (None, certificate(folder)):
            with server(pem) as url:
                for megabytes, calls, in_flight in scenarios:
                    scenario = {
                        "url": f"{url}/answer={megabytes * 1e6:.0f}",
                        "calls": calls,
                        "in_flight": in_flight,
                    }
                    rounds = compare(CLIENTS, folder, scenario, repeats=options.repeats, pem=pem)
                    how = "TLS" if pem else "plain"
                    report.compared(
                        f"{megabytes:g} MB, {how}, {in_flight} in flight", rounds, COLUMNS
                    )
                    report.goals += [] if pem else goals(megabytes, rounds)
        if not options.quick:
            with server() as url:
                settings = f"answer=20000000,together={TRICKLING},piece=65536,gap_ms=30"
                scenario = {
                    "url": f"{url}/{settings}",
                    "calls": TRICKLING,
                    "in_flight": TRICKLING,
                    "cold": True,
                }
                rounds = compare(["engine", "aiohttp-discard"], folder, scenario, repeats=1)
            report.compared(f"20 MB, trickling, {TRICKLING} in flight", rounds, COLUMNS)
            peak = median(rounds["engine"], "peak_rss_mb")
            report.goals.append(
                Goal("peak RSS, 128 answers of 20 MB in flight, trickling", peak, "MB", most=140)
            )
    report.write()


if __name__ == "__main__":
    main()
