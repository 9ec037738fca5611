"""`expand`: write the manifest that a template and its variables make to stdout."""

import os
import re
import stat
import sys
import tempfile
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import IO

import orjson

from gemini_batch.cli.streams import print_utf8
from gemini_batch.errors import ExitCode, storage_errors
from gemini_batch.manifest.templates import expand
from gemini_batch.progress.formatting import plain

_is_placed = re.compile(r"/|[A-Za-z]+:").match  # an absolute path, or a URI


def main(options: Namespace) -> int:
    """Print a manifest, once all of it is right; return the exit code."""
    if options.product and options.vars is None:
        options.parser.fail("--product: combines the columns of a file; name it with --vars")
    template: Path = options.template
    problem = f"{template}: can't be expanded; make space for temporary files, or set TMPDIR"
    with tempfile.NamedTemporaryFile(prefix="gemini_batch-", suffix=".jsonl") as spool:
        with storage_errors(problem):
            expand(template, options.vars, spool, is_product=options.product)
        _print(spool, template)
    return ExitCode.DONE


def _print(spool: IO[bytes], template: Path) -> None:
    print_utf8()
    spool.seek(0)
    relative = ""
    for line in spool:
        relative = relative or _relative_image(line)
        sys.stdout.write(line.decode())
    if relative and not _is_written_next_to(template):
        text = f"relative images are looked for next to the manifest: put it next to {template}"
        print(plain(f"gemini-batch: {relative}: {text}"), file=sys.stderr)  # noqa: T201


def _relative_image(line: bytes) -> str:
    """Return the first image of a line whose path is relative, or ""."""
    if b'"image' not in line:
        return ""
    job = orjson.loads(line)
    images = [*(job.get("images") or ()), *(part.get("image") for part in job.get("parts") or ())]
    return next((image for image in images if image and not _is_placed(image)), "")


def _is_written_next_to(template: Path) -> bool:
    """Return whether stdout is a file in the template's folder; else, whether that is here.

    `run -` looks for the images of standard input in the current folder.
    """
    with suppress(OSError, ValueError):
        status = os.fstat(sys.stdout.fileno())
        if stat.S_ISREG(status.st_mode):
            with os.scandir(template.parent) as entries:
                return any(os.path.samestat(entry.stat(), status) for entry in entries)
    return template.parent.resolve() == Path.cwd()
