"""Machines on one ledger in PostgreSQL, and what can happen to it."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from gemini_batch.clock import boot_time_s, utc_now
from gemini_batch.quota.limits import Weights
from gemini_batch.quota.results import Granted
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.shared_budget import SharedBudget
from gemini_batch.quota.storage.base import NewStates, QuotaKey, StoredState
from gemini_batch.quota.storage.postgres import PostgresStorage
from gemini_batch.records import Limits
from tests.ledgers import reconcile
from tests.postgres import USER, Server, serving
from tests.torture.ledger_race import PER_MIN, raced
from tests.torture.proxy import Proxy

M = "model"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Return a server, which the tests share."""
    with serving() as running:
        yield running


def through(proxy: Proxy) -> str:
    """Return the address of the server behind a proxy."""
    return f"postgresql://{USER}@127.0.0.1:{proxy.port}/postgres"


def granted(ledger: SharedLedger, tokens: int) -> Granted:
    """Reserve once."""
    result = ledger.reserve(M, Weights(tokens=tokens), 1, boot_time_s(), utc_now())
    assert isinstance(result, Granted)
    return result


def test_120_changes_through_a_line_that_breaks_count_once(server: Server) -> None:
    """Of the commits 15 % lose their connection, before or after the server has them: each change is counted exactly once."""
    server.empty()
    limits = Limits(tokens_per_min=10**9, minute_s=3600.0, requests_per_day=10**6)
    with Proxy(server.port) as proxy:
        storage = PostgresStorage(through(proxy))
        storage.open()
        with SharedLedger(storage, limits) as ledger:
            grants = [granted(ledger, 1000).grant for _ in range(120)]
            proxy.cut_share = 0.15
            for grant in grants[:60]:
                ledger.refund(M, grant)
            for grant in grants[60:]:
                reconcile(ledger, M, grant, tokens=10)
            proxy.cut_share = 0.0
            used = {
                (entry.bound.of, entry.bound.span): entry.used
                for entry in ledger.used(M, 0.0, utc_now())
            }
            assert storage.asked == sum(proxy.cuts.values())
        assert min(proxy.cuts.values()) > 3
    assert used["tokens", "a minute"] == 60 * 1000 + 60 * 10
    assert used["requests", "a day"] == 60


def test_a_budget_counts_once_through_a_line_that_breaks(server: Server) -> None:
    """Reservations and settlements are made again where their outcome is unknown, and count once."""
    server.empty()
    with Proxy(server.port, cut_share=0.3) as proxy:
        storage = PostgresStorage(through(proxy))
        budget = SharedBudget(storage, 100.0, run_id="run", shard="1").join()
        for _ in range(20):
            money = budget.reserve(0.5)
            assert money is not None
            budget.settle(money, 0.1)
        assert sum(proxy.cuts.values()) > 3
        assert budget.use().spent_usd == pytest.approx(2.0)
        assert budget.use().reserved_usd == 0.0
        storage.close()


@pytest.mark.parametrize("what", ["kills", "restart", "kill-9", "clock-forward", "clock-back"])
def test_machines_with_wrong_clocks_overrun_nothing(what: str, server: Server) -> None:
    """Machines race while they, or the server, are killed, or its clock is set: no interval is overrun, and each continues."""
    result = raced(what, 4, 8.0, server)

    assert result.most <= PER_MIN
    assert min(result.shares) > 0


def test_a_replica_takes_over() -> None:
    """After the primary is killed the run goes on with the replica, whose last commits may be lost: nothing is overrun."""
    with serving() as primary:
        result = raced("failover", 3, 8.0, primary)

    assert result.most <= PER_MIN
    assert min(result.shares) > 0


def test_a_machine_that_stands_still_holds_nothing(server: Server) -> None:
    """A machine that stops in the middle of a transaction loses the lock after five seconds, though its connection is there, and decides again when it goes on."""
    server.empty()
    decided, woken, key = threading.Event(), threading.Event(), QuotaKey("", "", M)
    stopped = PostgresStorage(server.url)

    def decide(states: Sequence[StoredState], *_: object) -> tuple[bool, NewStates]:
        decided.set()
        woken.wait(60)
        return states[0] is not None, {key: None}

    with (
        SharedLedger(PostgresStorage(server.url), Limits()) as ledger,
        ThreadPoolExecutor(1) as machine,
    ):
        result = machine.submit(stopped.transact, [key], decide, "ask")
        decided.wait(60)

        granted(ledger, 1)

        woken.set()
        assert result.result(60)  # it found what was reserved meanwhile
        assert ledger.storage.scan().states == {}
    stopped.close()
    assert stopped.asked == 1
