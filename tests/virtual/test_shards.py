"""Several workers of one run: each call is sent by one of them, and another number of workers goes on where they stopped."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from gemini_batch.engine.distributed import handover
from gemini_batch.engine.summary import Summary
from gemini_batch.errors import ExitCode, FlagsError, FolderBusyError, RowsLostError, StorageError
from gemini_batch.events import Event, Repaired
from gemini_batch.output import OutputFolder
from gemini_batch.output.inflight import InFlightLog, unacknowledged
from gemini_batch.output.paths import RESULTS
from gemini_batch.output.rows import newest_rows, place_of, placed_rows, read_rows, row_at
from gemini_batch.output.shards import generations, parts
from gemini_batch.records.shard import Shard, owner
from tests.builders import png, says
from tests.virtual.clock import NOON_UTC
from tests.virtual.desk import Desk
from tests.virtual.test_kept_answers import WHOLE
from tests.virtual.test_recovery_kills import Killed, Killer

pytestmark = [pytest.mark.usefixtures("no_real_syncs"), pytest.mark.slow]
NAMES = [chr(ord("a") + number) for number in range(12)]


@pytest.fixture
def desk(desk: Desk) -> Desk:
    """Return a desk with twelve jobs."""
    desk.write(**{name: f"prompt {name}" for name in NAMES})
    return desk


def run_all(desk: Desk, count: int, **options: Any) -> tuple[list[str], list[Summary]]:
    """Run all workers, one after the other; return what they sent, and their summaries."""
    sent: list[str] = []
    summaries: list[Summary] = []
    for index in range(1, count + 1):
        summaries.append(desk.run(shard=Shard(index, count), **options))
        sent += desk.sent()
    return sent, summaries


def folder_of(desk: Desk, call_id: str, number: int, count: int) -> Path:
    """Return the folder of the worker that owns a call."""
    return desk.out / f"shards/{number:04}.{count}/{owner(call_id, count):05}"


def asked(desk: Desk, call_id: str) -> str:
    """Return `request_sha256` of a call, from a run in another folder."""
    out, desk.out = desk.out, desk.out.with_name("asked.out")
    desk.run(only=(call_id,))
    (row,) = newest_rows(desk.out)
    shutil.rmtree(desk.out)
    desk.out = out
    return str(row["request_sha256"])


def leave_in_flight(
    desk: Desk, call_id: str, number: int, count: int, *, answered: bool
) -> OutputFolder:
    """Leave what a worker leaves that is killed while a call is in flight, or right after its answer."""
    request_sha256 = asked(desk, call_id)
    desk.run(shard=Shard(1, count), only=("a",))  # begins the generation
    folder = OutputFolder(folder_of(desk, call_id, number, count))
    (folder.private / "incoming").mkdir(parents=True, exist_ok=True)
    InFlightLog(folder.private, 0).sent(call_id, request_sha256, 0)
    if answered:
        incoming = folder.stage(call_id, 1, NOON_UTC)
        image = incoming.open_image(0)
        image.write(png("kept"))
        image.close()
        incoming.journal(WHOLE)
    return folder


def image_of(desk: Desk, call_id: str) -> bytes:
    """Return the image of the newest row of a call."""
    (path,) = (row["images"][0]["path"] for row in newest_rows(desk.out) if row["id"] == call_id)
    return Path(desk.out, path).read_bytes()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_call_is_sent_by_one_worker(desk: Desk, count: int) -> None:
    """The parts are of all calls, each once; together the folders are one; a second round sends nothing."""
    sent, summaries = run_all(desk, count)
    assert sorted(sent) == NAMES
    assert sum(summary.calls for summary in summaries) == len(NAMES)
    assert {summary.exit_code for summary in summaries} == {ExitCode.DONE}
    assert sorted(row["id"] for row in newest_rows(desk.out)) == NAMES
    assert all((desk.out / row["images"][0]["path"]).is_file() for row in newest_rows(desk.out))
    again, summaries = run_all(desk, count)
    assert again == []
    assert sum(summary.by_status["succeeded"] for summary in summaries if summary.calls) == 12
    assert len(generations(desk.out)) == 1


def test_another_number_of_workers_goes_on(desk: Desk) -> None:
    """4, 7, 3 and 4 workers: what is finished is sent by none of them again, and each failed call once a round."""
    sent = [each for index in (1, 3) for each in _sent_by(desk, Shard(index, 4))]
    more, _ = run_all(desk, 7, script={"c": [says(400)], "d": [says(500)] * 2})
    assert sorted({*sent, *more}) == NAMES
    assert not {*sent} & {*more}
    assert run_all(desk, 3)[0] == [*["d"] * ("d" in more)]
    assert run_all(desk, 4)[0] == []
    found = [(each.number, each.count) for each in generations(desk.out)]
    assert found == [(1, 4), (2, 7), (3, 3), (4, 4)]
    assert len([*newest_rows(desk.out)]) == len(NAMES)


def _sent_by(desk: Desk, shard: Shard) -> list[str]:
    desk.run(shard=shard)
    return desk.sent()


def test_a_run_without_workers_is_continued_by_them(desk: Desk) -> None:
    """What a plain run has done counts, and what it left in flight; then a plain run is refused."""
    desk.run(only=("a", "b", "c"))
    sent, _ = run_all(desk, 2)
    assert sorted(sent) == NAMES[3:]
    with pytest.raises(FlagsError, match="--shard 1/1 to continue"):
        desk.run()
    assert run_all(desk, 1)[0] == []


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_an_answer_that_had_arrived_moves_to_the_new_owner(desk: Desk, count: int) -> None:
    """Killed between the last byte and the row, and resumed with any number: the answer is not paid for again."""
    leave_in_flight(desk, "k", 1, 4, answered=True)
    sent, _ = run_all(desk, count)
    assert "k" not in sent
    assert image_of(desk, "k") == png("kept")
    number = 1 if count == 4 else 2
    assert [row["id"] for row in read_rows(folder_of(desk, "k", number, count))].count("k") == 1


def test_what_was_in_flight_moves_to_the_new_owner(desk: Desk) -> None:
    """A call that may have been billed is reported by the worker that owns it now, once, and left alone if it is to be."""
    leave_in_flight(desk, "k", 1, 4, answered=False)
    index = owner("k", 7)
    other = 1 if index > 1 else 2
    desk.run(shard=Shard(other, 7), only=("a",))
    assert not [event for event in desk.events if isinstance(event, Repaired)]
    summary = desk.run(shard=Shard(index, 7), skip_uncertain=True)
    assert "k" not in desk.sent()
    assert summary.by_status["uncertain"] == 1
    (event,) = (event for event in desk.events if isinstance(event, Repaired))
    assert "1 call was sent by a run that was killed, and may have been billed: k" in event.message


def test_a_worker_of_another_generation_that_runs_is_left_alone(desk: Desk) -> None:
    """An old array that still runs ends the new one with 7, before it has made a generation."""
    desk.run(shard=Shard(2, 4))
    with OutputFolder(desk.out / "shards/0001.4/00002").locked():
        with pytest.raises(FolderBusyError, match=r"worker 2/4 runs there .* --shard I/4$"):
            desk.run(shard=Shard(1, 7))
        desk.run(shard=Shard(1, 4))  # of its own generation
        with pytest.raises(FolderBusyError):
            desk.run(shard=Shard(2, 4))
    assert len(generations(desk.out)) == 1
    desk.run(shard=Shard(1, 7))
    with (
        OutputFolder(desk.out / "shards/0002.7/00001").locked(),
        pytest.raises(FolderBusyError, match=r"worker 1/7 runs there"),
    ):
        desk.run(shard=Shard(4, 4))  # of the old array, which had not begun
    assert len(generations(desk.out)) == 2


def test_a_plain_run_that_runs_is_left_alone(desk: Desk) -> None:
    """A run without workers holds the whole folder, and workers keep one from it."""
    desk.run(only=("a",))
    with OutputFolder(desk.out).locked(), pytest.raises(FolderBusyError, match=r"wait for it$"):
        desk.run(shard=Shard(1, 2))
    assert not generations(desk.out)


def test_a_worker_whose_folder_was_taken_over_sends_no_more(desk: Desk) -> None:
    """Where locks do not hold, as of a node that lost its file server, an old worker stops at its next call."""
    taken: list[str] = []

    def take_over(_event: Event) -> None:
        if desk.transport and desk.transport.sent and not taken:
            taken.append("once")
            (desk.out / "shards/0001.1/00001/.gemini_batch/sealed").touch()

    summary = desk.run(shard=Shard(1, 1), watch=take_over)
    assert summary.exit_code == ExitCode.STORAGE
    assert "was taken over by another generation" in summary.stops[0]["message"]
    assert len(desk.sent()) < len(NAMES)
    assert len([*read_rows(desk.out)]) == len(desk.sent())


def test_the_newest_row_is_that_of_the_newest_generation(desk: Desk) -> None:
    """Clocks of machines decide nothing: a row with an older time in a newer generation counts."""
    run_all(desk, 2)
    desk.write(**{name: f"other prompt {name}" for name in NAMES})
    sent, _ = run_all(desk, 3)
    assert sorted(sent) == NAMES
    for path in (desk.out / "shards/0002.3").glob(f"*/{RESULTS}"):
        path.write_bytes(path.read_bytes().replace(b'"finished_at":"2', b'"finished_at":"1'))
    assert {row["finished_at"][0] for row in newest_rows(desk.out)} == {"1"}
    assert run_all(desk, 3)[0] == run_all(desk, 5)[0] == []


@pytest.mark.parametrize("lost", ["0001.4", "0001.4/00002", "0001.4/00002/results.jsonl"])
@pytest.mark.parametrize("count", [4, 7])
def test_rows_of_any_worker_are_missed(desk: Desk, lost: str, count: int) -> None:
    """A folder or a file of rows that is gone is no reason to pay again, unless the user says so."""
    run_all(desk, 4)
    desk.run(shard=Shard(1, 2))
    desk.write(**{name: f"prompt {name}" for name in [*NAMES, "m", "n", "o", "p", "q", "r"]})
    path = desk.out / "shards" / lost
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(RowsLostError, match="is gone"):
        run_all(desk, count)
    assert run_all(desk, count, forgets_rows=True)[0]


def test_a_call_of_a_whole_generation_that_is_gone_is_not_sent(desk: Desk) -> None:
    """Generations are numbered: one that is missing is missed."""
    run_all(desk, 4)
    run_all(desk, 2)
    shutil.rmtree(desk.out / "shards/0001.4")
    with pytest.raises(RowsLostError, match=r"generation 1 is gone"):
        desk.run(shard=Shard(1, 2))


def test_names_are_checked_against_all_calls(desk: Desk) -> None:
    """`--only` and `--redo` name calls of any worker; the others find nothing to do."""
    sent, summaries = run_all(desk, 3, only=("a", "b"))
    assert sorted(sent) == ["a", "b"]
    assert all(summary.exit_code == ExitCode.DONE for summary in summaries)
    run_all(desk, 3)
    assert run_all(desk, 3, redo=("c",))[0] == ["c"]


def test_a_place_leads_back_to_its_row(desk: Desk) -> None:
    """The place of a row in any worker's file is a number that finds it again, with the path of its image."""
    run_all(desk, 3)
    for place, row in placed_rows(desk.out):
        assert row_at(desk.out, place) == row
    assert row_at(desk.out, place_of(99, 0)) is None
    assert [part.number for part in parts(desk.out)] == [0, 1, 2, 3]


@pytest.mark.parametrize("tears", [False, True], ids=["kill", "torn write"])
def test_a_kill_while_taking_over_loses_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, *, tears: bool
) -> None:
    """Killed before any deed on the disk of a take-over, the next worker ends it: the answer is there, and is not paid for again."""
    leave_in_flight(desk, "k", 1, 4, answered=True)
    leave_in_flight(desk, "j", 1, 4, answered=False)
    before, at = desk.out.with_name("before"), 0
    shutil.copytree(desk.out, before)
    is_over = False
    while not is_over:
        at += 1
        shutil.rmtree(desk.out)
        shutil.copytree(before, desk.out)
        with monkeypatch.context() as patch:
            killer = Killer(at, tears=tears, patch=patch)
            try:
                with handover.entered(desk.out, Shard(1, 3), lambda _: None, forgets=False):
                    pass
            except Killed:
                pass
            is_over = killer.deeds < at
        with handover.entered(desk.out, Shard(2, 3), lambda _: None, forgets=False):
            pass
        found = OutputFolder(folder_of(desk, "k", 2, 3))
        assert unacknowledged(found.private).calls.keys() >= {"k"}, at
        answer = found.journaled_answer("k")
        assert answer is not None, at
        assert Path(answer.images[0].file).read_bytes() == png("kept"), at
        assert "j" in unacknowledged(folder_of(desk, "j", 2, 3) / ".gemini_batch").calls, at
        assert [each.number for each in generations(desk.out)] == [1, 2], at
    assert at > 20
    sent, _ = run_all(desk, 3)
    assert "k" not in sent
    assert "j" in sent


def test_two_workers_start_one_after_the_other(desk: Desk) -> None:
    """Where two numbers of workers got the same generation, no lock holds there: both end."""
    desk.run(shard=Shard(1, 2))
    (desk.out / "shards/0001.1/00001").mkdir(parents=True)
    with pytest.raises(FolderBusyError, match="has no file locks"):
        desk.run(shard=Shard(1, 2))


def test_a_damaged_row_of_an_old_worker_is_named(desk: Desk) -> None:
    """A damaged row in any worker's file ends the run before it sends, with its file and line."""
    run_all(desk, 2)
    path = desk.out / "shards/0001.2/00001" / RESULTS
    path.write_bytes(b"damage\n" + path.read_bytes())
    with pytest.raises(StorageError, match=r"0001\.2/00001/results\.jsonl:1: not a row"):
        desk.run(shard=Shard(2, 2))


@pytest.mark.parametrize("count", [2, 4])
def test_a_chain_over_several_workers_ends_whole(desk: Desk, count: int) -> None:
    """A worker sends what it can, and ends with 5 when only children of calls are left that others have not done."""
    chains = [
        {"id": f"{name}-{step}", "prompt": f"{name} {step}"}
        | ({"images": [f"job:{name}-{step - 1}"]} if step else {})
        for name in "pqrs"
        for step in range(3)
    ]
    desk.write_jobs(*chains)
    sent, rounds = list[str](), 0
    while len(sent) < len(chains):
        rounds += 1
        more, summaries = run_all(desk, count)
        sent += more
        codes = {summary.exit_code for summary in summaries}
        assert codes <= {ExitCode.DONE, ExitCode.STOPPED}
        assert not any(summary.needs_person for summary in summaries)
        assert rounds <= 3
    _, summaries = run_all(desk, count)
    assert {summary.exit_code for summary in summaries} == {ExitCode.DONE}
    assert sorted(sent) == sorted(job["id"] for job in chains)
    newest = {row["id"]: row for row in newest_rows(desk.out)}
    for job in chains:
        for parent in job.get("images", ()):
            picture = newest[str(parent).removeprefix("job:")]["images"][0]["sha256"]
            assert newest[str(job["id"])]["inputs"][0]["sha256"] == picture
