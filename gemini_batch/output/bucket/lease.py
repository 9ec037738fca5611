"""The lease of a bucket: one run at a time writes there, by conditional writes of one object.

No clock of another machine is compared: who finds a lease watches it for as long as it lasts, by
the own steady clock. A run writes only while it is sure that no other one can have taken over.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from gemini_batch.clock import boot_time_s
from gemini_batch.errors import StorageError
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
# A holder stops writing this long before its lease ends: a request that it sent may take a while.
MARGIN_S = 5.0


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
        sealed_by: The generation of workers that has taken over, for ever; "" while none has.
    """

    epoch: int
    holder: str
    process: str
    beat: int = 0
    is_over: bool = False
    is_whole: bool = False
    sealed_by: str = ""


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
        self._is_sealed = False
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
                f"{self._store.shown}: another run ({self._taken_by}) has taken over, because "
                "this one could not renew its lease in time; what is not uploaded stays in the "
                "scratch folder: run again here when the other run has ended"
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
        began_s, wanted = self._steady_s(), after(self._held, beat=self._held.beat + 1)
        try:
            self._version = self._store.replace(layout.LOCK, json_of(wanted), self._version)
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
        self._end()
        if self._taken_by or self._is_sealed:
            return
        wanted = after(self._held, is_over=True, is_whole=is_whole)
        with suppress(StorageError, ConflictError):
            self._store.replace(layout.LOCK, json_of(wanted), self._version)

    def seal(self, generation: str) -> None:
        """Give it back, and let none but workers of this generation or newer ones take it again.

        All rows are in segments.

        Raises:
            StorageError: The bucket can't be used, or another run has taken over.
        """
        self._end()
        self.check()
        wanted = after(self._held, is_over=True, is_whole=True, sealed_by=generation)
        try:
            self._store.replace(layout.LOCK, json_of(wanted), self._version)
        except ConflictError as error:
            raise LeaseLostError(f"{self._store.shown}: was taken over; run again") from error
        self._is_sealed = True

    def _end(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(LEASE_S)

    def _keep(self) -> None:
        while not self._ended.wait(RENEW_S) and not self._taken_by:
            self.renew()


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
            f"{store.shown}/{layout.LOCK}: is not a lease; remove it if no run writes there"
        ) from error


def after(held: Held, **changes: Any) -> Held:
    """Return a lease with changes."""
    return Held(**(asdict(held) | changes))


def json_of(held: Held) -> bytes:
    """Return a lease as the bucket has it."""
    return orjson.dumps(asdict(held))
