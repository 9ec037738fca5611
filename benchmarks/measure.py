"""What all benchmarks share: processes to measure and to be measured, medians of paired rounds, and how results are written.

A client runs in a process of its own, so that its CPU and its memory are its own; it stays alive from round to round, and the
clients take turns within a round: a ratio is the median of the rounds' ratios, so that what slows the machine down slows both.
"""

import argparse
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

FOLDER = Path(__file__).parent
LIBRARIES = ("aiohttp", "google-genai", "orjson", "pybase64", "pydantic", "pillow")
Round = dict[str, float]


def arguments(description: str, *, repeats: int, quick: int = 1) -> argparse.Namespace:
    """Return the options that all benchmarks have: `json`, `quick`, `repeats`, `folder`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument(
        "--quick", action="store_true", help="a first look in seconds, with less of everything"
    )
    parser.add_argument(
        "--repeats", type=int, metavar="N", help=f"rounds of each scenario (default: {repeats})"
    )
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where images go (default: the temporary folder)"
    )
    options = parser.parse_args()
    options.repeats = options.repeats or (quick if options.quick else repeats)
    return options


# --- processes --------------------------------------------------------------------------------------------------------


def peak_rss_bytes(pid: int | str = "self") -> int:
    """Return the most memory that a process ever had, or, where the system does not say, what it has now."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except OSError:
        of = os.getpid() if pid == "self" else pid
        return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(of)])) * 1024


# Without these glibc takes the memory of each large block from the system, or does not, by chance:
# the same client takes twice the CPU in one run as in the next.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}


@contextmanager
def workplace(parent: Path | None) -> Iterator[Path]:
    """Give a folder that is removed at the end: to delete between rounds would be to measure the file system."""
    folder = Path(tempfile.mkdtemp(prefix="gemini_batch-benchmark-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def file_creation_us(folder: Path) -> float:
    """Return the CPU that a new file takes here: 10 µs, or 600 where many files were just removed (ext4 looks at each of them)."""
    started_s = time.process_time()
    for number in range(200):
        (folder / f"new-{number}").touch()
    return (time.process_time() - started_s) / 200 * 1e6


def certificate(folder: Path) -> Path:
    """Return a new self-signed certificate for 127.0.0.1, and its key, in one PEM file."""
    pem = folder / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    command += [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(pem),
        "-out",
        str(folder / "public.pem"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    pem.write_bytes(pem.read_bytes() + (folder / "public.pem").read_bytes())
    return pem


@contextmanager
def server(pem: Path | None = None) -> Iterator[str]:
    """Start the server and give its address."""
    command = [
        sys.executable,
        str(FOLDER / "server.py"),
        *(["--certificate", str(pem)] if pem else []),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        yield f"http{'s' if pem else ''}://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


class Client:
    """A process that runs one kind of client, round by round."""

    def __init__(self, name: str, folder: Path, pem: Path | None = None) -> None:
        self.name = name
        self._folder = folder
        self._environment = os.environ | ALLOCATOR | ({"SSL_CERT_FILE": str(pem)} if pem else {})

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, str(FOLDER / "clients.py"), self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment | {"PYTHONPATH": str(FOLDER.parent)},
        )
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def round(self, scenario: Mapping[str, Any]) -> Round:
        """Return what one round of a scenario (url, calls, in_flight …) took."""
        assert self._process.stdin
        assert self._process.stdout
        folder = tempfile.mkdtemp(prefix=f"{self.name}-", dir=self._folder)
        self._process.stdin.write(json.dumps({**scenario, "folder": folder}) + "\n")
        self._process.stdin.flush()
        if line := self._process.stdout.readline():
            figures: Round = json.loads(line)
            return figures
        raise SystemExit(f"the client {self.name} has ended with {self._process.wait()}: see above")


def compare(
    names: Sequence[str],
    folder: Path,
    scenario: Mapping[str, Any],
    *,
    repeats: int,
    pem: Path | None = None,
) -> dict[str, list[Round]]:
    """Return what each client took in each round, after a smaller one that does not count."""
    rounds: dict[str, list[Round]] = {name: [] for name in names}
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(name, folder, pem)) for name in names]
        warm_up = {**scenario, "calls": max(1, scenario["calls"] // 8)}
        if not scenario.get("cold"):
            for client in clients:
                client.round(warm_up)
        for number in range(repeats):
            turn = number % len(clients)
            for client in clients[turn:] + clients[:turn]:
                os.sync()  # what one has written is not to be paid for by the next
                rounds[client.name].append(client.round(scenario))
    return rounds


# --- figures ----------------------------------------------------------------------------------------------------------


def median(rounds: Sequence[Round], figure: str) -> float:
    """Return the median of a figure."""
    return statistics.median(each[figure] for each in rounds)


def ratio(rounds: Mapping[str, Sequence[Round]], figure: str, of: str, to: str) -> float:
    """Return the median of the ratios within each round."""
    return statistics.median(
        a[figure] / b[figure] for a, b in zip(rounds[of], rounds[to], strict=True)
    )


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure that is to be reached; `most` and `least` are bounds, of which one is given."""

    figure: str
    measured: float
    unit: str = ""
    most: float | None = None
    least: float | None = None

    @property
    def is_met(self) -> bool:
        return (self.most is None or self.measured <= self.most) and (
            self.least is None or self.measured >= self.least
        )

    def cells(self) -> list[str]:
        unit = f" {self.unit}" if self.unit else ""
        bound = f"≤ {self.most:g}{unit}" if self.least is None else f"≥ {self.least:g}{unit}"
        return [
            self.figure,
            bound,
            f"{self.measured:.3g}{unit}",
            "yes" if self.is_met else "**no**",
        ]


@dataclass(slots=True)
class Report:
    """Collects the tables of one benchmark; prints them, and writes the JSON."""

    title: str
    options: argparse.Namespace
    conditions: dict[str, str] = field(default_factory=dict)
    goals: list[Goal] = field(default_factory=list)
    scenarios: dict[str, Any] = field(default_factory=dict)
    _tables: list[str] = field(default_factory=list)

    def table(self, caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self._tables.append(f"### {caption}\n\n{markdown(columns, rows)}")

    def compared(
        self,
        caption: str,
        rounds: Mapping[str, Sequence[Round]],
        columns: Mapping[str, Callable[[Sequence[Round]], str]],
    ) -> None:
        """Add a table of the clients' medians, and all rounds to the JSON."""
        self.scenarios[caption] = rounds
        rows = [[name, *(cell(of) for cell in columns.values())] for name, of in rounds.items()]
        self.table(caption, ["client", *columns], rows)

    def write(self) -> None:
        machine, command = about_machine() | self.conditions, shlex.join(["python", *sys.argv])
        print(f"## {self.title}\n")
        print(
            f"`{command}` · " + " · ".join(f"{name} {value}" for name, value in machine.items()),
            end="\n\n",
        )
        print(*self._tables, sep="\n")
        if self.goals:
            print("### Goals\n")
            print(
                markdown(
                    ["figure", "goal", "measured", "met"], [goal.cells() for goal in self.goals]
                )
            )
        if self.options.json:
            goals = [
                {
                    "figure": goal.figure,
                    "most": goal.most,
                    "least": goal.least,
                    "measured": goal.measured,
                    "unit": goal.unit,
                }
                | {"is_met": goal.is_met}
                for goal in self.goals
            ]
            about = {"title": self.title, "command": command, "machine": machine}
            text = json.dumps(
                about | {"goals": goals, "scenarios": self.scenarios}, indent=1, ensure_ascii=False
            )
            self.options.json.write_text(text + "\n", encoding="utf-8")


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def about_machine() -> dict[str, str]:
    """Return what the figures depend on."""
    return {
        "cores": str(os.cpu_count()),
        "CPU": _cpu(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "Python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii")
        return (
            text.partition("model name")[2].partition(":")[2].partition("\n")[0].strip()
            or platform.machine()
        )
    except OSError:
        return platform.processor() or platform.machine()
