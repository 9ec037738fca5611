"""New rows of all workers in a bucket, as their segments are written."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from gemini_batch.errors import StorageError
from gemini_batch.output.bucket import segments
from gemini_batch.output.bucket.generations import begun, store_of
from gemini_batch.output.bucket.segments import Segment
from gemini_batch.output.row_lines import parse_row
from gemini_batch.output.shards import Part
from gemini_batch.store.base import ImageStore, NoObjectError

# Each look lists the segments of each worker: sixteen of them cost $0.03 an hour at S3's price of
# $0.005 for 1,000 lists (https://aws.amazon.com/s3/pricing/, 2026-12-01).
_LOOK_S = 10.0
_AT_ONCE = 8


class BucketFollower:
    """Reads the rows that are written from its creation on, every ten seconds. It blocks."""

    def __init__(self, store: ImageStore, steady_s: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._steady_s = steady_s
        self._seen: dict[str, dict[int, int]] = {}  # by part and epoch the last segment
        for _ in self._news():
            pass
        self._looked_s = steady_s()

    def new_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows since the last look; what can't be read now is read later."""
        if self._steady_s() - self._looked_s < _LOOK_S:
            return
        self._looked_s = self._steady_s()
        with suppress(StorageError, NoObjectError):
            for part, segment in self._news():
                data = store_of(self._store, part).get(segment.name).data
                yield from filter(None, map(parse_row, data.splitlines()))

    def _news(self) -> Iterator[tuple[Part, Segment]]:
        """Yield the segments that were not seen; each is seen when the next one is asked for."""
        parts = begun(self._store, Path()).parts
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            stores = [store_of(self._store, part) for part in parts]
            found = [*threads.map(segments.listing, stores)]
        for part, listing in zip(parts, found, strict=True):
            seen = self._seen.setdefault(part.prefix, {})
            for segment in listing.besides(seen):
                yield part, segment
                seen[segment.epoch] = segment.number
