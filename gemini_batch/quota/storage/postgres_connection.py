"""Connections to a PostgreSQL server: their options, their errors, and waits that can be ended."""

import logging
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, TypeVar, cast

import psycopg
from psycopg import errors

# A lost connection is handled here, and is not reported to the user.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

T = TypeVar("T")

# A server that is gone without a word is noticed in seconds.
DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "target_session_attrs": "read-write",  # of several hosts, the one that is not a replica
    "application_name": "gemini_batch",
}
# A transaction that its client left is ended, which frees its lock; keepalives end one whose client
# was lost in the middle of what it sent. All is set for a transaction, not for the session: a
# pooler such as pgbouncer gives the session to others.
BEGIN = """BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SELECT set_config('idle_in_transaction_session_timeout', '5s', true),
    set_config('tcp_keepalives_idle', '5', true),
    set_config('tcp_keepalives_interval', '2', true),
    set_config('tcp_keepalives_count', '3', true),
    set_config('statement_timeout', '30s', true),
    set_config('synchronous_commit', CASE current_setting('synchronous_commit')
        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)"""
"""Two statements that begin a transaction."""

# The server goes down or has no room for the moment, it ended a transaction that stood still or
# became a replica (both are an InternalError), or the table was dropped.
PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,
    errors.UndefinedTable,
)
_WRONG = (
    errors.InsufficientPrivilege,
    errors.InvalidAuthorizationSpecification,
    errors.InvalidCatalogName,
    errors.InvalidPassword,
)
# libpq gives no code for an error before the connection is there.
_WRONG_TEXTS = (
    "password authentication failed",
    "authentication failed for user",
    "no password supplied",
    "no pg_hba.conf entry",
    "FATAL:  database ",
    "FATAL:  role ",
    "certificate verify failed",
    "root certificate file",
    "does not support SSL",
    "Name or service not known",
    "connection is bad: invalid",
)


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose waits are watched.

    Attributes:
        watch: Is called with the seconds that an answer takes already, and ends the wait by an
            error.
    """

    watch: Callable[[float], None] = staticmethod(lambda _silent_s: None)

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        """Wait for an exchange with the server, watched."""
        return super().wait(_watched(gen, self.watch), *args, **options)


def _watched(
    exchange: Generator[Any, Any, T], watch: Callable[[float], None]
) -> Generator[Any, Any, T]:
    """Pass on the steps of an exchange, which psycopg resumes ten times a second."""
    began_s = time.monotonic()
    try:
        step = next(exchange)
        while True:
            ready = yield step
            watch(time.monotonic() - began_s)
            step = exchange.send(ready)
    except StopIteration as end:
        return cast(T, end.value)


def connecting(options: dict[str, Any]) -> Future[Connection]:
    """Connect in a thread, which may be left alone if it hangs, as in the look-up of a name."""
    made = Future[Connection]()

    def connect() -> None:
        try:
            connection = Connection.connect(
                **options,
                autocommit=True,
                # Several statements in one message, which a pipeline could be as well; but what
                # psycopg sends at its end turns off the server's timer of an idle transaction.
                cursor_factory=psycopg.ClientCursor,
            )
        except Exception as error:  # noqa: BLE001 # raised again by the one who waits
            made.set_exception(error)
        else:
            made.set_result(connection)

    threading.Thread(target=connect, name="connect to the ledger", daemon=True).start()
    return made


def is_wrong(error: psycopg.Error) -> bool:
    """Return whether a server refuses for what only the user can change."""
    return isinstance(error, _WRONG) or any(text in str(error) for text in _WRONG_TEXTS)
