"""Start-up time of commands that send nothing, compared with a Python that does nothing."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import FOLDER, Goal, Report, Round, arguments, median, ratio

NOTHING, HELP = "python -c pass", "python -m gemini_batch --help"
COMMANDS = {
    NOTHING: ["-c", "pass"],
    "python -c 'import argparse'": ["-c", "import argparse"],
    HELP: ["-m", "gemini_batch", "--help"],
    "plan of 10 lines": ["-m", "gemini_batch", "plan", "jobs.jsonl"],
    "status": ["-m", "gemini_batch", "status", "jobs.out"],
    "quota": ["-m", "gemini_batch", "quota"],
}


def main() -> None:
    options = arguments(__doc__, repeats=40, quick=10)
    report = Report("Startup", options)
    rounds: dict[str, list[Round]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        lines = (f'{{"prompt": "Robot {number}"}}\n' for number in range(10))
        (folder / "jobs.jsonl").write_text("".join(lines))
        (folder / "jobs.out").mkdir()
        (folder / "jobs.out" / "results.jsonl").touch()
        environment = {"PYTHONPATH": str(FOLDER.parent), "XDG_STATE_HOME": temporary}
        for number in range(options.repeats + 1):
            for name, command in COMMANDS.items():
                started_s = time.perf_counter()
                subprocess.run(
                    [sys.executable, *command],
                    cwd=folder,
                    env=environment,
                    stdout=subprocess.DEVNULL,
                    check=True,
                )
                if number:  # the first time the files are not in memory
                    rounds[name].append({"wall_ms": 1000 * (time.perf_counter() - started_s)})
    report.compared(
        f"{options.repeats} starts",
        rounds,
        {
            "wall ms": lambda of: f"{median(of, 'wall_ms'):.1f}",
            "times pass": lambda of: (
                f"{median(of, 'wall_ms') / median(rounds[NOTHING], 'wall_ms'):.1f}"
            ),
        },
    )
    against_nothing = ratio(rounds, "wall_ms", HELP, NOTHING)
    report.goals.append(Goal("`--help` against `python -c pass`, wall", against_nothing, most=4))
    report.write()


if __name__ == "__main__":
    main()
