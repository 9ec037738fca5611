"""Generations of workers in a bucket, and the folder of each worker there."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from gemini_batch.errors import StorageError
from gemini_batch.output.bucket import layout
from gemini_batch.output.paths import DRAFTS, IMAGES
from gemini_batch.output.shards import Generation, Part, generation_of, parts_of
from gemini_batch.store.base import ConflictError, ImageStore
from gemini_batch.store.below import StoreBelow


@dataclass(frozen=True, slots=True)
class Begun:
    """The generations of a bucket.

    Attributes:
        out: The folder that the paths of their parts begin at.
        generations: The oldest first.
        ready: The number of the newest one next to which nothing older is left; 0 for none.
    """

    out: Path
    generations: tuple[Generation, ...]
    ready: int

    @property
    def newest(self) -> Generation | None:
        """The last one; None without any."""
        return self.generations[-1] if self.generations else None

    @property
    def parts(self) -> list[Part]:
        """The folder without workers, and those of all workers, the oldest first."""
        return parts_of(self.out, self.generations)

    def of(self, count: int) -> Generation | None:
        """Return the newest generation if it has `count` workers."""
        newest = self.newest
        return newest if newest is not None and newest.count == count else None

    def ready_for(self, count: int) -> Generation | None:
        """Return the newest generation if it has `count` workers, who may write."""
        found = self.of(count)
        return found if found is not None and found.number == self.ready else None

    def open_before(self, count: int) -> list[Part]:
        """Return the parts that `count` workers must take over: all older ones are sealed."""
        own = self.of(count)
        return [
            part
            for part in self.parts
            if (part.generation is None and not self.ready)
            or (part.generation and part.generation.number >= self.ready and part.generation != own)
        ]


def begun(store: ImageStore, out: Path) -> Begun:
    """Return what generations a bucket has.

    Raises:
        StorageError: The store can't be used, or what is in it is damaged.
    """
    numbers: list[int] = []
    ready = 0
    for entry in store.list(layout.GENERATIONS):
        if (found := layout.parsed_generation(entry.name)) is not None:
            number, is_mark = found
            if is_mark:
                ready = max(ready, number)
            else:
                numbers.append(number)
    found_all = tuple(generation_of(out, each, _count(store, each)) for each in sorted(numbers))
    return Begun(out, found_all, ready)


def begin(store: ImageStore, number: int, count: int) -> None:
    """Begin a generation; a worker that begins one holds the lease for it.

    Raises:
        StorageError: The store can't be used, or another worker has begun it.
    """
    try:
        store.create(layout.generation(number), orjson.dumps({"workers": count}))
    except ConflictError as error:
        name = layout.generation(number)
        raise StorageError(f"{store.shown}/{name}: was begun by another worker; run again") from (
            error
        )


def store_of(store: ImageStore, part: Part) -> ImageStore:
    """Return the store of the objects of a part."""
    return StoreBelow(store, part.prefix.rstrip("/")) if part.prefix else store


def image_names(store: ImageStore, found: Begun) -> Iterator[str]:
    """Yield the names of all images and drafts, listing each folder; raises as the store."""
    for part in found.parts:
        for folder in (IMAGES, DRAFTS):
            yield from (entry.name for entry in store.list(f"{part.prefix}{folder}"))


def _count(store: ImageStore, number: int) -> int:
    name = layout.generation(number)
    try:
        count = orjson.loads(store.get(name).data)["workers"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise _damaged(store, name) from error
    if type(count) is not int or count < 1:
        raise _damaged(store, name)
    return count


def _damaged(store: ImageStore, name: str) -> StorageError:
    return StorageError(
        f"{store.shown}/{name}: is damaged: write the number of its workers there, as in "
        '{"workers": 4}; the folders in shards/ have it in their names'
    )
