"""Images that the bucket has, and that are kept in the scratch folder while there is room."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from gemini_batch.output.paths import DRAFTS, IMAGES, SUPERSEDED


class Kept(NamedTuple):
    """A file of a row; its path is relative to the folder."""

    path: str
    size_bytes: int
    sha256: str


class KeptFiles:
    """Removes the oldest of the uploaded images when they take more than a limit.

    A name is used once in a run: what is removed is what was uploaded.
    """

    def __init__(self, out: Path, limit_bytes: int) -> None:
        self._out = out
        self._limit_bytes = limit_bytes
        self._files: deque[Kept] = deque()
        self._total_bytes = 0

    def start(self) -> None:
        """Leave at most half as many images as may be kept, all of which the bucket has.

        Blocks. Those that stay are not removed in this run, which may make them again.
        """
        self._files = deque(sorted(self._found(), key=lambda file: file.sha256))
        self._total_bytes = sum(file.size_bytes for file in self._files)
        limit_bytes, self._limit_bytes = self._limit_bytes, self._limit_bytes // 2
        self._bound()
        self._limit_bytes = limit_bytes - self._total_bytes
        self._files.clear()
        self._total_bytes = 0

    def add(self, files: Iterable[Kept]) -> None:
        """Add uploaded images, and remove the oldest of all that are too many."""
        for file in files:
            self._files.append(file)
            self._total_bytes += file.size_bytes
        self._bound()

    def _found(self) -> Iterator[Kept]:
        for folder in (IMAGES, DRAFTS, SUPERSEDED):
            for place, _, names in os.walk(self._out / folder):
                for name in names:
                    path = Path(place, name)
                    with suppress(OSError):
                        status = path.lstat()
                        relative = path.relative_to(self._out).as_posix()
                        # Instead of the hash, which is not known, the age.
                        yield Kept(relative, status.st_size, f"{status.st_mtime_ns:020}")

    def _bound(self) -> None:
        while self._files and self._total_bytes > self._limit_bytes:
            file = self._files.popleft()
            self._total_bytes -= file.size_bytes
            with suppress(OSError):
                (self._out / file.path).unlink()
