"""The output of a run on Ray: a folder that all nodes see, or a bucket."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gemini_batch.cli.viewing import store_of, viewed
from gemini_batch.errors import storage_errors
from gemini_batch.output.files import write_atomically
from gemini_batch.output.follower import RowFollower
from gemini_batch.output.paths import SUMMARY
from gemini_batch.output.runs import read_summary
from gemini_batch.output.viewed import ViewedFolder

if TYPE_CHECKING:
    from gemini_batch.config import Settings


class Follower(Protocol):
    """Reads the rows that workers write from its creation on."""

    def new_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows since the last look."""
        ...


class RayOutput:
    """A folder, or the address of a bucket.

    Attributes:
        given: Of `--out` of each worker.
    """

    def __init__(self, config: "Settings", folder: Path) -> None:
        self._place = str(config.bucket) if config.bucket else folder.absolute()
        self.given = str(self._place)

    def viewed(self) -> AbstractContextManager[ViewedFolder]:
        """Return a context with the folder, or a copy of the bucket's rows."""
        return viewed(self._place, may_be_new=True)

    def follower(self) -> Follower:
        """Return what reads new rows."""
        if isinstance(self._place, Path):
            return RowFollower(self._place)
        from gemini_batch.output.bucket.follower import BucketFollower

        return BucketFollower(store_of(self._place))

    def read_summary(self) -> dict[str, Any]:
        """Return the summary of all workers; empty if none of them has begun."""
        with self.viewed() as view:
            return read_summary(view.out)

    def write_summary(self, data: bytes) -> None:
        """Write `summary.json` of all workers; raise a StorageError if that fails."""
        if isinstance(self._place, Path):
            with storage_errors(f"{self._place / SUMMARY}: can't be written"):
                write_atomically(self._place / SUMMARY, data, durable=True)
        else:
            store_of(self._place).put(SUMMARY, data)
