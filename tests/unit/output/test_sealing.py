"""Sealing the part of a bucket that an older generation of workers wrote."""

import orjson
import pytest

from gemini_batch.errors import StorageError
from gemini_batch.output.bucket import acquiring, layout, segments
from gemini_batch.output.bucket.acquiring import SealedError, acquire, is_held
from gemini_batch.output.bucket.lease import read
from gemini_batch.output.bucket.pictures import notes_of, upload
from gemini_batch.output.bucket.sealing import seal
from gemini_batch.store.memory import MemoryStore
from tests.builders import line_of, make_row, png, sha256
from tests.unit.cli.test_bucket_views import image_of


@pytest.fixture
def store() -> MemoryStore:
    """Return what a killed worker leaves: a row in a segment, and one in the notes of its image only."""
    store = MemoryStore()
    acquire(store, "killed", 0)
    for call_id in ("a", "b"):
        image = image_of(call_id)
        line = line_of(make_row(call_id, images=[image]))
        upload(store, image.path, png(call_id), notes_of(orjson.loads(line), line, image.sha256))
        if call_id == "a":
            store.create(layout.segment(1, 1), line)
    return store


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acquiring, "sleep", lambda _seconds: None)


def ids(store: MemoryStore) -> list[str]:
    """Return the ids in the segments."""
    data = b"".join(segments.rows_of(store, segments.listing(store)))
    return [orjson.loads(line)["id"] for line in data.splitlines()]


def test_all_rows_are_in_segments_afterwards(store: MemoryStore) -> None:
    """Readers need not look at notes any more; images are as they were."""
    lease, before = acquire(store, "new", 0)
    seal(store, lease, before, "0002.3")
    assert ids(store) == ["a", "b"]
    found = read(store)
    assert found
    assert (found[0].is_whole, found[0].is_over, found[0].sealed_by) == (True, True, "0002.3")
    assert sha256(store.get("images/b.png").data) == image_of("b").sha256


def test_only_a_newer_generation_takes_what_is_sealed(store: MemoryStore) -> None:
    """It stays sealed meanwhile, and afterwards."""
    lease, before = acquire(store, "new", 0)
    seal(store, lease, before, "0002.3")
    with pytest.raises(SealedError, match=r"0002\.3"):
        acquire(store, "killed", 0)
    again, _ = acquire(store, "newer", 0, takes_sealed=True)
    for _ in range(2):
        with pytest.raises(SealedError):
            acquire(store, "killed", 0)
        again.release(is_whole=True)


def test_a_part_that_another_has_taken_meanwhile_is_not_sealed(store: MemoryStore) -> None:
    """The worker that begins is told; a part that was never used is sealed as well."""
    lease, before = acquire(store, "new", 0)
    acquire(store, "new", 0)
    with pytest.raises(StorageError, match="taken over"):
        seal(store, lease, before, "0002.3")
    unused = MemoryStore()
    lease, before = acquire(unused, "new", 0)
    seal(unused, lease, before, "0002.3")
    with pytest.raises(SealedError):
        acquire(unused, "late", 0)


def test_a_lease_is_held_if_it_is_renewed(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a killed worker is not, nor is one that was given back, or never taken."""
    assert not is_held(store)
    assert not is_held(MemoryStore())
    lease, _ = acquire(store, "new", 0)
    with monkeypatch.context() as patch:
        patch.setattr(acquiring, "sleep", lambda _seconds: lease.renew())
        assert is_held(store)
    lease.release(is_whole=False)
    assert not is_held(store)
