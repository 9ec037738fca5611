"""A client that submits and collects batches is killed before each of its deeds, and run again."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.builders import png
from tests.virtual.batch_desk import BatchDesk

pytestmark = pytest.mark.slow

MAX_DEEDS = 200
CALLS = "ab"  # in a batch each
DEEDS = {
    *("add", "upload chunk 0", "upload answered", "write", "create", "create answered", "get"),
    *("download", "append", "publish", "delete file", "delete file answered", "remove"),
}
STEPS = {"planned", "uploaded", "creating", "created", "ended", "collecting", "collected"}
GOOGLE, VERTEX = "https://generativelanguage.googleapis.com", "https://aiplatform.googleapis.com"


def check(desk: BatchDesk) -> None:
    """Check that each call was answered once and paid for once, and that nothing is open."""
    assert desk.final() == dict.fromkeys(CALLS, "succeeded")
    answered = [row["id"] for row in desk.rows() if row["status"] == "succeeded"]
    assert sorted(answered) == list(CALLS)
    assert desk.images() == {each: png(f"prompt {each}") for each in CALLS}
    assert set(desk.server.billed().values()) == {1}, desk.server.billed()
    assert {note["step"] for note in desk.notes()} <= {"lost"}  # they are looked for, in case
    assert not any(desk.out.glob(".gemini_batch/incoming/*"))


def check_rows(desk: BatchDesk) -> None:
    """Check that all calls have answers, that each line that was paid for has one row, and that nothing is open."""
    assert desk.final() == dict.fromkeys(CALLS, "succeeded")
    rows = [row for row in desk.rows() if row["route"] == "batch" and row["cost_usd"]]
    assert Counter(row["prompt"] for row in rows) == desk.server.billed()
    assert {note["step"] for note in desk.notes()} <= {"lost"}


def kills(
    folder: Path, patch: pytest.MonkeyPatch, scenario: Callable[[BatchDesk], None]
) -> Iterator[BatchDesk]:
    """Play a scenario again and again, killed before one deed after the other; yield the desk after each."""
    for number in range(1, MAX_DEEDS):
        with patch.context() as context:
            place = folder / f"{number}"
            place.mkdir()
            desk = BatchDesk(place, context)
            desk.write(len(CALLS))
            desk.kill_at = number
            try:
                scenario(desk)
            except AssertionError as error:
                what = desk.deeds[number - 1 : number]
                raise AssertionError(f"killed before deed {number}, {what}") from error
            yield desk
            if len(desk.deeds) < number:
                return
    raise AssertionError("it never ends")


def plain(desk: BatchDesk) -> None:
    """Submit and collect."""
    desk.survives(batch_lines=1)
    check(desk)


def unanswered(desk: BatchDesk) -> None:
    """Let the first create be carried out and not answered, and the batch not be in the list at first."""
    desk.server.hides = desk.server.hidden = 1
    plain(desk)


def cut(desk: BatchDesk) -> None:
    """Let downloads break within a line."""
    desk.server.cuts = [150, 250]
    plain(desk)


def cut_for_good(desk: BatchDesk) -> None:
    """Let downloads break, on a server that can't continue them."""
    desk.server.has_ranges = False
    cut(desk)


def moved(desk: BatchDesk) -> None:
    """Let the model be gone, so that its successor answers."""
    desk.server.gone = {"gemini-3-pro-image-preview"}
    plain(desk)
    assert {row["model"] for row in desk.rows()} == {"gemini-3-pro-image"}


def edited(desk: BatchDesk) -> None:
    """Edit a line while its batch is open: the new request is sent now, the old answer is late."""
    desk.restarted(batch_lines=1)
    desk.write(len(CALLS), a="edited")
    desk.survives(route="interactive")
    check_rows(desk)
    newest = {row["id"]: row["prompt"] for row in desk.rows() if row["status"] != "late"}
    assert newest == {"a": "edited", "b": "prompt b"}


def narrowed(desk: BatchDesk) -> None:
    """Narrow what is sent by a budget that pays for nothing: all that is open is collected."""
    desk.restarted(batch_lines=1)
    summary = desk.restarted(max_cost_usd=1e-6, batch_lines=1)
    waited = {note["step"] for note in desk.notes()} - {"lost"}
    assert summary.waiting == 0 or waited == {"creating"}
    plain(desk)


def elsewhere(desk: BatchDesk) -> None:
    """Run at another server in between: it leaves the batches alone, and pays for its own answers."""
    desk.restarted(batch_lines=1)
    number = len(desk.server.batches)
    other = desk.restarted(route="interactive", endpoint="https://other.test")
    assert (other.waiting, len(desk.server.batches)) == (0, number)
    desk.survives(batch_lines=1)
    check_rows(desk)


def by_vertex(desk: BatchDesk) -> None:
    """Run by Vertex AI in between: what waits is left waiting."""
    desk.restarted(batch_lines=1, endpoint=GOOGLE)
    desk.restarted(route="interactive", endpoint=VERTEX)
    desk.survives(batch_lines=1, endpoint=GOOGLE)
    check_rows(desk)
    assert Counter(row["id"] for row in desk.rows() if row["cost_usd"]) == Counter(CALLS)


@pytest.mark.usefixtures("no_real_syncs")
def test_a_kill_at_any_moment_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at each step and before any request, note or row, and run again: every call is answered and paid for once."""
    steps, deeds = set[str](), set[str]()
    for desk in kills(tmp_path, monkeypatch, plain):
        steps |= desk.killed_in
        deeds |= {*desk.deeds}
    assert steps >= STEPS
    assert deeds >= DEEDS


@pytest.mark.usefixtures("no_real_syncs")
@pytest.mark.parametrize(
    "scenario",
    [unanswered, cut, cut_for_good, moved, edited, narrowed, elsewhere, by_vertex],
)
def test_a_kill_among_other_trouble_costs_nothing(
    scenario: Callable[[BatchDesk], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any moment of a scenario in which the server fails, or runs differ, and run again: nothing is paid for twice."""
    assert sum(bool(desk.killed_in) for desk in kills(tmp_path, monkeypatch, scenario)) > 10
