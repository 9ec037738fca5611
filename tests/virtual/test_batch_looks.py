"""Looks at batches: those that the server misses, shows late, or keeps for another key."""

from contextlib import closing
from datetime import timedelta

import pytest

from gemini_batch.engine.batch.cancel import given_up
from gemini_batch.output.batches import BatchNotes, find_batches
from gemini_batch.output.open_batches import line_of, read_open_batches
from tests.virtual.batch_desk import BatchDesk


def test_a_miss_is_no_proof_that_a_batch_is_gone(batch_desk: BatchDesk) -> None:
    """A 404 of a batch that is in the list changes nothing."""
    batch_desk.server.misses = 5
    batch_desk.write(2)
    batch_desk.run()
    assert batch_desk.run().exit_code == 0
    assert batch_desk.notes() == []


def test_a_batch_that_vanished_is_given_up_in_the_third_look(batch_desk: BatchDesk) -> None:
    """Three misses over more than ten minutes, and no place in the list: its calls are sent again."""
    batch_desk.write(2)
    batch_desk.run()
    batch_desk.server.batches.clear()
    for _ in range(2):
        assert batch_desk.run(route="interactive").waiting == 2
    summary = batch_desk.run(route="interactive")
    assert (summary.exit_code, summary.this_run.possibly_billed) == (0, 2)
    assert [note["step"] for note in batch_desk.notes()] == ["lost"]
    assert batch_desk.run(route="interactive", after_h=60).exit_code == 0
    batch_desk.run(route="interactive")
    assert batch_desk.notes() == []


def test_a_create_without_an_answer_is_given_up_after_three_looks(batch_desk: BatchDesk) -> None:
    """Not found in three runs, its calls are sent in a new batch; each create is sent once."""
    batch_desk.server.drops = 1
    batch_desk.write(2)
    assert batch_desk.run().waiting == 2
    for _ in range(2):
        assert batch_desk.run().waiting == 2
        assert batch_desk.server.requests.count("create") == 1
    assert batch_desk.run().waiting == 2
    assert batch_desk.server.requests.count("create") == 2
    assert batch_desk.run().exit_code == 0
    assert batch_desk.final() == dict.fromkeys("ab", "succeeded")


def test_a_create_without_an_answer_is_adopted_once_the_list_has_it(batch_desk: BatchDesk) -> None:
    """Runs say how many more looks there are, and that another one is better minutes later."""
    batch_desk.server.hides, batch_desk.server.hidden = 1, 3
    batch_desk.write(2)
    for runs in ("next 3 runs do", "next 2 runs do", "next run does"):
        summary = batch_desk.run(after_h=0.003)
        assert (summary.exit_code, summary.waiting) == (5, 2)
        (stop,) = summary.stops
        assert f"is given up if the {runs} not find it" in stop["message"]
        assert summary.run_again_at is not None
        assert timedelta(0) < summary.run_again_at - batch_desk.at <= timedelta(minutes=5)
        (shown,) = map(line_of, read_open_batches(batch_desk.out))
        assert "creation not answered" in shown
        assert f"it is given up if the {runs} not find it" in shown
    batch_desk.survives()
    assert batch_desk.server.requests.count("create") == 1
    assert [row["status"] for row in batch_desk.rows()] == ["succeeded"] * 2


def test_while_it_waits_a_run_looks_for_a_quarter_of_an_hour(batch_desk: BatchDesk) -> None:
    """Within one `--wait` a lost create is given up after 15 minutes."""
    batch_desk.server.drops = 1
    batch_desk.write(2)
    summary = batch_desk.run(waits_for_batches=True)
    assert (summary.exit_code, batch_desk.server.requests.count("create")) == (0, 2)
    assert 900 + 3600 <= summary.duration_s < 900 + 3600 + 900


def test_a_lost_batch_that_turns_up_is_cancelled_and_its_answers_are_late(
    batch_desk: BatchDesk,
) -> None:
    """It is looked for to the end; what it answered is in the sums, and the calls keep their answers."""
    batch_desk.server.hides, batch_desk.server.hidden = 1, 5
    batch_desk.server.takes = timedelta(hours=12)
    batch_desk.write(2)
    for _ in range(5):
        batch_desk.run(route="batch", after_h=1)
    assert batch_desk.server.requests.count("create") == 2
    batch_desk.run(after_h=14)
    assert batch_desk.server.requests.count("cancel") == 1
    summary = batch_desk.survives()
    assert summary.exit_code == 0
    statuses = [row["status"] for row in batch_desk.rows()]
    assert (statuses.count("succeeded"), statuses.count("late")) == (2, 2)
    assert batch_desk.notes() == []


def test_another_key_does_not_pay_again(batch_desk: BatchDesk) -> None:
    """A batch of another project is not visible: the run says so, and sends nothing."""
    batch_desk.write(2)
    batch_desk.run(api_key="first")
    batch_desk.server.project = "another"
    summary = batch_desk.run(api_key="second")
    assert (summary.exit_code, summary.waiting) == (6, 2)
    assert "another key" in summary.stops[0]["message"]
    batch_desk.server.project = "mine"
    assert batch_desk.run(api_key="rotated").exit_code == 0


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_batch_that_was_given_up_is_collected_if_the_key_sees_it(
    is_seen: bool,  # noqa: FBT001
    batch_desk: BatchDesk,
) -> None:
    """After `--cancel` with another key, a run looks once more before it sends the calls again."""
    batch_desk.write(2)
    batch_desk.run()
    with closing(BatchNotes(batch_desk.out)) as notes:
        (found,) = find_batches(batch_desk.out)
        notes.write(given_up(found.note, batch_desk.at))
    batch_desk.server.project = "mine" if is_seen else "another"
    summary = batch_desk.run()
    assert (summary.exit_code, summary.waiting) == ((0, 0) if is_seen else (5, 2))
    assert len(batch_desk.server.batches) == (1 if is_seen else 2)


def test_a_batch_at_another_server_is_left_alone(batch_desk: BatchDesk) -> None:
    """It is named; its calls are calls of another endpoint, which this run sends."""
    batch_desk.write(2)
    batch_desk.run()
    other = "https://other.test"
    summary = batch_desk.run(route="interactive", endpoint=other)
    assert (summary.exit_code, summary.waiting) == (0, 0)
    assert "is left alone" in batch_desk.said()
    assert len(batch_desk.notes()) == 1


def test_calls_that_wait_at_another_address_of_google_are_left_waiting(
    batch_desk: BatchDesk,
) -> None:
    """A run by Vertex AI can't ask for them: it names the batch, sends the other calls and ends with 5."""
    batch_desk.write(2)
    batch_desk.run(endpoint="https://generativelanguage.googleapis.com")
    batch_desk.write(3)
    vertex = "https://aiplatform.googleapis.com"
    summary = batch_desk.run(route="interactive", endpoint=vertex)
    assert (summary.exit_code, summary.waiting, summary.left) == (5, 2, 2)
    assert "is left alone" in batch_desk.said()
    assert batch_desk.transport is not None
    assert [call for _, call in batch_desk.transport.sent] == ["c"]
