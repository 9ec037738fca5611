"""`gallery`: one page to look at what an output folder holds."""

import sys
import time
from argparse import Namespace
from dataclasses import asdict

import orjson

from gemini_batch.cli.options import folder_of_rows
from gemini_batch.errors import ExitCode
from gemini_batch.gallery import Gallery, write_gallery
from gemini_batch.progress import count, plain

_SAY_EVERY_S = 0.2


def main(options: Namespace) -> int:
    """Write `gallery.html` into the folder, and print where it is and what is on it; return the exit code."""
    out = folder_of_rows(options)
    said = _Said(is_terminal=sys.stderr.isatty())
    try:
        gallery = write_gallery(out, observe=said.progress)
    finally:
        said.end()
    if options.json:
        found = asdict(gallery) | {"path": str(gallery.path)}
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
    else:
        sys.stdout.write(_text(gallery))
    return ExitCode.DONE


class _Said:
    """Says on a terminal how far the thumbnails are, in one line that goes away again."""

    def __init__(self, *, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._next_s = time.monotonic() + _SAY_EVERY_S
        self._has_spoken = False

    def progress(self, done: int, of: int) -> None:
        if self._is_terminal and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _SAY_EVERY_S
            self._has_spoken = True
            print(f"\rthumbnails: {done:,} of {of:,} calls", end="", file=sys.stderr, flush=True)  # noqa: T201 # words for the person

    def end(self) -> None:
        if self._has_spoken:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)  # noqa: T201 # words for the person


def _text(gallery: Gallery) -> str:
    calls = count(gallery.calls, "call")
    if gallery.shown < gallery.calls:
        calls = f"the newest {gallery.shown:,} of {calls}"
    parts = [calls, count(gallery.pictures, "picture")]
    if gallery.missing:
        parts.append(f"{gallery.missing:,} of them missing")
    parts.append(f"{gallery.size_bytes / 1_000_000:.1f} MB")
    return plain(f"{gallery.path}: {' · '.join(parts)}") + "\n"
