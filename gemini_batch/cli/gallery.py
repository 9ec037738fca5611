"""`gallery`: write one page that shows the contents of an output folder."""

import sys
import time
from argparse import Namespace
from dataclasses import asdict

import orjson

from gemini_batch.cli.options import folder_of_rows
from gemini_batch.errors import ExitCode
from gemini_batch.gallery import Gallery, write_gallery
from gemini_batch.progress.formatting import count, plain

_PROGRESS_EVERY_S = 0.2


def main(options: Namespace) -> int:
    """Write `gallery.html` and print its path and contents; return the exit code."""
    out = folder_of_rows(options)
    progress = _Progress(is_terminal=sys.stderr.isatty())
    try:
        gallery = write_gallery(out, observe=progress.update)
    finally:
        progress.end()
    if options.json:
        found = asdict(gallery) | {"path": str(gallery.path)}
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
    else:
        sys.stdout.write(_text(gallery))
    return ExitCode.DONE


class _Progress:
    """Shows the progress of the thumbnails on a terminal, in one line that is erased at the end."""

    def __init__(self, *, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._next_s = time.monotonic() + _PROGRESS_EVERY_S
        self._is_shown = False

    def update(self, done: int, of: int) -> None:
        if self._is_terminal and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _PROGRESS_EVERY_S
            self._is_shown = True
            _show(f"\rthumbnails: {done:,} of {of:,} calls")

    def end(self) -> None:
        if self._is_shown:
            _show("\r\x1b[K")


def _show(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _text(gallery: Gallery) -> str:
    calls = count(gallery.calls, "call")
    if gallery.shown < gallery.calls:
        calls = f"the newest {gallery.shown:,} of {calls}"
    parts = [calls, count(gallery.pictures, "picture")]
    if gallery.missing:
        parts.append(f"{gallery.missing:,} of them missing")
    parts.append(f"{gallery.size_bytes / 1_000_000:.1f} MB")
    return plain(f"{gallery.path}: {' · '.join(parts)}") + "\n"
