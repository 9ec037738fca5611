import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemini_batch.catalog.models import DEFAULT_MODEL
from gemini_batch.catalog.prices import ModelPrice
from gemini_batch.plan import (
    CallState,
    CallTotals,
    DownscaleTotals,
    JobError,
    Plan,
    Planner,
    request_sha256,
)
from gemini_batch.records.job import Job
from tests.unit.plan.jobs import (
    LARGE,
    PLANNER,
    SMALL,
    about,
    expanded,
    job,
    request,
    resolve,
)

# The mean thinking of Pro, 300 tokens, at its text rate.
THINKING_USD = 300 * 12 / 1e6


def plan_of(jobs: list[Job], planned: Plan) -> Plan:
    """Put all jobs into a plan."""
    for line, each in enumerate(jobs, 1):
        planned.add(each, line)
    return planned


def test_plan_of_a_first_run_has_all_calls() -> None:
    """On a first run, every call of every job is pending, in the order of the manifest."""
    planned = plan_of([job(prompt="x", variants=2), job(prompt="y")], Plan(PLANNER))
    assert list(planned.pending(DEFAULT_MODEL)) == [(0, 1), (0, 2), (1, 1)]
    assert (len(planned), planned.todo, planned.count(CallState.NEW)) == (3, 3, 3)


def test_a_model_s_calls_are_pending_by_themselves() -> None:
    """Each model has its own calls in the order of the manifest, also around a job that can't be planned."""
    other = "gemini-2.5-flash-image"
    jobs = [
        job(prompt="x", variants=2),
        job(prompt="y", model=other, variants=3),
        job(prompt="z"),
        job(prompt="w", model=other),
    ]
    planned = plan_of(jobs, Plan(PLANNER))
    with pytest.raises(JobError):
        planned.add(job(prompt="x", images=["?"]), 5)
    planned.add(job(prompt="v"), 6)

    assert planned.models == (DEFAULT_MODEL, other)
    assert list(planned.pending(DEFAULT_MODEL)) == [(0, 1), (0, 2), (2, 1), (5, 1)]
    assert list(planned.pending(other)) == [(1, 1), (1, 2), (1, 3), (3, 1)]


def test_plan_counts_states() -> None:
    """Done calls are not pending; edited ones and those to be retried are, after one that only fetches its image.

    One that waits in a batch comes last, and is not counted among those to be made.
    """
    states = {
        "a": CallState.DONE,
        "a.2": CallState.EDITED,
        "b": CallState.RETRY,
        "b.2": CallState.DONE,
        "c": CallState.NEW,
        "d": CallState.UNFETCHED,
        "e": CallState.WAITING,
    }
    digests: set[str] = set()

    def judge(call_id: str, digest: str, _others: object) -> CallState:
        digests.add(digest)
        return states[call_id]

    jobs = [
        job(id="a", prompt="x", variants=2),
        job(id="b", prompt="x", variants=2),
        job(id="c", prompt="x"),
        job(id="d", prompt="x"),
        job(id="e", prompt="x"),
    ]
    planned = plan_of(jobs, Plan(PLANNER, judge))
    assert list(planned.pending(DEFAULT_MODEL)) == [(3, 1), (0, 2), (1, 1), (2, 1), (4, 1)]
    assert [planned.count(state) for state in CallState] == [1, 2, 1, 1, 0, 1, 1, 0, 0, 0, 0]
    assert (len(planned), planned.todo, planned.total.calls) == (7, 4, 4)
    assert digests == {request_sha256(request(prompt="x"))}


def test_what_is_reused_costs_nothing_and_comes_first() -> None:
    """Reused calls need no quota, so they come first; they count no tokens and no cost."""
    states = {
        "a": CallState.NEW,
        "b": CallState.REUSED,
        "b.2": CallState.RETRY,
        "c": CallState.DONE,
        "d": CallState.REUSED,
    }
    jobs = [job(id=name, prompt="x", variants=2 if name == "b" else 1) for name in "abcd"]
    planned = plan_of(jobs, Plan(PLANNER, lambda call_id, *_: states[call_id]))
    assert list(planned.pending(DEFAULT_MODEL)) == [(1, 1), (3, 1), (0, 1), (1, 2)]
    assert (len(planned), planned.todo, planned.to_send, planned.total.calls) == (5, 4, 2, 2)
    assert planned.total.cost_usd == about(2 * (0.1344 + THINKING_USD) + 2 * 2 / 1e6)


def test_a_plan_of_reused_calls_alone_is_free() -> None:
    """Their model is listed, in case that one must be sent after all, but they cost nothing."""
    line = job(prompt="x" * 40, model="gemini-9-image")
    planned = plan_of([line], Plan(PLANNER, lambda *_: CallState.REUSED))
    assert planned.totals == {
        ("gemini-9-image", "1K"): CallTotals(largest_input_tokens=10, largest_line=1)
    }
    assert (planned.todo, planned.to_send, planned.total.cost_usd) == (1, 0, 0.0)


def test_plan_counts_what_downscaling_saves() -> None:
    """An image counts once for each call that will be sent."""
    jobs = [
        job(id="a", prompt="x", images=["large.jpg", "a.png", "large2.jpg"], variants=3),
        job(id="b", prompt="x", images=["a.png"]),
        job(id="done", prompt="x", images=["large.jpg"]),
        job(id="reused", prompt="x", images=["large.jpg"]),
    ]
    states = {"done": CallState.DONE, "reused": CallState.REUSED}
    planned = plan_of(jobs, Plan(PLANNER, lambda call_id, *_: states.get(call_id, CallState.NEW)))
    assert planned.unusual.downscaled == DownscaleTotals(
        images=6, size_bytes=24_000_000, upload_bytes=6_000_000
    )


def test_the_inline_limit_counts_what_is_sent() -> None:
    """Fourteen large photos are one request when they are downscaled."""
    assert len(request(prompt="x", images=["large.jpg"] * 14).parts) == 15
    assert LARGE.upload_bytes == 1_000_000
    assert replace(LARGE, downscaled=SMALL).upload_bytes == 300
    with pytest.raises(JobError, match=r"got 186\.7 MB of images"):
        Planner(DEFAULT_MODEL, lambda _: replace(LARGE, size_bytes=40_000_000)).request(
            job(prompt="x", images=["large.jpg"] * 14), 1
        )


def test_plan_adds_up_by_model_and_size() -> None:
    """Tokens and cost are those of the calls to be sent, by model and size."""
    jobs = [
        job(prompt="x" * 80, image_size="1K"),
        job(prompt="x" * 40, variants=3),
        job(prompt="x", image_size="4K"),
        job(id="done", prompt="x", model="gemini-3-pro-image"),
    ]
    planned = plan_of(
        jobs,
        Plan(PLANNER, lambda call_id, *_: CallState.DONE if call_id == "done" else CallState.NEW),
    )
    assert planned.totals == {
        (DEFAULT_MODEL, "1K"): CallTotals(
            4, 50, 4 * 1420, about(4 * (0.1344 + THINKING_USD) + 50 * 2 / 1e6), 20, 1
        ),
        (DEFAULT_MODEL, "4K"): CallTotals(1, 1, 2300, about(0.24 + THINKING_USD + 2 / 1e6), 1, 3),
    }
    assert planned.total == CallTotals(
        5, 51, 5 * 300 + 6480, about(5 * (0.1344 + THINKING_USD) + 0.1056 + 51 * 2 / 1e6), 20, 1
    )


def test_plan_adds_up_levels_of_thinking() -> None:
    """Calls of one size with different levels have the sum of their thinking."""
    nano = "gemini-nano-banana-2.1"
    levels = ["minimal", None, "high", "high"]
    jobs = [job(prompt="x", model=nano, thinking=level, variants=2) for level in levels]
    (total,) = plan_of(jobs, Plan(PLANNER)).totals.values()
    assert total.output_tokens == 2 * (4 * 1120 + 200 + 900 + 1800 + 1800)
    assert total.cost_usd == about(
        sum(PLANNER.call(each, 1, 1).estimate.cost_usd or 0 for each in jobs) * 2
    )


def test_a_plan_names_calls_with_many_reference_images() -> None:
    """Models that usually take fewer than fourteen are named, with the first line and the number of lines."""
    lite = "gemini-3.1-flash-lite-image"
    jobs = [
        job(prompt="x", model=lite, images=["a.png"] * 3),
        job(prompt="x", model=lite, images=["a.png"] * 4),
        job(prompt="x", images=["a.png"] * 14),
        job(prompt="x", model=lite, images=["a.png"] * 14),
    ]
    assert plan_of(jobs, Plan(PLANNER)).unusual.many_references == {lite: (2, 2)}


def test_one_unknown_price_makes_the_total_unknown() -> None:
    """A sum with an unknown price is unknown."""
    planned = plan_of([job(prompt="x"), job(prompt="x", model="gemini-9-image")], Plan(PLANNER))
    assert planned.total.calls == 2
    assert planned.total.cost_usd is None
    assert Plan(PLANNER).total == CallTotals()


def test_plan_uses_the_users_prices() -> None:
    """A price from a config file is the price of the plan."""
    planner = Planner("mine", resolve, {"mine": ModelPrice(image_usd={"1K": 0.5})})
    planned = plan_of([job(prompt="x")] * 3, Plan(planner))
    assert planned.total.cost_usd == 1.5


def test_job_that_cannot_be_planned_keeps_its_place() -> None:
    """After a bad job, the indexes of the others are still those of the manifest."""
    planned = Plan(PLANNER)
    with pytest.raises(JobError):
        planned.add(job(prompt="x", images=["?"]), 1)
    planned.add(job(prompt="x"), 2)
    assert list(planned.pending(DEFAULT_MODEL)) == [(1, 1)]


@settings(deadline=None)
@given(st.lists(st.integers(1, 5), max_size=20), st.randoms(use_true_random=False))
def test_pending_is_what_is_not_done(variants: list[int], chance: random.Random) -> None:
    """Pending yields every call that is not done once, in order."""
    jobs = [
        job(id=str(number), prompt="x", variants=count) for number, count in enumerate(variants)
    ]
    done = {call.id for each in jobs for call in expanded(each, 1) if chance.random() < 0.5}
    planned = plan_of(
        jobs,
        Plan(PLANNER, lambda call_id, *_: CallState.DONE if call_id in done else CallState.NEW),
    )
    pending = [
        PLANNER.call(jobs[index], index + 1, variant).id
        for model in planned.models
        for index, variant in planned.pending(model)
    ]
    assert pending == [
        call.id for each in jobs for call in expanded(each, 1) if call.id not in done
    ]
    assert planned.todo == planned.total.calls == len(pending)
