"""The connection to PostgreSQL, with a server that is only played."""

import math
import re
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg import errors

from gemini_batch.errors import ConfigError, LedgerError
from gemini_batch.quota.storage import postgres_connection, postgres_link
from gemini_batch.quota.storage.postgres_link import PostgresLink

URL = "postgresql://worker:s3cret@db/quota"
REFUSED = psycopg.OperationalError(f'connection failed: "{URL}": Connection refused\n\tIs it on?')


class World:
    """A clock that passes while nobody is there, and a server that answers as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Exception | None) -> None:
        self.now_s, self.waits_s = 0.0, list[float]()
        self.hurries_at_s = math.inf
        self.refuses = False  # it connects nobody, where it would fail in the work
        self.hangs = False  # it does not even refuse
        self.connections = 0
        self._answers = iter(answers)
        clock = SimpleNamespace(monotonic=lambda: self.now_s)
        monkeypatch.setattr(postgres_link, "time", clock)
        monkeypatch.setattr(postgres_connection.Connection, "connect", self._connect)
        monkeypatch.setattr(postgres_connection, "time", clock)
        self.said = list[str]()
        self.link = PostgresLink(URL, lambda _: None, say=self.said.append)
        monkeypatch.setattr(self.link, "_wait", self._wait)

    def use(self) -> str:
        """Do the work that fails as the server is told."""
        return self.link.use(self._work)

    def _work(self, _connection: object) -> str:
        if (error := next(self._answers, None)) is not None:
            raise error
        return "done"

    def _connect(self, **_options: Any) -> Any:
        self.connections += 1
        if self.refuses and (error := next(self._answers, None)) is not None:
            raise error
        return SimpleNamespace(close=lambda: None, execute=lambda _: None)

    def _wait(self, seconds: float, *futures: Future[Any]) -> None:
        if futures and not self.hangs:
            wait(futures, 60)
            return
        if not futures:
            self.waits_s.append(seconds)
        self.now_s += seconds
        if self.now_s >= self.hurries_at_s:
            self.link.hurry()


PASSING = [
    REFUSED,
    psycopg.InterfaceError("the connection is closed"),
    errors.AdminShutdown("terminating connection"),
    errors.CannotConnectNow("the database system is starting up"),
    errors.TooManyConnections("sorry, too many clients already"),
    errors.QueryCanceled("canceling statement due to statement timeout"),
    errors.IdleInTransactionSessionTimeout("terminating connection"),
    errors.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction"),
    errors.DeadlockDetected("deadlock"),
    errors.UndefinedTable("relation does not exist"),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_what_passes_is_tried_again(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """On a new connection, after a moment."""
    world = World(monkeypatch, error, error)

    assert world.use() == "done"
    assert (world.connections, world.waits_s) == (3, [0.05, 0.05])


def test_a_server_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute; each later use fails at once, and no text has the password."""
    world = World(monkeypatch, *[REFUSED] * 1000)

    for _ in range(3):
        with pytest.raises(
            LedgerError, match=r"could not be reached for 60 s: .*refused; Is it"
        ) as gone:
            world.use()
        assert "s3cret" not in str(gone.value)
        assert gone.value.exit_code == 5
    assert world.now_s == 60
    assert max(world.waits_s) == 2.0
    assert world.connections < 100


@pytest.mark.parametrize(
    "text",
    [
        'FATAL:  password authentication failed for user "worker"',
        'FATAL:  database "quota" does not exist',
        'FATAL:  role "worker" does not exist',
        'FATAL:  no pg_hba.conf entry for host "10.0.0.1"',
    ],
)
def test_a_wrong_address_is_no_outage(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """At first the user must act, at once; later the server may only be coming back."""
    refused = psycopg.OperationalError(text)
    with pytest.raises(ConfigError, match="check the address"):
        World(monkeypatch, refused).use()

    world = World(monkeypatch, None, refused)
    world.use()
    assert world.use() == "done"


def test_missing_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    """At first a mistake of the user, later a ledger that is gone: waiting is of no use."""
    denied = errors.InsufficientPrivilege("permission denied for table")
    with pytest.raises(ConfigError, match="the user's rights"):
        World(monkeypatch, denied).use()

    world = World(monkeypatch, None, denied)
    world.use()
    with pytest.raises(LedgerError, match="can't be used: permission denied"):
        world.use()
    assert world.waits_s == []


def test_a_decision_that_fails_keeps_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is passed on, and the transaction rolled back."""
    world = World(monkeypatch, ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        world.use()

    assert world.use() == "done"
    assert world.connections == 1


def test_closing_ends_the_waiting() -> None:
    """A thread that waits for a server is not waited for."""
    link, waits = PostgresLink("postgresql://127.0.0.1:9/none", lambda _: None), threading.Event()
    failures = list[str]()

    def work(*_: object) -> None:
        waits.set()
        raise REFUSED

    def use() -> None:
        try:
            link.use(work)
        except LedgerError as error:
            failures.append(str(error))

    link._connected = lambda: None  # type: ignore[method-assign, assignment, return-value]
    thread = threading.Thread(target=use)
    thread.start()
    waits.wait(60)
    link.close()
    thread.join(60)

    assert failures == ["postgresql://127.0.0.1:9/none: was closed while it could not be reached"]


def test_an_answer_that_never_comes_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that keeps its connections and says nothing counts as gone."""
    clock = SimpleNamespace(now_s=0.0)
    for module in (postgres_link, postgres_connection):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    said = list[str]()

    def exchange() -> Generator[int, int, str]:
        while (yield 1) != 2:
            pass
        return "answer"

    def drive(step: Callable[[], int]) -> Any:
        link = PostgresLink(URL, lambda _: None, say=said.append)
        steps = postgres_connection._watched(exchange(), link._watch)
        next(steps)
        while True:
            try:
                steps.send(step())
            except StopIteration as end:
                return end.value

    assert drive(lambda: 2) == "answer"

    def silent() -> int:
        clock.now_s += 0.1
        return 0

    with pytest.raises(psycopg.OperationalError, match="did not answer for 40 s"):
        drive(silent)
    assert [text.count("no answer yet") for text in said] == [1]


def test_the_user_is_told_of_a_server_that_can_not_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At once, once an outage, with host and reason, until when, and without the password; and when it is back."""
    world = World(monkeypatch, *[REFUSED] * 9)
    world.refuses = True
    assert world.use() == "done"
    away, back = world.said
    found = re.fullmatch(
        r"postgresql://worker@db/quota: the ledger can't be reached: .*Connection refused; Is it "
        r"on\?; trying again until \d\d:\d\d:\d\d, and nothing is sent meanwhile",
        away,
    )
    assert found
    assert "s3cret" not in away
    assert back.endswith("the ledger answers again, after 0 s")
    assert not world.link.is_away


def test_a_connection_that_is_made_again_at_once_is_no_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that closes idle connections is not away."""
    world = World(monkeypatch, psycopg.OperationalError("terminating connection"))

    assert (world.use(), world.said) == ("done", [])


@pytest.mark.parametrize("hurries_at_s", [0.0, 7.0, 30.0])
def test_a_hurry_ends_the_waiting(monkeypatch: pytest.MonkeyPatch, hurries_at_s: float) -> None:
    """A server that is away is given two seconds from the first try, and then fails each use at once."""
    world = World(monkeypatch, *[REFUSED] * 1000)
    world.refuses = True
    world.hurries_at_s = hurries_at_s

    for _ in range(2):
        with pytest.raises(LedgerError, match="could not be reached"):
            world.use()
    assert 2.0 <= world.now_s <= hurries_at_s + 2.0


def test_a_host_that_drops_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    """After three seconds the user is told, and until when; a hurry leaves the hanging attempt alone."""
    world, release = World(monkeypatch), threading.Event()
    world.hangs, world.hurries_at_s = True, 10.0
    monkeypatch.setattr(
        postgres_connection.Connection, "connect", lambda **_options: release.wait(60)
    )
    try:
        with pytest.raises(LedgerError, match="connection timeout expired"):
            world.use()
    finally:
        release.set()
    assert [text.count("no answer yet") for text in world.said] == [1]
    assert world.link.is_away


def test_a_server_that_answers_is_not_hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in flight is counted while a run drains, also on a connection that was lost."""
    world = World(monkeypatch, None, psycopg.OperationalError("terminating connection"))
    world.link.hurry()

    assert [world.use() for _ in range(3)] == ["done"] * 3
