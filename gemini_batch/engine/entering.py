"""Entering: a run holds the folder that it writes into, and the bucket that this is mirrored to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gemini_batch.config import Settings
from gemini_batch.engine.ledger import counted_on
from gemini_batch.errors import FlagsError, storage_errors
from gemini_batch.events import Observer, Repaired
from gemini_batch.output import OutputFolder
from gemini_batch.output.shards import check_unsharded, generations

if TYPE_CHECKING:  # few runs have one
    from gemini_batch.engine.distributed.old_parts import Stores
    from gemini_batch.output.bucket.opened import OpenBucket
    from gemini_batch.store.address import BucketAddress


@contextmanager
def entered(
    out: Path, config: Settings, observe: Observer
) -> Iterator[tuple[OutputFolder, "OpenBucket | None"]]:
    """Yield the folder that the run writes into, locked: `out`, or the one of its worker.

    With it comes its bucket under lease; None for a run without one.

    Raises:
        FlagsError: Workers write there, and the run is none; or they count in another ledger.
        FolderBusyError: Another run holds it.
        RowsLostError: The folder of a worker is gone.
        StorageError: The disk, or the bucket, can't be used.
    """
    if config.bucket is not None and config.bucket.scheme == "gs":
        text = f"{config.bucket}: Google Cloud Storage could not be tested; S3 and Azure were"
        observe(Repaired(text))
    if config.shard is None:
        with _entered_alone(out, config.bucket, observe) as found:
            yield found
        return
    ledger = counted_on(config)
    budget = "" if config.max_cost_usd is None else config.run_id
    if config.bucket is not None:
        from gemini_batch.engine.distributed import bucket_handover

        with bucket_handover.entered(
            out, _stores(config.bucket), config.shard, observe, ledger=ledger, budget=budget
        ) as found:
            yield found
        return
    from gemini_batch.engine.distributed import handover

    with handover.entered(
        out, config.shard, observe, forgets=config.forgets_rows, ledger=ledger, budget=budget
    ) as folder:
        yield folder, None


@contextmanager
def _entered_alone(
    out: Path, address: "BucketAddress | None", observe: Observer
) -> Iterator[tuple[OutputFolder, "OpenBucket | None"]]:
    folder = OutputFolder(out)
    with folder.locked():
        if address is None:
            check_unsharded(out)
            yield folder, None
            return
        from gemini_batch.output.bucket.acquiring import SealedError
        from gemini_batch.output.bucket.opened import OpenBucket

        stores = _stores(address)
        with storage_errors(f"{out}: can't be used"):
            try:
                bucket = OpenBucket(
                    stores.store, stores.leases, folder, say=lambda text: observe(Repaired(text))
                )
            except SealedError as error:
                raise FlagsError(
                    f"{address}: workers of --shard have written there; run with --shard 1/1 to "
                    "continue with one worker, or choose another prefix with --out"
                ) from error
        try:
            with storage_errors(f"{out}: can't be used"):
                bucket.keep_mirrored()
            yield folder, bucket
        finally:
            bucket.close()


def restore(bucket: "OpenBucket", folder: OutputFolder, observe: Observer) -> None:
    """Bring the rows of the bucket into the folder, after recovery, and report it.

    Raises:
        StorageError: The bucket can't be used, or the disk refused.
    """
    with storage_errors(f"{folder.out}: can't be restored"):
        if bucket.restore():
            observe(Repaired(f"{folder.out}: rows restored from {bucket.store.shown}"))


@contextmanager
def viewed(
    out: Path, folder: OutputFolder, bucket: "OpenBucket | None", config: Settings
) -> Iterator[Path]:
    """Yield the folder that has the rows of all workers: `out`, or a copy of those of a bucket.

    Raises:
        StorageError: The disk, or the bucket, can't be used.
    """
    if bucket is None or config.bucket is None or config.shard is None:
        yield out
        return
    from gemini_batch.engine.distributed.bucket_handover import view_of_all

    with view_of_all(folder, out, _stores(config.bucket).store) as view:
        yield view


def begins_generation(out: Path, config: Settings) -> bool:
    """Return whether the run is the first with its number of workers, after others or at all.

    Raises:
        StorageError: The disk, or the bucket, can't be used.
    """
    if config.shard is None:
        return False
    if config.bucket is not None:
        from gemini_batch.engine.distributed.bucket_handover import begins

        return begins(_stores(config.bucket).store, config.shard.count)
    with storage_errors(f"{out}: can't be read"):
        found = generations(out)
    return not found or found[-1].count != config.shard.count


def _stores(address: "BucketAddress") -> "Stores":
    from gemini_batch.engine.distributed.old_parts import Stores
    from gemini_batch.store.opening import QUICK_S, open_store

    return Stores(open_store(address), open_store(address, QUICK_S))
