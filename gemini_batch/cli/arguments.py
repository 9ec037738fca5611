"""The commands and their flags. Imports nothing heavy, so that `--help` is fast."""

import argparse
from collections.abc import Callable, Container, Iterator
from functools import partial
from importlib import import_module
from typing import TypeAlias

from gemini_batch.cli import help_texts as texts
from gemini_batch.cli.flags import (
    Group,
    auth,
    choice,
    flag,
    ledger,
    manifest,
    max_cost,
    quota,
    route,
    server,
    service_tier,
    value,
)
from gemini_batch.cli.usage import (
    Formatter,
    Parser,
    day,
    dollars,
    duration,
    folder,
    hours,
    path,
    place,
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
    text = "move the pictures that are no longer in the manifest to superseded/"
    yield "prune", text, texts.PRUNE, _prune
    yield "quota", "show the usage of each quota", texts.QUOTA, _quota_command
    text = "show the key, server, proxy and quota of a run; ask for the model; costs nothing"
    yield "doctor", text, texts.DOCTOR, _doctor
    yield "schema", "print the JSON Schema of a line or a row", texts.SCHEMA, _schema
    yield "completion", "print the completion script of a shell", texts.COMPLETION, _completion
    text = "serve a Gemini image API on this machine: no key, no cost"
    yield "simulate", text, texts.SIMULATE, _simulate


_Commands = argparse._SubParsersAction  # noqa: SLF001 # argparse gives its types no public names


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


def _run(run: Parser) -> None:
    manifest(run)
    _money(run)
    scope = "share the quota with runs of this name (default: with those of the same key)"
    value(quota(run), "--quota-scope", str, "NAME", scope)
    _shards(run)
    _sending(run.add_argument_group("sending"))
    _batches(run)
    output = run.add_argument_group("output")
    flag(output, "--quiet", "print nothing unless user action is required")
    choice(output, "--log-format", ("text", "json"), "write text or JSON Lines to stderr")
    text = "write the metrics of the run to FILE, for node_exporter's textfile collector"
    value(output, "--metrics", path, "FILE", text)
    flag(output, "--json", "print the summary as JSON to stdout, as in summary.json")


def _ray(ray: Parser) -> None:
    cluster = ray.add_argument_group("cluster")
    text = "number of workers; each takes a tenth of a core, on any node (default: %(default)s)"
    value(cluster, "--shards", whole, "N", text, default=4)
    text = "the cluster, as of ray.init (default: RAY_ADDRESS, or a new one on this machine)"
    value(cluster, "--address", str, "ADDRESS", text)
    _run(ray)


def _sending(sending: Group) -> None:
    flag(sending, "--simulate", "run against a simulator in this process: no key, no cost")
    text = "maximum number of calls in flight, of all workers (default: 4 to 128, by the quota)"
    value(sending, "--concurrency", whole, "N", text)
    text = "maximum number of attempts per call (default: %(default)s)"
    value(sending, "--max-attempts", whole, "N", text, default=6)
    text = "timeout of an attempt; an answer that still arrives gets more time (default: 300; flex "
    text += "900)"
    value(sending, "--timeout", day, "SECONDS", text, dest="timeout_s")
    lost = sending.add_mutually_exclusive_group()
    text = "where rows of results.jsonl are missing, count existing images as done"
    lost.add_argument("--adopt-images", action="store_true", help=text)
    text = "where rows of results.jsonl are missing, send their calls again, and pay again"
    lost.add_argument("--forget", action="store_true", help=text)
    text = "what to do with a call that failed and may have been billed"
    choice(sending, "--on-uncertain", ("retry", "skip"), text)
    text = "continue after 5 calls of a model in a row are rejected with the same message"
    flag(sending, "--keep-going", text)
    text = (
        "stop starting new calls after SECONDS, or a time such as 90m or 2h; calls in flight are "
    )
    text += "completed (default: none)"
    value(sending, "--deadline", duration, "SECONDS", text, dest="deadline_s")
    text = "when the day's quota is used up, sleep until it resets instead of exiting with 5"
    flag(sending, "--wait-for-reset", text)
    server(sending)
    auth(sending)


def _shards(run: Parser) -> None:
    text = "several workers, on one machine or on many, send one manifest into one output folder"
    shards = run.add_argument_group("several workers", text)
    text = (
        "send only the calls of worker I of N, as in 3/16; auto: by the variables of SLURM, Cloud "
        "Run Jobs or AWS Batch; auto/16: also by those of Kubernetes or GNU parallel"
    )
    value(shards, "--shard", str, "I/N", text)
    text = "the name of the run that all its workers share (default: that of SLURM and the others)"
    value(shards, "--run-id", str, "NAME", text)


def _batches(run: Parser) -> None:
    text = "half the price for an answer within a day; later runs collect what is ready"
    batches = run.add_argument_group("batches", text)
    route(batches)
    text = "wait until all batches are collected, instead of exiting with 5"
    flag(batches, "--wait", text)
    text = "cancel a batch of this age and free the calls that it did not answer (default: 26)"
    value(batches, "--batch-patience", hours, "HOURS", text, dest="batch_patience_s")


def _money(run: Parser) -> None:
    text = "in dollars at list price, for every tier; calls that were not sent cost nothing"
    money = run.add_argument_group("money", text)
    max_cost(money)
    text = "ask for confirmation if the estimate exceeds USD (interactive terminals only; "
    value(money, "--confirm-above", dollars, "USD", text + "default: 25)", default=25.0)
    flag(money, "--yes", "skip the confirmation")


def _plan(plan: Parser) -> None:
    manifest(plan)
    max_cost(plan)
    quota(plan)
    route(plan)
    flag(plan, "--simulate", "plan for the simulator's output folder")
    server(plan)
    flag(plan, "--json", "print the plan as JSON to stdout")
    run = Parser(add_help=False)
    _run(run)
    plan.accept_flags_of(run)


def _expand(expand: Parser) -> None:
    text = "lines of a manifest with {column} where a value is put in; {{ and }} are braces"
    value(expand, "template", path, "TEMPLATE", text)
    text = "a table (.csv, .tsv) or JSONL with the values: a job for each row and line"
    value(expand, "--vars", path, "FILE", text)
    text = "combine all values of the columns of FILE, instead of those of one row"
    flag(expand, "--product", text)


def _open_batches(batches: Parser) -> None:
    batches.add_argument("out", type=place, metavar="OUT", help="the output folder of a run")
    flag(batches, "--json", "print the batches as JSON to stdout")
    text = "ask the server to end them; needs the key; what they answered until then is collected"
    flag(batches, "--cancel", text)
    scope = "the --quota-scope of the runs that made them (default: that of the key)"
    value(batches, "--quota-scope", str, "NAME", scope)
    server(batches)
    auth(batches)


def _doctor(doctor: Parser) -> None:
    text = "the model to ask for (default: gemini-3-pro-image-preview)"
    value(doctor, "--model", str, "ID", text)
    service_tier(doctor)
    quota(doctor)
    server(doctor)
    auth(doctor)
    flag(doctor, "--json", "print what was found as JSON to stdout")


def _folder(command: Parser, printed: str) -> None:
    _verify(command)
    flag(command, "--json", f"print {printed} as JSON to stdout")


def _verify(verify: Parser) -> None:
    text = "the output folder of a run, or its bucket, such as s3://bucket/prefix"
    verify.add_argument("out", type=place, metavar="OUT", help=text)


def _gallery(gallery: Parser) -> None:
    _folder(gallery, "the numbers of the page")
    text = (
        "put the pictures into the page, downscaled so that it has at most 18 MB and can be mailed"
    )
    flag(gallery, "--embed", text)


def _costs(costs: Parser) -> None:
    text = "output folders of runs, or buckets (default: folders here that have results.jsonl)"
    costs.add_argument("out", nargs="*", type=place, metavar="OUT", help=text)
    choice(costs, "--by", ("day", "model", "manifest", "run"), "group by local day, or another")
    flag(costs, "--json", "print the groups as JSON to stdout")


def _review(review: Parser) -> None:
    _verify(review)
    text = "the port on 127.0.0.1 (default: any free one)"
    value(review, "--port", whole, "N", text)
    flag(review, "--no-browser", "print the address without opening a browser")


def _export(export: Parser) -> None:
    _verify(export)
    text = "a new folder, or a new file that ends with .zip"
    value(export, "--to", folder, "DIR|FILE.zip", text, required=True)
    flag(export, "--picked", "copy only the pictures that were picked in the review")
    flag(export, "--json", "print what was copied as JSON to stdout")


def _prune(prune: Parser) -> None:
    _verify(prune)
    text = "the manifest, if it is not where the runs found it"
    value(prune, "--manifest", path, "JOBS.jsonl", text)
    flag(prune, "--yes", "move without asking; without a terminal this is required")
    flag(prune, "--json", "print what was moved as JSON to stdout")


def _quota_command(quota: Parser) -> None:
    text = "delete the recorded usage: of all projects and models in the file of this machine; of "
    flag(quota, "--reset", text + "the project of the key at this server in a shared ledger")
    quota.add_argument(
        "--project", metavar="NAME", help="with --reset, delete only the usage of this project"
    )
    ledger(quota, "the ledger of several machines, instead of that of this one")
    flag(quota, "--json", "print the usage as JSON to stdout")
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
