"""Notes of output folders that were moved away, or removed, while a run wrote into them.

The next run would begin a new folder. A note is one small file in the user's state folder.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from gemini_batch.output.files import read_at_most, write_atomically
from gemini_batch.output.paths import RESULTS

_FOLDER = "moved"
_MAX_BYTES = 1_000


class MovedNote:
    """The note of one output folder; `state` is the user's state folder.

    `has_rows` returns whether rows are there.

    Best effort: a note that can't be written, read or removed is none.
    """

    def __init__(
        self, state: Path, out: Path, has_rows: Callable[[Path], bool] | None = None
    ) -> None:
        path = os.path.abspath(out)  # noqa: PTH100  # a link that was replaced is not followed
        name = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
        self._file = state / _FOLDER / name
        self._has_rows = partial(has_rows or _has_rows, out)

    def read(self) -> str:
        """Return what happened, "" without a note; the rows that are back remove it."""
        if self._has_rows():
            self.remove()
            return ""
        with suppress(OSError):
            return read_at_most(self._file, _MAX_BYTES).decode(errors="replace").strip()
        return ""

    def write(self, text: str) -> None:
        """Write the note, unless the rows are still there."""
        if self._has_rows():
            return
        with suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._file, text.encode(), durable=True, mode=0o600)

    def remove(self) -> None:
        """Remove the note; idempotent."""
        with suppress(OSError):
            self._file.unlink()


def _has_rows(out: Path) -> bool:
    return (out / RESULTS).exists()
