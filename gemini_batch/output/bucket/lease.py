"""The lease of a bucket: one run at a time writes there, by conditional writes of one object.

No clock of another machine is compared: who finds a lease watches it for as long as it lasts, by
the own steady clock. A run writes only while it is sure that no other one can have taken over.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

import orjson

from gemini_batch.clock import boot_time_s
from gemini_batch.errors import FolderBusyError, StorageError
from gemini_batch.output.bucket import layout
from gemini_batch.store.base import (
    ConflictError,
    ImageStore,
    NoObjectError,
    StoreRefusedError,
    StoreUnavailableError,
)

LEASE_S = 30.0
RENEW_S = 10.0
# A holder stops to write so long before its lease ends: a request that it sent may take a while.
MARGIN_S = 5.0
LOOK_S = 5.0
_pause = time.sleep


@dataclass(frozen=True, slots=True)
class Held:
    """The lease as the bucket has it.

    Attributes:
        epoch: One more with each holder.
        holder: Of one scratch folder, and of one boot of its machine.
        process: The machine and the process, for people.
        beat: Counts the renewals.
        is_over: The holder has given it back.
        is_whole: All rows of the holder are in segments.
    """

    epoch: int
    holder: str
    process: str
    beat: int = 0
    is_over: bool = False
    is_whole: bool = False


class LeaseLostError(StorageError):
    """Another run has taken over the bucket."""


class Lease:
    """A held lease; `start` renews it in a thread until `release`.

    Attributes:
        epoch: Its number.
    """

    def __init__(
        self,
        store: ImageStore,
        held: Held,
        version: str,
        steady_s: Callable[[], float] = boot_time_s,
        *,
        since_s: float,
    ) -> None:
        self.epoch = held.epoch
        self._store = store
        self._held = held
        self._version = version
        self._steady_s = steady_s
        self._renewed_s = since_s
        self._taken_by = ""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Renew it every ten seconds from now on."""
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Check that nothing but this run may write now.

        Raises:
            LeaseLostError: Another run has taken over.
            StoreUnavailableError: The lease could not be renewed in time; it may be later.
        """
        if self._taken_by:
            raise LeaseLostError(
                f"{self._store.shown}: another run ({self._taken_by}) has taken over, for this one "
                "could not renew its lease in time; what is not uploaded stays in the scratch "
                "folder: run again here when the other run has ended"
            )
        if self._steady_s() - self._renewed_s > LEASE_S - MARGIN_S:
            raise StoreUnavailableError(f"{self._store.shown}: the lease can't be renewed")

    def renew(self) -> None:
        """Renew it; `check` says whether that succeeded."""
        with suppress(StoreUnavailableError, StoreRefusedError):
            if not self._renewed():
                # After a request whose answer was lost, or after another run.
                self._look()
                if not self._taken_by:
                    self._renewed()

    def _renewed(self) -> bool:
        """Write the next beat; return False if the bucket has another version."""
        began_s, wanted = self._steady_s(), _after(self._held, beat=self._held.beat + 1)
        try:
            self._version = self._store.replace(layout.LOCK, _json(wanted), self._version)
        except ConflictError:
            return False
        self._held, self._renewed_s = wanted, began_s
        return True

    def _look(self) -> None:
        found = read(self._store)
        if found is None:
            self._taken_by = "unknown, the lease is gone"
        elif (found[0].holder, found[0].epoch) != (self._held.holder, self.epoch):
            self._taken_by = found[0].process
        else:
            self._held, self._version = found

    def release(self, *, is_whole: bool) -> None:
        """Give it back; `is_whole` if all rows are in segments. What fails expires by itself."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(LEASE_S)
        if self._taken_by:
            return
        wanted = _after(self._held, is_over=True, is_whole=is_whole)
        with suppress(StorageError, ConflictError):
            self._store.replace(layout.LOCK, _json(wanted), self._version)

    def _keep(self) -> None:
        while not self._ended.wait(RENEW_S) and not self._taken_by:
            self.renew()


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
) -> tuple[Lease, Held | None]:
    """Return the lease, and the one before it. Blocks for as long as a lease lasts.

    Args:
        store: The bucket.
        holder: Of the scratch folder, whose lock is held: a lease of this name is a dead run's.
        least_epoch: The last epoch that has rows.
        pause: Waits for seconds; tests pass another one.
        say: Gets a sentence before a long wait.
        steady_s: The steady clock.

    Raises:
        FolderBusyError: Another run holds it, and renews it.
        StorageError: The store can't be used.
    """
    while True:
        found, began_s = read(store), steady_s()
        before = found[0] if found else None
        if before is not None and not before.is_over and before.holder != holder:
            found = _expired(store, *_there(found), pause or _pause, say)
            began_s = steady_s()
            if found is None or found[0] != before:
                continue
        epoch = max(before.epoch if before else 0, least_epoch) + 1
        wanted = Held(epoch, holder, f"{socket.gethostname()}, process {os.getpid()}")
        with suppress(ConflictError):  # another run was faster
            if found is None:
                version = store.create(layout.LOCK, _json(wanted))
            else:
                version = store.replace(layout.LOCK, _json(wanted), found[1])
            return Lease(store, wanted, version, steady_s, since_s=began_s), before


def read(store: ImageStore) -> tuple[Held, str] | None:
    """Return the lease and its version; None if no run has held one.

    Raises:
        StorageError: It is damaged, or the store can't be used.
    """
    try:
        found = store.get(layout.LOCK)
    except NoObjectError:
        return None
    try:
        return Held(**orjson.loads(found.data)), found.version
    except (orjson.JSONDecodeError, TypeError) as error:
        raise StorageError(
            f"{store.shown}/{layout.LOCK}: is no lease; remove it if no run writes there"
        ) from error


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


def _after(held: Held, **changes: Any) -> Held:
    return Held(**(asdict(held) | changes))


def _json(held: Held) -> bytes:
    return orjson.dumps(asdict(held))
