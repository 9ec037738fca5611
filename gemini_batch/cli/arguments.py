"""What can be asked for on the command line. Nothing heavy is imported here: `--help` answers at once."""

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from gemini_batch.version import __version__

EXAMPLES = """\
examples:
  gemini-batch run jobs.jsonl --tier free      send what is not done yet; the key is in GEMINI_API_KEY
  gemini-batch run jobs.jsonl --simulate       the same on a simulator: no key, no cost
  gemini-batch plan jobs.jsonl                 check the manifest; calls, cost and time; sends nothing

exit codes:
  0 all done · 2 usage · 3 bad manifest or config · 4 some calls failed or were rejected · 5 stopped, run again later
  6 key or permission · 7 another run holds the folder · 8 disk · 130, 143 interrupted, run again to go on
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; each sets `command` to the function that carries it out."""
    root = argparse.ArgumentParser(
        prog="gemini-batch",
        description="Batch generation with the Gemini image API: nothing paid for is lost, no quota is overrun.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    root.add_argument("--version", action="version", version=f"gemini_batch {__version__}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _run(commands)
    _plan(commands)
    _status(commands)
    _verify(commands)
    _gallery(commands)
    _quota_command(commands)
    _schema(commands)
    _simulate(commands)
    return root


_Commands = argparse._SubParsersAction  # noqa: SLF001 # argparse gives its type no public name


def _run(commands: "_Commands[argparse.ArgumentParser]") -> None:
    run = _command(commands, "run", "send what is not done yet; running it again is always right")
    _manifest(run)
    _quota(run)
    run.add_argument("--simulate", action="store_true", help="run against a simulator in this process: no key, no cost")
    run.add_argument("--concurrency", type=_positive, metavar="N", help="most calls in flight (default: by the quota)")
    run.add_argument(
        "--max-attempts", type=_positive, metavar="N", default=6, help="how often a call is sent (default: %(default)s)"
    )
    run.add_argument(
        "--max-cost",
        dest="max_cost_usd",
        type=_seconds,
        metavar="USD",
        help="most that this run may cost, at list price; then it ends with 5",
    )
    run.add_argument(
        "--confirm-above",
        type=_seconds,
        default=25.0,
        metavar="USD",
        help="on a terminal, ask before a run that costs more (default: 25)",
    )
    run.add_argument("--yes", action="store_true", help="do not ask")
    run.add_argument(
        "--on-uncertain",
        choices=("retry", "skip"),
        default="retry",
        help="what to do with a call that may have been billed and gave nothing (default: %(default)s)",
    )
    run.add_argument(
        "--deadline", dest="deadline_s", type=_seconds, metavar="SECONDS", help="take in no more calls after so long"
    )
    run.add_argument(
        "--wait-for-reset", action="store_true", help="sleep until the day's quota resets, in place of ending with 5"
    )
    run.add_argument("--base-url", metavar="URL", help="another server (env: GEMINI_BATCH_BASE_URL)")
    run.add_argument("--allow-insecure", action="store_true", help="allow plain http to another machine")
    run.add_argument(
        "--auth", choices=("header", "query"), default="header", help="where the key goes (default: %(default)s)"
    )
    run.add_argument("--quiet", action="store_true", help="say nothing unless something needs a person")
    run.add_argument("--json", action="store_true", help="print the summary as JSON to stdout")


def _plan(commands: "_Commands[argparse.ArgumentParser]") -> None:
    plan = _command(commands, "plan", "check the manifest; show calls, cost and time; sends nothing")
    _manifest(plan)
    _quota(plan)
    plan.add_argument("--simulate", action="store_true", help="plan for the simulator's output folder")
    plan.add_argument("--base-url", metavar="URL", help="another server (env: GEMINI_BATCH_BASE_URL)")
    plan.add_argument("--allow-insecure", action="store_true", help=argparse.SUPPRESS)
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")


def _status(commands: "_Commands[argparse.ArgumentParser]") -> None:
    status = _command(commands, "status", "show what an output folder holds")
    status.add_argument("out", type=Path, metavar="OUT", help="the output folder of a run")
    status.add_argument("--json", action="store_true", help="print it as JSON")


def _gallery(commands: "_Commands[argparse.ArgumentParser]") -> None:
    gallery = _command(commands, "gallery", "write gallery.html beside the images: one page, no network")
    gallery.add_argument("out", type=Path, metavar="OUT", help="the output folder of a run")
    gallery.add_argument("--json", action="store_true", help="print what is on the page as JSON")


def _quota_command(commands: "_Commands[argparse.ArgumentParser]") -> None:
    quota = _command(commands, "quota", "show what is used and left of each quota, and when it frees")
    quota.add_argument("--reset", action="store_true", help="forget all that was used, for every project and model")
    quota.add_argument("--json", action="store_true", help="print it as JSON")


def _verify(commands: "_Commands[argparse.ArgumentParser]") -> None:
    verify = _command(commands, "verify", "hold every row against its image: size, sha256, orphans, sums; exit 0 or 4")
    verify.add_argument("out", type=Path, metavar="OUT", help="the output folder of a run")


def _schema(commands: "_Commands[argparse.ArgumentParser]") -> None:
    schema = _command(commands, "schema", "print the JSON Schema of a manifest's line or of a result's row")
    schema.add_argument("of", choices=("job", "row"), help="job: a line of the manifest; row: a line of results.jsonl")


def _simulate(commands: "_Commands[argparse.ArgumentParser]") -> None:
    from gemini_batch.simulator import command

    simulate = _command(commands, "simulate", "a Gemini image API on this machine: real HTTP, real pictures, no cost")
    command.add_arguments(simulate)
    simulate.set_defaults(command=command.run)


def _command(commands: "_Commands[argparse.ArgumentParser]", name: str, words: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=words, description=words, allow_abbrev=False)
    command.set_defaults(command=_later(name))
    return command


def _later(name: str) -> Callable[[argparse.Namespace], int]:
    """Return a function that imports the command's module only when it is called."""

    def command(options: argparse.Namespace) -> int:
        return int(import_module(f"gemini_batch.cli.{name}").main(options))

    return command


def _manifest(command: argparse.ArgumentParser) -> None:
    command.add_argument("manifest", type=Path, metavar="JOBS.jsonl", help="one job a line; see README")
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="the output folder (default: JOBS.out beside the manifest)"
    )
    command.add_argument("--model", metavar="ID", help="for jobs that name none (default: gemini-3-pro-image-preview)")
    command.add_argument(
        "--max-input-pixels",
        type=_positive,
        metavar="N",
        help="send input images of more than N pixels made smaller, to N (JPEG, PNG, WebP and GIF)",
    )
    command.add_argument(
        "--reuse-from",
        action="append",
        default=[],
        type=Path,
        metavar="OUT",
        help="copy what another output folder has an image for already, at no cost; can be given more than once",
    )
    command.add_argument(
        "--retry",
        action="append",
        default=[],
        choices=("blocked", "rejected", "uncertain", "missing"),
        help="send calls with this status, or whose image is missing, again; can be given more than once",
    )


def _quota(command: argparse.ArgumentParser) -> None:
    quota = command.add_argument_group("quota", "limits of the project, for each model; each one wins over the tier's")
    quota.add_argument(
        "--tier",
        default="free",
        metavar="NAME",
        help="free, pay-as-you-go, enterprise, or one of --config (default: free)",
    )
    quota.add_argument("--rpm", type=_positive, metavar="N", help="requests a minute")
    quota.add_argument("--tpm", type=_positive, metavar="N", help="input tokens a minute")
    quota.add_argument("--ipm", type=_positive, metavar="N", help="images a minute")
    quota.add_argument("--rpd", type=_positive, metavar="N", help="requests a day, Pacific time")
    quota.add_argument("--usd-per-10min", type=_seconds, metavar="USD", help="dollars at list price in any ten minutes")
    quota.add_argument("--usd-per-day", type=_seconds, metavar="USD", help="dollars at list price a day, Pacific time")
    quota.add_argument(
        "--minute", dest="minute_s", type=_seconds, metavar="SECONDS", help="what a simulator in a hurry calls a minute"
    )
    quota.add_argument(
        "--quota-scope", metavar="NAME", help="share the quota with runs of this name (default: of the same key)"
    )
    quota.add_argument(
        "--config", dest="config_file", type=Path, metavar="FILE", help="a TOML file with [tiers.NAME] and [prices]"
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {text}; allowed: a whole number from 1")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text}; allowed: a number above 0")
    return number
