"""Storages of the ledger: for a process, for a machine, or for all that reach a server."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from gemini_batch.clock import boot_time_s
from gemini_batch.config.ledger_url import INSTALL, SOURCES
from gemini_batch.errors import ConfigError
from gemini_batch.quota.storage.base import LedgerStorage
from gemini_batch.quota.storage.memory import MemoryStorage
from gemini_batch.quota.storage.sqlite import SqliteStorage, state_path

LOOK_S = 5.0
"""The time for which a command that only looks asks a server again."""

if TYPE_CHECKING:
    from gemini_batch.quota.storage.postgres import PostgresStorage


def shared_storage(
    url: str | None,
    *,
    reach_s: float = 60.0,
    say: Callable[[str], None] = lambda _text: None,
) -> "SqliteStorage | PostgresStorage":
    """Return the storage of a server, not yet open, or else that of this machine.

    A server that can't be reached is asked again for `reach_s` seconds; `say` gets sentences for
    the user meanwhile, in any thread.

    Raises:
        ConfigError: It has no address, or psycopg can't be used.
    """
    if url is None:
        return SqliteStorage(state_path(), steady_s=boot_time_s)
    try:
        from gemini_batch.quota.storage.postgres import PostgresStorage
    except ImportError as error:  # without the binary package it needs libpq
        raise ConfigError(f"{SOURCES}: psycopg can't be used: {error}; {INSTALL}") from error
    return PostgresStorage(url, reach_s=reach_s, say=say)
