"""Output folders of the workers of one run, by generation: readers see them as one folder.

::

    OUT/shards/lock                  held while a worker starts
    OUT/shards/0001.16/00003/        generation 1, of 16 workers: the output folder of worker 3
    OUT/shards/0001.16/adopted       there, if its workers took over open batches
    OUT/shards/0001.16/counted-by    the ledger of its workers, which must be one
    OUT/shards/0002.4/00001/         generation 2: the run was continued by 4 workers

A worker writes into its own folder only. The folders of an older generation are sealed: recovered
for the last time, and emptied of what was in flight, before the next one sends anything. `OUT`
itself is older than all generations: a run without shards may have begun there.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemini_batch.errors import FlagsError
from gemini_batch.output.paths import ADOPTED, RESULTS, SHARDS
from gemini_batch.records.shard import Shard

_GENERATION = re.compile(r"(\d{4,9})\.(\d{1,6})")


@dataclass(frozen=True, slots=True, order=True)
class Generation:
    """The workers that ran at the same time: number `number`, of `count` workers."""

    number: int
    count: int
    path: Path

    def folder(self, index: int) -> Path:
        """Return the output folder of a worker."""
        return self.path / f"{index:05}"

    @property
    def parts(self) -> tuple[Shard, ...]:
        """The shards of all workers."""
        return tuple(Shard(index, self.count) for index in range(1, self.count + 1))

    @property
    def adopted(self) -> bool:
        """True if rows of a worker may be of calls of another one, from open batches."""
        return (self.path / ADOPTED).exists()


@dataclass(frozen=True, slots=True)
class Part:
    """One of the folders that are read as one.

    Attributes:
        number: From 0, which is `OUT` itself; it never changes.
        prefix: From `OUT` to the folder, with a slash at its end; "" for `OUT`.
        shard: The calls of its worker; None for `OUT`.
        generation: That of its worker; None for `OUT`.
    """

    number: int
    path: Path
    prefix: str = ""
    shard: Shard | None = None
    generation: Generation | None = None

    @property
    def is_used(self) -> bool:
        """True if a row was written there."""
        return (self.path / RESULTS).exists()

    def owns(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row is of a call of this worker."""
        return self.shard is None or self.shard.owns(row["id"])


def generations(out: Path) -> list[Generation]:
    """Return the generations of an output folder, the oldest first; raise OSError of the disk."""
    try:
        names = [entry.name for entry in (out / SHARDS).iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = ((name, _GENERATION.fullmatch(name)) for name in names)
    return sorted(
        Generation(int(each[1]), int(each[2]), out / SHARDS / name) for name, each in found if each
    )


def generation_of(out: Path, number: int, count: int) -> Generation:
    """Return a generation, which need not be there."""
    return Generation(number, count, out / SHARDS / f"{number:04}.{count}")


def check_unsharded(out: Path) -> None:
    """Check that no worker has a folder in an output folder that a run holds as a whole.

    Raises:
        FlagsError: One has.
    """
    if generations(out):
        raise FlagsError(
            f"{out}: workers of --shard have written there; run with --shard 1/1 to continue with "
            "one worker, or choose another folder with --out"
        )


def parts(out: Path) -> list[Part]:
    """Return `out` and the folders of all workers, the oldest generation first."""
    return parts_of(out, generations(out))


def parts_of(out: Path, found: Iterable[Generation]) -> list[Part]:
    """Return `out` and the folders of the workers of some generations, the oldest first."""
    return [*_parts(out, found)]


def _parts(out: Path, found: Iterable[Generation]) -> Iterator[Part]:
    yield Part(0, out)
    number = 0
    for generation in found:
        for shard in generation.parts:
            number += 1
            path = generation.folder(shard.index)
            prefix = f"{path.relative_to(out).as_posix()}/"
            yield Part(number, path, prefix, shard, generation)


def own_part(out: Path, shard: Shard | None) -> Part | None:
    """Return the folder that a run writes into; None if its generation has not begun."""
    if shard is None:
        return Part(0, out)
    found = parts(out)
    last = found[-1].generation
    if last is None or last.count != shard.count:
        return None
    return found[shard.index - shard.count - 1]


def has_results(out: Path) -> bool:
    """Return whether a run has written a row, or its workers may have."""
    return (out / RESULTS).exists() or any(part.is_used for part in parts(out))


def split_path(path: str) -> tuple[str, str]:
    """Return (prefix of its part, path in that part) of a path in the output folder."""
    pieces = path.split("/", 3)
    if len(pieces) == 4 and pieces[0] == SHARDS and _GENERATION.fullmatch(pieces[1]):
        return "/".join(pieces[:3]) + "/", pieces[3]
    return "", path
