"""New rows of workers that write into a bucket, as they are seen from elsewhere."""

import pytest

from gemini_batch.output.bucket import layout
from gemini_batch.output.bucket.follower import BucketFollower
from gemini_batch.store.base import StoreUnavailableError
from gemini_batch.store.below import StoreBelow
from gemini_batch.store.memory import MemoryStore
from tests.builders import line_of, make_row


def write(store: MemoryStore, index: int, epoch: int, number: int, *call_ids: str) -> None:
    """Write a segment of a worker."""
    part = StoreBelow(store, f"shards/0001.2/{index:05}")
    part.create(
        layout.segment(epoch, number), b"".join(line_of(make_row(each)) for each in call_ids)
    )


class Now:
    """A steady clock."""

    now_s = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture
def store() -> MemoryStore:
    """Return the bucket of two workers, of whom the first has written."""
    store = MemoryStore()
    store.create(layout.generation(1), b'{"workers": 2}')
    write(store, 1, 1, 1, "old")
    return store


def test_new_rows_of_all_workers_are_seen_once(store: MemoryStore) -> None:
    """Those of a worker that was started again too; a bucket is asked every ten seconds at the most."""
    now = Now()
    follower = BucketFollower(store, now)
    write(store, 1, 1, 2, "a", "b")
    write(store, 2, 1, 1, "c")
    assert [*follower.new_rows()] == []
    now.now_s += 10.0
    assert [row["id"] for row in follower.new_rows()] == ["a", "b", "c"]
    write(store, 2, 2, 1, "d")
    now.now_s += 10.0
    assert [row["id"] for row in follower.new_rows()] == ["d"]
    now.now_s += 10.0
    assert [*follower.new_rows()] == []


def test_what_can_not_be_read_now_is_read_later(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that fails ends nothing, and hides no row."""
    now = Now()
    follower = BucketFollower(store, now)
    write(store, 1, 1, 2, "a")
    now.now_s += 10.0

    def fails(_name: str) -> None:
        raise StoreUnavailableError("503")

    with monkeypatch.context() as patch:
        patch.setattr(store, "get", fails)
        assert [*follower.new_rows()] == []
    now.now_s += 10.0
    assert [row["id"] for row in follower.new_rows()] == ["a"]
