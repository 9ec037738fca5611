"""The argument parser with its error messages, and the types of arguments."""

import argparse
import re
from pathlib import Path
from typing import NoReturn

FINISHED = ("blocked", "rejected", "uncertain", "missing", "unfetched")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are two lines: the problem, and the help to read; exits with 2."""

    def error(self, message: str) -> NoReturn:
        """Print the problem and exit."""
        message = message.removeprefix("argument ")
        self.exit(2, f"gemini_batch: {message}\ngemini_batch: see: {self.prog} --help\n")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """Refuse a value that is not among the choices, and suggest the nearest one."""
        if action.choices is not None and value not in action.choices:
            from gemini_batch.wording import shown, suggest

            message = f"got {shown(value)}; {suggest(str(value), list(action.choices))}"
            raise argparse.ArgumentError(action, message)

    def refuse(self, arguments: list[str]) -> NoReturn:
        """Report the first argument that the command does not have, and exit."""
        from gemini_batch.wording import shown, suggest

        name = arguments[0].partition("=")[0]
        if not name.startswith("-"):
            self.error(f"unexpected argument: {shown(name)}")
        flags = re.findall("--[a-z][a-z0-9-]+", self.format_usage())
        if not flags:
            self.error(f"{name}: no such flag; the only one is --help")
        begun = [flag for flag in flags if flag.startswith(name)]
        self.error(f"{name}: no such flag; {suggest(name, begun or flags)}")


def whole(text: str) -> int:
    """Return an integer from 1."""
    if not re.fullmatch("[0-9]+", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text}; allowed: a whole number from 1")
    return int(text)


def seconds(text: str) -> float:
    """Return a time in seconds, up to a day."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 86_400:
        raise argparse.ArgumentTypeError(f"got {text}; allowed: seconds above 0, up to 86400")
    return number


def folder(text: str) -> Path:
    """Return a folder; an empty text is an unset variable, not the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; allowed: a folder, such as jobs.out")
    return Path(text)


def amount(text: str) -> float:
    """Return a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text}; allowed: a number above 0")
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
