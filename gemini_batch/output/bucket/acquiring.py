"""Taking the lease of a bucket, and finding out first that the bucket can keep two runs apart."""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

from gemini_batch.clock import boot_time_s
from gemini_batch.errors import FolderBusyError, StorageError
from gemini_batch.output.bucket import layout
from gemini_batch.output.bucket.lease import LEASE_S, MARGIN_S, Held, Lease, json_of, read
from gemini_batch.store.base import ConflictError, ImageStore, StoreRefusedError

LOOK_S = 5.0
sleep = time.sleep


class SealedError(Exception):
    """A newer generation of workers has taken over the folder; the text is its name."""


def probe(store: ImageStore) -> None:
    """Check that the store refuses what conditional writes must refuse.

    Raises:
        StorageError: It does not: two runs at once would not notice each other.
    """
    name = f"{layout.PROBES}/{uuid4().hex}"
    try:
        old = store.create(name, b"1")
        is_kept = _conflicts(lambda: store.create(name, b"2"))
        store.replace(name, b"3", old if is_kept else store.head(name).version)
        is_kept = is_kept and _conflicts(lambda: store.replace(name, b"4", old))
    except ConflictError:
        is_kept = False
    finally:
        with suppress(StorageError):
            store.remove(name)
    if not is_kept:
        raise StoreRefusedError(
            f"{store.shown}: this store ignores conditional writes (If-None-Match, If-Match), "
            "which keep two runs apart; use one that has them, or a folder with --out"
        )


def acquire(
    store: ImageStore,
    holder: str,
    least_epoch: int,
    *,
    pause: Callable[[float], None] | None = None,
    say: Callable[[str], None] = lambda _text: None,
    steady_s: Callable[[], float] = boot_time_s,
    takes_sealed: bool = False,
) -> tuple[Lease, Held | None]:
    """Return the lease, and the one before it. Blocks for as long as a lease lasts.

    Args:
        store: The bucket.
        holder: Of the scratch folder, whose lock is held: a lease of this name is a dead run's.
        least_epoch: The last epoch that has rows.
        pause: Waits for seconds; tests pass another one.
        say: Gets a sentence before a long wait.
        steady_s: The steady clock.
        takes_sealed: Takes one that is sealed, as a worker of a newer generation may.

    Raises:
        SealedError: It is sealed.
        FolderBusyError: Another run holds it, and renews it.
        StorageError: The store can't be used.
    """
    while True:
        found, began_s = read(store), steady_s()
        before = found[0] if found else None
        sealed_by = before.sealed_by if before else ""
        if sealed_by and not takes_sealed:
            raise SealedError(sealed_by)
        if before is not None and not before.is_over and before.holder != holder:
            found = _expired(store, *_there(found), pause or sleep, say)
            began_s = steady_s()
            if found is None or found[0] != before:
                continue
        epoch = max(before.epoch if before else 0, least_epoch) + 1
        process = f"{socket.gethostname()}, process {os.getpid()}"
        wanted = Held(epoch, holder, process, sealed_by=sealed_by)
        with suppress(ConflictError):  # another run was faster
            if found is None:
                version = store.create(layout.LOCK, json_of(wanted))
            else:
                version = store.replace(layout.LOCK, json_of(wanted), found[1])
            return Lease(store, wanted, version, steady_s, since_s=began_s), before


def is_held(store: ImageStore) -> bool:
    """Return whether a run holds the lease. Blocks for as long as one that is dead lasts."""
    while (found := read(store)) is not None and not found[0].is_over:
        try:
            rest = _expired(store, *found, sleep, lambda _text: None)
        except FolderBusyError:
            return True
        if rest == found:
            return False
    return False


def _there(found: tuple[Held, str] | None) -> tuple[Held, str]:
    assert found is not None  # noqa: S101
    return found


def _expired(
    store: ImageStore,
    held: Held,
    version: str,
    pause: Callable[[float], None],
    say: Callable[[str], None],
) -> tuple[Held, str] | None:
    """Watch a lease; return it when it was not renewed, or what took its place.

    Raises:
        FolderBusyError: It was renewed.
    """
    say(
        f"{store.shown}: held by another run ({held.process}); if that was killed, its lease "
        f"expires within {LEASE_S:.0f} s"
    )
    waited_s = 0.0
    while waited_s < LEASE_S + MARGIN_S:
        pause(LOOK_S)
        waited_s += LOOK_S
        found = read(store)
        if found is None or found[0].is_over or found[0].epoch != held.epoch:
            return found
        if found[1] != version:
            raise FolderBusyError(
                f"{store.shown}: held by another run ({held.process}); wait for it, or choose "
                "another prefix with --out"
            )
    return held, version


def _conflicts(write: Callable[[], Any]) -> bool:
    try:
        write()
    except ConflictError:
        return True
    return False
