"""What can be asked for on the command line. Nothing heavy is imported here: `--help` answers at once."""

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from gemini_batch.cli.usage import Parser, amount, folder, whole
from gemini_batch.errors import ExitCode
from gemini_batch.version import __version__

_ABOUT = """\
Batch generation with the Gemini image API: nothing paid for is lost, no quota is overrun.

examples:
  gemini-batch run jobs.jsonl --simulate      try it: against a simulator, no key, no cost
  gemini-batch plan jobs.jsonl                check every line; calls, cost and time; sends nothing
  gemini-batch run jobs.jsonl --tier free     send what is not done yet; the key is in GEMINI_API_KEY
  gemini-batch gallery jobs.out               one page to look at all pictures
"""
_RUN = """\
Send what is not done yet. Running the same command again is always right: it goes on where it stopped.

examples:
  gemini-batch run jobs.jsonl --tier free
  gemini-batch run jobs.jsonl --simulate                    the same without key and cost
  gemini-batch run jobs.jsonl --tier pay-as-you-go --max-cost 20
  gemini-batch run nightly.jsonl --quiet                    for cron: words only when a person is needed
  gemini-batch run jobs.jsonl --retry blocked               ask once more for what was blocked
"""
_PLAN = """\
Check every line of a manifest, and show calls, tokens, cost and time of a run. Sends nothing, writes nothing.

examples:
  gemini-batch plan jobs.jsonl
  gemini-batch plan jobs.jsonl --tier pay-as-you-go --json
"""
_STATUS = """\
Show what an output folder holds: calls by status, tokens, cost, and images that are not there any more.

example:
  gemini-batch status jobs.out
"""
_VERIFY = """\
Hold every row of an output folder against its image: size, sha256, images that no row knows, the sums of summary.json. Ends with 0 when
all is as the rows say, else with 4.

example:
  gemini-batch verify jobs.out
"""
_GALLERY = """\
Write gallery.html beside the images: one page, no network, to look at, filter and compare what a folder holds.

example:
  gemini-batch gallery jobs.out
"""
_QUOTA = """\
Show what all runs of this machine have used of each quota, what is left, and when it frees.

examples:
  gemini-batch quota
  gemini-batch quota --json
"""
_SCHEMA = """\
Print the JSON Schema of a manifest's line or of a result's row, for editors and validators.

example:
  gemini-batch schema job > job.schema.json
"""
_SIMULATE = """\
A Gemini image API on this machine: strict requests, real pictures, real 429s, faults on demand; no key, no cost.

examples:
  gemini-batch simulate --tier free
  gemini-batch simulate --tier free --now 2030-01-31T23:58:00-08:00   two minutes before the day ends
  gemini-batch simulate --tier unlimited --latency real --rate 503=0.02 --rate reset=0.01
"""


def parser() -> Parser:
    """Return the parser of all commands; each sets `command` to the function that carries it out, and `parser` to its own."""
    codes = "\n".join(f"  {code.value:>3}  {code.words}" for code in ExitCode)
    root = Parser(
        prog="gemini-batch",
        description=_ABOUT,
        epilog=f"exit codes:\n{codes}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    root.add_argument("--version", action="version", version=f"gemini_batch {__version__}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _run(_command(commands, "run", "send what is not done yet", _RUN))
    _plan(
        _command(
            commands, "plan", "check the manifest; show calls, cost and time; sends nothing", _PLAN
        )
    )
    _folder(_command(commands, "status", "show what an output folder holds", _STATUS), "it")
    _verify(
        _command(commands, "verify", "hold every row against its image; ends with 0 or 4", _VERIFY)
    )
    _folder(
        _command(commands, "gallery", "write gallery.html beside the images", _GALLERY),
        "what is on the page",
    )
    _quota_command(_command(commands, "quota", "show what is used and left of each quota", _QUOTA))
    _schema(_command(commands, "schema", "print the JSON Schema of a line or a row", _SCHEMA))
    _simulate(
        _command(
            commands, "simulate", "a Gemini image API on this machine: no key, no cost", _SIMULATE
        )
    )
    return root


_Commands = argparse._SubParsersAction  # noqa: SLF001 # argparse gives its types no public names
_Group = argparse._ArgumentGroup  # noqa: SLF001


def _command(commands: "_Commands[Parser]", name: str, words: str, description: str) -> Parser:
    command = commands.add_parser(
        name,
        help=words,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.set_defaults(command=_later(name), parser=command)
    return command


def _later(name: str) -> Callable[[argparse.Namespace], int]:
    """Return a function that imports the command's module only when it is called."""

    def command(options: argparse.Namespace) -> int:
        return int(import_module(f"gemini_batch.cli.{name}").main(options))

    return command


def _run(run: Parser) -> None:
    _manifest(run)
    _money(run)
    _quota(run).add_argument(
        "--quota-scope",
        metavar="NAME",
        help="share the quota with runs of this name (default: of the same key)",
    )
    sending = run.add_argument_group("sending")
    sending.add_argument(
        "--simulate",
        action="store_true",
        help="run against a simulator in this process: no key, no cost",
    )
    sending.add_argument(
        "--concurrency",
        type=whole,
        metavar="N",
        help="most calls in flight (default: by the quota, from 4 to 128)",
    )
    sending.add_argument(
        "--max-attempts",
        type=whole,
        metavar="N",
        default=6,
        help="how often a call is sent before it is failed (default: %(default)s)",
    )
    sending.add_argument(
        "--on-uncertain",
        choices=("retry", "skip"),
        default="retry",
        help="what to do with a call that may have been billed and gave nothing (default: %(default)s)",
    )
    sending.add_argument(
        "--deadline",
        dest="deadline_s",
        type=amount,
        metavar="SECONDS",
        help="take in no more calls after so long; what is in flight is finished (default: none)",
    )
    sending.add_argument(
        "--wait-for-reset",
        action="store_true",
        help="when the day's quota is used up, sleep until it resets, in place of ending with 5",
    )
    _server(sending)
    sending.add_argument(
        "--auth",
        choices=("header", "query"),
        default="header",
        help="where the key goes: the header x-goog-api-key, or ?key= (default: %(default)s; env of the key: GEMINI_API_KEY, "
        "else GOOGLE_API_KEY)",
    )
    words = run.add_argument_group("words")
    words.add_argument(
        "--quiet", action="store_true", help="say nothing unless something needs a person"
    )
    words.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="what to write to stderr: words, or one JSON object a line (default: %(default)s)",
    )
    words.add_argument(
        "--json",
        action="store_true",
        help="print the summary as JSON to stdout, as in summary.json",
    )


def _money(run: Parser) -> None:
    money = run.add_argument_group(
        "money", "in dollars at list price, whatever the tier; what was not sent costs nothing"
    )
    money.add_argument(
        "--max-cost",
        dest="max_cost_usd",
        type=amount,
        metavar="USD",
        help="most that this run may cost, calls in flight included; then it ends with 5 (default: no limit)",
    )
    money.add_argument(
        "--confirm-above",
        type=amount,
        default=25.0,
        metavar="USD",
        help="on a terminal, ask before a run that costs more; without one nothing is ever asked (default: 25)",
    )
    money.add_argument("--yes", action="store_true", help="do not ask")


def _plan(plan: Parser) -> None:
    _manifest(plan)
    _quota(plan)
    plan.add_argument(
        "--simulate", action="store_true", help="plan for the simulator's output folder"
    )
    _server(plan)
    plan.add_argument("--json", action="store_true", help="print the plan as JSON to stdout")


def _folder(command: Parser, printed: str) -> None:
    command.add_argument("out", type=Path, metavar="OUT", help="the output folder of a run")
    command.add_argument("--json", action="store_true", help=f"print {printed} as JSON to stdout")


def _verify(verify: Parser) -> None:
    verify.add_argument("out", type=Path, metavar="OUT", help="the output folder of a run")


def _quota_command(quota: Parser) -> None:
    quota.add_argument(
        "--reset", action="store_true", help="forget all that was used, for every project and model"
    )
    quota.add_argument(
        "--project", metavar="NAME", help="with --reset, forget only what this project has used"
    )
    quota.add_argument("--json", action="store_true", help="print it as JSON to stdout")
    quota.epilog = "All runs of this machine share one file; the folder it is in can be named (env: GEMINI_BATCH_STATE_DIR)."


def _schema(schema: Parser) -> None:
    schema.add_argument(
        "of",
        choices=("job", "row"),
        metavar="job|row",
        help="a line of the manifest, or a line of results.jsonl",
    )


def _simulate(simulate: Parser) -> None:
    from gemini_batch.simulator import command

    command.add_arguments(simulate)
    simulate.set_defaults(command=command.run)


def _manifest(command: Parser) -> None:
    command.add_argument(
        "manifest",
        type=Path,
        metavar="JOBS.jsonl",
        help="one job a line, as JSON; see `schema job`",
    )
    command.add_argument(
        "--out",
        type=folder,
        metavar="DIR",
        help="the output folder (default: JOBS.out beside the manifest, JOBS.simulated with --simulate)",
    )
    command.add_argument(
        "--model",
        metavar="ID",
        help="the model of jobs that name none (default: gemini-3-pro-image-preview)",
    )
    command.add_argument(
        "--max-input-pixels",
        type=whole,
        metavar="N",
        help="send input images of more than N pixels made smaller, to N (JPEG, PNG, WebP and GIF; default: as they are)",
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
        help="send calls with this status, or whose image is missing, again: they are paid for again; can be given more than once",
    )


def _server(command: Parser | _Group) -> None:
    command.add_argument(
        "--base-url",
        metavar="URL",
        help="another server than Google's (env: GEMINI_BATCH_BASE_URL)",
    )
    command.add_argument(
        "--allow-insecure",
        action="store_true",
        help="allow plain http to another machine, which shows it the key",
    )


def _quota(command: Parser) -> _Group:
    quota = command.add_argument_group(
        "quota", "limits of the project, for each model; each one wins over the tier's"
    )
    quota.add_argument(
        "--tier",
        default="free",
        metavar="NAME",
        help="free, pay-as-you-go, enterprise, tier-1, tier-2, tier-3, or one of --config (default: free)",
    )
    quota.add_argument(
        "--rpm", type=whole, metavar="N", help="requests a minute (default: the tier's)"
    )
    quota.add_argument(
        "--tpm", type=whole, metavar="N", help="input tokens a minute (default: the tier's)"
    )
    quota.add_argument(
        "--ipm", type=whole, metavar="N", help="images a minute (default: the tier's)"
    )
    quota.add_argument(
        "--rpd", type=whole, metavar="N", help="requests a day, Pacific time (default: the tier's)"
    )
    quota.add_argument(
        "--usd-per-10min",
        type=amount,
        metavar="USD",
        help="dollars at list price in any ten minutes (default: the tier's)",
    )
    quota.add_argument(
        "--usd-per-day",
        type=amount,
        metavar="USD",
        help="dollars at list price a day, Pacific time (default: the tier's)",
    )
    quota.add_argument(
        "--minute",
        dest="minute_s",
        type=amount,
        metavar="SECONDS",
        help="what a simulator in a hurry calls a minute (default: 60)",
    )
    quota.add_argument(
        "--config",
        dest="config_file",
        type=Path,
        metavar="FILE",
        help='a TOML file with tables [tiers.NAME] and [prices."MODEL"]',
    )
    return quota
