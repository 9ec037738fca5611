"""How long `--help` takes, against a Python that does nothing."""

import subprocess
import sys
import time

from measure import FOLDER, Goal, Report, Round, arguments, median, ratio

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import argparse'": ["-c", "import argparse"],
    "python -m gemini_batch --help": ["-m", "gemini_batch", "--help"],
}


def main() -> None:
    options = arguments(__doc__, repeats=40, quick=10)
    report = Report("Startup", options)
    rounds: dict[str, list[Round]] = {name: [] for name in COMMANDS}
    for number in range(options.repeats + 1):
        for name, command in COMMANDS.items():
            started_s = time.perf_counter()
            subprocess.run(
                [sys.executable, *command], cwd=FOLDER.parent, stdout=subprocess.DEVNULL, check=True
            )
            if number:  # the first time the files are not in memory
                rounds[name].append({"wall_ms": 1000 * (time.perf_counter() - started_s)})
    report.compared(
        f"{options.repeats} starts", rounds, {"wall ms": lambda of: f"{median(of, 'wall_ms'):.1f}"}
    )
    against_nothing = ratio(rounds, "wall_ms", "python -m gemini_batch --help", "python -c pass")
    report.goals.append(Goal("`--help` against `python -c pass`, wall", against_nothing, most=4))
    report.write()


if __name__ == "__main__":
    main()
