"""`completion`: prints the completion script of a shell."""

import argparse
import sys
from collections.abc import Iterator

import shtab

from gemini_batch.cli.usage import folder, path, place


def main(options: argparse.Namespace) -> int:
    """Print the script; it completes commands, flags, their choices and file names."""
    from gemini_batch.cli.arguments import parser

    root = parser()
    for action in _actions(root):
        if action.type in (path, place):
            action.complete = shtab.FILE  # type: ignore[attr-defined] # shtab reads it
        elif action.type is folder:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    sys.stdout.write(shtab.complete(root, options.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the actions of a parser and of its commands."""
    for action in parser._actions:  # noqa: SLF001 # argparse has no public list of them
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for command in action.choices.values():
                yield from _actions(command)
