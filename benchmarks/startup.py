"""Start-up time of commands that send nothing, compared with a Python that does nothing."""

import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from manifest import first_request
from measure import FOLDER, Goal, Report, Round, arguments, median, ratio

NOTHING, HELP = "python -c pass", "--help"
RUN, PLAN, STATUS = "run with nothing to do, 10 lines", "plan of 10 lines", "status of 10 rows"
FIRST = "Enter to the first request, 10 lines"
SIMULATED = ["-m", "gemini_batch", "run", "jobs.jsonl", "--out", "done", "--simulate"]
# The figure, and the most times that it may take of a Python that does nothing.
GOALS = {RUN: 10.0, FIRST: 21.0, PLAN: 10.0, STATUS: 6.0, HELP: 2.5}
COMMANDS = {
    NOTHING: ["-c", "pass"],
    "python -c 'import argparse'": ["-c", "import argparse"],
    HELP: ["-m", "gemini_batch", "--help"],
    RUN: SIMULATED,
    PLAN: ["-m", "gemini_batch", "plan", "jobs.jsonl"],
    STATUS: ["-m", "gemini_batch", "status", "done"],
    "quota": ["-m", "gemini_batch", "quota"],
}


def main() -> None:
    options = arguments(__doc__, repeats=40, quick=10)
    report = Report("Startup", options)
    rounds: dict[str, list[Round]] = {name: [] for name in (*COMMANDS, FIRST)}
    with (
        tempfile.TemporaryDirectory() as temporary,
        socket.create_server(("127.0.0.1", 0)) as listening,
    ):
        folder = Path(temporary)
        lines = (f'{{"prompt": "Robot {number}"}}\n' for number in range(10))
        (folder / "jobs.jsonl").write_text("".join(lines))
        environment = {"PYTHONPATH": str(FOLDER.parent), "XDG_STATE_HOME": temporary}
        for number in range(options.repeats + 1):
            for name, command in COMMANDS.items():
                before, started_s = (
                    resource.getrusage(resource.RUSAGE_CHILDREN),
                    time.perf_counter(),
                )
                subprocess.run(
                    [sys.executable, *command],
                    cwd=folder,
                    env=environment,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    check=True,
                )
                wall_s = time.perf_counter() - started_s
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                # The first time the files are not in memory, and the calls are sent.
                if number:
                    rounds[name].append({"wall_ms": 1000 * wall_s, "cpu_ms": 1000 * cpu_s})
            first = first_request(folder / "jobs.jsonl", folder / f"{number}.out", listening)
            if number:
                wall_ms, cpu_ms = 1000 * first["first_request_s"], 1000 * first["cpu_s"]
                rounds[FIRST].append({"wall_ms": wall_ms, "cpu_ms": cpu_ms})
    report.compared(
        f"{options.repeats} starts",
        rounds,
        {
            "wall ms": lambda of: f"{median(of, 'wall_ms'):.1f}",
            "times pass": lambda of: (
                f"{median(of, 'wall_ms') / median(rounds[NOTHING], 'wall_ms'):.1f}"
            ),
            "CPU ms": lambda of: f"{median(of, 'cpu_ms'):.1f}",
        },
    )
    for name, most in GOALS.items():
        against_nothing = ratio(rounds, "wall_ms", name, NOTHING)
        figure = f"`{name}`" if name == HELP else name
        report.goals.append(
            Goal(f"{figure} against `python -c pass`, wall", against_nothing, most=most)
        )
    report.write()


if __name__ == "__main__":
    main()
