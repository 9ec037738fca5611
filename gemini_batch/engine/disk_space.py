"""Disk space for the answers in flight: a full disk must stop the sending before it costs money."""

import asyncio
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

# The most that an answer of a size takes on the disk, with its drafts and its row. A 4K image is
# about 22 MB as the API sends it (30 MB of base64, collected 2026-11-22), with up to two drafts.
ANSWER_BYTES = {"512": 4 << 20, "1K": 8 << 20, "2K": 24 << 20, "4K": 64 << 20}
_UNKNOWN_SIZE_BYTES = max(ANSWER_BYTES.values())
# Never used by answers: for rows of errors, the summary and the file system itself.
SPARE_BYTES = 8 << 20
LOOK_EVERY_S = 1.0
_NO_SIZE = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


class UploadSpace:
    """The space of a scratch folder, and what of it waits for its upload.

    Attributes:
        limit_bytes: The most that may wait.
        waiting_bytes: What waits.
        is_stuck: The uploads make no progress: waiting for them does not help.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.waiting_bytes = 0
        self.is_stuck = False
        self._changed = asyncio.Event()

    def add(self, size_bytes: int) -> None:
        """Note that an answer waits for its upload."""
        self.waiting_bytes += size_bytes

    def take(self, size_bytes: int) -> None:
        """Note that an answer was uploaded."""
        self.waiting_bytes -= size_bytes
        self.wake()

    def stick(self) -> None:
        """Note that the uploads do not come on."""
        self.is_stuck = True
        self.wake()

    def wake(self) -> None:
        """Let those who wait for space look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Return when there may be more space. Cancellation: safe."""
        await self._changed.wait()


class DiskReservations:
    """Compares what the answers in flight may need with the free space of the disk.

    The disk is asked at most once a second while there is plenty.

    Attributes:
        folder: A folder on the disk.
    """

    def __init__(
        self, folder: Path, steady_s: Callable[[], float], uploads: UploadSpace | None = None
    ) -> None:
        self.folder = folder
        self._steady_s = steady_s
        self._reserved_bytes = 0
        self._free_bytes = 0
        self._written_bytes = 0  # of answers that ended since the disk was asked
        self._looked_s = float("-inf")
        self._space = uploads or UploadSpace(sys.maxsize)

    @property
    def is_reserved(self) -> bool:
        """True while space is reserved or waits for an upload; afterwards there may be more."""
        return self._reserved_bytes > 0 or (
            self._space.waiting_bytes > 0 and not self._space.is_stuck
        )

    def reserve(self, image_size: str) -> str:
        """Reserve space for an answer of this size; return `""`, or a sentence if it does not fit.

        Raises:
            OSError: The folder is gone.
        """
        needed_bytes = answer_bytes(image_size)
        if self._is_crowded(needed_bytes):
            return (
                f"{self.folder}: {_mb(self._space.waiting_bytes)} wait there for their upload, of "
                f"{_mb(self._space.limit_bytes)} (half of --scratch-max): see that the bucket can "
                "be reached, or allow more, then run again"
            )
        if not self._fits(needed_bytes):
            all_bytes = self._reserved_bytes + needed_bytes + SPARE_BYTES
            return (
                f"{self.folder}: the disk has {_mb(self._free_bytes)} left, and the answers in "
                f"flight and the next one may need {_mb(all_bytes)}: free some space, then run "
                "again"
            )
        self._reserved_bytes += needed_bytes
        return ""

    def has_shrunk(self) -> bool:
        """Return whether the disk has less space by now than is reserved: others write to it too.

        Raises:
            OSError: The folder is gone.
        """
        return not self._fits(0)

    def release(self, image_size: str) -> None:
        """Note that an answer has ended, written or not."""
        self._reserved_bytes -= answer_bytes(image_size)
        self._written_bytes += answer_bytes(image_size)
        self._space.wake()

    async def released(self) -> None:
        """Return when the next answer has ended, or was uploaded.

        Cancellation: safe; nothing was reserved.
        """
        await self._space.changed()

    def wake(self) -> None:
        """Let those who wait for space look again."""
        self._space.wake()

    def _is_crowded(self, needed_bytes: int) -> bool:
        """Return whether too much waits for its upload; one answer alone always has its place."""
        taken_bytes = self._space.waiting_bytes + self._reserved_bytes
        return taken_bytes > 0 and taken_bytes + needed_bytes > self._space.limit_bytes

    def _fits(self, needed_bytes: int) -> bool:
        """Compare with the free space, which is measured again if that is old or too little."""
        is_fresh = self._steady_s() - self._looked_s < LOOK_EVERY_S
        if is_fresh and self._total_bytes(needed_bytes) <= self._free_bytes:
            return True
        self._free_bytes = _free_bytes(self.folder)
        self._written_bytes = 0
        self._looked_s = self._steady_s()
        return self._total_bytes(needed_bytes) <= self._free_bytes

    def _total_bytes(self, needed_bytes: int) -> int:
        return self._reserved_bytes + self._written_bytes + needed_bytes + SPARE_BYTES


def _free_bytes(folder: Path) -> int:
    """Return the free space; plenty where the file system does not report its size.

    Mounts of object stores report 0 blocks in all and 0 free
    (https://github.com/awslabs/mountpoint-s3/issues/871, collected 2026-11-30).
    """
    try:
        found = os.statvfs(folder)
    except OSError as error:
        if error.errno in _NO_SIZE:
            return sys.maxsize
        raise
    if found.f_blocks == found.f_bavail == 0:
        return sys.maxsize
    return found.f_bavail * (found.f_frsize or found.f_bsize)


def answer_bytes(image_size: str) -> int:
    """Return the most that an answer is expected to take on the disk."""
    return ANSWER_BYTES.get(image_size, _UNKNOWN_SIZE_BYTES)


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"
