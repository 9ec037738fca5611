import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import pytest

from gemini_batch.clock import Clock
from gemini_batch.engine import call_queue as module
from gemini_batch.engine.breaker import server_breaker
from gemini_batch.engine.call_queue import CallQueue
from gemini_batch.engine.concurrency import AdaptiveConcurrency
from gemini_batch.engine.lanes import Attempt
from gemini_batch.records import Call, Stop, StopReason
from tests.builders import MODEL, make_call
from tests.virtual.clock import run


def name(attempt: Attempt | Stop | None) -> str | None:
    """Return an attempt as text: the call's id and the attempt."""
    if attempt is None:
        return None
    return f"{attempt.call.id} {attempt.number}" if isinstance(attempt, Attempt) else attempt.reason


async def attempt_of(queue: CallQueue) -> Attempt:
    """Return the next attempt, which is there at once."""
    async with asyncio.timeout(0):
        attempt = await queue.next()
    assert isinstance(attempt, Attempt)
    return attempt


def queue_of(
    clock: Clock, calls: Mapping[str, Iterable[Call | Stop]], most: int = 100
) -> CallQueue:
    """Return a queue of calls by model."""
    lanes = {model: iter(of_model) for model, of_model in calls.items()}
    return CallQueue(lanes, AdaptiveConcurrency(most), server_breaker(lambda: 0.5), clock)


def filled(clock: Clock, *ids: str) -> CallQueue:
    """Return a queue of calls of one model."""
    return queue_of(clock, {MODEL: map(make_call, ids)})


def next_of(attempt: Attempt) -> Attempt:
    """Return the next attempt of a call."""
    return replace(attempt, number=attempt.number + 1)


def test_retries_that_are_due_come_first() -> None:
    """A retry whose time has come goes before new calls, the one that is due the longest before the others."""

    async def scenario(clock: Clock) -> list[str | None]:
        queue = filled(clock, "a", "b", "c")
        attempts = [await attempt_of(queue) for _ in range(2)]
        for attempt, due_s in zip(attempts, (2.0, 1.0), strict=True):
            queue.put_back(next_of(attempt), due_s)
            queue.ended(attempt)
        await asyncio.sleep(5)
        return [name(await queue.next()) for _ in range(3)]

    assert run(scenario) == ["b 2", "a 2", "c 1"]


def test_a_retry_that_is_not_due_holds_nobody_up() -> None:
    """New calls go while a retry waits."""

    async def scenario(clock: Clock) -> tuple[str | None, float]:
        queue = filled(clock, "a", "b")
        first = await attempt_of(queue)
        queue.put_back(next_of(first), 100.0)
        return name(await queue.next()), clock.steady_s()

    found, now_s = run(scenario)
    assert (found, now_s < 1) == ("b 1", True)


def test_waits_exactly_until_the_next_is_due() -> None:
    """With nothing but retries the next one comes when it is due, and not a turn of the loop later; a sooner one that is added wakes."""

    async def scenario(clock: Clock) -> list[tuple[str | None, float]]:
        queue, found = filled(clock, "a", "b"), []
        attempts = [await attempt_of(queue), await attempt_of(queue)]

        async def worker() -> None:
            for _ in attempts:
                found.append((name(await queue.next()), clock.steady_s()))  # noqa: PERF401 # it waits in between

        async with asyncio.TaskGroup() as group:
            queue.put_back(attempts[0], 60.0)
            group.create_task(worker())
            await asyncio.sleep(5)
            queue.put_back(attempts[1], 25.0)
        return found

    (first, first_s), (second, second_s) = run(scenario)
    assert (first, second) == ("b 1", "a 1")
    assert pytest.approx((first_s, second_s), abs=1e-3) == (30.0, 60.0)


def test_ends_by_counting() -> None:
    """While a call is in flight it may come back: the end is only when each one that was handed out has ended."""

    async def scenario(clock: Clock) -> list[str | None]:
        queue, found = filled(clock, "a"), []
        attempt = await attempt_of(queue)

        async def worker() -> None:
            while isinstance(again := await queue.next(), Attempt):
                found.append(name(again))
                queue.ended(again)

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(worker())
            await asyncio.sleep(10)
            queue.put_back(next_of(attempt), 1.0)
            queue.ended(attempt)
        return found

    assert run(scenario) == ["a 2"]


def test_closing_wakes_all() -> None:
    """Who waits gets nothing more at once, neither retries nor new calls."""

    async def scenario(clock: Clock) -> float:
        queue = filled(clock, "a")
        attempt = await attempt_of(queue)
        queue.put_back(attempt, 1000.0)

        async def worker() -> None:
            assert await queue.next() is None

        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(worker())
            await asyncio.sleep(1)
            queue.close()
        assert await queue.next() is None
        return clock.steady_s()

    assert pytest.approx(run(scenario), abs=1e-3) == 1.0


def test_a_cancelled_wait_takes_nothing() -> None:
    """A worker that is cancelled while it waits leaves the attempt to the others, and the count right."""

    async def scenario(clock: Clock) -> list[str | None]:
        queue = filled(clock, "a")
        attempt = await attempt_of(queue)
        queue.put_back(attempt, 10.0)
        queue.ended(attempt)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(queue.next())
            await asyncio.sleep(1)
            waiting.cancel()
        last = await queue.next()
        assert isinstance(last, Attempt)
        queue.ended(last)
        return [name(last), name(await queue.next())]

    assert run(scenario) == ["a 1", None]


def test_a_stop_among_the_calls_is_handed_out() -> None:
    """What ends the run comes in its place among the calls."""

    async def scenario(clock: Clock) -> list[str | None]:
        calls: list[Call | Stop] = [
            make_call("a"),
            Stop(StopReason.MANIFEST_CHANGED, "edited"),
            make_call("b"),
        ]
        queue = queue_of(clock, {MODEL: calls})
        return [name(await queue.next()) for _ in range(2)]

    assert run(scenario) == ["a 1", "manifest_changed"]


def test_calls_are_taken_one_by_one() -> None:
    """No call is read before somebody is free to send it."""

    async def scenario(clock: Clock) -> list[str]:
        taken: list[str] = []

        def calls() -> Iterator[Call]:
            for call_id in "abc":
                taken.append(call_id)
                yield make_call(call_id)

        queue = queue_of(clock, {MODEL: calls()})
        await queue.next()
        return taken

    assert run(scenario) == ["a"]


def test_retries_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """While very many retries wait, no new call is taken in."""
    monkeypatch.setattr(module, "MAX_WAITING", 3)

    async def scenario(clock: Clock) -> list[str | None]:
        queue, found = filled(clock, *"abcdef"), []
        for _ in range(4):
            attempt = await queue.next()
            assert isinstance(attempt, Attempt)
            found.append(name(attempt))
            queue.put_back(next_of(attempt), 3600.0)
            queue.ended(attempt)
        return found

    assert run(scenario) == ["a 1", "b 1", "c 1", "a 2"]


def test_no_more_is_handed_out_than_the_concurrency_allows() -> None:
    """A worker waits until another's attempt has ended, when the concurrency allows no more at once."""

    async def scenario(clock: Clock) -> tuple[str | None, float]:
        queue = queue_of(clock, {MODEL: map(make_call, "ab")}, most=1)
        asyncio.get_running_loop().call_later(7, queue.ended, await attempt_of(queue))
        return name(await queue.next()), clock.steady_s()

    found, now_s = run(scenario)
    assert (found, round(now_s)) == ("b 1", 7)


# --- several models ---------------------------------------------------------------------------------------------------


def of_two_models(clock: Clock, *, calls: int = 3) -> CallQueue:
    """Return a queue of the calls a0, a1 … of one model and b0, b1 … of another."""
    return queue_of(
        clock,
        {
            model: [make_call(f"{model}{number}", model=model) for number in range(calls)]
            for model in "ab"
        },
    )


def test_a_model_that_waits_for_its_quota_is_in_nobody_s_way() -> None:
    """The next call is of the model of which the fewest wait for admission, and of these of the one that has the fewest in flight."""

    async def scenario(clock: Clock) -> list[str]:
        queue, found = of_two_models(clock), []
        for _ in range(6):
            attempt = await attempt_of(queue)
            found.append(attempt.call.id)
            if attempt.call.request.model == "b":
                queue.sent(attempt)
        return found

    assert run(scenario) == ["a0", "b0", "b1", "b2", "a1", "a2"]


def test_models_take_turns_while_none_waits() -> None:
    """With few in flight the first model of a manifest does not take them all."""

    async def scenario(clock: Clock) -> list[str]:
        queue, found = of_two_models(clock), []
        for _ in range(6):
            attempt = await attempt_of(queue)
            found.append(attempt.call.id)
            queue.sent(attempt)
        return found

    assert run(scenario) == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_a_model_is_held_until_its_time() -> None:
    """Nothing new of it is taken in before, others go on, and whoever waits for it gets it then."""

    async def scenario(clock: Clock) -> list[tuple[str | None, float]]:
        queue, found = of_two_models(clock, calls=1), []
        queue.lanes["a"].quiet_until_s = 600.0
        for _ in range(2):
            attempt = await queue.next()
            found.append((name(attempt), round(clock.steady_s())))
            assert isinstance(attempt, Attempt)
            queue.ended(attempt)
        return [*found, (name(await queue.next()), round(clock.steady_s()))]

    assert run(scenario) == [("b0 1", 0), ("a0 1", 600), (None, 600)]


def test_a_model_that_is_dropped_leaves_nothing_to_wait_for() -> None:
    """Neither its new calls nor its retries are handed out any more."""

    async def scenario(clock: Clock) -> tuple[list[str | None], float]:
        queue = of_two_models(clock, calls=2)
        attempts = [await attempt_of(queue), await attempt_of(queue)]
        for attempt in attempts:
            queue.put_back(next_of(attempt), 1.0 if attempt.call.request.model == "b" else 3600.0)
            queue.ended(attempt)
        queue.close_lane(queue.lanes["a"])
        found = []
        while isinstance(again := await queue.next(), Attempt):
            found.append(name(again))
            queue.ended(again)
        return found, clock.steady_s()

    found, now_s = run(scenario)
    assert (found, round(now_s)) == (["b1 1", "b0 2"], 1)


# --- circuit breakers -------------------------------------------------------------------------------


def test_one_call_probes_and_the_others_follow() -> None:
    """While the server can't be reached one call of all models is handed out, after the delay; then all."""

    async def scenario(clock: Clock) -> list[tuple[str | None, float]]:
        queue, found = of_two_models(clock, calls=2), []
        queue.server.failed(0.0, "refused")
        probe = await attempt_of_later(queue)
        found.append((name(probe), clock.steady_s()))
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(queue.next()) for _ in range(3)]
            await asyncio.sleep(10)
            assert not any(task.done() for task in waiting)
            queue.server.succeeded()
            queue.wake()
            await asyncio.wait(waiting)
            found += [(name(task.result()), clock.steady_s()) for task in waiting]
        return found

    found = run(scenario)
    assert [name for name, _ in found] == ["a0 1", "b0 1", "a1 1", "b1 1"]
    assert pytest.approx([at_s for _, at_s in found], abs=1e-3) == [1.0, 11.0, 11.0, 11.0]


async def attempt_of_later(queue: CallQueue) -> Attempt:
    """Return the next attempt, which is not there yet."""
    attempt = await queue.next()
    assert isinstance(attempt, Attempt)
    return attempt


def test_a_new_call_probes_a_model_before_retries() -> None:
    """No call uses up its attempts by probing while another one was never sent."""

    async def scenario(clock: Clock) -> list[str | None]:
        queue = filled(clock, "a", "b", "c")
        first = await attempt_of(queue)
        while not first.lane.breaker.is_open:
            first.lane.breaker.failed(clock.steady_s(), "503")
        queue.put_back(next_of(first))
        queue.ended(first)
        found = []
        for _ in range(3):
            attempt = await attempt_of_later(queue)
            found.append(name(attempt))
            queue.ended(attempt)
        return found

    assert run(scenario) == ["b 1", "c 1", "a 2"]


def test_a_closed_lane_takes_no_call_back() -> None:
    """A call whose model has stopped is left to the next run, and nobody is told of a retry."""

    async def scenario(clock: Clock) -> tuple[bool, Attempt | Stop | None]:
        queue = queue_of(clock, {"a": map(make_call, ["a"]), "b": []})
        attempt = await attempt_of(queue)
        queue.close_lane(attempt.lane)
        is_back = queue.put_back(next_of(attempt), 1.0)
        queue.ended(attempt)
        return is_back, await queue.next()

    assert run(scenario) == (False, None)
