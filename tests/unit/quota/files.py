"""Ledgers on a file, whose clock is the test's."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from gemini_batch.quota.limits import Weights
from gemini_batch.quota.results import ReserveResult
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import SqliteStorage
from gemini_batch.records import Limits
from tests.unit.quota.contract import NOON, PICTURE, T0, M

ENDPOINT = "https://generativelanguage.googleapis.com"
# Hundreds of files, each of many commits.
RAM = "/dev/shm" if Path("/dev/shm").is_dir() else None


def file(path: Path, **options: Any) -> SqliteStorage:
    """Open a file whose clock stands still: no time passes while it works."""
    storage = SqliteStorage(path, **{"boot": "one", "steady_s": lambda: 0.0, **options})
    storage.open()
    return storage


def opened(
    path: Path, limits: Limits, *, endpoint: str = ENDPOINT, project: str = "test", **options: Any
) -> SharedLedger:
    """Open a ledger on such a file."""
    steady_s = options.get("steady_s", lambda: 0.0)
    storage = file(path, **options)
    return SharedLedger(storage, limits, endpoint=endpoint, project=project, steady_s=steady_s)


def ask(
    ledger: SharedLedger, after_s: float = 0.0, weights: Weights = PICTURE, permits: int = 1
) -> ReserveResult:
    """Reserve at a moment after noon."""
    return ledger.reserve(M, weights, permits, T0 + after_s, NOON + timedelta(seconds=after_s))
