"""A run on a ledger that other machines share, and that goes away."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from gemini_batch.client import interactive
from gemini_batch.clock import Clock
from gemini_batch.engine import setup
from gemini_batch.engine.shared_money import SharedMoney
from gemini_batch.engine.summary import Summary
from gemini_batch.errors import LedgerError
from gemini_batch.events import Stopping
from gemini_batch.quota.limiter import RateLimiter
from gemini_batch.quota.limits import Weights
from gemini_batch.quota.results import Grant
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.shared_budget import SharedBudget
from gemini_batch.quota.storage.base import Decide, OnUnknown, QuotaKey
from gemini_batch.records import Limits, Stop, StopReason
from tests.builders import ENDPOINT, ScriptedTransport, picture
from tests.unit.quota.server_storage import ServerStorage
from tests.virtual.clock import run
from tests.virtual.desk import CONFIG, Desk

T = TypeVar("T")
JOBS = {f"robot-{number}": "A robot" for number in range(8)}


def now_s() -> float:
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


class GoneStorage(ServerStorage):
    """A server that is there for so many transactions."""

    def __init__(self, there: float) -> None:
        super().__init__(lambda: 1e9 + now_s())
        self.there = there
        self.opened = False

    def open(self) -> None:
        """Connect."""
        self.opened = True
        if self.there <= 0:
            raise LedgerError("postgresql://db/quota: the ledger could not be reached for 60 s")

    def transact(
        self,
        keys: Sequence[QuotaKey],
        decide: Decide[T],
        on_unknown: OnUnknown,
        *,
        is_look: bool = False,
    ) -> T:
        """Decide, or fail."""
        self.open()
        self.there -= 1
        return super().transact(keys, decide, on_unknown, is_look=is_look)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Return a manifest of eight jobs."""
    found = Desk(tmp_path, monkeypatch)
    found.write(**JOBS)
    return found


def sent_with(
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    storage: GoneStorage,
    limits: Limits | None = None,
    gone_at_s: float = 1e9,
) -> Summary:
    """Run on a storage that the run opens itself."""
    monkeypatch.setattr("gemini_batch.quota.storage.shared_storage", lambda _url, **_: storage)
    ledger = partial(SharedLedger, steady_s=now_s)
    monkeypatch.setattr("gemini_batch.quota.shared.SharedLedger", ledger)
    config = replace(CONFIG, limits=limits or Limits(), ledger="postgresql://db/quota")

    async def scenario(clock: Clock) -> Summary:
        desk.transport = ScriptedTransport(clock, {each: [picture(5.0)] for each in JOBS})
        monkeypatch.setattr(interactive, "InteractiveTransport", lambda *_: desk.transport)
        asyncio.get_running_loop().call_later(gone_at_s, setattr, storage, "there", 0)
        return await going.send(ENDPOINT, clock)

    with setup.open_run(desk.path, desk.out, config, desk.events.append) as going:
        return run(scenario)


@pytest.mark.parametrize("there", [2, 3, 4])
@pytest.mark.parametrize("limits", [Limits(), Limits(tokens_per_min=10_000)])
def test_a_ledger_that_goes_away_drains_the_run(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, there: int, limits: Limits
) -> None:
    """What is in flight is written, nothing is sent without a permit, and it ends with 5."""
    storage = GoneStorage(there)
    summary = sent_with(desk, monkeypatch, storage, limits)

    assert summary.exit_code == 5
    assert [stop["reason"] for stop in summary.stops] == ["ledger"]
    assert "could not be reached" in summary.stops[0]["message"]
    sent = len(desk.sent())
    assert 0 < sent < len(JOBS)
    assert (summary.by_status["succeeded"], summary.left) == (sent, len(JOBS) - sent)
    assert not summary.needs_person


def test_what_was_left_is_sent_when_it_is_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run goes on, and pays for nothing twice."""
    first = sent_with(desk, monkeypatch, GoneStorage(3))
    second = sent_with(desk, monkeypatch, GoneStorage(1e9))

    assert (second.exit_code, second.left) == (0, 0)
    assert len(desk.sent()) == first.left


def test_a_ledger_that_was_never_there(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent; the user must look, for the address may be wrong."""
    summary = sent_with(desk, monkeypatch, GoneStorage(0))

    assert (summary.exit_code, summary.needs_person, summary.left) == (5, True, len(JOBS))
    assert [stop["reason"] for stop in summary.stops] == ["ledger"]
    assert desk.sent() == []
    assert (desk.out / "summary.json").exists()


def test_a_signal_while_the_ledger_is_waited_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait ends, nothing is sent, and the run ends as one that was interrupted; only that is its reason."""
    storage = GoneStorage(0)
    monkeypatch.setattr("gemini_batch.quota.storage.shared_storage", lambda _url, **_: storage)
    config = replace(CONFIG, ledger="postgresql://db/quota")
    hurried = list[bool]()
    monkeypatch.setattr(storage, "hurry", lambda: hurried.append(True))
    with setup.open_run(desk.path, desk.out, config, desk.events.append) as going:
        opened = storage.open

        def interrupted() -> None:
            if not hurried:
                going.interrupt(Stop(StopReason.INTERRUPTED, "interrupted"))
            opened()

        monkeypatch.setattr(storage, "open", interrupted)
        summary = run(lambda clock: going.send(ENDPOINT, clock))

    assert (summary.exit_code, summary.left, hurried) == (130, len(JOBS), [True])
    assert [stop["reason"] for stop in summary.stops] == ["interrupted"]
    assert any(isinstance(event, Stopping) for event in desk.events)


def test_a_server_is_waited_for_apart_from_the_disk(desk: Desk) -> None:
    """The threads that make answers durable are free while a ledger does not answer; one that is away is not asked for its use."""
    storage = ServerStorage(lambda: 1e9)
    config = replace(CONFIG, limits=Limits(requests_per_min=60, tokens_per_min=1000))

    async def scenario(clock: Clock) -> None:
        async def refuse(_work: object) -> object:
            pytest.fail("a thread of the disk waits")

        ledger = SharedLedger(storage, config.limits, steady_s=now_s)
        waiting = replace(clock, run_blocking=refuse)  # type: ignore[arg-type]
        limiter = RateLimiter(ledger, config.limits, waiting)
        grant = await limiter.acquire("model", Weights(), asyncio.Event())
        assert isinstance(grant, Grant)
        await limiter.refund("model", grant)
        money = SharedMoney(
            SharedBudget(storage, 1.0, run_id="run", shard="1").join(), ledger, waiting
        )
        share = await money.reserve(0.5, 0.5, asyncio.Event())
        assert share is not None
        await money.settle(share, 0.5)
        with setup.open_run(desk.path, desk.out, config, desk.events.append, ledger) as going:
            assert await going.used(waiting)
            storage.is_away = True
            assert await going.used(waiting) == {}

    run(scenario)


def test_a_run_without_work_needs_no_ledger(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not connect."""
    sent_with(desk, monkeypatch, GoneStorage(1e9))

    gone = GoneStorage(0)
    summary = sent_with(desk, monkeypatch, gone)

    assert (summary.exit_code, summary.stops, gone.opened) == (0, [], False)


def test_a_drain_asks_no_more(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that end after the ledger is gone keep their rows, though their use is not counted."""
    storage, limits = GoneStorage(1e9), Limits(tokens_per_min=10_000)
    summary = sent_with(desk, monkeypatch, storage, limits, gone_at_s=2.0)

    assert summary.exit_code == 5
    assert summary.by_status == {"succeeded": CONFIG.concurrency}
