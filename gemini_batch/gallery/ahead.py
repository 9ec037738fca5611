"""Thumbnails of a run's pictures, made in a process of its own while the run waits for its quota.

::

    python -m gemini_batch.gallery.ahead OUT BYTES

draws the pictures of the rows of OUT after its first BYTES of rows, until its standard input ends:
the run closes it, or was killed. A row is drawn in a fork with limits of memory and CPU time, so
that a hostile picture ends that fork alone; the gallery draws later what is missing here.
"""

import os
import resource
import selectors
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from gemini_batch.errors import GeminiBatchError
from gemini_batch.gallery.entries import Folders, entry, manifest_folder
from gemini_batch.gallery.thumbnails import Thumbnails
from gemini_batch.output.follower import RowFollower
from gemini_batch.output.runs import read_summary

# The pictures of a row: one of 17 million pixels, the largest answer, takes 0.5 s and 150 MB.
_CPU_S = 20
_MEMORY_BYTES = 1_000_000_000
# Rows come at most once a second; the run's own work goes first.
_LOOK_EVERY_S = 5.0
_NICE = 19


def main() -> None:
    """Draw what is new until standard input ends."""
    out = Path(sys.argv[1]).resolve()
    _give_way()
    follower = RowFollower(out, start_bytes=int(sys.argv[2]))
    with suppress(GeminiBatchError, OSError):  # the gallery reports what is wrong with the folder
        folders = Folders(out, manifest_folder(out, read_summary(out)))
        draw = partial(entry, folders=folders, thumbnails=Thumbnails(out))
        _import_readers()
        draw_apart(follower.new_rows(), draw)
        with selectors.PollSelector() as selector:
            selector.register(sys.stdin, selectors.EVENT_READ)
            while not selector.select(_LOOK_EVERY_S):
                draw_apart(follower.new_rows(), draw)


def draw_apart(rows: Iterable[dict[str, Any]], draw: Callable[[dict[str, Any]], object]) -> None:
    """Draw the pictures of each row in a fork, which may fail."""
    for row in rows:
        if (fork := os.fork()) == 0:
            try:
                resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
                resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
                draw(row)
            finally:
                os._exit(0)
        os.waitpid(fork, 0)


def _give_way() -> None:
    """Let all other processes have the CPU first, and the memory."""
    os.nice(_NICE)
    with suppress(OSError):  # Linux: first of all to be killed if memory runs out
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _import_readers() -> None:
    """Import Pillow and its formats once, not in each fork."""
    from PIL import Image

    Image.init()


if __name__ == "__main__":
    main()
