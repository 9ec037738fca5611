"""Whether the disk has room for the answers that are in flight: a full disk is to stop the sending before it costs anything."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

# Most that an answer of a size comes to on the disk, its drafts and its row included. A 4K image is about 22 MB as the API sends it
# (30 MB of base64, collected 2026-11-22), and two drafts may come with it.
ANSWER_BYTES = {"512": 4 << 20, "1K": 8 << 20, "2K": 24 << 20, "4K": 64 << 20}
_UNKNOWN_SIZE_BYTES = max(ANSWER_BYTES.values())
# Never used up by answers: rows of errors, the summary and the file system's own needs.
SPARE_BYTES = 8 << 20
LOOK_EVERY_S = 1.0


class DiskReservations:
    """Counts what answers in flight may need against what the disk has, which it asks at most once a second while there is plenty."""

    def __init__(self, folder: Path, steady_s: Callable[[], float]) -> None:
        self._folder = folder
        self._steady_s = steady_s
        self._reserved_bytes = 0
        self._free_bytes = 0
        self._since_look_bytes = (
            0  # of answers that ended after the look: they may be on the disk by now
        )
        self._looked_s: float | None = None
        self._freed = asyncio.Event()

    @property
    def is_promised(self) -> bool:
        """Whether room is set aside for anything: when that has ended, there may be more."""
        return self._reserved_bytes > 0

    def reserve(self, image_size: str) -> str:
        """Set room aside for an answer; return `""`, or one sentence when there is not enough: then none is set aside.

        Args:
            image_size: As the request asks for it: `1K`.

        Raises:
            OSError: The folder is gone.
        """
        needed_bytes = answer_bytes(image_size)
        if not self._is_fresh() or not self._fits(needed_bytes):
            self._look()
        if not self._fits(needed_bytes):
            return (
                f"{self._folder}: the disk has {_mb(self._free_bytes)} left, and the answers in flight and the next one may need "
                f"{_mb(self._reserved_bytes + needed_bytes + SPARE_BYTES)}: make room, then run again"
            )
        self._reserved_bytes += needed_bytes
        return ""

    def has_shrunk(self) -> bool:
        """Return whether the disk has less by now than what is set aside: others write to it too.

        Raises:
            OSError: The folder is gone.
        """
        if not self._is_fresh() or not self._fits(0):
            self._look()
        return not self._fits(0)

    def release(self, image_size: str) -> None:
        """Note that an answer ended, on the disk or not."""
        self._reserved_bytes -= answer_bytes(image_size)
        self._since_look_bytes += answer_bytes(image_size)
        self._freed.set()
        self._freed = asyncio.Event()

    async def freed(self) -> None:
        """Return when an answer has ended.

        Cancellation: safe; nothing was set aside.
        """
        await self._freed.wait()

    def _is_fresh(self) -> bool:
        return self._looked_s is not None and self._steady_s() - self._looked_s < LOOK_EVERY_S

    def _fits(self, needed_bytes: int) -> bool:
        promised_bytes = self._reserved_bytes + self._since_look_bytes + needed_bytes + SPARE_BYTES
        return promised_bytes <= self._free_bytes

    def _look(self) -> None:
        found = os.statvfs(self._folder)
        self._free_bytes = found.f_bavail * found.f_frsize
        self._since_look_bytes = 0
        self._looked_s = self._steady_s()


def answer_bytes(image_size: str) -> int:
    """Return the most that an answer is expected to take on the disk."""
    return ANSWER_BYTES.get(image_size, _UNKNOWN_SIZE_BYTES)


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"
