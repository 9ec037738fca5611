"""A client that submits and collects batches is killed before each of its deeds, and run again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import png
from tests.virtual.batch_desk import BatchDesk
from tests.virtual.batch_server import BatchServer

pytestmark = pytest.mark.slow

MAX_DEEDS = 200
FIRST_CREATE = 7  # the first request that can be paid for
CALLS = "ab"  # in a batch each


def deeds_of(folder: Path, patch: pytest.MonkeyPatch) -> list[str]:
    """Return what a client does that nobody kills."""
    desk = BatchDesk(folder, patch)
    desk.write(len(CALLS))
    desk.survives(batch_lines=1)
    return desk.deeds


def check(desk: BatchDesk) -> None:
    """Check that each call was answered once and paid for once, and that nothing is open."""
    assert desk.final() == dict.fromkeys(CALLS, "succeeded")
    answered = [row["id"] for row in desk.rows() if row["status"] == "succeeded"]
    assert sorted(answered) == list(CALLS)
    assert desk.images() == {each: png(f"prompt {each}") for each in CALLS}
    assert set(desk.server.billed().values()) == {1}, desk.server.billed()
    assert {note["step"] for note in desk.notes()} <= {"lost"}  # they are looked for, in case
    assert not any(desk.out.glob(".gemini_batch/incoming/*"))


def kills(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[tuple[int, str]]:
    """Yield each deed and its number."""
    with patch.context() as context:
        yield from enumerate(deeds_of(folder / "whole", context), start=1)


@pytest.mark.usefixtures("no_real_syncs")
def test_a_kill_at_any_moment_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before any request, note or row, and run again: every call is answered and paid for once."""
    (tmp_path / "whole").mkdir()
    table = list(kills(tmp_path, monkeypatch))
    assert {what for _, what in table} >= {
        "add",
        "upload chunk 0",
        "upload answered",
        "write",
        "create",
        "create answered",
        "get",
        "download",
        "append",
        "publish",
        "delete file",
        "delete file answered",
        "remove",
    }
    for number, what in table:
        with monkeypatch.context() as patch:
            folder = tmp_path / f"{number}"
            folder.mkdir()
            desk = BatchDesk(folder, patch)
            desk.write(len(CALLS))
            desk.kill_at = number
            try:
                desk.survives(batch_lines=1)
                check(desk)
            except AssertionError as error:
                raise AssertionError(f"killed before deed {number}, {what}") from error


def hidden(server: BatchServer) -> None:
    """Let the first create be carried out and not answered."""
    server.hides = 1


@pytest.mark.usefixtures("no_real_syncs")
def test_a_create_that_is_not_answered_is_found_after_a_kill_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 503 after the fact, and a kill at any moment after it: the batch is found in the list, not made again."""
    for number in range(FIRST_CREATE, MAX_DEEDS):
        with monkeypatch.context() as patch:
            folder = tmp_path / f"{number}"
            folder.mkdir()
            desk = BatchDesk(folder, patch)
            desk.write(len(CALLS))
            hidden(desk.server)
            desk.server.hidden = 1
            desk.kill_at = number
            desk.survives(batch_lines=1)
            check(desk)
            if number == FIRST_CREATE:
                assert desk.deeds[number - 1] == "create"
            if len(desk.deeds) < number:
                return
    raise AssertionError("it never ends")
