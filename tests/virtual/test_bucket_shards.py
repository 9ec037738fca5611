"""Workers of one run that write into a bucket, each on a machine of its own or on the same one."""

import copy
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.engine.summary import Summary
from gemini_batch.errors import ExitCode, FlagsError, FolderBusyError, ManifestError
from gemini_batch.output import OutputFolder
from gemini_batch.output.bucket import acquiring, layout
from gemini_batch.output.bucket.acquiring import acquire
from gemini_batch.output.bucket.generations import begun, store_of
from gemini_batch.output.bucket.lease import Lease
from gemini_batch.output.bucket.viewed import BucketFolder
from gemini_batch.output.inflight import InFlightLog
from gemini_batch.output.rows import newest_rows, read_rows
from gemini_batch.output.runs import read_summary
from gemini_batch.records.shard import Shard, owner
from gemini_batch.store.base import ImageStore, StoreUnavailableError
from tests.builders import png, sha256
from tests.virtual.clock import NOON_UTC
from tests.virtual.desk import Desk
from tests.virtual.test_bucket import ADDRESS, Bucket, bucket, empty, fail_until
from tests.virtual.test_chains import job
from tests.virtual.test_kept_answers import WHOLE
from tests.virtual.test_shards import asked

pytestmark = [pytest.mark.usefixtures("no_real_syncs"), pytest.mark.slow]
__all__ = ["bucket"]  # a fixture
NAMES = [chr(ord("a") + number) for number in range(8)]


@pytest.fixture
def desk(desk: Desk) -> Desk:
    """Return a desk with eight jobs."""
    desk.write(**{name: f"prompt {name}" for name in NAMES})
    return desk


def on(desk: Desk, machine: str) -> Desk:
    """Let the next run be on another machine, whose disk may be empty."""
    desk.out = desk.out.with_name(machine)
    return desk


def run(desk: Desk, index: int, count: int, **options: Any) -> Summary:
    """Run one worker."""
    return desk.run(bucket=ADDRESS, shard=Shard(index, count), **options)


def run_all(
    desk: Desk, count: int, *, machines: bool = True, **options: Any
) -> tuple[list[str], list[Summary]]:
    """Run all workers, each on a machine of its own or on the same; return what they sent."""
    sent: list[str] = []
    summaries: list[Summary] = []
    for index in range(1, count + 1):
        if machines:
            on(desk, f"machine-{index}")
        summaries.append(run(desk, index, count, **options))
        sent += desk.sent()
    return sent, summaries


def read(bucket: Bucket, folder: Path) -> list[dict[str, Any]]:
    """Return the newest rows of the bucket; check the images of all of them."""
    shutil.rmtree(folder, ignore_errors=True)
    BucketFolder(bucket, folder, may_be_new=True)
    for row in read_rows(folder):
        for image in row["images"]:
            assert sha256(bucket.get(image["path"]).data) == image["sha256"]
    return [*newest_rows(folder)]


def worker(bucket: Bucket, index: int, number: int, count: int) -> ImageStore:
    """Return the part of the bucket that a worker writes."""
    found = begun(bucket, Path())
    (part,) = (
        part for part in found.parts if part.prefix == f"shards/{number:04}.{count}/{index:05}/"
    )
    return store_of(bucket, part)


def kill(bucket: Bucket, index: int, number: int, count: int) -> None:
    """Let the lease of a worker look as a killed one leaves it."""
    store = worker(bucket, index, number, count)
    found = store.get(layout.LOCK)
    held = orjson.loads(found.data) | {"is_over": False, "is_whole": False}
    store.replace(layout.LOCK, orjson.dumps(held), found.version)


@pytest.mark.parametrize("machines", [True, False], ids=["machines", "one machine"])
def test_each_call_is_sent_by_one_worker(
    desk: Desk, bucket: Bucket, tmp_path: Path, *, machines: bool
) -> None:
    """Together they are one run, whose rows and images are all in the bucket; a second round on empty disks sends nothing."""
    sent, summaries = run_all(desk, 3, machines=machines)
    assert sorted(sent) == NAMES
    assert {summary.exit_code for summary in summaries} == {ExitCode.DONE}
    assert {summary.out for summary in summaries} == {
        f"{ADDRESS}/shards/0001.3/{index:05}" for index in (1, 2, 3)
    }
    for index in (1, 2, 3):
        empty(on(desk, f"machine-{index}" if machines else desk.out.name))
        run(desk, index, 3)
        assert desk.sent() == []
    rows = read(bucket, tmp_path / "view")
    assert sorted(row["id"] for row in rows) == NAMES
    found = read_summary(tmp_path / "view")
    assert (found["out"], found["calls"], found["workers"]) == (str(ADDRESS), 8, 3)


@pytest.mark.parametrize("keeps_disks", [True, False], ids=["same disks", "empty disks"])
def test_another_number_of_workers_goes_on(
    desk: Desk, bucket: Bucket, tmp_path: Path, *, keeps_disks: bool
) -> None:
    """4, 3, 1 and 4 workers on any machine: what is finished is sent by none of them again."""
    sent: list[str] = []
    for index in (1, 3):
        run(on(desk, f"machine-{index}"), index, 4)
        sent += desk.sent()
        kill(bucket, index, 1, 4)
    for count in (3, 1, 4):
        if not keeps_disks:
            for index in range(1, 5):
                shutil.rmtree(desk.out.with_name(f"machine-{index}"), ignore_errors=True)
        sent += run_all(desk, count)[0]
    assert sorted(sent) == NAMES
    found = begun(bucket, Path())
    assert [(each.number, each.count) for each in found.generations] == [
        (1, 4),
        (2, 3),
        (3, 1),
        (4, 4),
    ]
    assert found.ready == 4
    assert len(read(bucket, tmp_path / "view")) == 8


def test_killed_after_any_write_another_number_of_workers_repeats_no_mirrored_row(
    desk: Desk, bucket: Bucket, tmp_path: Path
) -> None:
    """For each state that the bucket was in while two workers wrote and three began: what had a row there is not sent again."""
    bucket.keeps_states = True
    run_all(desk, 2)
    run(desk, 1, 3)
    states, bucket.keeps_states = bucket.states, False
    assert len(states) > 20
    for state in states[::3]:
        for machine in desk.out.parent.glob("machine-*"):
            shutil.rmtree(machine)
        bucket._objects = copy.copy(state)
        done = {row["id"] for row in read(bucket, tmp_path / "view")}
        sent, summaries = run_all(desk, 3)
        assert not done & {*sent}
        assert sorted([*done, *sent]) == NAMES
        assert {summary.exit_code for summary in summaries} == {ExitCode.DONE}
        assert len([*read(bucket, tmp_path / "view")]) == 8


def test_a_run_without_workers_is_continued_by_them(
    desk: Desk, bucket: Bucket, tmp_path: Path
) -> None:
    """Its rows count; then a run without workers is refused, on any machine."""
    desk.run(bucket=ADDRESS, limit=3)
    first = desk.sent()
    sent, _ = run_all(desk, 2)
    assert sorted(first + sent) == NAMES
    for machine in ("machine-1", "another"):
        with pytest.raises(FlagsError, match=f"{ADDRESS}: workers .* --shard 1/1 to continue"):
            on(desk, machine).run(bucket=ADDRESS)
    assert run_all(desk, 1)[0] == []
    assert len(read(bucket, tmp_path / "view")) == 8


def test_a_worker_of_another_generation_that_runs_is_left_alone(
    desk: Desk, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On any machine: the new one ends with 7, and has begun nothing; the old one goes on."""
    run(on(desk, "machine-1"), 1, 4)
    store = worker(bucket, 2, 1, 4)
    held, _ = acquire(store, "another machine", 0)
    monkeypatch.setattr(acquiring, "sleep", lambda _seconds: held.renew())
    with pytest.raises(FolderBusyError, match=r"shards/0001\.4/00002: held by another run"):
        run(on(desk, "machine-2"), 1, 3)
    held.check()
    assert [each.count for each in begun(bucket, Path()).generations] == [4]
    run(on(desk, "machine-1"), 1, 4)
    held.release(is_whole=True)
    assert run(on(desk, "machine-2"), 1, 3).exit_code == ExitCode.DONE
    with pytest.raises(FolderBusyError):
        _run_while(desk, bucket, monkeypatch)


def _run_while(desk: Desk, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a late worker of the old generation while one of the new one runs."""
    held, _ = acquire(worker(bucket, 1, 2, 3), "another machine", 0)
    monkeypatch.setattr(acquiring, "sleep", lambda _seconds: held.renew())
    run(on(desk, "machine-3"), 3, 4)


def test_a_worker_that_was_taken_over_writes_nothing_more(
    desk: Desk, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that stood still while another number of workers began ends with 8; its answers are on its disk."""
    leases: list[Lease] = []
    real = acquiring.acquire

    def remember(*args: Any, **options: Any) -> Any:
        found = real(*args, **options)
        leases.append(found[0])
        return found

    monkeypatch.setattr("gemini_batch.output.bucket.opened.acquire", remember)

    def stand_still(_event: object) -> None:
        if desk.transport and desk.transport.sent and leases:
            lease = leases.pop()
            leases.clear()
            store = worker(bucket, 1, 1, 1)
            taken, _ = real(store, "new", 0)
            taken.seal("0002.3")
            lease.renew()

    summary = run(desk, 1, 1, watch=stand_still, concurrency=1)
    assert summary.exit_code == ExitCode.STORAGE
    assert "has taken over" in summary.stops[0]["message"]
    assert len(desk.sent()) < 8


@pytest.mark.parametrize("count", [1, 3])
def test_answers_that_wait_on_a_disk_are_uploaded_by_the_next_workers_there(
    desk: Desk, bucket: Bucket, tmp_path: Path, count: int
) -> None:
    """A bucket that failed, then another number of workers on the same machine: nothing is paid for twice."""
    run(desk, 1, 2, during=fail_until(bucket, 10_000.0))
    sent = desk.sent()
    bucket.fault = lambda _verb, _name: None
    kill(bucket, 1, 1, 2)
    more, _ = run_all(desk, count, machines=False)
    assert sorted(sent + more) == NAMES
    assert sorted(row["id"] for row in read(bucket, tmp_path / "view")) == NAMES


def test_answers_on_a_disk_join_workers_that_began_elsewhere(
    desk: Desk, bucket: Bucket, tmp_path: Path
) -> None:
    """A machine comes back after others have taken over: its rows are in the bucket, and older than theirs."""
    run(on(desk, "machine-1"), 1, 1, during=fail_until(bucket, 10_000.0), limit=3)
    bucket.fault = lambda _verb, _name: None
    run(on(desk, "machine-2"), 2, 2)
    run(on(desk, "machine-1"), 1, 2)
    rows = read(bucket, tmp_path / "view")
    assert sorted(row["id"] for row in rows) == NAMES
    assert len([*read_rows(tmp_path / "view")]) >= 8
    assert len([*worker(bucket, 1, 1, 1).list("rows")]) == 1


@pytest.mark.parametrize("loss", [False, True], ids=["same disks", "empty disks"])
def test_a_chain_over_several_workers_ends_whole(
    desk: Desk, bucket: Bucket, tmp_path: Path, *, loss: bool
) -> None:
    """A picture that another worker made comes from the bucket; a worker that waits for one ends with 5."""
    jobs = [
        job(f"{name}{step}", *([f"{name}{step - 1}"] if step else []))
        for name in "pqrs"
        for step in range(3)
    ]
    desk.write_jobs(*jobs)
    sent: list[str] = []
    for _ in range(3):
        more, summaries = run_all(desk, 4)
        sent += more
        assert {summary.exit_code for summary in summaries} <= {ExitCode.DONE, ExitCode.STOPPED}
        if loss:
            for machine in desk.out.parent.glob("machine-*"):
                shutil.rmtree(machine)
    assert sorted(sent) == sorted(each["id"] for each in jobs)
    rows = {row["id"]: row for row in read(bucket, tmp_path / "view")}
    for each in jobs:
        for parent in each.get("images", ()):
            picture = rows[parent.removeprefix("job:")]["images"][0]["sha256"]
            assert rows[each["id"]]["inputs"][0]["sha256"] == picture
    assert any(owner(f"{name}0", 4) != owner(f"{name}1", 4) for name in "pqrs")


def test_an_image_that_is_gone_is_made_again_by_its_worker(desk: Desk, bucket: Bucket) -> None:
    """With `--retry missing`, on an empty disk."""
    run_all(desk, 2)
    index = owner("c", 2)
    bucket.remove(f"shards/0001.2/{index:05}/images/c.png")
    for machine in desk.out.parent.glob("machine-*"):
        shutil.rmtree(machine)
    assert run_all(desk, 2, retry_missing=True)[0] == ["c"]


def test_a_manifest_with_problems_begins_no_generation(desk: Desk, bucket: Bucket) -> None:
    """In a bucket and in a folder: a run without workers may follow."""
    lines = desk.path.read_bytes()
    desk.path.write_bytes(b'{"prompt": 1}')
    for address in (ADDRESS, None):
        with pytest.raises(ManifestError):
            desk.run(shard=Shard(1, 2), bucket=address)
    assert begun(bucket, Path()).generations == ()
    desk.path.write_bytes(lines)
    assert desk.run().exit_code == ExitCode.DONE
    on(desk, "machine-1").run(bucket=ADDRESS)


def test_one_machine_more_needs_a_shared_ledger(
    desk: Desk, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A worker on another machine that counts by itself is refused while one runs, also if that was killed a moment ago."""
    run(on(desk, "machine-1"), 1, 2)
    held, _ = acquire(worker(bucket, 1, 1, 2), "machine 1", 0)
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path / "other state"))
    with monkeypatch.context() as patch:
        patch.setattr(acquiring, "sleep", lambda _seconds: held.renew())
        with pytest.raises(FlagsError, match="count quota and budget in another ledger"):
            run(on(desk, "machine-2"), 2, 2)
    assert run(on(desk, "machine-2"), 2, 2).exit_code == ExitCode.DONE  # it was dead


class FailsOnce:
    """A fault of one write to the bucket, by its number."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self, _verb: str, name: str) -> Exception | None:
        """Return the error of a write; None if it does not fail."""
        self._left -= 1
        return StoreUnavailableError(f"{ADDRESS}/{name}: HTTP 503") if not self._left else None


def test_a_bucket_that_fails_while_workers_begin_is_tried_again_by_the_next(
    desk: Desk, bucket: Bucket
) -> None:
    """At any write: nothing is lost, and nothing sent twice."""
    first, _ = run_all(desk, 2)
    desk.write(**{name: f"prompt {name}" for name in [*NAMES, "x", "y"]})
    kill(bucket, 1, 1, 2)
    for number in range(1, 60):
        bucket.fault = FailsOnce(number)
        try:
            run(on(desk, f"machine-{number}"), 1, 3)
        except StoreUnavailableError:
            continue
        sent = desk.sent()
        break
    bucket.fault = lambda _verb, _name: None
    assert number > 5
    sent += run_all(desk, 3)[0]
    assert sorted(first + sent) == sorted([*NAMES, "x", "y"])


def test_an_answer_without_a_row_is_taken_by_another_number_of_workers_on_its_machine(
    desk: Desk, bucket: Bucket, tmp_path: Path
) -> None:
    """Killed between the last byte and the row: it is not paid for again."""
    request_sha256 = asked(desk, "h")
    index = owner("h", 2)
    run(desk, index, 2, only=("a",))
    folder = OutputFolder(desk.out / f"shards/0001.2/{index:05}")
    InFlightLog(folder.private, 0).sent("h", request_sha256, 0)
    incoming = folder.stage("h", 1, NOON_UTC)
    image = incoming.open_image(0)
    image.write(png("kept"))
    image.close()
    incoming.journal(WHOLE)
    kill(bucket, index, 1, 2)
    sent, _ = run_all(desk, 3, machines=False)
    assert "h" not in sent
    (row,) = (row for row in read(bucket, tmp_path / "view") if row["id"] == "h")
    assert bucket.get(row["images"][0]["path"]).data == png("kept")
