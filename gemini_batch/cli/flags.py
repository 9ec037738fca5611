"""The flags that several commands share, and how a flag is added."""

import argparse
from collections.abc import Callable
from typing import Any

from gemini_batch.cli.usage import (
    Parser,
    batch_lines,
    dollars,
    duration,
    finished,
    folder,
    gigabytes,
    path,
    place,
    vertex,
    whole,
)

Group = argparse._ArgumentGroup  # noqa: SLF001 # argparse gives its types no public names


def flag(command: Parser | Group, name: str, text: str) -> None:
    """Add a flag without a value."""
    command.add_argument(name, action="store_true", help=text)


def value(
    command: Parser | Group,
    name: str,
    kind: Callable[[str], object],
    metavar: str,
    text: str,
    **options: Any,
) -> None:
    """Add a flag, or an argument, with a value."""
    command.add_argument(name, type=kind, metavar=metavar, help=text, **options)


def choice(command: Parser | Group, name: str, choices: tuple[str, ...], text: str) -> None:
    """Add a flag whose default is the first choice."""
    text += " (default: %(default)s)"
    command.add_argument(name, choices=choices, default=choices[0], help=text)


def manifest(command: Parser) -> None:
    """Add the manifest, and the flags that say what is planned of it."""
    text = (
        "one job per line, as JSON, see `schema job`; or a table, .csv or .tsv, whose columns are "
        "the fields; or - for standard input; or the address of one in a bucket"
    )
    value(command, "manifest", place, "JOBS.jsonl", text)
    text = "format of the manifest (default: by its name; jsonl for standard input)"
    command.add_argument("--format", choices=("jsonl", "csv", "tsv"), help=text)
    text = (
        "the output folder (default: JOBS.out next to the manifest, or JOBS.simulated), or a "
        "bucket: s3://BUCKET/PREFIX, az://…, gs://… (needs the extra bucket)"
    )
    value(command, "--out", place, "DIR|URL", text)
    text = "with a bucket: the folder to work in (default: one in the user's state folder)"
    value(command, "--scratch", folder, "DIR", text)
    text = "with a bucket: maximum size of the images in the scratch folder (default: 4)"
    value(command, "--scratch-max", gigabytes, "GB", text, dest="scratch_max_gb")
    text = "the model of jobs that name none (default: gemini-3-pro-image-preview)"
    value(command, "--model", str, "ID", text)
    service_tier(command)
    text = "downscale JPEG, PNG, WebP and GIF inputs larger than N pixels before sending "
    value(command, "--max-input-pixels", whole, "N", text + "(default: never)")
    several: dict[str, Any] = {"action": "append", "default": []}
    text = "copy images that another output folder already has, at no cost; may be repeated"
    value(command, "--reuse-from", place, "OUT", text, **several)
    text = (
        "send only the calls with these ids; an ID may be a glob such as 'icons/*', or @FILE with "
        "one per line"
    )
    only: dict[str, Any] = {"action": "extend", "nargs": "+", "default": []}
    value(command, "--only", str, "ID", text, **only)
    text = (
        "make finished calls again, and pay again: discarded (in the review), stale (made with "
        "a picture that was made again), ids, globs, or @FILE; the old pictures move to superseded/"
    )
    value(command, "--redo", str, "WHAT", text, **only)
    text = "send only the first N calls that are not done (default: all)"
    value(command, "--limit", whole, "N", text)
    text = (
        "send finished calls again, and pay again: blocked, blocked:REASON,REASON, rejected, "
        "uncertain, missing or unfetched (images); may be repeated"
    )
    value(command, "--retry", finished, "STATUS", text, **several)


def service_tier(command: Parser) -> None:
    """Add the service tier of jobs that name none."""
    text = (
        "service tier of jobs that name none: flex costs less and takes longer, priority costs more"
    )
    choice(command, "--service-tier", ("standard", "flex", "priority"), text)


def quota(command: Parser) -> Group:
    """Add the group of the project's limits; return it."""
    text = "limits of the project, for each model; each overrides that of the tier"
    quota = command.add_argument_group("quota", text)
    tiers = "free, pay-as-you-go, enterprise, tier-1, tier-2, tier-3, or one from --config"
    value(quota, "--tier", str, "NAME", f"{tiers} (default: free)", default="free")
    for name, kind, metavar, limited in (
        ("--rpm", whole, "N", "requests a minute"),
        ("--tpm", whole, "N", "input tokens a minute"),
        ("--ipm", whole, "N", "images a minute"),
        ("--rpd", whole, "N", "requests a day, Pacific time"),
        ("--usd-per-10min", dollars, "USD", "dollars at list price in any ten minutes"),
        ("--usd-per-day", dollars, "USD", "dollars at list price a day, Pacific time"),
    ):
        value(quota, name, kind, metavar, f"{limited} (default: that of the tier)")
    text = 'length of a quota "minute" in seconds; for testing against the simulator (default: 60)'
    value(quota, "--minute", duration, "SECONDS", text, dest="minute_s")
    text = 'a TOML file with tables [tiers.NAME] and [prices."MODEL"]'
    value(quota, "--config", path, "FILE", text, dest="config_file")
    ledger(quota, "count the quota together with other machines, in this PostgreSQL database")
    return quota


def route(command: Parser | Group) -> None:
    """Add how calls are sent."""
    text = "how to send: single requests, batches, or batches once the day's quota is used up"
    choice(command, "--route", ("interactive", "batch", "auto"), text)
    text = "maximum number of calls per batch (default: %(default)s)"
    value(command, "--batch-lines", batch_lines, "N", text, default=500)


def max_cost(command: Parser | Group) -> None:
    """Add the budget of a run."""
    text = "maximum cost of this run, calls in flight included; then exit with 5 (default: no "
    value(command, "--max-cost", dollars, "USD", text + "limit)", dest="max_cost_usd")


def server(command: Parser | Group) -> None:
    """Add where requests are sent to."""
    text = (
        "send to Vertex AI of this project of Google Cloud, or of PROJECT/LOCATION (default: "
        "global), with its login instead of a key (env: GEMINI_BATCH_VERTEX)"
    )
    value(command, "--vertex", vertex, "PROJECT", text)
    text = "a server other than Google's (env: GEMINI_BATCH_BASE_URL)"
    value(command, "--base-url", str, "URL", text)
    text = "allow unencrypted http to a remote host (key or token is sent in clear text)"
    flag(command, "--allow-insecure", text)


def auth(command: Parser | Group) -> None:
    """Add how a key is sent."""
    text = "how to send the key (GEMINI_API_KEY or GOOGLE_API_KEY): as x-goog-api-key, or as ?key="
    choice(command, "--auth", ("header", "query"), text)


def ledger(command: Parser | Group, text: str) -> None:
    """Add where the quota is counted."""
    text += ": postgresql://USER@HOST/DATABASE, without a password (env: GEMINI_BATCH_LEDGER)"
    value(command, "--ledger", str, "URL", text)
