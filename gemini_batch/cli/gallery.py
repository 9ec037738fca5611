"""`gallery`: write one page that shows the contents of an output folder."""

import sys
import time
from argparse import Namespace
from dataclasses import asdict
from functools import partial

from gemini_batch.cli.options import print_result
from gemini_batch.cli.viewing import copied
from gemini_batch.errors import ExitCode
from gemini_batch.gallery.embedding import MAX_MAILED_BYTES
from gemini_batch.gallery.writer import Gallery, write_gallery
from gemini_batch.progress.formatting import count

_PROGRESS_EVERY_S = 0.2


def main(options: Namespace) -> int:
    """Write `gallery.html` and print its path and contents; return the exit code."""
    out, _ = copied(options)
    is_terminal, shown_s = sys.stderr.isatty(), time.monotonic()
    show = partial(print, end="", file=sys.stderr, flush=True)

    def show_progress(done: int, of: int) -> None:
        nonlocal shown_s
        if time.monotonic() - shown_s >= _PROGRESS_EVERY_S:
            shown_s = time.monotonic()
            show(f"\rthumbnails: {done:,} of {of:,} calls")

    try:
        gallery = write_gallery(
            out,
            max_mailed_bytes=MAX_MAILED_BYTES if options.embed else None,
            observe=show_progress if is_terminal else None,
        )
    finally:
        if is_terminal:
            show("\r\x1b[K")  # erases the line
    found = asdict(gallery) | {"path": str(gallery.path)}
    print_result(found, [_text(gallery, is_mailed=options.embed)], as_json=options.json)
    return ExitCode.DONE


def _text(gallery: Gallery, *, is_mailed: bool) -> str:
    calls = count(gallery.calls, "call")
    if gallery.shown < gallery.calls:
        calls = f"the newest {gallery.shown:,} of {calls}"
    parts = [calls, count(gallery.pictures, "picture")]
    if gallery.missing:
        parts.append(f"{gallery.missing:,} of them missing")
    parts.append(f"{gallery.size_bytes / 1_000_000:.1f} MB")
    if is_mailed:
        parts.append("with all pictures in it")
    return f"{gallery.path}: {' · '.join(parts)}"
