"""The settings and folders that the arguments of a command name."""

import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from gemini_batch.progress.formatting import plain

if TYPE_CHECKING:  # `status`, `verify` and `gallery` need no settings
    from gemini_batch.config import Settings
    from gemini_batch.config.asked import Asked


STDIN = Path("-")
"""The manifest is standard input."""


def asked(options: Namespace) -> "Asked":
    """Return what is asked of a command; the flags have the names of its fields."""
    from gemini_batch.config.asked import Asked

    given = {name: getattr(options, name, None) for name in Asked.__annotations__}
    return Asked(**{name: value for name, value in given.items() if value is not None})


def settings(options: Namespace, *, needs_key: bool = True) -> "Settings":
    """Return the settings of what is asked for; raises as `settings_of`."""
    from gemini_batch.config.asked import settings_of

    return settings_of(asked(options), needs_key=needs_key)


def output_folder(options: Namespace) -> Path:
    """Return the output folder of a run: `--out`, else next to the manifest; of a bucket: scratch.

    Without either, as with standard input, the process exits with 2.
    """
    from gemini_batch.plan.folders import working_folder

    if options.out is None and options.manifest == STDIN:
        options.parser.fail("--out: name the output folder of a manifest from standard input (-)")
    if options.out is None and isinstance(options.manifest, str):
        options.parser.fail("--out: name the output folder of a manifest in a bucket")
    return working_folder(
        options.out, options.scratch, options.manifest, is_simulated=options.simulate
    )


def print_result(found: Mapping[str, Any], lines: Iterable[str], *, as_json: bool) -> None:
    """Print what a command found: as JSON, or as lines without control characters."""
    text = orjson.dumps(found).decode() if as_json else "\n".join(map(plain, lines))
    sys.stdout.write(f"{text}\n")


def print_note(text: str) -> None:
    """Print something that the user should know while a command waits."""
    print(plain(f"gemini-batch: {text}"), file=sys.stderr, flush=True)  # noqa: T201


def program() -> str:
    """Return the name under which this program was called, for commands to be copied."""
    import shlex
    import shutil

    called = Path(sys.argv[0])
    if called.name == "gemini-batch":
        return called.name if shutil.which(called.name) == str(called) else shlex.quote(str(called))
    is_module = called.name == "__main__.py" and called.parent.name == "gemini_batch"
    return shlex.join([sys.orig_argv[0] if is_module else "python", "-m", "gemini_batch"])
