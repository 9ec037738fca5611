import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.clock import Clock
from gemini_batch.output.rows import read_rows
from gemini_batch.records import Answer, FailureKind, Stop, StopReason
from tests.builders import (
    PICTURE,
    Step,
    fails,
    make_call,
    picture,
    says,
)
from tests.virtual.clock import run
from tests.virtual.dispatch.world import Script, World


def spent_usd(world: World) -> float:
    """What all rows cost."""
    return sum(float(row["cost_usd"]) for row in read_rows(world.out))


def answers(content: dict[str, Any], usage: dict[str, Any]) -> Step:
    """Answer with a content without an image."""
    body = {"candidates": [{"content": content, "finishReason": "STOP"}], "usageMetadata": usage}
    return Step(lambda _call, _incoming: Answer(200, orjson.dumps(body)))


@pytest.mark.promise("budget")
def test_a_budget_is_used_and_never_passed(tmp_path: Path) -> None:
    """As many calls as the budget allows are made, at any concurrency; the run then ends by itself and says why."""

    async def scenario(clock: Clock) -> None:
        calls = [make_call(f"c{n}") for n in range(20)]
        script: Script = {call.id: [picture(thoughts_tokens=200)] for call in calls}
        world = World(tmp_path, clock, script, max_cost_usd=1.0, calls=calls, concurrency=20)
        await world.send()
        assert len(world.transport.sent) == 7  # at 0.1368 each
        assert 0.95 < spent_usd(world) < 1.0
        assert world.reasons == [StopReason.BUDGET]
        assert "--max-cost" in world.dispatcher.stops[0].message

    run(scenario)


SENSELESS: dict[str, dict[str, Any]] = {
    "less than an image": {"promptTokenCount": 10, "totalTokenCount": 510},
    "less than an image by modality": {
        "promptTokenCount": 10,
        "totalTokenCount": 1130,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 3}],
    },
    "one token": {"candidatesTokenCount": 1},
    "below zero": {"promptTokenCount": -9, "candidatesTokenCount": -1, "totalTokenCount": -10},
    "a total below the prompt": {"promptTokenCount": 900, "totalTokenCount": 12},
    "no number": {"promptTokenCount": "10", "totalTokenCount": None},
    "without end": {"promptTokenCount": 2**31 - 1, "totalTokenCount": 2**31 - 1},
    "far too many": {"promptTokenCount": 10, "totalTokenCount": 10_000_000},
    "nothing": {"trafficType": "ON_DEMAND"},
}


@pytest.mark.parametrize("name", SENSELESS)
def test_a_budget_is_not_passed_by_counts_that_make_no_sense(tmp_path: Path, name: str) -> None:
    """An image costs its list price where the usage can't be true; the row keeps the usage."""
    usage = SENSELESS[name]

    async def scenario(clock: Clock) -> None:
        calls = [make_call(f"c{n}") for n in range(20)]
        script: Script = {call.id: [picture(usage=usage)] for call in calls}
        world = World(tmp_path, clock, script, max_cost_usd=1.0, calls=calls, concurrency=1)
        await world.send()
        assert len(world.transport.sent) == 7  # at 0.1344 each
        assert spent_usd(world) == pytest.approx(7 * 0.1344, abs=0.02)
        assert world.reasons == [StopReason.BUDGET]

    run(scenario)

    told = usage.get("totalTokenCount")
    (found,) = {row["usage"]["total_tokens"] for row in read_rows(tmp_path)}
    assert found == (told if isinstance(told, int) and told >= 0 else None)


def test_a_text_without_tokens_is_not_free(tmp_path: Path) -> None:
    """A text that came without any output tokens is booked like an image, and of unknown cost."""

    async def scenario(clock: Clock) -> None:
        step = answers({"parts": [{"text": "I can't draw that."}]}, {"totalTokenCount": 0})
        calls = [make_call(f"c{n}") for n in range(20)]
        script: Script = {call.id: [step] for call in calls}
        world = World(tmp_path, clock, script, max_cost_usd=1.0, calls=calls, concurrency=1)
        await world.send()
        assert len(world.transport.sent) == 7
        assert {row["cost_usd"] for row in read_rows(tmp_path)} == {None}

    run(scenario)


def test_money_that_comes_back_is_used(tmp_path: Path) -> None:
    """Answers that cost nothing make room for calls that waited for them."""

    async def scenario(clock: Clock) -> None:
        world = World(
            tmp_path,
            clock,
            {"a": [says(400)], "b": [says(400)]},
            max_cost_usd=0.30,
            calls=map(make_call, "abcd"),
        )
        await world.send()
        assert world.statuses == {
            "a": "rejected",
            "b": "rejected",
            "c": "succeeded",
            "d": "succeeded",
        }
        assert world.reasons == []

    run(scenario)


def test_what_may_have_been_billed_is_spent(tmp_path: Path) -> None:
    """An attempt that gave nothing and may have been billed counts with what it was expected to cost."""

    async def scenario(clock: Clock) -> None:
        world = World(
            tmp_path,
            clock,
            {"a": [fails(FailureKind.TIMEOUT), PICTURE]},
            max_cost_usd=0.30,
            calls=map(make_call, "ab"),
            concurrency=1,
        )
        await world.send()
        assert len(world.transport.sent) == 2
        assert world.reasons == [StopReason.BUDGET]

    run(scenario)


def test_a_budget_that_takes_no_call_sends_none(tmp_path: Path) -> None:
    """With less money than one call may cost nothing is sent."""

    async def scenario(clock: Clock) -> None:
        world = World(tmp_path, clock, {}, max_cost_usd=0.10, calls=[make_call("a")])
        await world.send()
        assert world.transport.sent == []
        assert world.reasons == [StopReason.BUDGET]

    run(scenario)


def test_who_waits_for_money_is_woken_by_a_stop(tmp_path: Path) -> None:
    """A run that is stopped does not wait for money first."""

    async def scenario(clock: Clock) -> None:
        world = World(
            tmp_path,
            clock,
            {"a": [picture(100.0)]},
            max_cost_usd=0.15,
            calls=map(make_call, "ab"),
            concurrency=2,
        )
        asyncio.get_running_loop().call_later(
            5.0, world.dispatcher.stop, Stop(StopReason.INTERRUPTED, "interrupted")
        )
        await world.send()
        assert world.statuses == {"a": "succeeded"}
        assert world.reasons == [StopReason.INTERRUPTED]

    run(scenario)
