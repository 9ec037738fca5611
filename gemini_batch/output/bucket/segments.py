"""Rows in a bucket: segments that are created once, and snapshots that hold many of them."""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

import orjson

from gemini_batch.errors import StorageError
from gemini_batch.output.bucket import layout
from gemini_batch.store.base import ImageStore, NoObjectError

_AT_ONCE = 16
_GZIP = zlib.MAX_WBITS | 16


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment in the listing of a bucket."""

    epoch: int
    number: int
    size_bytes: int
    modified_at: datetime

    @property
    def name(self) -> str:
        """Its name."""
        return layout.segment(self.epoch, self.number)


@dataclass(frozen=True, slots=True)
class Listing:
    """All segments in their order, and the epochs that have a snapshot, the newest first."""

    segments: tuple[Segment, ...]
    snapshots: tuple[int, ...]

    @property
    def last_epoch(self) -> int:
        """The last epoch that has rows; 0 without any."""
        return max((*(each.epoch for each in self.segments), *self.snapshots), default=0)

    def of(self, epoch: int) -> list[Segment]:
        """Return the segments of an epoch."""
        return [each for each in self.segments if each.epoch == epoch]

    def besides(self, covered: Mapping[int, int]) -> list[Segment]:
        """Return the segments that are not `covered`: numbers up to one, by epoch."""
        return [each for each in self.segments if each.number > covered.get(each.epoch, 0)]

    def numbers(self) -> dict[int, int]:
        """Return the last number of each epoch."""
        return {each.epoch: each.number for each in self.segments}


def listing(store: ImageStore) -> Listing:
    """Return what rows a bucket has; raises as the store."""
    segments, snapshots = [], []
    for entry in store.list(layout.ROWS):
        if found := layout.parsed_segment(entry.name):
            segments.append(Segment(*found, entry.size_bytes, entry.modified_at))
        elif (epoch := layout.parsed_snapshot_index(entry.name)) is not None:
            snapshots.append(epoch)
    segments.sort(key=lambda each: (each.epoch, each.number))
    return Listing(tuple(segments), tuple(sorted(snapshots, reverse=True)))


def rows_of(store: ImageStore, found: Listing) -> Iterator[bytes]:
    """Yield all rows of a bucket in their order, in blocks that end with a line.

    Raises:
        StorageError: The store can't be used, or what is in it is damaged.
    """
    covered: Mapping[int, int] = {}
    if found.snapshots:
        epoch = found.snapshots[0]
        covered = _covered(store, epoch)
        yield from _unpacked(store, layout.snapshot(epoch))
    yield from _contents(store, (each.name for each in found.besides(covered)))


def snapshot_index(covered: Mapping[int, int]) -> bytes:
    """Return the content of a snapshot's list."""
    return orjson.dumps({"covers": {str(epoch): number for epoch, number in covered.items()}})


def covered_by_snapshot(store: ImageStore, found: Listing) -> Mapping[int, int]:
    """Return the segments in the newest snapshot: numbers up to one, by epoch."""
    return _covered(store, found.snapshots[0]) if found.snapshots else {}


def packed(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield blocks of a snapshot of rows."""
    # Level 1 makes a sixth of rows, as level 6 does, in a third of its time.
    packer = zlib.compressobj(1, wbits=_GZIP)
    for block in blocks:
        yield packer.compress(block)
    yield packer.flush()


def _covered(store: ImageStore, epoch: int) -> dict[int, int]:
    name = layout.snapshot_index(epoch)
    try:
        covers = orjson.loads(store.get(name).data)["covers"]
        return {int(each): int(number) for each, number in covers.items()}
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise StorageError(f"{store.shown}/{name}: is damaged; {_IS_SAFE}") from error


_IS_SAFE = "remove it: the segments that it stands for are still there"


def _unpacked(store: ImageStore, name: str) -> Iterator[bytes]:
    unpacker, rest = zlib.decompressobj(_GZIP), b""
    try:
        for block in store.read(name):
            whole, newline, rest = (rest + unpacker.decompress(block)).rpartition(b"\n")
            if newline:
                yield whole + newline
    except (zlib.error, NoObjectError) as error:
        raise _damaged(store, name) from error
    if rest or not unpacker.eof:
        raise _damaged(store, name)


def _damaged(store: ImageStore, name: str) -> StorageError:
    index = name.removesuffix("l.gz")
    return StorageError(f"{store.shown}/{name}: is damaged; with {index}, {_IS_SAFE}")


def _contents(store: ImageStore, names: Iterable[str]) -> Iterator[bytes]:
    names = iter(names)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        while group := list(islice(names, 4 * _AT_ONCE)):
            for name, found in zip(group, threads.map(store.get, group), strict=True):
                if found.data and not found.data.endswith(b"\n"):
                    raise StorageError(f"{store.shown}/{name}: is damaged: its last row is cut off")
                yield found.data
