"""The argument parser with its error messages, and the types of arguments."""

import argparse
import os
import re
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NoReturn, Self

if TYPE_CHECKING:
    from pathlib import Path

_PLAN = "`gemini-batch plan` checks a manifest, and sends nothing"
_KEY = "set GEMINI_API_KEY in the environment; doctor shows which key is used"
_FIELD = "is a field of a manifest line; see: gemini-batch schema job"
_RESUMES = "each run continues where the last one ended: run the same command again"
_CERTIFICATES = "set SSL_CERT_FILE in the environment to a file of certificates"
# Flags and commands of other tools that people try here: a flag of ours, or a sentence.
_MEANT = {
    **dict.fromkeys(("--dry-run", "--check", "--validate", "-n"), _PLAN),
    **dict.fromkeys(("--api-key", "--key", "--apikey", "--token"), _KEY),
    **dict.fromkeys(("--prompt", "--aspect-ratio", "--image-size", "--size", "--seed"), _FIELD),
    **dict.fromkeys(("--variants", "--count", "--metadata", "--negative-prompt"), _FIELD),
    **dict.fromkeys(("--resume", "--continue"), _RESUMES),
    **dict.fromkeys(("--proxy", "--http-proxy"), "set HTTPS_PROXY in the environment"),
    **dict.fromkeys(("--cacert", "--ca-bundle", "--insecure", "--no-verify"), _CERTIFICATES),
    **dict.fromkeys(("--force", "--overwrite", "--regenerate"), "--redo"),
    **dict.fromkeys(("--workers", "--max-workers", "--threads", "--jobs", "-j"), "--concurrency"),
    **dict.fromkeys(("--parallel", "--parallelism", "-c"), "--concurrency"),
    **dict.fromkeys(("--rate", "--rate-limit", "--qpm", "--rps"), "--rpm"),
    **dict.fromkeys(("--budget", "--max-usd", "--max-price", "--max-spend"), "--max-cost"),
    **dict.fromkeys(("--retries", "--max-retries", "--attempts"), "--max-attempts"),
    **dict.fromkeys(("--output", "--output-dir", "--out-dir", "-o"), "--out"),
    **dict.fromkeys(("--mock", "--fake", "--test", "--offline"), "--simulate"),
    **dict.fromkeys(("--endpoint", "--url", "--api-base"), "--base-url"),
    **dict.fromkeys(("--silent", "-q"), "--quiet"),
    **dict.fromkeys(("--verbose", "--debug", "-v"), "--log-format"),
    "-m": "--model",
    "-y": "--yes",
    "-V": "--version",
    "version": "gemini-batch --version",
    **dict.fromkeys(("check", "validate", "lint", "dry-run"), "gemini-batch plan"),
    **dict.fromkeys(("generate", "start", "submit", "resume"), "gemini-batch run"),
    **dict.fromkeys(("serve", "server", "mock"), "gemini-batch simulate"),
    **dict.fromkeys(("report", "html", "view"), "gemini-batch gallery"),
    **dict.fromkeys(("ls", "list", "show", "info"), "gemini-batch status"),
}
_MAX_LISTED = 8
FINISHED = ("blocked", "rejected", "uncertain", "missing", "unfetched")

MAX_PATIENCE_S = 604_800  # a week
_DAY_S = 86_400
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0}
MAX_BATCH_LINES = 50_000  # their calls are in memory while they are sent


class Formatter(argparse.RawDescriptionHelpFormatter):
    """A formatter as wide as the terminal. argparse would import much to find that out."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    """Return the width of the terminal, as `shutil.get_terminal_size` does."""
    with suppress(ValueError):
        if (columns := int(os.environ.get("COLUMNS", ""))) > 0:
            return columns
    stdout = sys.__stdout__
    with suppress(OSError, ValueError):  # no terminal
        if stdout is not None:
            return os.get_terminal_size(stdout.fileno()).columns or 80
    return 80


class Parser(argparse.ArgumentParser):
    """A parser whose errors are two lines: the problem, and the help to read; exits with 2.

    One that is not used is only a name with its help in the list of commands.
    """

    def __init__(self, *, is_used: bool = True, **options: Any) -> None:
        if is_used:
            super().__init__(**options)

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as usual, and keep the arguments for `error`."""
        self._given = sys.argv[1:] if args is None else args
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print the problem and exit; a flag that does not exist comes before what is missing."""
        given, self._given = [*takewhile(lambda each: each != "--", self._given)], ()
        flags = (each for each in given if each.startswith("-") and each != "-")
        unknown = [each for each in flags if each.partition("=")[0] not in self._known]
        if unknown and message.startswith("the following arguments are required"):
            self.refuse(unknown)
        message = message.removeprefix("argument ")
        self.exit(2, f"gemini-batch: {message}\ngemini-batch: see: {self.prog} --help\n")

    def fail(self, message: str) -> NoReturn:
        """Print a problem that says what to do, and exit."""
        self.exit(2, f"gemini-batch: {message}\n")

    @property
    def _known(self) -> Collection[str]:
        return self._option_string_actions

    def accept_flags_of(self, other: Self) -> None:
        """Accept the flags of another command, so that its command lines can be tried."""
        for action in other._actions:
            if (
                action.option_strings
                and action.option_strings[0] not in self._option_string_actions
            ):
                action.help = argparse.SUPPRESS
                self._add_action(action)

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """Refuse a value that is not among the choices, and suggest the nearest one."""
        if action.choices is not None and value not in action.choices:
            from gemini_batch.wording import shown, suggest

            advice = suggest(str(value), list(action.choices))
            if action.dest != "==SUPPRESS==":
                raise argparse.ArgumentError(action, f"got {shown(value)}; {advice}")
            found = f"no such command: {shown(value)}"
            if str(value) in _MEANT:
                self.fail(f"{found}; use: {_MEANT[str(value)]}")
            self.error(f"{found}; {advice}")

    def refuse(self, arguments: list[str]) -> NoReturn:
        """Report the first argument that the command does not have, and exit."""
        from gemini_batch.wording import shown

        name = arguments[0].partition("=")[0]
        if not name.startswith("-"):
            self.error(f"unexpected argument: {shown(name)}")
        if name in self._known:
            self.error(f'{name}: is after "--", where nothing is a flag; put it before')
        flags = re.findall("--[a-z][a-z0-9-]+", self.format_usage())
        advice = self._advice(name, flags)
        self.error(f"{name}: {advice}" if advice is _FIELD else f"{name}: no such flag{advice}")

    def _advice(self, name: str, flags: list[str]) -> str:
        """Return what to use instead of a flag that the command does not have."""
        from gemini_batch.wording import did_you_mean, suggest

        meant = _MEANT.get(name, "")
        if meant in flags:
            return f'; did you mean "{meant}"?'
        if meant is _FIELD:
            return meant
        if meant:
            return "" if meant.startswith("-") else f"; {meant}"
        if not flags:
            return "; the only one is --help"
        begun = [flag for flag in flags if flag.startswith(name)] or flags
        advice = suggest(name, begun) if len(begun) <= _MAX_LISTED else did_you_mean(name, begun)
        return f"; {advice}" if advice else ""


def whole(text: str) -> int:
    """Return an integer from 1."""
    if not re.fullmatch("[0-9]+", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text}; allowed: a whole number from 1")
    return int(text)


def batch_lines(text: str) -> int:
    """Return a number of calls of a batch."""
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= MAX_BATCH_LINES:
        allowed = f"a whole number from 1 to {MAX_BATCH_LINES:,}"
        raise argparse.ArgumentTypeError(f"got {text}; allowed: {allowed}")
    return int(text)


def duration(text: str) -> float:
    """Return the seconds of a time in seconds, or with a unit: `600`, `45s`, `10m`, `2h`."""
    seconds = _seconds(text, "s")
    if not 0 < seconds < float("inf"):
        allowed = "seconds above 0, as in 600, or a time with a unit: 45s, 10m, 2h"
        raise argparse.ArgumentTypeError(f"got {text}; allowed: {allowed}")
    return seconds


def day(text: str) -> float:
    """Return the seconds of such a time, up to a day."""
    seconds = duration(text)
    if seconds > _DAY_S:
        raise argparse.ArgumentTypeError(f"got {text}; allowed: up to 86400 seconds, which is 24h")
    return seconds


def hours(text: str) -> float:
    """Return the seconds of a time in hours, or with a unit: `26`, `26h`, `90m`, `45s`."""
    seconds = _seconds(text, "h")
    if seconds > MAX_PATIENCE_S:
        allowed = "hours up to 168, as in 26, or a time with a unit: 26h, 90m, 45s"
        raise argparse.ArgumentTypeError(f"got {text}; allowed: {allowed}")
    return seconds


def _seconds(text: str, unit: str) -> float:
    """Return the seconds of a time; infinity if it is none."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})([hms]?)", text)
    number, given = found.groups() if found else ("inf", "")
    return float(number) * _UNITS_S[given or unit]


def path(text: str) -> "Path":
    """Return a path."""
    from pathlib import Path

    return Path(text)


def folder(text: str) -> "Path":
    """Return a folder; an empty text is an unset variable, not the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; allowed: a folder, such as jobs.out")
    return path(text)


def place(text: str) -> "Path | str":
    """Return a folder, or the address of a bucket."""
    from gemini_batch.store.address import BucketAddress, is_address

    if not is_address(text):
        return folder(text)
    try:
        return str(BucketAddress.parse(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def dollars(text: str) -> float:
    """Return a number of dollars above 0."""
    return _amount(text, "dollars above 0, without a sign, such as 20 or 0.5")


def gigabytes(text: str) -> float:
    """Return a number of gigabytes above 0."""
    return _amount(text, "gigabytes above 0, without a unit, such as 4")


def _amount(text: str, allowed: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text}; allowed: {allowed}")
    return number


def finished(text: str) -> str:
    """Return a value of `--retry`: a status, perhaps with reasons, or a kind of images."""
    from gemini_batch.wording import shown, suggest

    status, colon, reasons = text.partition(":")
    if status not in FINISHED:
        raise argparse.ArgumentTypeError(f"got {shown(text)}; {suggest(status, FINISHED)}")
    if colon and (status != "blocked" or not all(reasons.split(","))):
        allowed = "blocked:REASON,REASON with reasons of rows, such as IMAGE_SAFETY or EMPTY"
        raise argparse.ArgumentTypeError(f"got {shown(text)}; allowed: {allowed}")
    return text


def vertex(text: str) -> str:
    """Return a project of Vertex AI, perhaps with a location."""
    from gemini_batch.config.vertex import Vertex

    try:
        Vertex.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text
