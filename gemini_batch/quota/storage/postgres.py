"""The storage that machines share: a table in PostgreSQL, whose clock is the one clock.

A decision is two round trips: the first waits for the turn, then reads the clock and the states;
the second writes and commits. The clock is read by a statement after the one that waits: `SELECT …
FOR UPDATE` would give the moment before the wait, and one snapshot of it all, stale rows.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, cast

import orjson
import psycopg
from psycopg import errors

from gemini_batch.errors import ConfigError
from gemini_batch.quota.storage.base import Decide, NewStates, OnUnknown, QuotaKey, Snapshot
from gemini_batch.quota.storage.postgres_connection import BEGIN, Connection
from gemini_batch.quota.storage.postgres_link import REACH_S, PostgresLink

T = TypeVar("T")

_VERSION = 1
_TABLE = "gemini_batch_ledger"
_CREATE = """CREATE TABLE IF NOT EXISTS gemini_batch_ledger (
    endpoint text, project text, model text, version integer NOT NULL, state text NOT NULL,
    PRIMARY KEY (endpoint, project, model))"""
# Served first come, first served; it ends with the transaction.
_LOCK = "SELECT pg_advisory_xact_lock(number) FROM unnest(%s::bigint[]) AS number"
# A replica that was promoted has another timeline, known at once, and a copy another identifier; a
# restart changes neither. A service that hides them is taken for another one after each restart.
_IDENTITY = """(SELECT system_identifier FROM pg_control_system())::text
    || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8)"""
_START = "extract(epoch FROM pg_postmaster_start_time())::text"
_CLOCK = "extract(epoch FROM clock_timestamp())::double precision"
_SELECT = "SELECT endpoint, project, model, version, state FROM gemini_batch_ledger"
_OF_KEYS = """ WHERE (endpoint, project, model)
IN (SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]))"""
_WRITE = """INSERT INTO gemini_batch_ledger VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (endpoint, project, model)
DO UPDATE SET version = excluded.version, state = excluded.state"""
_DELETE = "DELETE FROM gemini_batch_ledger WHERE (endpoint, project, model) = (%s, %s, %s)"
_CLEAR = """DELETE FROM gemini_batch_ledger
WHERE endpoint = coalesce(%s, endpoint) AND project = coalesce(%s, project)"""


@dataclass(frozen=True, slots=True)
class _Sent(Generic[T]):
    """A commit on its way, and the result that it makes true."""

    result: T
    transaction: str
    server_id: str


class PostgresStorage:
    """A table of states; threads share one connection, one at a time."""

    blocks: ClassVar[bool] = True
    has_own_clock: ClassVar[bool] = True
    notices: ClassVar[tuple[str, ...]] = ()
    lost_at_s: ClassVar[float | None] = None

    def __init__(
        self,
        url: str,
        *,
        reach_s: float = REACH_S,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Name the server; nothing is connected. `say` is that of `PostgresLink`.

        Raises:
            ConfigError: It is not an address.
        """
        self._link = PostgresLink(url, self._prepare, reach_s=reach_s, say=say)
        self._identity = _IDENTITY
        self.asked = 0  # how often the outcome of a commit was unknown

    @property
    def name(self) -> str:
        """The address without a password."""
        return self._link.name

    @property
    def is_away(self) -> bool:
        """True while the server can't be reached."""
        return self._link.is_away

    def open(self) -> None:
        """Connect, make the table if there is none, and check the rights to it.

        Raises:
            LedgerError: It can't be reached, or refuses.
            ConfigError: A newer version wrote it.
        """
        self.transact((), lambda *_: (None, {}), "redo")

    def transact(
        self,
        keys: Sequence[QuotaKey],
        decide: Decide[T],
        on_unknown: OnUnknown,
        *,
        is_look: bool = False,
    ) -> T:
        """Decide with exclusive access to the states of `keys`, and return when that is durable.

        A look is one round trip, which waits for no turn.
        """
        sent: _Sent[T] | None = None

        def looked(connection: Connection) -> tuple[bool, T | None]:
            try:
                now_s, server_id, states = self._looked(connection, keys)
            except errors.UndefinedTable:
                return False, None
            result, changes = decide([*map(states.get, keys)], now_s, server_id)
            return not changes, result

        def once(connection: Connection) -> T:
            nonlocal sent
            if sent is not None and self._is_committed(connection, sent):
                return sent.result
            sent = None
            now_s, server_id, transaction, states = self._begun(
                connection, keys, is_numbered=on_unknown == "ask"
            )
            result, changes = decide([*map(states.get, keys)], now_s, server_id)
            if not changes:
                connection.execute("ROLLBACK")
                return result
            if transaction is not None:
                sent = _Sent(result, transaction, server_id)
            _commit(connection, changes)
            return result

        if is_look:
            is_decided, result = self._link.use(looked)
            if is_decided:
                return cast(T, result)
        return self._link.use(once)

    def scan(self) -> Snapshot:
        """Return all states; changes nothing, and makes no table."""

        def read(connection: Connection) -> Snapshot:
            now_s, server_id, _ = self._clock(connection, "NULL")
            has_table = _has_table(connection)
            rows = connection.execute(_SELECT).fetchall() if has_table else []
            return Snapshot(dict(sorted(map(self._parsed, rows))), now_s, server_id)

        return self._link.use(read)

    def clear(self, endpoint: str | None = None, project: str | None = None) -> bool:
        """Delete the states of an endpoint and a project; return if there were any."""

        def delete(connection: Connection) -> bool:
            if not _has_table(connection):
                return False
            return connection.execute(_CLEAR, (endpoint, project)).rowcount > 0

        return self._link.use(delete)

    def hurry(self) -> None:
        """Wait no longer than a moment for a server that is away."""
        self._link.hurry()

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def _prepare(self, connection: Connection) -> None:
        """Find out how the server names itself."""
        try:
            connection.execute(f"SELECT {_IDENTITY}")
            self._identity = _IDENTITY
        except (errors.InsufficientPrivilege, errors.FeatureNotSupported, errors.UndefinedFunction):
            self._identity = _START

    def _begun(
        self, connection: Connection, keys: Sequence[QuotaKey], *, is_numbered: bool
    ) -> tuple[float, str, str | None, dict[QuotaKey, Mapping[str, Any]]]:
        """Wait for the turn; return the clock, the server, the transaction and the states."""
        try:
            return self._read(connection, keys, is_numbered=is_numbered)
        except errors.UndefinedTable:
            connection.execute("ROLLBACK")
            _create(connection)
            return self._read(connection, keys, is_numbered=is_numbered)

    def _looked(
        self, connection: Connection, keys: Sequence[QuotaKey]
    ) -> tuple[float, str, dict[QuotaKey, Mapping[str, Any]]]:
        """Return the clock, the server, and the states that are committed, in one round trip."""
        statements = (f"SELECT {_CLOCK}, {self._identity}", _SELECT + _OF_KEYS)
        cursor = connection.execute(";".join(statements), _columns(keys))
        ((now_s, server_id),) = cursor.fetchall()
        cursor.nextset()
        return now_s, server_id, dict(map(self._parsed, cursor.fetchall()))

    def _read(
        self, connection: Connection, keys: Sequence[QuotaKey], *, is_numbered: bool
    ) -> tuple[float, str, str | None, dict[QuotaKey, Mapping[str, Any]]]:
        transaction = "pg_current_xact_id()::text" if is_numbered else "NULL"
        clock = f"SELECT {_CLOCK}, {self._identity}, {transaction}"
        statements = (BEGIN, _LOCK, clock, _SELECT + _OF_KEYS)
        cursor = connection.execute(
            ";".join(statements), (sorted(map(_number, keys)), *_columns(keys))
        )
        for _ in range(3):  # what BEGIN and the lock return
            cursor.nextset()
        ((now_s, server_id, number),) = cursor.fetchall()
        cursor.nextset()
        return now_s, server_id, number, dict(map(self._parsed, cursor.fetchall()))

    def _clock(self, connection: Connection, transaction: str) -> tuple[float, str, str | None]:
        query = f"SELECT {_CLOCK}, {self._identity}, {transaction}"
        ((now_s, server_id, number),) = connection.execute(query).fetchall()
        return now_s, server_id, number

    def _is_committed(self, connection: Connection, sent: _Sent[Any]) -> bool:
        """Return whether a transaction took place whose commit was on its way.

        Another server may not know it: it is taken as done, so that nothing is counted twice.
        """
        self.asked += 1
        if self._clock(connection, "NULL")[1] != sent.server_id:
            return True
        query, number = "SELECT pg_xact_status(%s::text::xid8)", (sent.transaction,)
        ((status,),) = connection.execute(query, number).fetchall()
        if status == "in progress":  # until the server notices that its client is gone
            raise psycopg.OperationalError("a commit whose outcome is unknown does not end")
        return bool(status != "aborted")

    def _parsed(self, row: Sequence[Any]) -> tuple[QuotaKey, Mapping[str, Any]]:
        *key, version, state = row
        if version > _VERSION:
            newer = f"by a newer gemini_batch (version {version}; this one knows {_VERSION})"
            raise ConfigError(f"{self.name}: was written {newer}: update this one")
        return QuotaKey(*key), orjson.loads(state)


def _commit(connection: Connection, changes: NewStates) -> None:
    """Write the changes and commit, in one message."""
    statements, values = list[str](), list[Any]()
    for key, state in changes.items():
        statements.append(_DELETE if state is None else _WRITE)
        values += key if state is None else (*key, _VERSION, orjson.dumps(state.dump()).decode())
    connection.execute(";".join([*statements, "COMMIT"]), values)


def _columns(keys: Sequence[QuotaKey]) -> list[list[str]]:
    return [list(column) for column in zip(*keys, strict=True)] or [[], [], []]


def _has_table(connection: Connection) -> bool:
    ((found,),) = connection.execute("SELECT to_regclass(%s)", (_TABLE,)).fetchall()
    return found is not None


def _create(connection: Connection) -> None:
    """Make the table; of several that do at once, one does."""
    with connection.transaction():
        connection.execute(_LOCK, ([_number((_TABLE,))],))
        connection.execute(_CREATE)


def _number(key: Iterable[str]) -> int:
    """Return the number of a key's lock: 64 bits of a hash, alike on all machines."""
    digest = hashlib.sha256("\0".join((_TABLE, *key)).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
