"""Ledgers as tests use them: the storage of a file, and the real use of one call."""

from pathlib import Path

from gemini_batch.quota.results import Grant, RealUse
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import SqliteStorage


def open_storage(path: Path) -> SqliteStorage:
    """Return the open storage of a file."""
    storage = SqliteStorage(path)
    storage.open()
    return storage


def reconcile(
    ledger: SharedLedger,
    model: str,
    grant: Grant,
    *,
    tokens: int | None = None,
    usd_micros: int | None = None,
) -> None:
    """Replace the estimate of one call by its real use."""
    ledger.reconcile_all(model, [RealUse(grant, tokens, usd_micros)])
