"""New rows of a folder and of its workers, as they are written by other processes."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from gemini_batch.output.paths import RESULTS
from gemini_batch.output.row_lines import parse_row
from gemini_batch.output.shards import parts


class RowFollower:
    """Reads the rows that are written from its creation on."""

    def __init__(self, out: Path, start_bytes: int | None = None) -> None:
        """Start at the end of all rows, or at `start_bytes` of a folder without workers."""
        self._out = out
        self._ends: dict[Path, int] = {}
        if start_bytes is not None:
            self._ends[out] = start_bytes
            return
        for part in parts(out):
            with suppress(OSError):
                self._ends[part.path] = (part.path / RESULTS).stat().st_size

    def new_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows since the last look; a file that can't be read now is read later."""
        for part in parts(self._out):
            with suppress(OSError), (part.path / RESULTS).open("rb") as file:
                file.seek(self._ends.get(part.path, 0))
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # it is being written
                    self._ends[part.path] = self._ends.get(part.path, 0) + len(line)
                    if (row := parse_row(line)) is not None:
                        yield row
