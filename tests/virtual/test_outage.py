import asyncio

from gemini_batch.engine.outage import Outage
from tests.virtual.clock import run


def test_one_call_probes_and_hands_over() -> None:
    """Without an outage each call may be sent; in one the first to ask, and when it has left the next; when it is over, all."""
    outage = Outage()
    assert outage.lets("a")
    assert outage.lets("b")
    outage.failed(0.0, "refused")
    assert [outage.lets(call_id) for call_id in "abab"] == [True, False, True, False]
    outage.left("b")
    assert not outage.lets("b")
    outage.left("a")
    assert [outage.lets(call_id) for call_id in "bab"] == [True, False, True]
    outage.over()
    assert outage.lets("a")
    assert (outage.length_s(9.0), outage.why) == (0.0, "")


def test_who_waits_goes_on_when_it_is_over_or_the_run_stops() -> None:
    """Waiting calls are woken one at a time while it goes on, all of them at its end, and all of them when the run stops."""

    async def scenario(_clock: object) -> None:
        outage, stop, gone = Outage(), asyncio.Event(), list[str]()

        async def wait(call_id: str) -> None:
            await outage.turn(call_id, stop)
            gone.append(call_id)

        async with asyncio.TaskGroup() as group:
            for by_stop in (False, True):
                gone.clear()
                outage.failed(0.0, "refused")
                for call_id in "abcdef":
                    group.create_task(wait(call_id))
                await asyncio.sleep(1)
                assert gone == ["a"]
                outage.left("a")
                await asyncio.sleep(1)
                assert len(gone) == 2
                assert outage.lets("x")  # it had its grant before the outage, and probes first
                outage.left(gone[1])
                await asyncio.sleep(1)
                assert len(gone) == 2
                outage.left("x")
                await asyncio.sleep(1)
                assert len(gone) == 3
                if by_stop:
                    stop.set()
                outage.over()
                outage.failed(
                    1.0, "refused"
                )  # of a call that was on its way: it must keep nobody back
                await asyncio.sleep(1)
                assert by_stop == (sorted(gone) == list("abcdef"))
                outage.over()
                await asyncio.sleep(1)
                assert sorted(gone) == list("abcdef")

    run(scenario)


def test_calls_that_fail_in_the_same_pause_are_one_round() -> None:
    """Rounds count pauses, and the length counts from the first failure."""
    outage = Outage()
    assert [outage.failed(10.0, "refused"), outage.failed(10.0, "refused")] == [1, 2]
    outage.wait_until(15.0)
    outage.wait_until(12.0)
    assert [outage.failed(14.0, "refused"), outage.failed(15.0, "refused")] == [2, 3]
    assert outage.length_s(25.0) == 15.0
