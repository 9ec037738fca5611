"""The limit on work per iteration of the event loop."""

import asyncio
import itertools
from collections import Counter

import pytest

from gemini_batch.client import fairness


@pytest.mark.parametrize(("budget_s", "between"), [(-1.0, ["another"]), (100.0, [])])
async def test_an_iteration_decodes_answers_within_the_budget(
    monkeypatch: pytest.MonkeyPatch, budget_s: float, between: list[str]
) -> None:
    """With the budget used up, an answer waits for others; with time left it continues at once."""
    monkeypatch.setattr(fairness, "BUDGET_S", budget_s)
    budget, others = fairness.LoopBudget(), list[str]()
    await budget.acquire()
    asyncio.get_running_loop().call_soon(others.append, "another")
    await budget.acquire()
    assert others == between


async def test_all_waiting_answers_are_served_in_later_iterations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All waiting answers are served, also behind one that was cancelled while it waited."""
    monkeypatch.setattr(fairness, "BUDGET_S", 0.0)
    budget, loop = fairness.LoopBudget(), asyncio.get_running_loop()
    iterations, served = itertools.count(), list[tuple[int, int]]()
    current = 0

    def tick() -> None:
        nonlocal current
        current = next(iterations)
        if len(served) < 3 * 9:
            loop.call_soon(tick)

    async def answer(number: int) -> None:
        for _ in range(3):
            await budget.acquire()
            served.append((number, current))

    tick()
    tasks = [asyncio.create_task(answer(number)) for number in range(10)]
    await asyncio.sleep(0)
    tasks[7].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert Counter(number for number, _ in served) == {
        number: 3 for number in range(10) if number != 7
    }
    assert max(Counter(at for _, at in served).values()) == 1
    assert current < 3 * len(served)


async def test_a_waiting_answer_is_woken_though_those_before_it_were_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that were woken are cancelled before they run: the others are served all the same."""
    monkeypatch.setattr(fairness, "BUDGET_S", 0.0)
    budget = fairness.LoopBudget()
    tasks = [asyncio.create_task(budget.acquire()) for _ in range(5)]
    await asyncio.sleep(0)  # the first is served
    await asyncio.sleep(0)  # the next two are woken
    assert [task.done() for task in tasks] == [True, False, False, False, False]
    tasks[1].cancel()
    tasks[2].cancel()
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.cancelled() for task in tasks] == [False, True, True, False, False]
