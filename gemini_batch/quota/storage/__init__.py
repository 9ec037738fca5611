"""Storages of the ledger: one process, or a file that all processes of a machine share."""

from pathlib import Path

from gemini_batch.quota.storage.base import LedgerStorage
from gemini_batch.quota.storage.memory import MemoryStorage
from gemini_batch.quota.storage.sqlite import SqliteStorage, state_path


def open_storage(path: Path | None) -> LedgerStorage:
    """Return the open storage of a file, or one of this process alone.

    Raises:
        StorageError: The file can't be used.
        ConfigError: A newer version wrote it.
    """
    storage: LedgerStorage = MemoryStorage() if path is None else SqliteStorage(path)
    storage.open()
    return storage
