import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import pytest

from gemini_batch.clock import Clock
from gemini_batch.quota.limiter import RateLimiter
from gemini_batch.quota.limits import Weights
from gemini_batch.quota.results import DayClosed, Grant
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import MemoryStorage
from gemini_batch.quota.storage.base import Decide, NewStates, OnUnknown, QuotaKey, StoredState
from gemini_batch.records import Limits
from tests.unit.quota.contract import CYCLE_S, NEXT_DAY, PICTURE, M
from tests.unit.quota.server_storage import ServerStorage
from tests.virtual.clock import VirtualLoop, run
from tests.virtual.servers import BucketServer, FixedMinuteServer, Server, SlidingServer

T = TypeVar("T")
ASKED = "the server asked for a pause"


class BlockingStorage(MemoryStorage):
    """A storage as one on disk would be: each answer takes a while, in a thread."""

    blocks: ClassVar[bool] = True
    writes = 0

    def transact(
        self,
        keys: Sequence[QuotaKey],
        decide: Decide[T],
        on_unknown: OnUnknown,
        *,
        is_look: bool = False,
    ) -> T:
        """Count how often something is written."""

        def counted(
            states: Sequence[StoredState], now_s: float, server: str
        ) -> tuple[T, NewStates]:
            result, states_to_write = decide(states, now_s, server)
            self.writes += bool(states_to_write)
            return result, states_to_write

        return super().transact(keys, counted, on_unknown)


def slow(clock: Clock, blocked_s: float) -> Clock:
    """Return a clock whose blocking work takes so many seconds."""

    async def run_slowly(function: Callable[[], T], /) -> T:
        answer = function()
        await asyncio.sleep(blocked_s)
        return answer

    return replace(clock, run_blocking=run_slowly)


def gate_of(clock: Clock, **limits: Any) -> RateLimiter:
    """Return a gate with a ledger of its own."""
    return RateLimiter(SharedLedger(MemoryStorage(), Limits(**limits)), Limits(**limits), clock)


async def granted(gate: RateLimiter, weights: Weights = PICTURE, model: str = M) -> Grant:
    """Acquire without ever stopping."""
    grant = await gate.acquire(model, weights, asyncio.Event())
    assert isinstance(grant, Grant), grant
    return grant


# --- against servers --------------------------------------------------------------------------------------------------


async def send_all(clock: Clock, rpm: int, length_s: float, callers: int) -> list[float]:
    """Return when requests left, of callers who always want to send."""
    gate, stop, sent = gate_of(clock, requests_per_min=rpm), asyncio.Event(), list[float]()

    async def caller() -> None:
        while await gate.acquire(M, PICTURE, stop):
            sent.append(clock.steady_s())

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
        await asyncio.sleep(length_s)
        stop.set()
    return sent


@pytest.mark.parametrize(
    ("rpm", "cycles"),
    [
        (15, 40),
        (60, 15),
        (1000, 2),
        *(
            pytest.param(*long, marks=pytest.mark.torture)
            for long in ((15, 150), (60, 60), (1000, 6))
        ),
    ],
)
@pytest.mark.promise("quota")
def test_uses_the_quota_up_without_a_429(rpm: int, cycles: int) -> None:
    """With delays up to a second no server says 429, and in steady state at least 97.5 % of the quota are used."""
    start_s = CYCLE_S * 2.5
    end_s = start_s + CYCLE_S * cycles
    sent = run(lambda clock: send_all(clock, rpm, end_s, callers=30))

    dice = random.Random(rpm)
    arrivals = sorted(at_s + dice.random() for at_s in sent)
    servers: list[Server] = [
        *(FixedMinuteServer(rpm, phase_s=phase_s) for phase_s in (0.0, 7.0, 29.5, 55.0)),
        SlidingServer(rpm),
        BucketServer(rpm),
    ]
    assert [0] * len(servers) == [
        sum(not server.accepts(at_s) for at_s in arrivals) for server in servers
    ]
    used = sum(start_s <= at_s < end_s for at_s in sent) / (rpm * (end_s - start_s) / 60)
    assert used >= 0.975


def test_servers_do_say_429() -> None:
    """The simulated servers refuse what a plain token bucket sends: a burst of twice the quota."""
    burst = [0.0] * 20 + [59.0] * 20
    assert [
        sum(not server.accepts(at_s) for at_s in burst)
        for server in (FixedMinuteServer(15, phase_s=30.0), SlidingServer(10), BucketServer(15))
    ] == [10, 30, 11]


def test_paces_a_minute_over_its_sixth() -> None:
    """A fresh quota is not sent in one burst: sixty requests take ten seconds, evenly."""
    sent = run(lambda clock: send_all(clock, 60, 30.0, callers=70))

    assert len(sent) == 60
    assert [i / 6 for i in range(60)] == pytest.approx(sent, abs=1e-2)


# --- order ------------------------------------------------------------------------------------------------------------


def test_first_come_first_served() -> None:
    """Callers go in the order of their coming, heavy or light."""

    async def scenario(clock: Clock) -> list[int]:
        gate, order = gate_of(clock, requests_per_min=60, tokens_per_min=100), list[int]()

        async def caller(number: int) -> None:
            await granted(gate, Weights(tokens=90 if number % 3 == 0 else 1))
            order.append(number)

        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(caller(number))
        return order

    assert list(range(20)) == run(scenario)


def test_models_do_not_wait_for_each_other() -> None:
    """A model that is paused, or whose minute is full, holds no other model."""

    async def scenario(clock: Clock) -> float:
        gate = gate_of(clock, requests_per_min=1)
        await gate.pause("paused", 60.0, ASKED)
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(granted(gate, model="paused"))
                group.create_task(granted(gate, model="busy"))
            await asyncio.sleep(0)
            await granted(gate)
            return clock.steady_s()

    assert run(scenario) < 0.01


def test_flex_is_paced_with_standard_and_priority_on_its_own() -> None:
    """Sixty a minute are sent in turns by two lanes at one pace; eighteen of priority at a slower one."""

    async def scenario(clock: Clock) -> dict[str, list[float]]:
        gate, at_s = gate_of(clock, requests_per_min=60), dict[str, list[float]]()

        async def caller(lane: str) -> None:
            grant = await granted(gate, model=lane)
            await gate.reconcile(lane, grant, tokens=1)
            at_s.setdefault(lane, []).append(clock.steady_s())

        async with asyncio.TaskGroup() as group:
            for lane in ("m", "m (flex)", "m (priority)") * 4:
                group.create_task(caller(lane))
        return at_s

    sent = run(scenario)
    both = sorted([*sent["m"], *sent["m (flex)"]])
    assert both == pytest.approx([number / 6 for number in range(8)], abs=1e-2)
    assert sent["m (priority)"] == pytest.approx([n * 10 / 18 for n in range(4)], abs=1e-2)


# --- stopping and cancelling ------------------------------------------------------------------------------------------


def test_stop_wakes_all_at_once() -> None:
    """When the run stops, all who wait return nothing, even in a pause of hours."""

    async def scenario(clock: Clock) -> tuple[list[object], float]:
        gate, stop = gate_of(clock, requests_per_min=60), asyncio.Event()
        await gate.pause(M, 7200.0, ASKED)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(gate.acquire(M, PICTURE, stop)) for _ in range(100)]
            await asyncio.sleep(5.0)
            stop.set()
        return [task.result() for task in tasks], clock.steady_s()

    answers, at_s = run(scenario)
    assert answers == [None] * 100
    assert at_s == pytest.approx(5.0, abs=0.01)


@pytest.mark.parametrize("place", ["first, asleep", "in line", "at the bucket"])
def test_stop_of_one_caller_leaves_the_others(place: str) -> None:
    """Each caller has its own stop: it returns at once wherever it waits, and the others go on."""

    async def scenario(clock: Clock) -> tuple[object, float, float]:
        gate, stop = gate_of(clock, requests_per_min=1), asyncio.Event()
        await granted(gate)
        if place != "at the bucket":  # which takes ten seconds to leak
            await asyncio.sleep(11.0)
        async with asyncio.TaskGroup() as group:
            before = group.create_task(granted(gate)) if place == "in line" else None
            stopped = group.create_task(gate.acquire(M, PICTURE, stop))
            after = group.create_task(granted(gate))
            await asyncio.sleep(2.0)
            stop.set()
            answer, woken_s = await stopped, clock.steady_s()
            last = await after
            assert before is None or before.done()
        return answer, woken_s, last.at_s

    answer, woken_s, last_s = run(scenario)
    assert answer is None
    assert woken_s == pytest.approx(2.0 if place == "at the bucket" else 13.0, abs=0.01)
    # What the sleeper had reserved goes to the next in line; the one before in line has used a minute of its own.
    assert last_s == CYCLE_S * (2 if place == "in line" else 1)


def test_after_a_stop_nobody_is_let_through() -> None:
    """A caller that comes when the run has stopped gets nothing, even with all the quota free."""

    async def scenario(clock: Clock) -> object:
        stop = asyncio.Event()
        stop.set()
        return await gate_of(clock).acquire(M, PICTURE, stop)

    assert run(scenario) is None


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.torture) for seed in range(2, 8))]
)
def test_cancelled_callers_hold_nobody(seed: int) -> None:
    """Whoever is cancelled wherever it waits, the others all get through, in order, and no minute is overrun."""

    async def scenario(clock: Clock) -> tuple[list[int], list[int], list[float]]:
        dice, ledger = (
            random.Random(seed),
            SharedLedger(BlockingStorage(), Limits(requests_per_min=1000), steady_s=clock.steady_s),
        )
        gate = RateLimiter(ledger, ledger.limits, slow(clock, 0.01))
        order, sent = list[int](), list[float]()

        async def caller(number: int) -> None:
            await granted(gate)
            order.append(number)
            sent.append(clock.steady_s())

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(caller(number)) for number in range(1500)]
            for victim in dice.sample(tasks[:1100], 400):
                await asyncio.sleep(dice.random() * 0.03)
                victim.cancel()
        return [number for number, task in enumerate(tasks) if not task.cancelled()], order, sent

    survivors, order, sent = run(scenario)
    assert order == survivors
    assert 1100 <= len(order) < 1400
    server = SlidingServer(1000)
    assert all(server.accepts(at_s) for at_s in sent)


def test_cancelled_sleeper_hands_on_its_reservation() -> None:
    """The next in line takes over what a cancelled caller had reserved: nothing is lost."""

    async def scenario(clock: Clock) -> float:
        gate = gate_of(clock, requests_per_min=1)
        await granted(gate)
        async with asyncio.TaskGroup() as group:
            sleeper = group.create_task(granted(gate))
            heir = group.create_task(granted(gate))
            await asyncio.sleep(30.0)
            sleeper.cancel()
        return heir.result().at_s

    assert run(scenario) == CYCLE_S


def test_a_reservation_serves_only_its_like() -> None:
    """A heavy call does not go on what a light one had reserved, and nothing is reserved for calls that want another weight."""

    async def scenario(clock: Clock) -> tuple[Weights, int]:
        limits = Limits(requests_per_min=1000, tokens_per_min=100)
        ledger = SharedLedger(MemoryStorage(), limits)
        gate = RateLimiter(ledger, limits, clock)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(granted(gate, Weights(tokens=tokens)))
                for tokens in (99, 2, 2, 3, 4, 5)
            ]
            await asyncio.sleep(30.0)
            for light in tasks[1:3]:
                light.cancel()
        requests = ledger.used(M, clock.steady_s(), clock.utc())[-2].used
        return tasks[3].result().weights, requests

    # What was reserved for the two that were cancelled went back to the day.
    assert run(scenario) == (Weights(tokens=3), 4)


# --- looking again ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rpm", [60, 1000])
def test_a_late_grant_is_spent(rpm: int) -> None:
    """A process that slept through its slot asks anew: no grant is used when it has expired, nor one of several in a slot."""

    async def scenario(clock: Clock) -> list[float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        dice, gate, late = random.Random(1), gate_of(clock, requests_per_min=rpm), list[float]()

        async def caller() -> None:
            for _ in range(20):
                grant = await granted(gate)
                late.append(clock.steady_s() - grant.expires_at_s)

        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(caller())
            while len(late) < 200:
                # A suspended machine, or a loop that something blocked.
                await asyncio.sleep(dice.random() * 60 / rpm)
                loop.jump(dice.choice([0.3, 0.7, 5.0, 70.0]))
        return late

    assert max(run(scenario)) <= 0


def test_a_pause_revokes_what_was_granted() -> None:
    """A pause that begins while a caller sleeps for its slot holds it too, and it asks anew."""

    async def scenario(clock: Clock) -> float:
        gate = gate_of(clock, requests_per_min=1)
        await granted(gate)
        async with asyncio.TaskGroup() as group:
            sleeper = group.create_task(granted(gate))
            await asyncio.sleep(50.0)
            await gate.pause(M, 34.0, ASKED)
        return sleeper.result().at_s

    # Its slot at 61.25 s is spent, and the next one is a cycle later.
    assert run(scenario) == 2 * CYCLE_S


def test_a_pause_by_another_process_is_seen() -> None:
    """After a sleep the gate asks the ledger, which others share, and not its own memory."""

    async def scenario(clock: Clock) -> float:
        limits = Limits(requests_per_min=60)
        ledger = SharedLedger(BlockingStorage(), limits, steady_s=clock.steady_s)
        ours, theirs = (RateLimiter(ledger, limits, slow(clock, 0.001)) for _ in range(2))
        for _ in range(60):
            await granted(ours)
        async with asyncio.TaskGroup() as group:
            sleeper = group.create_task(granted(ours))
            await asyncio.sleep(30.0)
            await theirs.pause(M, 100.0, ASKED)
        return sleeper.result().at_s

    assert run(scenario) > 130.0


def test_day_closed_for_all_who_wait() -> None:
    """When the day closes, all who wait are told when the next one opens, and none waits for it."""

    async def scenario(clock: Clock) -> tuple[list[object], float]:
        gate = gate_of(clock, requests_per_min=1)
        await granted(gate)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(gate.acquire(M, PICTURE, asyncio.Event())) for _ in range(3)]
            await asyncio.sleep(1.0)
            await gate.close_day(M)
        return [task.result() for task in tasks], clock.steady_s()

    answers, at_s = run(scenario)
    assert [DayClosed(NEXT_DAY, "the server closed the day")] * 3 == answers
    assert at_s < 62.0


# --- the ledger behind it ---------------------------------------------------------------------------------------------


def test_without_limits_nothing_is_awaited() -> None:
    """Where there is no limit, a grant comes without giving up the turn once."""

    async def scenario(clock: Clock) -> None:
        gate, stop = gate_of(clock), asyncio.Event()
        for _ in range(1000):
            acquiring: Coroutine[Any, Any, object] = gate.acquire(M, PICTURE, stop)
            with pytest.raises(StopIteration):
                acquiring.send(None)

    run(scenario)


def test_one_reservation_serves_several() -> None:
    """A ledger on disk is asked once for what goes in one slot, and the quota is used up all the same."""

    async def scenario(clock: Clock) -> tuple[int, float]:
        limits = Limits(requests_per_min=6000)
        storage = BlockingStorage()
        gate = RateLimiter(
            SharedLedger(storage, limits, steady_s=clock.steady_s), limits, slow(clock, 0.005)
        )
        async with asyncio.TaskGroup() as group:
            for _ in range(2400):
                group.create_task(granted(gate))
        return storage.writes, clock.steady_s()

    reservations, took_s = run(scenario)
    assert 2400 / 25 <= reservations <= 2400 / 25 * 1.1
    assert took_s < 6.0


def test_settling_and_giving_back_reach_the_ledger() -> None:
    """What a call really used, and what never left, is the ledger's to know."""

    async def scenario(clock: Clock) -> dict[str, int]:
        limits = Limits(tokens_per_min=100, requests_per_day=9)
        ledger = SharedLedger(BlockingStorage(), limits, steady_s=clock.steady_s)
        gate = RateLimiter(ledger, limits, clock)
        used, unsent = (
            await granted(gate, Weights(tokens=50)),
            await granted(gate, Weights(tokens=5)),
        )
        await gate.reconcile(M, used, tokens=7, usd_micros=3)
        await gate.refund(M, unsent)
        return {
            entry.bound.label: entry.used for entry in ledger.used(M, clock.steady_s(), clock.utc())
        }

    used = run(scenario)
    assert (used["100 tokens a minute"], used["9 requests a day"]) == (12, 1)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_server_is_told_of_several_calls_at_once(*, is_cancelled: bool) -> None:
    """What ends within a tenth of a second is one transaction, also when the run is cancelled."""

    async def scenario(clock: Clock) -> tuple[int, int, float]:
        limits = Limits(tokens_per_min=10_000)
        storage = ServerStorage(lambda: 1e9 + clock.steady_s())
        ledger = SharedLedger(storage, limits, steady_s=clock.steady_s)
        gate = RateLimiter(ledger, limits, clock)
        grants = [await granted(gate, Weights(tokens=50)) for _ in range(20)]
        decisions, began_s = storage.decisions, clock.steady_s()
        tasks = [asyncio.create_task(gate.reconcile(M, grant, tokens=9)) for grant in grants]
        await asyncio.sleep(0.05)
        if is_cancelled:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        took_s, decided = clock.steady_s() - began_s, storage.decisions - decisions
        (used,) = (
            entry.used for entry in ledger.used(M, 0.0, clock.utc()) if entry.bound.of == "tokens"
        )
        return decided, used, took_s

    decided, used, took_s = run(scenario)
    assert (decided, used) == (1, 20 * 9)
    assert took_s == pytest.approx(0.05 if is_cancelled else 0.1, abs=0.01)


def test_settling_what_is_not_limited_is_nothing() -> None:
    """Without a limit on tokens or dollars the ledger is not asked to settle."""

    async def scenario(clock: Clock) -> int:
        asked, ledger = (
            0,
            SharedLedger(BlockingStorage(), Limits(requests_per_min=60), steady_s=clock.steady_s),
        )

        async def count(function: Callable[[], T], /) -> T:
            nonlocal asked
            asked += 1
            return function()

        gate = RateLimiter(ledger, ledger.limits, replace(clock, run_blocking=count))
        await gate.reconcile(M, await granted(gate), tokens=7, usd_micros=3)
        return asked

    assert run(scenario) == 1


def test_too_heavy_a_call_leaves_the_line() -> None:
    """A call that can never be sent raises, and the next one goes."""

    async def scenario(clock: Clock) -> Grant:
        gate = gate_of(clock, tokens_per_min=10)
        with pytest.raises(ValueError, match="never be sent"):
            await granted(gate, Weights(tokens=11))
        return await granted(gate, Weights(tokens=10))

    assert run(scenario).at_s < 0.01


def test_waits_are_told() -> None:
    """Whoever watches hears until when nothing is sent, and why."""

    async def scenario(clock: Clock) -> list[tuple[str, float, str]]:
        told = list[tuple[str, float, str]]()
        limits = Limits(requests_per_min=1)
        gate = RateLimiter(
            SharedLedger(MemoryStorage(), limits), limits, clock, lambda *wait: told.append(wait)
        )
        await granted(gate)
        await granted(gate)
        await gate.pause(M, 99.9, ASKED, overrun=True)  # up to the end of a slot
        await granted(gate)
        await granted(gate)
        return [(model, round(until_s, 2), why) for model, until_s, why in told]

    assert run(scenario) == [
        (M, 61.25, "1 request a minute"),
        (M, 161.25, ASKED),
        (M, 161.25 + 62.25, "1 request a minute"),
    ]


def test_a_call_that_is_expected_to_take_more_than_a_limit_waits_for_all_of_it() -> None:
    """What was planned to fit never fails in mid-run, however much answers took: it is counted with the whole limit."""

    async def scenario(clock: Clock) -> None:
        gate = gate_of(clock, tokens_per_min=1000)
        estimated = Weights(tokens=100)
        first = await granted(gate, estimated)
        await gate.reconcile(M, first, tokens=5000, estimated=estimated)
        second, third = await granted(gate, estimated), await granted(gate, estimated)
        assert [grant.weights.tokens for grant in (first, second, third)] == [100, 1000, 1000]
        assert third.at_s - second.at_s >= 60
        other = await granted(gate, estimated, "another model")
        assert other.weights.tokens == 100

    run(scenario)


def test_a_caller_that_is_cancelled_at_the_check_takes_its_reservation_along() -> None:
    """The ledger may have cancelled it meanwhile: the next caller makes one of its own."""

    async def scenario(clock: Clock) -> float:
        limits = Limits(requests_per_min=1)
        ledger = SharedLedger(BlockingStorage(), limits, steady_s=clock.steady_s)
        gate = RateLimiter(ledger, limits, slow(clock, 0.1))
        await granted(gate)
        async with asyncio.TaskGroup() as group:
            sleeper = group.create_task(granted(gate))
            heir = group.create_task(granted(gate))
            await asyncio.sleep(CYCLE_S + 0.05 - clock.steady_s())
            sleeper.cancel()
        return heir.result().at_s

    assert run(scenario) == 2 * CYCLE_S
