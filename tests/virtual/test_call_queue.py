import asyncio
from collections.abc import Iterator

import pytest

from gemini_batch.clock import Clock
from gemini_batch.engine import call_queue as module
from gemini_batch.engine.call_queue import Backlog, Turn
from gemini_batch.engine.concurrency import AdaptiveConcurrency
from gemini_batch.records import Call, Stop, StopReason
from tests.builders import MODEL, make_call
from tests.virtual.clock import run


def name(turn: Turn | Stop | None) -> str | None:
    """Return a turn as text: the call's id and the attempt."""
    if turn is None:
        return None
    return f"{turn.call.id} {turn.attempt}" if isinstance(turn, Turn) else turn.reason


async def turn_of(backlog: Backlog) -> Turn:
    """Return the next turn, which is there at once."""
    async with asyncio.timeout(0):
        turn = await backlog.next()
    assert isinstance(turn, Turn)
    return turn


def filled(clock: Clock, *ids: str) -> Backlog:
    """Return a backlog of calls."""
    backlog = Backlog(clock)
    backlog.fill({MODEL: (make_call(call_id) for call_id in ids)}, AdaptiveConcurrency(100))
    return backlog


def test_retries_that_are_due_come_first() -> None:
    """A retry whose time has come goes before new calls, the one that is due the longest before the others."""

    async def scenario(clock: Clock) -> list[str | None]:
        backlog = filled(clock, "a", "b", "c")
        turns = [await turn_of(backlog) for _ in range(2)]
        for turn, due_s in zip(turns, (2.0, 1.0), strict=True):
            backlog.later(Turn(turn.call, 2), due_s)
            backlog.ended(turn)
        await asyncio.sleep(5)
        return [name(await backlog.next()) for _ in range(3)]

    assert run(scenario) == ["b 2", "a 2", "c 1"]


def test_a_retry_that_is_not_due_holds_nobody_up() -> None:
    """New calls go while a retry waits."""

    async def scenario(clock: Clock) -> tuple[str | None, float]:
        backlog = filled(clock, "a", "b")
        first = await turn_of(backlog)
        backlog.later(Turn(first.call, 2), 100.0)
        return name(await backlog.next()), clock.steady_s()

    found, now_s = run(scenario)
    assert (found, now_s < 1) == ("b 1", True)


def test_waits_exactly_until_the_next_is_due() -> None:
    """With nothing but retries the next one comes when it is due, and not a turn of the loop later; a sooner one that is added wakes."""

    async def scenario(clock: Clock) -> list[tuple[str | None, float]]:
        backlog, found = filled(clock, "a", "b"), []
        turns = [await turn_of(backlog), await turn_of(backlog)]

        async def worker() -> None:
            for _ in turns:
                found.append((name(await backlog.next()), clock.steady_s()))  # noqa: PERF401 # it waits in between

        async with asyncio.TaskGroup() as group:
            backlog.later(turns[0], 60.0)
            group.create_task(worker())
            await asyncio.sleep(5)
            backlog.later(turns[1], 30.0)
        return found

    (first, first_s), (second, second_s) = run(scenario)
    assert (first, second) == ("b 1", "a 1")
    assert pytest.approx((first_s, second_s), abs=1e-3) == (30.0, 60.0)


def test_ends_by_counting() -> None:
    """While a call is in flight it may come back: the end is only when each one that was handed out has ended."""

    async def scenario(clock: Clock) -> list[str | None]:
        backlog, found = filled(clock, "a"), []
        turn = await turn_of(backlog)

        async def worker() -> None:
            while isinstance(again := await backlog.next(), Turn):
                found.append(name(again))
                backlog.ended(again)

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(worker())
            await asyncio.sleep(10)
            backlog.later(Turn(turn.call, 2), clock.steady_s() + 1)
            backlog.ended(turn)
        return found

    assert run(scenario) == ["a 2"]


def test_closing_wakes_all() -> None:
    """Who waits gets nothing more at once, neither retries nor new calls."""

    async def scenario(clock: Clock) -> float:
        backlog = filled(clock, "a")
        turn = await turn_of(backlog)
        backlog.later(turn, 1000.0)

        async def worker() -> None:
            assert await backlog.next() is None

        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(worker())
            await asyncio.sleep(1)
            backlog.close()
        assert await backlog.next() is None
        return clock.steady_s()

    assert pytest.approx(run(scenario), abs=1e-3) == 1.0


def test_a_cancelled_wait_takes_nothing() -> None:
    """A worker that is cancelled while it waits leaves the turn to the others, and the count right."""

    async def scenario(clock: Clock) -> list[str | None]:
        backlog = filled(clock, "a")
        turn = await turn_of(backlog)
        backlog.later(turn, 10.0)
        backlog.ended(turn)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(backlog.next())
            await asyncio.sleep(1)
            waiting.cancel()
        last = await backlog.next()
        assert isinstance(last, Turn)
        backlog.ended(last)
        return [name(last), name(await backlog.next())]

    assert run(scenario) == ["a 1", None]


def test_a_stop_among_the_calls_is_handed_out() -> None:
    """What ends the run comes in its place among the calls."""

    async def scenario(clock: Clock) -> list[str | None]:
        backlog = Backlog(clock)
        calls: list[Call | Stop] = [
            make_call("a"),
            Stop(StopReason.MANIFEST_CHANGED, "edited"),
            make_call("b"),
        ]
        backlog.fill({MODEL: iter(calls)}, AdaptiveConcurrency(100))
        return [name(await backlog.next()) for _ in range(2)]

    assert run(scenario) == ["a 1", "manifest_changed"]


def test_calls_are_taken_one_by_one() -> None:
    """No call is read before somebody is free to send it."""

    async def scenario(clock: Clock) -> list[str]:
        taken: list[str] = []

        def calls() -> Iterator[Call]:
            for call_id in "abc":
                taken.append(call_id)
                yield make_call(call_id)

        backlog = Backlog(clock)
        backlog.fill({MODEL: calls()}, AdaptiveConcurrency(100))
        await backlog.next()
        return taken

    assert run(scenario) == ["a"]


def test_retries_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """While very many retries wait, no new call is taken in."""
    monkeypatch.setattr(module, "MAX_WAITING", 3)

    async def scenario(clock: Clock) -> list[str | None]:
        backlog, found = filled(clock, *"abcdef"), []
        for _ in range(4):
            turn = await backlog.next()
            assert isinstance(turn, Turn)
            found.append(name(turn))
            backlog.later(Turn(turn.call, turn.attempt + 1), 3600.0)
            backlog.ended(turn)
        return found

    assert run(scenario) == ["a 1", "b 1", "c 1", "a 2"]


def test_no_more_is_handed_out_than_the_flow_allows() -> None:
    """A worker waits until another's turn has ended, when the flow allows no more at once."""

    async def scenario(clock: Clock) -> tuple[str | None, float]:
        backlog = Backlog(clock)
        backlog.fill(
            {MODEL: (make_call(call_id) for call_id in ("a", "b"))}, AdaptiveConcurrency(1)
        )
        asyncio.get_running_loop().call_later(7, backlog.ended, await turn_of(backlog))
        return name(await backlog.next()), clock.steady_s()

    found, now_s = run(scenario)
    assert (found, round(now_s)) == ("b 1", 7)


# --- several models ---------------------------------------------------------------------------------------------------


def of_two_models(clock: Clock, *, calls: int = 3) -> Backlog:
    """Return a backlog of the calls a0, a1 … of one model and b0, b1 … of another."""
    backlog = Backlog(clock)
    lanes = {
        model: iter([make_call(f"{model}{number}", model=model) for number in range(calls)])
        for model in "ab"
    }
    backlog.fill(lanes, AdaptiveConcurrency(100))
    return backlog


def test_a_model_that_waits_for_its_quota_is_in_nobody_s_way() -> None:
    """The next call is of the model of which the fewest wait for leave, and of these of the one that has the fewest in flight."""

    async def scenario(clock: Clock) -> list[str]:
        backlog, found = of_two_models(clock), []
        for _ in range(6):
            turn = await turn_of(backlog)
            found.append(turn.call.id)
            if turn.call.request.model == "b":
                backlog.sent(turn)
        return found

    assert run(scenario) == ["a0", "b0", "b1", "b2", "a1", "a2"]


def test_models_take_turns_while_none_waits() -> None:
    """With few in flight the first model of a manifest does not take them all."""

    async def scenario(clock: Clock) -> list[str]:
        backlog, found = of_two_models(clock), []
        for _ in range(6):
            turn = await turn_of(backlog)
            found.append(turn.call.id)
            backlog.sent(turn)
        return found

    assert run(scenario) == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_a_model_is_held_until_its_time() -> None:
    """Nothing new of it is taken in before, others go on, and whoever waits for it gets it then."""

    async def scenario(clock: Clock) -> list[tuple[str | None, float]]:
        backlog, found = of_two_models(clock, calls=1), []
        backlog.hold("a", 600.0)
        for _ in range(2):
            turn = await backlog.next()
            found.append((name(turn), round(clock.steady_s())))
            assert isinstance(turn, Turn)
            backlog.ended(turn)
        return [*found, (name(await backlog.next()), round(clock.steady_s()))]

    assert run(scenario) == [("b0 1", 0), ("a0 1", 600), (None, 600)]


def test_a_model_that_is_dropped_leaves_nothing_to_wait_for() -> None:
    """Neither its new calls nor its retries are handed out any more."""

    async def scenario(clock: Clock) -> tuple[list[str | None], float]:
        backlog = of_two_models(clock, calls=2)
        turns = [await turn_of(backlog), await turn_of(backlog)]
        for turn in turns:
            backlog.later(Turn(turn.call, 2), 1.0 if turn.call.request.model == "b" else 3600.0)
            backlog.ended(turn)
        backlog.drop("a")
        found = []
        while isinstance(again := await backlog.next(), Turn):
            found.append(name(again))
            backlog.ended(again)
        return found, clock.steady_s()

    found, now_s = run(scenario)
    assert (found, round(now_s)) == (["b1 1", "b0 2"], 1)
