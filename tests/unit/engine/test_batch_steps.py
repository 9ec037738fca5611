"""Each step of a batch, and what a run that finds it does next."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gemini_batch.engine.batch import shares, steps
from gemini_batch.engine.batch.shares import Share
from gemini_batch.engine.batch.steps import Todo
from gemini_batch.output.batch_note import BatchNote, Step
from gemini_batch.records.remote_batch import BatchState, BatchStats, RemoteBatch
from tests.builders import ENDPOINT, MODEL
from tests.virtual.clock import NOON_UTC

UUID = "0123456789abcdef" * 2
NOW = NOON_UTC + timedelta(hours=1)


def note(step: Step, **changes: Any) -> BatchNote:
    """Return the note of a batch that was sent an hour ago."""
    made = BatchNote(UUID, ENDPOINT, "mine", MODEL, 3, 30, 0.2, 0, NOON_UTC, step)
    return replace(made, sent_at=NOON_UTC, **changes)


def remote(state: BatchState, **changes: Any) -> RemoteBatch:
    """Return a batch as the server describes it."""
    made = RemoteBatch("batches/1", state, MODEL, f"gemini_batch {UUID}", created_at=NOON_UTC)
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("step", "todo"),
    [
        (Step.PLANNED, Todo.DROP),
        (Step.UPLOADED, Todo.DROP),
        (Step.CREATING, Todo.SEARCH),
        (Step.CREATED, Todo.ASK),
        (Step.ENDED, Todo.COLLECT),
        (Step.COLLECTING, Todo.COLLECT),
        (Step.COLLECTED, Todo.FINISH),
        (Step.LOST, Todo.SEARCH),
    ],
)
def test_a_run_that_was_killed_at_a_step_is_continued(step: Step, todo: Todo) -> None:
    """What may be paid for is never dropped, and what is not is never looked for."""
    assert steps.next_step(note(step), NOW) is todo


def test_a_lost_batch_is_forgotten_once_it_must_have_expired() -> None:
    """Until then it may turn up."""
    assert steps.next_step(note(Step.LOST), NOON_UTC + timedelta(hours=51)) is Todo.FORGET


@pytest.mark.parametrize(
    ("found", "step"),
    [
        (remote(BatchState.PENDING), Step.CREATED),
        (remote(BatchState.RUNNING), Step.CREATED),
        (remote(BatchState.UNKNOWN), Step.CREATED),
        (remote(BatchState.RUNNING, output_file="files/1"), Step.CREATED),
        (remote(BatchState.SUCCEEDED, output_file="files/1"), Step.ENDED),
        (remote(BatchState.SUCCEEDED), Step.CREATED),
        (remote(BatchState.FAILED), Step.ENDED),
        (remote(BatchState.EXPIRED, output_file="files/1"), Step.ENDED),
        (remote(BatchState.CANCELLED), Step.ENDED),
    ],
)
@pytest.mark.parametrize("before", [Step.CREATING, Step.CREATED, Step.LOST])
def test_what_the_server_says_is_noted(found: RemoteBatch, step: Step, before: Step) -> None:
    """A batch has ended once its state is final, and its results are named or will not be."""
    seen = steps.seen(note(before), found, NOW)
    assert (seen.step, seen.name, seen.created_at) == (step, "batches/1", NOON_UTC)


def test_results_that_are_never_named_are_given_up() -> None:
    """SUCCEEDED without a file: three looks over ten minutes."""
    seen, found = note(Step.CREATED), remote(BatchState.SUCCEEDED)
    for minute, step in ((0, Step.CREATED), (1, Step.CREATED), (2, Step.CREATED), (10, Step.ENDED)):
        seen = steps.seen(seen, found, NOW + timedelta(minutes=minute))
        assert seen.step is step


def test_one_miss_is_forgotten_when_the_batch_is_seen() -> None:
    """Misses count in a row."""
    missed = steps.missed(steps.missed(note(Step.CREATED), NOW), NOW)
    assert missed.misses == 2
    seen = steps.seen(missed, remote(BatchState.RUNNING), NOW)
    assert (seen.misses, seen.missing_since) == (0, None)


@pytest.mark.parametrize(
    ("misses", "minutes", "is_gone"), [(2, 60, False), (3, 9, False), (3, 10, True)]
)
def test_a_batch_is_gone_after_three_misses_over_ten_minutes(
    misses: int,
    minutes: int,
    is_gone: bool,  # noqa: FBT001
) -> None:
    """Neither many looks in a second nor two looks in a day are enough."""
    missing = note(
        Step.CREATED,
        misses=misses,
        missing_since=NOW - timedelta(minutes=minutes),
        name="batches/1",
    )
    assert steps.is_gone(missing, NOW) is is_gone


@pytest.mark.parametrize(
    ("minutes", "looks"),
    [
        ((), 0),
        ((0.1, 0.5, 2), 0),
        ((4.9, 4.95), 0),
        ((5, 9, 9.9), 1),
        ((5, 5.1, 10, 14.9), 2),
        ((5, 10, 15), 3),
        ((5, -600, 10), 3),  # a clock that was wrong
    ],
)
def test_looks_of_a_run_that_waits_count_five_minutes_apart(
    minutes: tuple[float, ...], looks: int
) -> None:
    """A create without an answer is lost after three of them: a quarter of an hour."""
    creating = note(Step.CREATING)
    for each in minutes:
        now = NOON_UTC + timedelta(minutes=each)
        creating = steps.not_found(creating, now, is_first=False)
    assert (creating.looks, creating.looks_left) == (looks, 3 - looks)
    assert steps.is_lost(creating) is (looks >= 3)


@pytest.mark.parametrize("minutes", [(0.1, 0.2, 0.3), (60, 120, 180)])
def test_the_first_look_of_each_run_counts(minutes: tuple[float, ...]) -> None:
    """A create without an answer is lost after three runs; one that was answered never is."""
    creating = note(Step.CREATING)
    for number, each in enumerate(minutes):
        assert (creating.looks_left, steps.is_lost(creating)) == (3 - number, False)
        now = NOON_UTC + timedelta(minutes=each)
        creating = steps.not_found(creating, now, is_first=True)
    assert (creating.looks_left, steps.is_lost(creating)) == (0, True)
    created = replace(creating, step=Step.CREATED)
    assert (created.looks_left, steps.is_lost(created)) == (0, False)


def test_an_orphan_is_found_by_any_of_its_names_the_oldest_first() -> None:
    """By the display name, by the input file, or by its own name; others are not ours."""
    mine = note(Step.CREATING, file="files/7")
    by_name = remote(BatchState.PENDING, created_at=NOW)
    by_file = remote(BatchState.PENDING, name="batches/2", display_name="", input_file="files/7")
    other = remote(BatchState.PENDING, name="batches/3", display_name="gemini_batch 5")
    undated = replace(by_name, name="batches/4", created_at=None)
    assert steps.matching(mine, [undated, by_name, other, by_file]) == [by_file, by_name, undated]


@pytest.mark.parametrize(
    ("changes", "age_h", "is_given_up", "is_cancelled"),
    [
        ({}, 25, False, False),
        ({}, 27, False, True),
        ({}, 1, True, True),
        ({"cancelled_at": NOW}, 27, False, False),
        ({"state": "SUCCEEDED"}, 27, False, False),
    ],
)
def test_a_batch_is_cancelled_once(
    changes: dict[str, Any],
    age_h: int,
    is_given_up: bool,  # noqa: FBT001
    is_cancelled: bool,  # noqa: FBT001
) -> None:
    """Past patience, or when others have its calls; not when it has ended."""
    now = NOON_UTC + timedelta(hours=age_h)
    found = steps.is_cancelled(
        note(Step.CREATED, **changes), now, steps.PATIENCE_S, is_given_up=is_given_up
    )
    assert found is is_cancelled


def test_looks_get_rarer() -> None:
    """From once a minute to once in five; for an orphan after 30 s, 2 and 5 minutes."""

    def waits_s(step: Step, *ages_s: float) -> list[float]:
        found = []
        for age_s in ages_s:
            now = NOON_UTC + timedelta(seconds=age_s)
            found.append((steps.next_look_at(note(step), now, 60.0) - now).total_seconds())
        return found

    assert waits_s(Step.CREATED, 0, 1200, 7200) == [60, 120, 300]
    assert waits_s(Step.CREATING, 0, 31, 130, 299, 610) == [30, 89, 170, 1, 300]


def test_counts_of_the_server_are_noted() -> None:
    """Succeeded and failed requests are done; without stats it is unknown."""
    stats = BatchStats(3, 1, 1, 1)
    assert steps.seen(note(Step.CREATED), remote(BatchState.RUNNING, stats=stats), NOW).done == 2
    assert steps.seen(note(Step.CREATED), remote(BatchState.RUNNING), NOW).done is None


def test_one_batch_takes_a_quarter_of_the_enqueued_tokens() -> None:
    """And less than 2 GB, and as many lines as asked for."""
    most = shares.most(500, 2_000_000)
    assert Share(500, 1_800_000_000, 10**9, 500_000).fits(most)
    for more in (
        Share(501, 1, 1, 1),
        Share(1, 1_800_000_001, 1, 1),
        Share(1, 1, 10**9 + 1, 1),
        Share(1, 1, 1, 500_001),
    ):
        assert not more.fits(most)


def test_a_key_names_its_batch_and_its_line() -> None:
    """A key of another batch, or of no line, is not ours."""
    mine = note(Step.CREATED)
    key = mine.key(2, "f" * 64)
    assert (key, mine.position(key)) == ("01234567.2.ffffffff", 2)
    for other in ("", "2", "01234567.3.ffffffff", "0123456.2.f", "01234567.-1.f", "01234567.²"):
        assert mine.position(other) is None
