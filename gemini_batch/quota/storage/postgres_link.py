"""The connection to a PostgreSQL server, through restarts and lost networks."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError
from concurrent.futures import wait as wait_for
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from gemini_batch.config import ledger_url
from gemini_batch.errors import ConfigError, LedgerError
from gemini_batch.quota.storage.postgres_connection import (
    DEFAULTS,
    PASSING,
    Connection,
    connecting,
    is_wrong,
)

T = TypeVar("T")

REACH_S = 60.0
"""The time for which a server that can't be reached is asked again, in seconds."""

# A tenth of the time that the server is away already is the wait for the next try.
_MIN_WAIT_S, _MAX_WAIT_S, _WAIT_SHARE = 0.05, 2.0, 0.1
# A server that keeps its connections and does not answer: longer than it waits for a lock itself.
_ANSWER_S = 40.0
# A server that is silent for longer is reported.
_QUIET_S = 3.0
# The least time that the last try to connect gets.
_CONNECT_S = 1.0
# The longest wait for a server once the user wants an end.
_HURRY_S = 2.0
_CLOSE_S = 2.0


class PostgresLink:
    """One connection, which threads use one at a time, made again when it is lost.

    A server that could not be reached for `reach_s` is given up: then each use fails at once.
    """

    def __init__(
        self,
        url: str,
        prepare: Callable[[Connection], None],
        *,
        reach_s: float = REACH_S,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Name the server; nothing is connected.

        Args:
            url: With or without a password, which no message has.
            prepare: Called with each new connection.
            reach_s: The time for which a use is tried again.
            say: Gets sentences for the user while the server is waited for, in any thread.

        Raises:
            ConfigError: It is not an address.
        """
        self.name = ledger_url.shown(url)
        self._url = url
        self._prepare = prepare
        self._reach_s = reach_s
        self._say = say
        try:
            self._options: dict[str, Any] = {**DEFAULTS, **conninfo_to_dict(url)}
        except psycopg.Error as error:
            raise ConfigError(f"{self.name}: is not an address: {self._reason(error)}") from None
        self._threads = threading.Lock()
        self._hurried, self._closed = Future[None](), Future[None]()
        self._connection: Connection | None = None
        self._given_up: LedgerError | None = None
        self._was_used = False
        self._began_s = 0.0  # of the use in progress
        self._away_s: float | None = None  # since when the server is away, once that is reported

    @property
    def is_away(self) -> bool:
        """True while the server is waited for, or was given up."""
        return self._away_s is not None or self._given_up is not None

    def use(self, work: Callable[[Connection], T]) -> T:
        """Do some work on the connection, and again when it is lost.

        Raises:
            LedgerError: The server could not be reached, or refused.
            ConfigError: It refused at the first use: the user must act.
        """
        with self._threads:
            if self._given_up is not None:
                raise self._given_up
            self._began_s = time.monotonic()
            while True:
                try:
                    result = self._worked(work)
                except psycopg.Error as error:
                    self._disconnect()
                    self._pause_after(error)
                else:
                    self._note_return()
                    return result

    def hurry(self) -> None:
        """Wait no longer than a moment for a server that is away: the user wants an end."""
        _end(self._hurried)

    def close(self) -> None:
        """End what waits for the server, and the connection; a second time does nothing."""
        _end(self._closed)
        _end(self._hurried)
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
        if self._closed.done():
            raise RuntimeError(f"{self.name} is used after it was closed")
        if self._connection is None:
            try:
                self._connection = connection = self._reached()
            except psycopg.Error as error:
                if not self._is_wrong(error):
                    self._note_away(self._reason(error))
                raise
            connection.watch = self._watch
            self._prepare(connection)
        return self._connection

    def _reached(self) -> Connection:
        """Connect; report a server that is silent."""
        made = connecting(self._options)
        self._wait(min(_QUIET_S, max(_CONNECT_S, self._left_s())), made)
        if not made.done():
            self._note_away("no answer yet")
            self._wait(self._left_s(), made)
            self._wait(self._left_s(), made)  # the rest that is left in a hurry
        if not made.done():
            raise psycopg.OperationalError("connection timeout expired")
        return made.result()

    def _watch(self, silent_s: float) -> None:
        """End the wait for an answer when it takes too long; report it before."""
        most_s = _HURRY_S if self._hurried.done() else _ANSWER_S
        if silent_s > most_s:
            raise psycopg.OperationalError(f"the server did not answer for {silent_s:.0f} s")
        if silent_s > _QUIET_S:
            self._note_away("no answer yet")

    def _pause_after(self, error: psycopg.Error) -> None:
        """Wait before the next try.

        Raises:
            LedgerError: There is none.
            ConfigError: The user must act.
        """
        if self._is_wrong(error):
            advice = f"check the address ({ledger_url.SOURCES}), and the user's rights"
            text = f"{self.name}: the ledger can't be used: {self._reason(error)}"
            raise ConfigError(f"{text}; {advice}") from None  # it quotes the address
        away_s = time.monotonic() - self._began_s
        left_s = self._left_s()
        if not isinstance(error, PASSING) or not left_s:
            self._given_up = self._explained(error, away_s)
            raise self._given_up from None
        wait_s = min(_MAX_WAIT_S, max(_MIN_WAIT_S, _WAIT_SHARE * away_s))
        self._wait(min(wait_s, left_s))
        if self._closed.done():
            raise LedgerError(f"{self.name}: was closed while it could not be reached")

    def _left_s(self) -> float:
        """Return for how long the use in progress may last."""
        reach_s = min(self._reach_s, _HURRY_S) if self._hurried.done() else self._reach_s
        return max(0.0, self._began_s + reach_s - time.monotonic())

    def _wait(self, seconds: float, *futures: Future[Any]) -> None:
        """Wait for one of these, the end, or `seconds`."""
        end = self._closed if self._hurried.done() else self._hurried
        wait_for((*futures, end), seconds, FIRST_COMPLETED)

    def _note_away(self, why: str) -> None:
        """Report, once an outage, that the server is waited for, and until when."""
        if self._away_s is not None or self._hurried.done():
            return
        self._away_s = self._began_s
        until = datetime.now().astimezone() + timedelta(seconds=self._left_s())
        self._say(
            f"{self.name}: the ledger can't be reached: {why}; trying again until "
            f"{until:%H:%M:%S}, and nothing is sent meanwhile"
        )

    def _note_return(self) -> None:
        if self._away_s is not None:
            away_s = time.monotonic() - self._away_s
            self._away_s = None
            self._say(f"{self.name}: the ledger answers again, after {away_s:.0f} s")

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
        return is_wrong(error) and not self._was_used

    def _explained(self, error: psycopg.Error, away_s: float) -> LedgerError:
        what = "the ledger can't be used"
        if isinstance(error, PASSING):
            what = f"the ledger could not be reached for {away_s:.0f} s"
        return LedgerError(
            f"{self.name}: {what}: {self._reason(error)}; nothing is sent without it: run again "
            "when that is resolved"
        )

    def _reason(self, error: BaseException) -> str:
        """Return the text of an error in one line, without a password."""
        lines = ledger_url.without_secrets(str(error), self._url).split("\n")
        return "; ".join(line.strip() for line in lines if line.strip()) or type(error).__name__


def _end(future: Future[None]) -> None:
    with suppress(InvalidStateError):  # it has ended before
        future.set_result(None)
