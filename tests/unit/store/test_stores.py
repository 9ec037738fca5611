from pathlib import Path

import pytest

from gemini_batch.store.base import StoreRefusedError
from gemini_batch.store.below import StoreBelow
from gemini_batch.store.local import LocalStore
from gemini_batch.store.memory import MemoryStore
from tests.unit.store.contract import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        """Return an empty store."""
        return MemoryStore()


class TestStoreBelow(StoreContract):
    @pytest.fixture
    def store(self) -> StoreBelow:
        """Return an empty store in another one, which has objects of similar names."""
        whole = MemoryStore()
        for name in ("a", "images/a.png", "part", "parts/a", "part2/images/a.png"):
            whole.create(name, b"of another")
        return StoreBelow(whole, "part")


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> LocalStore:
        """Return an empty store, whose folder is not there yet."""
        return LocalStore(tmp_path / "bucket")


def test_a_folder_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    """With the reason, as a bucket would be."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreRefusedError, match=r"file:///.*/file/x: can't be used: "):
        LocalStore(tmp_path / "file" / "x").create("a", b"")
