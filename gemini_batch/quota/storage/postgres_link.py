"""The connection to a PostgreSQL server, through restarts and lost networks."""

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar, cast

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from gemini_batch.config import ledger_url
from gemini_batch.errors import ConfigError, LedgerError

# A lost connection is handled here, and is no line for the user.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

T = TypeVar("T")

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

REACH_S = 60.0
"""The time for which a server that can't be reached is asked again, in seconds."""

# A tenth of the time that the server is away already is the wait for the next try.
_MIN_WAIT_S, _MAX_WAIT_S, _WAIT_SHARE = 0.05, 2.0, 0.1
# A server that is gone without a word is noticed in seconds.
_DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "target_session_attrs": "read-write",  # of several hosts, the one that is no replica
    "application_name": "gemini_batch",
}
# A server that keeps its connections and does not answer: longer than it waits for a lock itself.
_ANSWER_S = 40.0
_CLOSE_S = 2.0
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
_PASSING = (
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


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that does not wait for an answer without end."""

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        return super().wait(_limited(gen), *args, **options)


def _limited(exchange: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    """Pass on the steps of an exchange, which psycopg resumes ten times a second, for a time."""
    until_s = time.monotonic() + _ANSWER_S
    try:
        step = next(exchange)
        while True:
            ready = yield step
            if time.monotonic() > until_s:
                raise psycopg.OperationalError(f"the server did not answer for {_ANSWER_S:g} s")
            step = exchange.send(ready)
    except StopIteration as end:
        return cast(T, end.value)


class PostgresLink:
    """One connection, which threads use one at a time, made again when it is lost.

    A server that could not be reached for `reach_s` is given up: then each use fails at once.
    """

    def __init__(
        self, url: str, prepare: Callable[[Connection], None], *, reach_s: float = REACH_S
    ) -> None:
        """Name the server; nothing is connected.

        Args:
            url: With or without a password, which no message has.
            prepare: Called with each new connection.
            reach_s: The time for which a use is tried again.

        Raises:
            ConfigError: It is no address.
        """
        self.name = ledger_url.shown(url)
        self._url = url
        self._prepare = prepare
        self._reach_s = reach_s
        try:
            self._options: dict[str, Any] = {**_DEFAULTS, **conninfo_to_dict(url)}
        except psycopg.Error as error:
            raise ConfigError(f"{self.name}: is no address: {self._reason(error)}") from None
        self._threads = threading.Lock()
        self._closed = threading.Event()
        self._connection: Connection | None = None
        self._given_up: LedgerError | None = None
        self._was_used = False

    def use(self, work: Callable[[Connection], T]) -> T:
        """Do some work on the connection, and again when it is lost.

        Raises:
            LedgerError: The server could not be reached, or refused.
            ConfigError: It refused at the first use: the user must act.
        """
        with self._threads:
            if self._given_up is not None:
                raise self._given_up
            began_s = time.monotonic()
            while True:
                try:
                    return self._worked(work)
                except psycopg.Error as error:
                    self._disconnect()
                    if self._is_wrong(error):
                        advice = f"check the address ({ledger_url.SOURCES}), and the user's rights"
                        text = f"{self.name}: the ledger can't be used: {self._reason(error)}"
                        raise ConfigError(f"{text}; {advice}") from None  # it quotes the address
                    away_s = time.monotonic() - began_s
                    wait_s = min(_MAX_WAIT_S, max(_MIN_WAIT_S, _WAIT_SHARE * away_s))
                    if not isinstance(error, _PASSING) or away_s + wait_s > self._reach_s:
                        self._given_up = self._explained(error)
                        raise self._given_up from None
                if self._closed.wait(wait_s):
                    raise LedgerError(f"{self.name}: was closed while it could not be reached")

    def close(self) -> None:
        """End what waits for the server, and the connection; a second time does nothing."""
        self._closed.set()
        if self._threads.acquire(timeout=_CLOSE_S):  # else it ends with the process
            self._disconnect()
            self._threads.release()

    def _worked(self, work: Callable[[Connection], T]) -> T:
        connection = self._connected()
        try:
            result = work(connection)
        except psycopg.Error:
            raise
        except BaseException:
            self._roll_back(connection)
            raise
        self._was_used = True
        return result

    def _connected(self) -> Connection:
        if self._closed.is_set():
            raise RuntimeError(f"{self.name} is used after it was closed")
        if self._connection is None:
            self._connection = connection = _Connection.connect(
                **self._options,
                autocommit=True,
                # Several statements in one message, which a pipeline could be as well; but what
                # psycopg sends at its end turns off the server's timer of an idle transaction.
                cursor_factory=psycopg.ClientCursor,
            )
            self._prepare(connection)
        return self._connection

    def _roll_back(self, connection: Connection) -> None:
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def _is_wrong(self, error: psycopg.Error) -> bool:
        """Return whether the user must act: later it may be a server that starts."""
        is_wrong = isinstance(error, _WRONG) or any(text in str(error) for text in _WRONG_TEXTS)
        return is_wrong and not self._was_used

    def _explained(self, error: psycopg.Error) -> LedgerError:
        what = "the ledger can't be used"
        if isinstance(error, _PASSING):
            what = f"the ledger could not be reached for {self._reach_s:g} s"
        return LedgerError(
            f"{self.name}: {what}: {self._reason(error)}; nothing is sent without it: run again "
            "when that is resolved"
        )

    def _reason(self, error: BaseException) -> str:
        """Return the text of an error in one line, without a password."""
        lines = ledger_url.without_secrets(str(error), self._url).split("\n")
        return "; ".join(line.strip() for line in lines if line.strip()) or type(error).__name__
