"""Older folders of workers in a bucket: they are held, completed, and sealed."""

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Lock
from typing import Any
from uuid import uuid4

from gemini_batch.engine.distributed.handover import check_free, is_sealed, pass_on, recovered
from gemini_batch.errors import FolderBusyError, StorageError
from gemini_batch.events import Observer, Repaired
from gemini_batch.output import OutputFolder
from gemini_batch.output.bucket import segments
from gemini_batch.output.bucket.acquiring import SealedError, acquire
from gemini_batch.output.bucket.generations import store_of
from gemini_batch.output.bucket.lease import Held, Lease
from gemini_batch.output.bucket.opened import OpenBucket
from gemini_batch.output.bucket.sealing import seal
from gemini_batch.output.bucket.uploads import upload_rest
from gemini_batch.output.paths import BUCKET, PRIVATE, VIEW
from gemini_batch.output.shards import Generation, Part
from gemini_batch.store.base import ImageStore

AT_ONCE = 64  # leases of killed workers expire at the same time


@dataclass(frozen=True, slots=True)
class Stores:
    """The store of a bucket, and one for its leases, which does not hang for long."""

    store: ImageStore
    leases: ImageStore

    def of(self, part: Part) -> "Stores":
        """Return those of a part."""
        return Stores(store_of(self.store, part), store_of(self.leases, part))


@dataclass(slots=True)
class OldPart:
    """A part of an older generation, whose lease is held; with its folder if that is here."""

    part: Part
    stores: Stores
    folder: OutputFolder | None
    lease: Lease
    before: Held | None = None
    bucket: OpenBucket | None = None

    def take_over(self, generation: Generation, observe: Observer) -> None:
        """Complete its rows in the bucket, pass on what was in flight, and seal it."""
        if self.folder is None or self.bucket is None:
            seal(self.stores.store, self.lease, self.before, generation.path.name)
            return
        bucket, folder = self.bucket, self.folder
        bucket.keep_mirrored()
        in_flight = recovered(folder, observe)
        bucket.restore()
        for message in upload_rest(bucket, folder.out):
            observe(Repaired(message))
        pass_on(self.part, folder, in_flight, generation)
        shutil.rmtree(folder.private / VIEW, ignore_errors=True)
        self.lease.seal(generation.path.name)


def opened(
    stores: Stores,
    folder: OutputFolder,
    say: Callable[[str], None],
    **options: Any,
) -> OpenBucket:
    """Return the bucket of a locked folder, under lease; raises as `OpenBucket`."""
    return OpenBucket(stores.store, stores.leases, folder, say=say, **options)


def held_parts(
    stores: Stores, old: Sequence[Part], count: int, stack: ExitStack, observe: Observer
) -> list[OldPart]:
    """Return parts whose leases are held until the stack is closed; none that is sealed already.

    Raises:
        FolderBusyError: A worker of one of them runs, here or elsewhere.
    """
    folders = _locked_here(old, count, stack)
    lock, said = Lock(), list[str]()

    def say(text: str) -> None:
        with lock:
            if not said:  # the others are waited for at the same time
                observe(Repaired(text))
            said.append(text)

    def hold(part: Part) -> OldPart | Exception | None:
        try:
            return _hold(part, stores.of(part), folders.get(part.number), say)
        except SealedError:
            return None
        except (FolderBusyError, StorageError, OSError) as error:
            return error

    with ThreadPoolExecutor(max(1, min(AT_ONCE, len(old)))) as threads:
        found = [*threads.map(hold, old)]
    held = [each for each in found if isinstance(each, OldPart)]
    for each in held:
        # What was not sealed may still have rows in notes of images.
        is_whole = each.before is None or each.before.is_whole
        stack.callback(each.lease.release, is_whole=is_whole)
    for error in found:
        if isinstance(error, Exception):
            raise error
    return held


def _locked_here(old: Sequence[Part], count: int, stack: ExitStack) -> dict[int, OutputFolder]:
    """Return the folders that are on this machine, locked, by the numbers of their parts."""
    found = {part.number: OutputFolder(part.path) for part in old if is_here(part)}
    for part in old:
        if part.number in found:
            check_free(part, count)
            stack.enter_context(found[part.number].locked())
    return found


def _hold(
    part: Part, stores: Stores, folder: OutputFolder | None, say: Callable[[str], None]
) -> OldPart:
    if folder is not None:
        bucket = opened(stores, folder, say, takes_sealed=True)
        return OldPart(part, stores, folder, bucket.lease, bucket.before, bucket)
    least = segments.listing(stores.store).last_epoch
    lease, before = acquire(stores.leases, uuid4().hex, least, say=say)
    lease.start()
    return OldPart(part, stores, None, lease, before)


def is_here(part: Part) -> bool:
    """Return whether the scratch folder may have what the bucket lacks of a part."""
    return (part.path / PRIVATE / BUCKET).exists() and not is_sealed(part)
