"""Start of a worker that writes into a bucket: nothing of an older generation runs anywhere.

Each worker has its own folder below the bucket's prefix, with a lease of its own. A worker that
begins a generation holds the leases of all older folders at that moment: none of their workers can
write. It completes their rows, and seals them. What the scratch folder of this machine has of them
is uploaded first, and what they had in flight moves to the new owners, as in a folder.
"""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from gemini_batch.engine.distributed.handover import check_free, starting
from gemini_batch.engine.distributed.old_parts import (
    AT_ONCE,
    OldPart,
    Stores,
    held_parts,
    is_here,
    opened,
)
from gemini_batch.errors import FlagsError, FolderBusyError, storage_errors
from gemini_batch.events import Observer, Repaired
from gemini_batch.output import OutputFolder
from gemini_batch.output.bucket import acquiring, layout
from gemini_batch.output.bucket.acquiring import SealedError, acquire, is_held, probe
from gemini_batch.output.bucket.copies import copy_others
from gemini_batch.output.bucket.generations import begin, begun
from gemini_batch.output.bucket.lease import Lease
from gemini_batch.output.bucket.opened import OpenBucket
from gemini_batch.output.paths import SHARDS, VIEW
from gemini_batch.output.shards import Generation, Part, generation_of, parts
from gemini_batch.records.shard import Shard
from gemini_batch.store.base import ConflictError, ImageStore, NoObjectError
from gemini_batch.store.below import StoreBelow

# A worker that begins a generation may wait for such leases itself.
_ROUNDS = 30


@contextmanager
def entered(
    out: Path,
    stores: Stores,
    shard: Shard,
    observe: Observer,
    *,
    ledger: str = "",
    budget: str = "",
) -> Iterator[tuple[OutputFolder, OpenBucket]]:
    """Yield the folder of a worker in the scratch folder `out`, locked, and its bucket under lease.

    `ledger` and `budget` are as for workers that share a folder.

    Raises:
        FlagsError: Other workers count in another ledger.
        FolderBusyError: The worker runs already, or one of another generation does.
        StorageError: The bucket, or the disk, can't be used.
    """

    def say(text: str) -> None:
        observe(Repaired(text))

    with storage_errors(f"{out}: can't be used"):
        probe(stores.leases)
    while True:
        with ExitStack() as stack:
            with storage_errors(f"{out / SHARDS}: can't be written"):
                with starting(out):
                    generation = _generation(out, stores, shard.count, observe)
                    _take_over_here(out, stores, generation, observe)
                    part = _part_of(generation, shard, out)
                    folder = OutputFolder(part.path)
                    stack.enter_context(folder.locked())
                try:
                    # This may wait for a lease: other workers start here meanwhile.
                    bucket = opened(stores.of(part), folder, say, root=stores.store)
                except SealedError:
                    continue  # another number of workers has begun
                stack.callback(bucket.close)
                if ledger:
                    _check_ledger(stores, generation, part, ledger, budget)
                bucket.keep_mirrored()
            yield folder, bucket
            return


@contextmanager
def view_of_all(folder: OutputFolder, out: Path, store: ImageStore) -> Iterator[Path]:
    """Yield a folder with the rows of all workers in the bucket, in which `folder` is a link."""
    view = folder.private / VIEW
    with storage_errors(f"{view}: can't be written"):
        shutil.rmtree(view, ignore_errors=True)
        found = begun(store, view)
        own = next(part for part in found.parts if out / part.prefix == folder.out)
        copy_others(store, found, own, folder.out)
    try:
        yield view
    finally:
        shutil.rmtree(view, ignore_errors=True)


def begins(store: ImageStore, count: int) -> bool:
    """Return whether `count` workers begin a generation."""
    return begun(store, Path()).of(count) is None


def _part_of(generation: Generation, shard: Shard, out: Path) -> Part:
    path = generation.folder(shard.index)
    return Part(0, path, f"{path.relative_to(out).as_posix()}/", shard, generation)


def _generation(out: Path, stores: Stores, count: int, observe: Observer) -> Generation:
    """Return the generation of `count` workers, begun if need be: all older ones are sealed."""
    starts = StoreBelow(stores.leases, layout.GENERATIONS)

    def is_ready() -> Generation | None:
        return begun(stores.store, out).ready_for(count)

    def pause(seconds: float) -> None:
        acquiring.sleep(seconds)
        if is_ready():
            raise _ReadyError

    for number in range(_ROUNDS):
        if found := is_ready():
            return found
        try:
            lease, _ = acquire(starts, uuid4().hex, 0, pause=pause)
        except _ReadyError:
            continue
        except FolderBusyError:  # another worker begins, and waits for leases
            if number == _ROUNDS - 1:
                raise
            continue
        lease.start()
        try:
            return is_ready() or _begun(out, stores, count, observe, lease)
        finally:
            lease.release(is_whole=True)
    raise AssertionError


class _ReadyError(Exception):
    """Another worker has begun the generation."""


def _begun(out: Path, stores: Stores, count: int, observe: Observer, lease: Lease) -> Generation:
    """Begin a generation, and take over all older folders."""
    found = begun(stores.store, out)
    with ExitStack() as stack:
        old = held_parts(stores, found.open_before(count), count, stack, observe)
        lease.check()
        generation = found.of(count)
        if generation is None:
            number = found.newest.number + 1 if found.newest else 1
            begin(stores.store, number, count)
            generation = generation_of(out, number, count)
        for each in old:
            each.take_over(generation, observe)
        lease.check()
        with suppress(ConflictError):
            stores.store.create(layout.ready(generation.number), b"")
    return generation


def _take_over_here(out: Path, stores: Stores, generation: Generation, observe: Observer) -> None:
    """Take over the older folders of this machine that others have sealed in the bucket."""
    for part in parts(out):
        is_older = part.generation is None or part.generation < generation
        if not (is_older and is_here(part)):
            continue
        folder = OutputFolder(part.path)
        with ExitStack() as stack:
            check_free(part, generation.count)
            stack.enter_context(folder.locked())
            own = stores.of(part)
            bucket = opened(own, folder, lambda _text: None, takes_sealed=True)
            stack.callback(bucket.close)
            old = OldPart(part, own, folder, bucket.lease, bucket.before, bucket)
            old.take_over(generation, observe)


def _check_ledger(
    stores: Stores, generation: Generation, own: Part, ledger: str, budget: str
) -> None:
    """Raise a FlagsError if a worker that runs, or one of the same budget, counts elsewhere."""
    name = layout.counted_by(generation.number)
    noted, noted_budget = "", ""
    with suppress(NoObjectError, ValueError):
        noted, noted_budget = stores.store.get(name).data.decode().split("\n")[:2]
    if noted not in {"", ledger} and (
        (budget and budget == noted_budget) or _runs_elsewhere(stores, generation, own)
    ):
        raise FlagsError(
            f"--shard: other workers count quota and budget in another ledger ({noted}), and all "
            "of it would be used up twice: give all of them the same one, with --ledger or "
            "GEMINI_BATCH_LEDGER"
        )
    stores.store.put(name, f"{ledger}\n{budget or noted_budget}\n".encode())


def _runs_elsewhere(stores: Stores, generation: Generation, own: Part) -> bool:
    out = generation.path.parents[1]
    others = [_part_of(generation, each, out) for each in generation.parts if each != own.shard]
    leases = [stores.of(part).leases for part in others]
    with ThreadPoolExecutor(max(1, min(AT_ONCE, len(leases)))) as threads:
        return any([*threads.map(is_held, leases)])
