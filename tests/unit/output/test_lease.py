from collections.abc import Callable, Mapping

import orjson
import pytest

from gemini_batch.errors import FolderBusyError, StorageError
from gemini_batch.output.bucket import layout
from gemini_batch.output.bucket.acquiring import acquire, probe
from gemini_batch.output.bucket.lease import LEASE_S, MARGIN_S, Lease, LeaseLostError, read
from gemini_batch.store.base import NO_NOTES, Content, StoreRefusedError, StoreUnavailableError
from gemini_batch.store.memory import MemoryStore


class Clock:
    """A steady clock, and what happens while it is waited for."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.meanwhile: list[Callable[[], object]] = []
        self.said: list[str] = []

    def steady_s(self) -> float:
        """Return the time."""
        return self.now_s

    def pause(self, seconds: float) -> None:
        """Let time pass, and the next thing happen."""
        self.now_s += seconds
        if self.meanwhile:
            self.meanwhile.pop(0)()


@pytest.fixture
def clock() -> Clock:
    """Return a clock."""
    return Clock()


def take(store: MemoryStore, clock: Clock, holder: str, least_epoch: int = 0) -> Lease:
    """Acquire the lease."""
    lease, _ = acquire(
        store,
        holder,
        least_epoch,
        pause=clock.pause,
        say=clock.said.append,
        steady_s=clock.steady_s,
    )
    return lease


def test_a_new_bucket_is_taken_at_once(clock: Clock) -> None:
    """Its epoch follows the last one that has rows, if the lease was removed."""
    assert take(MemoryStore(), clock, "a").epoch == 1
    assert take(MemoryStore(), clock, "a", 7).epoch == 8
    assert clock.now_s == 0


def test_a_lease_that_was_given_back_is_taken_at_once(clock: Clock) -> None:
    """With the next epoch."""
    store = MemoryStore()
    take(store, clock, "a").release(is_whole=True)
    assert take(store, clock, "b").epoch == 2
    assert (clock.now_s, clock.said) == (0, [])


def test_a_killed_run_of_the_same_folder_is_not_waited_for(clock: Clock) -> None:
    """The folder's own lock shows that it is dead."""
    store = MemoryStore()
    take(store, clock, "a")
    assert take(store, clock, "a").epoch == 2
    assert clock.now_s == 0


def test_a_lease_that_is_not_renewed_is_taken_over_when_it_expires(clock: Clock) -> None:
    """Not before, and the wait is announced."""
    store = MemoryStore()
    take(store, clock, "a")
    assert take(store, clock, "b").epoch == 2
    assert LEASE_S <= clock.now_s <= LEASE_S + MARGIN_S
    assert "expires within 30 s" in clock.said[0]


@pytest.mark.parametrize("looks", [0, 3, 6])
def test_a_lease_that_is_renewed_meanwhile_is_busy(clock: Clock, looks: int) -> None:
    """Then the other run is alive: this one ends with 7, and has changed nothing."""
    store = MemoryStore()
    other = take(store, clock, "a")
    clock.meanwhile = [*[lambda: None] * looks, other.renew]
    with pytest.raises(FolderBusyError, match="held by another run"):
        take(store, clock, "b")
    other.check()
    assert read(store) is not None
    assert orjson.loads(store.get(layout.LOCK).data)["holder"] == "a"


def test_a_lease_that_is_given_back_meanwhile_is_taken_at_once(clock: Clock) -> None:
    """No one waits for a run that has ended."""
    store = MemoryStore()
    other = take(store, clock, "a")
    clock.meanwhile = [lambda: other.release(is_whole=True)]
    assert take(store, clock, "b").epoch == 2
    assert clock.now_s == 5.0


def test_one_of_two_that_wait_takes_it_over(clock: Clock) -> None:
    """The other one finds a new lease, waits for it, and ends with 7 when that is renewed."""
    store = MemoryStore()
    take(store, clock, "a")
    others: list[Lease] = []

    def take_too() -> None:
        others.append(take(store, Clock(), "c"))

    clock.meanwhile = [*[lambda: None] * 6, take_too, lambda: others[0].renew()]  # noqa: PLW0108 # it is not there yet
    with pytest.raises(FolderBusyError):
        take(store, clock, "b")
    others[0].check()


def test_a_lease_holds_for_its_time_less_a_margin(clock: Clock) -> None:
    """While it can't be renewed nothing is written; when it can be again, all goes on."""
    store = MemoryStore()
    lease = take(store, clock, "a")
    clock.now_s = LEASE_S - MARGIN_S
    lease.check()
    clock.now_s += 0.1
    with pytest.raises(StoreUnavailableError, match="can't be renewed"):
        lease.check()
    lease.renew()
    lease.check()


def test_the_time_of_a_lease_begins_with_its_request(clock: Clock) -> None:
    """An answer that takes long does not make it longer."""

    class Slow(MemoryStore):
        def replace(
            self, name: str, data: Content, version: str, notes: Mapping[str, str] = NO_NOTES
        ) -> str:
            """Take twenty seconds."""
            clock.now_s += 20.0
            return super().replace(name, data, version, notes)

    store = Slow()
    lease = take(store, clock, "a")
    lease.renew()
    clock.now_s += 5.1
    with pytest.raises(StoreUnavailableError):
        lease.check()


def test_a_lease_that_was_taken_over_is_lost_for_good(clock: Clock) -> None:
    """It is not renewed again, and not given back in place of the other's."""
    store = MemoryStore()
    lease = take(store, clock, "a")
    other = take(store, Clock(), "b")
    lease.renew()
    with pytest.raises(LeaseLostError, match="has taken over"):
        lease.check()
    lease.release(is_whole=True)
    other.renew()
    other.check()


def test_a_renewal_whose_answer_was_lost_is_not_another_run(clock: Clock) -> None:
    """The version is another one, and the lease still its own."""

    class Deaf(MemoryStore):
        def replace(
            self, name: str, data: Content, version: str, notes: Mapping[str, str] = NO_NOTES
        ) -> str:
            """Write, and lose the answer."""
            super().replace(name, data, version, notes)
            raise StoreUnavailableError("timeout")

    store = Deaf()
    lease = take(store, clock, "a")
    lease.renew()
    lease.renew()
    lease.check()
    store.__class__ = MemoryStore  # type: ignore[assignment]
    lease.renew()
    clock.now_s = 20.0
    lease.renew()
    clock.now_s = 44.0
    lease.check()


class NoCreates(MemoryStore):
    """Ignores If-None-Match."""

    def create(self, name: str, data: Content, notes: Mapping[str, str] = NO_NOTES) -> str:
        """Write in any case."""
        return self._put(name, data, notes)


class NoSwaps(MemoryStore):
    """Ignores If-Match."""

    def replace(
        self, name: str, data: Content, version: str, notes: Mapping[str, str] = NO_NOTES
    ) -> str:
        """Write in any case."""
        return self._put(name, data, notes)


@pytest.mark.parametrize("store", [NoCreates(), NoSwaps()], ids=["create", "replace"])
def test_a_store_that_ignores_conditional_writes_is_refused(store: MemoryStore) -> None:
    """A lease there would be none; the probe leaves nothing behind."""
    with pytest.raises(StoreRefusedError, match="ignores conditional writes"):
        probe(store)
    assert [*store.list("")] == []


def test_a_store_with_conditional_writes_passes(clock: Clock) -> None:
    """Also a lease that is there stays as it is."""
    store = MemoryStore()
    lease = take(store, clock, "a")
    probe(store)
    lease.renew()
    lease.check()
    assert [entry.name for entry in store.list("")] == [layout.LOCK]


def test_a_damaged_lease_is_not_taken(clock: Clock) -> None:
    """A person has to look; the message names the object."""
    store = MemoryStore()
    store.shown = "s3://pictures/robots"
    store.create(layout.LOCK, b"{}")
    with pytest.raises(StorageError, match="s3://pictures/robots/lock: is not a lease"):
        take(store, clock, "a")
