"""The commands and their flags. Imports nothing heavy, so that `--help` is fast."""

import argparse
from collections.abc import Callable, Container, Iterator
from functools import partial
from importlib import import_module
from typing import Any, TypeAlias

from gemini_batch.cli import help_texts as texts
from gemini_batch.cli.usage import (
    Formatter,
    Parser,
    amount,
    batch_lines,
    finished,
    folder,
    hours,
    path,
    place,
    seconds,
    vertex,
    whole,
)
from gemini_batch.errors import ExitCode
from gemini_batch.version import __version__


def parser(argv: Container[str] | None = None) -> Parser:
    """Return the parser of all commands; each sets `command`, its function, and `parser`.

    With `argv` only the commands that it names have their flags: the others would take time.
    """
    codes = "\n".join(f"  {code.value:>3}  {code.meaning}" for code in ExitCode)
    root = Parser(
        prog="gemini-batch",
        description=texts.ABOUT,
        epilog=f"exit codes:\n{codes}\n",
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    root.add_argument("--version", action="version", version=f"gemini_batch {__version__}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, text, description, add_flags in _commands():
        is_used = argv is None or name in argv
        command = _command(commands, name, text, description, is_used=is_used)
        if is_used:
            add_flags(command)
    return root


_AddFlags: TypeAlias = Callable[[Parser], None]


def _commands() -> Iterator[tuple[str, str, str, _AddFlags]]:
    """Yield name, help, description and flags of each command."""
    yield "run", "send what is not done yet", texts.RUN, _run
    text = "run a manifest by several workers on a Ray cluster"
    yield "ray", text, texts.RAY, _ray
    text = "check the manifest; show calls, cost and time; sends nothing"
    yield "plan", text, texts.PLAN, _plan
    text = "write a manifest from a template and a table of its variables"
    yield "expand", text, texts.EXPAND, _expand
    text = "show the contents of an output folder"
    yield "status", text, texts.STATUS, partial(_folder, printed="the contents")
    text = "list the calls that wait in batches, or cancel these batches"
    yield "batches", text, texts.BATCHES, _open_batches
    text = "show the cost of output folders by day, model, manifest or run"
    yield "costs", text, texts.COSTS, _costs
    text = "verify every image against its row (size, SHA-256); exits 0 or 4"
    yield "verify", text, texts.VERIFY, _verify
    text = "write gallery.html next to the images"
    yield "gallery", text, texts.GALLERY, _gallery
    text = "open the gallery from a local server, to pick, discard and rate its pictures"
    yield "review", text, texts.REVIEW, _review
    text = "copy the pictures to a folder or a ZIP file, with an index of them"
    yield "export", text, texts.EXPORT, _export
    text = "move the pictures that no line of the manifest has any more to superseded/"
    yield "prune", text, texts.PRUNE, _prune
    yield "quota", "show the usage of each quota", texts.QUOTA, _quota_command
    text = "show the key, server, proxy and quota of a run; ask for the model; costs nothing"
    yield "doctor", text, texts.DOCTOR, _doctor
    yield "schema", "print the JSON Schema of a line or a row", texts.SCHEMA, _schema
    yield "completion", "print the completion script of a shell", texts.COMPLETION, _completion
    text = "serve a Gemini image API on this machine: no key, no cost"
    yield "simulate", text, texts.SIMULATE, _simulate


_Commands = argparse._SubParsersAction  # noqa: SLF001 # argparse gives its types no public names
_Group = argparse._ArgumentGroup  # noqa: SLF001


def _command(
    commands: "_Commands[Parser]", name: str, text: str, description: str, *, is_used: bool
) -> Parser:
    command = commands.add_parser(
        name,
        is_used=is_used,
        help=text,
        description=description,
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    if is_used:
        command.set_defaults(command=partial(_import_and_run, name), parser=command)
    return command


def _import_and_run(name: str, options: argparse.Namespace) -> int:
    return int(import_module(f"gemini_batch.cli.{name}").main(options))


def _flag(command: Parser | _Group, name: str, text: str) -> None:
    command.add_argument(name, action="store_true", help=text)


def _value(
    command: Parser | _Group,
    name: str,
    kind: Callable[[str], object],
    metavar: str,
    text: str,
    **options: Any,
) -> None:
    command.add_argument(name, type=kind, metavar=metavar, help=text, **options)


def _choice(command: Parser | _Group, name: str, choices: tuple[str, ...], text: str) -> None:
    """Add a flag whose default is the first choice."""
    text += " (default: %(default)s)"
    command.add_argument(name, choices=choices, default=choices[0], help=text)


def _run(run: Parser) -> None:
    _manifest(run)
    _money(run)
    scope = "share the quota with runs of this name (default: with those of the same key)"
    _value(_quota(run), "--quota-scope", str, "NAME", scope)
    _shards(run)
    _sending(run.add_argument_group("sending"))
    _batches(run)
    output = run.add_argument_group("output")
    _flag(output, "--quiet", "print nothing unless user action is required")
    _choice(output, "--log-format", ("text", "json"), "write text or JSON Lines to stderr")
    text = "write the metrics of the run to FILE, for node_exporter's textfile collector"
    _value(output, "--metrics", path, "FILE", text)
    _flag(output, "--json", "print the summary as JSON to stdout, as in summary.json")


def _ray(ray: Parser) -> None:
    cluster = ray.add_argument_group("cluster")
    text = "number of workers; each takes a tenth of a core, on any node (default: %(default)s)"
    _value(cluster, "--shards", whole, "N", text, default=4)
    text = "the cluster, as of ray.init (default: RAY_ADDRESS, or a new one on this machine)"
    _value(cluster, "--address", str, "ADDRESS", text)
    _run(ray)


def _sending(sending: _Group) -> None:
    _flag(sending, "--simulate", "run against a simulator in this process: no key, no cost")
    text = "maximum number of calls in flight, of all workers (default: 4 to 128, by the quota)"
    _value(sending, "--concurrency", whole, "N", text)
    text = "maximum number of attempts per call (default: %(default)s)"
    _value(sending, "--max-attempts", whole, "N", text, default=6)
    text = "timeout of an attempt; an answer that still arrives gets more time (default: 300; flex "
    text += "900)"
    _value(sending, "--timeout", seconds, "SECONDS", text, dest="timeout_s")
    lost = sending.add_mutually_exclusive_group()
    text = "where rows of results.jsonl are gone, take the images that are there as done"
    lost.add_argument("--adopt-images", action="store_true", help=text)
    text = "where rows of results.jsonl are gone, send their calls again, and pay again"
    lost.add_argument("--forget", action="store_true", help=text)
    text = "what to do with a call that failed and may have been billed"
    _choice(sending, "--on-uncertain", ("retry", "skip"), text)
    text = "continue where 5 calls of a model in a row are rejected with the same message"
    _flag(sending, "--keep-going", text)
    text = "stop starting new calls after SECONDS; calls in flight are completed (default: none)"
    _value(sending, "--deadline", amount, "SECONDS", text, dest="deadline_s")
    text = "when the day's quota is used up, sleep until it resets instead of exiting with 5"
    _flag(sending, "--wait-for-reset", text)
    _server(sending)
    _auth(sending)


def _shards(run: Parser) -> None:
    text = "several workers, on one machine or on many, send one manifest into one output folder"
    shards = run.add_argument_group("several workers", text)
    text = (
        "send only the calls of worker I of N, as in 3/16; auto: by the variables of SLURM, Cloud "
        "Run Jobs or AWS Batch; auto/16: also by those of Kubernetes or GNU parallel"
    )
    _value(shards, "--shard", str, "I/N", text)
    text = "the name of the run that all its workers share (default: that of SLURM and the others)"
    _value(shards, "--run-id", str, "NAME", text)


def _batches(run: Parser) -> None:
    text = "half the price for an answer within a day; later runs collect what is ready"
    batches = run.add_argument_group("batches", text)
    _route(batches)
    text = "wait until all batches are collected, instead of exiting with 5"
    _flag(batches, "--wait", text)
    text = "cancel a batch of this age and free the calls that it did not answer (default: 26)"
    _value(batches, "--batch-patience", hours, "HOURS", text, dest="batch_patience_s")


def _route(command: Parser | _Group) -> None:
    text = "how to send: single requests, batches, or batches once the day's quota is used up"
    _choice(command, "--route", ("interactive", "batch", "auto"), text)
    text = "maximum number of calls per batch (default: %(default)s)"
    _value(command, "--batch-lines", batch_lines, "N", text, default=500)


def _money(run: Parser) -> None:
    text = "in dollars at list price, for every tier; calls that were not sent cost nothing"
    money = run.add_argument_group("money", text)
    _max_cost(money)
    text = "ask for confirmation if the estimate exceeds USD (interactive terminals only; "
    _value(money, "--confirm-above", amount, "USD", text + "default: 25)", default=25.0)
    _flag(money, "--yes", "skip the confirmation")


def _max_cost(command: Parser | _Group) -> None:
    text = "maximum cost of this run, calls in flight included; then exit with 5 (default: no "
    _value(command, "--max-cost", amount, "USD", text + "limit)", dest="max_cost_usd")


def _plan(plan: Parser) -> None:
    _manifest(plan)
    _max_cost(plan)
    _quota(plan)
    _route(plan)
    _flag(plan, "--simulate", "plan for the simulator's output folder")
    _server(plan)
    _flag(plan, "--json", "print the plan as JSON to stdout")
    run = Parser(add_help=False)
    _run(run)
    plan.accept_flags_of(run)


def _expand(expand: Parser) -> None:
    text = "lines of a manifest with {column} where a value is put in; {{ and }} are braces"
    _value(expand, "template", path, "TEMPLATE", text)
    text = "a table (.csv, .tsv) or JSONL with the values: a job for each row and line"
    _value(expand, "--vars", path, "FILE", text)
    text = "combine all values of the columns of FILE, instead of those of one row"
    _flag(expand, "--product", text)


def _open_batches(batches: Parser) -> None:
    batches.add_argument("out", type=path, metavar="OUT", help="the output folder of a run")
    _flag(batches, "--json", "print the batches as JSON to stdout")
    text = "ask the server to end them; needs the key; what they answered until then is collected"
    _flag(batches, "--cancel", text)
    scope = "the --quota-scope of the runs that made them (default: that of the key)"
    _value(batches, "--quota-scope", str, "NAME", scope)
    _server(batches)
    _auth(batches)


def _doctor(doctor: Parser) -> None:
    text = "the model to ask for (default: gemini-3-pro-image-preview)"
    _value(doctor, "--model", str, "ID", text)
    _service_tier(doctor)
    _quota(doctor)
    _server(doctor)
    _auth(doctor)
    _flag(doctor, "--json", "print what was found as JSON to stdout")


def _folder(command: Parser, printed: str) -> None:
    _verify(command)
    _flag(command, "--json", f"print {printed} as JSON to stdout")


def _verify(verify: Parser) -> None:
    text = "the output folder of a run, or its bucket, such as s3://bucket/prefix"
    verify.add_argument("out", type=place, metavar="OUT", help=text)


def _gallery(gallery: Parser) -> None:
    _folder(gallery, "the numbers of the page")
    text = "put the pictures into the page, downscaled so that it has at most 18 MB: to be mailed"
    _flag(gallery, "--embed", text)


def _costs(costs: Parser) -> None:
    text = "output folders of runs, or buckets (default: folders here that have results.jsonl)"
    costs.add_argument("out", nargs="*", type=place, metavar="OUT", help=text)
    _choice(costs, "--by", ("day", "model", "manifest", "run"), "group by local day, or another")
    _flag(costs, "--json", "print the groups as JSON to stdout")


def _review(review: Parser) -> None:
    _verify(review)
    text = "the port on 127.0.0.1 (default: any free one)"
    _value(review, "--port", whole, "N", text)
    _flag(review, "--no-browser", "print the address, and open no browser")


def _export(export: Parser) -> None:
    _verify(export)
    text = "a new folder, or a new file that ends with .zip"
    _value(export, "--to", folder, "DIR|FILE.zip", text, required=True)
    _flag(export, "--picked", "only the pictures that were picked in the review")
    _flag(export, "--json", "print what was copied as JSON to stdout")


def _prune(prune: Parser) -> None:
    _verify(prune)
    text = "the manifest, if it is not where the runs found it"
    _value(prune, "--manifest", path, "JOBS.jsonl", text)
    _flag(prune, "--yes", "move without a question, which needs a terminal")
    _flag(prune, "--json", "print what was moved as JSON to stdout")


def _quota_command(quota: Parser) -> None:
    text = "delete the recorded usage: of all projects and models in the file of this machine; of "
    _flag(quota, "--reset", text + "the project of the key at this server in a shared ledger")
    quota.add_argument(
        "--project", metavar="NAME", help="with --reset, delete only the usage of this project"
    )
    _ledger(quota, "the ledger of several machines, instead of that of this one")
    _flag(quota, "--json", "print the usage as JSON to stdout")
    where = "in a folder that can be set (env: GEMINI_BATCH_STATE_DIR)"
    quota.epilog = f"All runs on this machine share one file, {where}."


def _schema(schema: Parser) -> None:
    text = "a line of the manifest, or a line of results.jsonl"
    schema.add_argument("of", choices=("job", "row"), metavar="job|row", help=text)


def _completion(completion: Parser) -> None:
    text = "the shell that reads it"
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), help=text)


def _simulate(simulate: Parser) -> None:
    from gemini_batch.simulator import command

    command.add_arguments(simulate)
    simulate.set_defaults(command=command.run)


def _manifest(command: Parser) -> None:
    text = (
        "one job per line, as JSON, see `schema job`; or a table, .csv or .tsv, whose columns are "
        "the fields; or - for standard input; or the address of one in a bucket"
    )
    _value(command, "manifest", place, "JOBS.jsonl", text)
    text = "what the manifest is (default: what its name says; jsonl for standard input)"
    command.add_argument("--format", choices=("jsonl", "csv", "tsv"), help=text)
    text = (
        "the output folder (default: JOBS.out next to the manifest, or JOBS.simulated), or a "
        "bucket: s3://BUCKET/PREFIX, az://…, gs://… (needs the extra bucket)"
    )
    _value(command, "--out", place, "DIR|URL", text)
    text = "with a bucket: the folder to work in (default: one in the user's state folder)"
    _value(command, "--scratch", folder, "DIR", text)
    text = "with a bucket: the most space of images in the scratch folder (default: 4)"
    _value(command, "--scratch-max", amount, "GB", text, dest="scratch_max_gb")
    text = "the model of jobs that name none (default: gemini-3-pro-image-preview)"
    _value(command, "--model", str, "ID", text)
    _service_tier(command)
    text = "downscale JPEG, PNG, WebP and GIF inputs larger than N pixels before sending "
    _value(command, "--max-input-pixels", whole, "N", text + "(default: never)")
    several: dict[str, Any] = {"action": "append", "default": []}
    text = "copy images that another output folder already has, at no cost; may be repeated"
    _value(command, "--reuse-from", path, "OUT", text, **several)
    text = (
        "send only the calls with these ids; an ID may be a glob such as 'icons/*', or @FILE with "
        "one per line"
    )
    only: dict[str, Any] = {"action": "extend", "nargs": "+", "default": []}
    _value(command, "--only", str, "ID", text, **only)
    text = (
        "make finished calls again, and pay again: discarded (in the review), stale (made with "
        "a picture that was made again), ids, globs, or @FILE; the old pictures move to superseded/"
    )
    _value(command, "--redo", str, "WHAT", text, **only)
    text = "send only the first N calls that are not done (default: all)"
    _value(command, "--limit", whole, "N", text)
    text = (
        "send finished calls again, and pay again: blocked, blocked:REASON,REASON, rejected, "
        "uncertain, missing or unfetched (images); may be repeated"
    )
    _value(command, "--retry", finished, "STATUS", text, **several)


def _service_tier(command: Parser) -> None:
    text = (
        "service tier of jobs that name none: flex costs less and takes longer, priority costs more"
    )
    _choice(command, "--service-tier", ("standard", "flex", "priority"), text)


def _server(command: Parser | _Group) -> None:
    text = (
        "send to Vertex AI of this project of Google Cloud, or of PROJECT/LOCATION (default: "
        "global), with its login instead of a key (env: GEMINI_BATCH_VERTEX)"
    )
    _value(command, "--vertex", vertex, "PROJECT", text)
    text = "a server other than Google's (env: GEMINI_BATCH_BASE_URL)"
    _value(command, "--base-url", str, "URL", text)
    text = "allow unencrypted http to a remote host (key or token is sent in clear text)"
    _flag(command, "--allow-insecure", text)


def _auth(command: Parser | _Group) -> None:
    text = "how to send the key (GEMINI_API_KEY or GOOGLE_API_KEY): as x-goog-api-key, or as ?key="
    _choice(command, "--auth", ("header", "query"), text)


def _quota(command: Parser) -> _Group:
    text = "limits of the project, for each model; each overrides that of the tier"
    quota = command.add_argument_group("quota", text)
    tiers = "free, pay-as-you-go, enterprise, tier-1, tier-2, tier-3, or one from --config"
    _value(quota, "--tier", str, "NAME", f"{tiers} (default: free)", default="free")
    for name, kind, metavar, limited in (
        ("--rpm", whole, "N", "requests a minute"),
        ("--tpm", whole, "N", "input tokens a minute"),
        ("--ipm", whole, "N", "images a minute"),
        ("--rpd", whole, "N", "requests a day, Pacific time"),
        ("--usd-per-10min", amount, "USD", "dollars at list price in any ten minutes"),
        ("--usd-per-day", amount, "USD", "dollars at list price a day, Pacific time"),
    ):
        _value(quota, name, kind, metavar, f"{limited} (default: that of the tier)")
    text = 'length of a quota "minute" in seconds; for testing against the simulator (default: 60)'
    _value(quota, "--minute", amount, "SECONDS", text, dest="minute_s")
    text = 'a TOML file with tables [tiers.NAME] and [prices."MODEL"]'
    _value(quota, "--config", path, "FILE", text, dest="config_file")
    _ledger(quota, "count the quota together with other machines, in this PostgreSQL database")
    return quota


def _ledger(command: Parser | _Group, text: str) -> None:
    text += ": postgresql://USER@HOST/DATABASE, without a password (env: GEMINI_BATCH_LEDGER)"
    _value(command, "--ledger", str, "URL", text)
