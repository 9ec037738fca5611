"""How a wrong command line is answered: what was found, what is allowed, and where to read on, in the words of all other errors."""

import argparse
import re
from pathlib import Path
from typing import NoReturn

_CHOICE = re.compile(
    r"(?P<where>.+?): invalid choice: '(?P<found>.*)'.*\(choose from (?P<known>.*)\)"
)
_NUMBER = re.compile(r"(?P<where>.+?): invalid (?P<kind>int|float) value: '(?P<found>.*)'")
_KINDS = {"int": "a whole number", "float": "a number"}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are two lines: what is wrong, and the help to look at; ends the process with 2."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments, and end."""
        self.exit(
            2,
            f"gemini_batch: {_in_our_words(message)}\ngemini_batch: how it is used: {self.prog} --help\n",
        )

    def refuse(self, arguments: list[str]) -> NoReturn:
        """Say that nothing takes these arguments, and end."""
        from gemini_batch.wording import shown, suggest

        name = arguments[0].partition("=")[0]
        if not name.startswith("-"):
            self.error(f"got {shown(name)}, one argument too many")
        flags = re.findall("--[a-z][a-z0-9-]+", self.format_usage())
        if not flags:
            self.error(f"{name}: no such flag; there is none but --help")
        begun = [flag for flag in flags if flag.startswith(name)]
        self.error(f"{name}: no such flag; {suggest(name, begun or flags)}")


def whole(text: str) -> int:
    """Return a whole number from 1."""
    if not re.fullmatch("[0-9]+", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text}; allowed: a whole number from 1")
    return int(text)


def folder(text: str) -> Path:
    """Return a folder; an empty one is a variable that nobody set, and not the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("got nothing; allowed: a folder, such as jobs.out")
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


def _in_our_words(message: str) -> str:
    """Return argparse's message, whose words are others in each version of Python, as ours."""
    from gemini_batch.wording import shown, suggest

    message = message.removeprefix("argument ")
    if found := _CHOICE.fullmatch(message):
        known = re.findall(r"[\w-]+", found["known"])
        return f"{found['where']}: got {shown(found['found'])}; {suggest(found['found'], known)}"
    if found := _NUMBER.fullmatch(message):
        return f"{found['where']}: got {shown(found['found'])}; allowed: {_KINDS[found['kind']]}"
    return message
