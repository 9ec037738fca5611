"""Runs with a bucket, which is in memory: what is there, after faults and kills on an empty disk."""

import asyncio
import copy
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.errors import ConfigError
from gemini_batch.events import CallFinished, Event
from gemini_batch.output.bucket import acquiring, lease, opened, segments
from gemini_batch.output.bucket.lease import Held
from gemini_batch.output.bucket.pictures import row_of_notes
from gemini_batch.store import opening
from gemini_batch.store.address import BucketAddress
from gemini_batch.store.base import (
    NO_NOTES,
    Content,
    ImageStore,
    StoreRefusedError,
    StoreUnavailableError,
)
from gemini_batch.store.memory import MemoryStore
from tests.builders import blocked_for, picture, sha256
from tests.virtual.desk import Desk

pytestmark = pytest.mark.usefixtures("no_real_syncs")
ADDRESS = BucketAddress.parse("s3://pictures/robots")
Fault = Callable[[str, str], Exception | None]


class Bucket(MemoryStore):
    """A bucket that fails as it is told, and remembers its states."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = str(ADDRESS)
        self.fault: Fault = lambda _verb, _name: None
        self.states: list[dict[str, Any]] = []
        self.keeps_states = False

    def _check(self, verb: str, name: str) -> None:
        if (error := self.fault(verb, name)) is not None:
            raise error

    def create(self, name: str, data: Content, notes: Mapping[str, str] = NO_NOTES) -> str:
        """Create, if that does not fail."""
        self._check("create", name)
        version = super().create(name, data, notes)
        if self.keeps_states:
            self.states.append(copy.copy(self._objects))
        return version

    def replace(
        self, name: str, data: Content, version: str, notes: Mapping[str, str] = NO_NOTES
    ) -> str:
        """Replace, if that does not fail."""
        self._check("replace", name)
        return super().replace(name, data, version, notes)

    def put(self, name: str, data: bytes | Path) -> None:
        """Put, if that does not fail."""
        self._check("put", name)
        super().put(name, data)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of all segments, in their order."""
        data = b"".join(segments.rows_of(self, segments.listing(self)))
        return [orjson.loads(line) for line in data.splitlines()]

    def committed(self) -> set[str]:
        """Return the ids with a row in a segment, or in the notes of an image."""
        found = {row["id"] for row in self.rows()}
        for entry in self.list("images"):
            if (noted := row_of_notes(self.head(entry.name).notes)) is not None:
                found.add(noted[0]["id"])
        return found

    def check(self) -> None:
        """Check that each row has its images, as they are in the row."""
        newest = {row["id"]: row for row in self.rows()}
        for row in newest.values():
            for image in (*row["images"], *row["drafts"]):
                assert sha256(self.get(image["path"]).data) == image["sha256"], image["path"]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Return an empty bucket, which every run opens."""
    bucket = Bucket()

    def open_store(_address: BucketAddress, _timeout_s: float = 0.0) -> ImageStore:
        return bucket

    monkeypatch.setattr(opening, "open_store", open_store)
    monkeypatch.setattr(acquiring, "sleep", lambda _seconds: None)
    return bucket


@pytest.fixture
def desk(desk: Desk) -> Desk:
    """Return a desk with eight jobs."""
    desk.write(**{f"j{number}": f"Number {number}" for number in range(8)})
    return desk


def empty(desk: Desk) -> None:
    """Take the disk away."""
    shutil.rmtree(desk.out)


def run(desk: Desk, **options: Any) -> Any:
    """Run the manifest into the bucket."""
    return desk.run(bucket=ADDRESS, **options)


def told(desk: Desk) -> str:
    """Return the messages of the last run."""
    return "\n".join(str(event) for event in desk.events)


def test_a_run_is_in_the_bucket_when_it_ends(desk: Desk, bucket: Bucket) -> None:
    """Its rows as in the folder, byte by byte; its images; its summary, whose folder is the bucket."""
    summary = run(desk, script={"j3": [blocked_for("SAFETY")]})
    assert (summary.exit_code, summary.out) == (0, str(ADDRESS))
    rows = b"".join(segments.rows_of(bucket, segments.listing(bucket)))
    assert rows == (desk.out / "results.jsonl").read_bytes()
    assert len([*bucket.list("images")]) == 7
    bucket.check()
    assert orjson.loads(bucket.get("summary.json").data)["exit_code"] == 0
    assert len(bucket.get("runs.jsonl").data.splitlines()) == 1
    assert orjson.loads(bucket.get("lock").data)["is_whole"] is True


def test_the_next_run_on_an_empty_disk_has_nothing_to_do(desk: Desk, bucket: Bucket) -> None:
    """It restores rows and runs, and no image."""
    run(desk)
    rows, runs = (desk.out / "results.jsonl").read_bytes(), (desk.out / "runs.jsonl").read_bytes()
    empty(desk)
    summary = run(desk)
    assert (summary.exit_code, desk.sent()) == (0, [])
    assert "rows restored from s3://pictures/robots" in told(desk)
    assert (desk.out / "results.jsonl").read_bytes() == rows
    assert (desk.out / "runs.jsonl").read_bytes().startswith(runs)
    assert not (desk.out / "images").exists()
    assert len(bucket.rows()) == 8


def test_a_run_on_its_own_disk_restores_nothing(desk: Desk, bucket: Bucket) -> None:
    """Nor does it wait for its own dead lease; its next rows are a new epoch's."""
    run(desk, limit=3)
    held = orjson.loads(bucket.get("lock").data)
    bucket.replace(
        "lock",
        orjson.dumps(held | {"is_over": False, "is_whole": False}),
        bucket.head("lock").version,
    )
    summary = run(desk)
    assert (summary.exit_code, len(desk.sent())) == (0, 5)
    assert "restored" not in told(desk)
    assert "held by another run" not in told(desk)
    assert [each.epoch for each in segments.listing(bucket).segments][-1] == 2
    assert len(bucket.rows()) == 8


def test_killed_after_any_write_and_the_disk_gone_no_mirrored_row_is_repeated(
    desk: Desk, bucket: Bucket
) -> None:
    """For each state that the bucket was in: what had a row there, in a segment or with its image, is not sent again; every call ends with one image, which is that of its row."""
    bucket.keeps_states = True
    run(desk, script={"j2": [blocked_for("SAFETY")]}, concurrency=3)
    states, bucket.keeps_states = bucket.states, False
    assert len(states) > 10
    for state in states:
        empty(desk)
        bucket._objects = dict(state)
        committed = bucket.committed()
        summary = run(desk, script={"j2": [blocked_for("SAFETY")]})
        assert summary.exit_code == 0
        assert committed.isdisjoint(desk.sent())
        assert len(desk.sent()) + len(committed) == 8
        rows = bucket.rows()
        assert sorted(row["id"] for row in rows) == [f"j{number}" for number in range(8)]
        bucket.check()


@pytest.mark.parametrize("seconds", [1.0, 20.0, 59.0])
def test_a_bucket_that_fails_for_a_while_loses_nothing(
    desk: Desk, bucket: Bucket, seconds: float
) -> None:
    """A 503, or no connection: the run waits for the bucket at its end, and all is there."""
    summary = run(desk, during=fail_until(bucket, seconds))
    assert summary.exit_code == 0
    assert len(bucket.rows()) == 8
    bucket.check()


def fail_until(bucket: Bucket, seconds: float) -> Callable[[Any], Any]:
    """Let images and rows fail until a moment of the run, which is given as `during`."""

    def fault(_verb: str, name: str) -> Exception | None:
        if {"images", "rows"} & {*name.split("/")}:
            return StoreUnavailableError(f"{ADDRESS}/{name}: HTTP 503")
        return None

    async def during(_going: object) -> None:
        await asyncio.sleep(seconds)
        bucket.fault = lambda _verb, _name: None

    bucket.fault = fault
    return during


def test_a_bucket_that_stays_away_ends_the_run_as_a_full_disk_does(
    desk: Desk, bucket: Bucket
) -> None:
    """All answers are in the scratch folder; the next run there uploads them and sends nothing."""
    summary = run(desk, during=fail_until(bucket, 10_000.0))
    assert summary.exit_code == 8
    assert "run again, with that folder" in summary.stops[0]["message"]
    assert len((desk.out / "results.jsonl").read_bytes().splitlines()) == 8
    assert bucket.rows() == []
    bucket.fault = lambda _verb, _name: None
    again = run(desk)
    assert (again.exit_code, desk.sent()) == (0, [])
    assert len(bucket.rows()) == 8
    bucket.check()


def test_nothing_is_paid_for_while_earlier_answers_can_not_be_uploaded(
    desk: Desk, bucket: Bucket
) -> None:
    """The bucket comes first."""
    run(desk, limit=2, during=fail_until(bucket, 10_000.0))
    summary = run(desk, during=fail_until(bucket, 10_000.0))
    assert (summary.exit_code, desk.sent()) == (8, [])


def test_a_bucket_that_refuses_ends_the_run_at_once(desk: Desk, bucket: Bucket) -> None:
    """What is in flight is completed and kept; with the permission back nothing is sent twice."""

    def fault(_verb: str, name: str) -> Exception | None:
        is_third = name.startswith("images") and len([*bucket.list("images")]) >= 2
        return StoreRefusedError(f"{ADDRESS}/{name}: access is denied") if is_third else None

    bucket.fault = fault
    summary = run(desk, concurrency=2)
    sent = desk.sent()
    assert summary.exit_code == 8
    assert "access is denied" in summary.stops[0]["message"]
    assert len(sent) < 8
    assert len((desk.out / "results.jsonl").read_bytes().splitlines()) == len(sent)
    bucket.fault = lambda _verb, _name: None
    assert run(desk).exit_code == 0
    assert set(sent).isdisjoint(desk.sent())
    assert len(bucket.rows()) == 8
    bucket.check()


def test_answers_that_wait_for_their_upload_bound_what_is_sent(desk: Desk, bucket: Bucket) -> None:
    """Half of `--scratch-max` may wait; when the bucket is back the rest is sent."""
    at_s: list[int] = []

    def fault(_verb: str, name: str) -> Exception | None:
        if name.startswith("images"):
            at_s.append(len(desk.sent()))
            return StoreUnavailableError("503") if len(at_s) < 20 else None
        return None

    bucket.fault = fault
    summary = run(desk, scratch_max_bytes=2, concurrency=1)
    assert summary.exit_code == 0
    assert len(bucket.rows()) == 8
    # The second call was admitted before the first row was durable.
    assert set(at_s[:19]) <= {1, 2}


def test_a_full_scratch_folder_ends_the_run_when_the_bucket_stays_away(
    desk: Desk, bucket: Bucket
) -> None:
    """Nothing more is sent; the message names both."""
    summary = run(
        desk,
        during=fail_until(bucket, 10_000.0),
        scratch_max_bytes=2,
        concurrency=1,
    )
    assert summary.exit_code == 8
    assert "--scratch-max" in summary.stops[0]["message"]
    assert desk.sent() in (["j0"], ["j0", "j1"])


def test_a_lease_that_was_taken_ends_the_run(
    desk: Desk, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes nothing more, also no summary over the other run's; its answers stay here."""

    def steal(event: Event) -> None:
        if isinstance(event, CallFinished) and event.row.id == "j1":
            held = Held(9, "another", "other, process 1")
            version = bucket.head("lock").version
            bucket.replace("lock", lease.json_of(held), version)
            leases[0].renew()

    leases: list[lease.Lease] = []
    real = acquiring.acquire

    def acquire(*args: Any, **options: Any) -> Any:
        found = real(*args, **options)
        leases.append(found[0])
        return found

    monkeypatch.setattr(opened, "acquire", acquire)
    summary = run(desk, watch=steal, concurrency=1)
    assert summary.exit_code == 8
    assert "another run (other, process 1) has taken over" in summary.stops[0]["message"]
    assert len(desk.sent()) < 8
    assert orjson.loads(bucket.get("lock").data)["epoch"] == 9
    assert orjson.loads(bucket.get("summary.json").data)["ended_at"] is None
    assert len((desk.out / "results.jsonl").read_bytes().splitlines()) == len(desk.sent())


def test_an_image_that_is_made_again_moves_aside_in_the_bucket(desk: Desk, bucket: Bucket) -> None:
    """Both pictures were paid for; the old one has its notes, also from another disk."""
    run(desk, limit=2)
    old = bucket.get("images/j0.png").data
    empty(desk)
    desk.write(j0="Another number", **{f"j{n}": f"Number {n}" for n in range(1, 8)})
    assert run(desk).exit_code == 0
    assert bucket.get("images/j0.png").data != old
    (entry,) = bucket.list("superseded")
    assert bucket.get(entry.name).data == old
    assert entry.name == f"superseded/j0.{sha256(old)[:12]}.png"
    bucket.check()


def test_rows_of_two_disks_become_one_history(desk: Desk, bucket: Bucket) -> None:
    """What a disk could not upload joins what another machine has made meanwhile; nothing is lost."""
    run(desk, limit=3, during=fail_until(bucket, 10_000.0))
    first = desk.out.rename(desk.out.with_name("first"))
    slow = {f"j{n}": [picture(7.0, drawing="again")] for n in range(5)}
    run(desk, script=slow, limit=5)  # another machine, whose disk is empty
    empty(desk)
    first.rename(desk.out)
    summary = run(desk)
    assert summary.exit_code == 0
    rows = bucket.rows()
    assert len(rows) == 3 + 5 + 3
    assert {row["id"] for row in rows} == {f"j{number}" for number in range(8)}
    assert (desk.out / "results.jsonl").read_bytes().count(b"\n") == 11
    bucket.check()


def test_many_segments_become_a_snapshot(
    desk: Desk, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore reads it and what came after; nothing older is removed."""
    monkeypatch.setattr(opened, "SNAPSHOT_AFTER", 2)
    run(desk, limit=5, concurrency=1)
    monkeypatch.setattr(opened, "SNAPSHOT_AFTER", 50)
    found = segments.listing(bucket)
    assert found.snapshots == (1,)
    assert found.besides(segments.covered_by_snapshot(bucket, found)) == []
    run(desk, limit=1)
    rows = (desk.out / "results.jsonl").read_bytes()
    empty(desk)
    run(desk, limit=1)
    assert (desk.out / "results.jsonl").read_bytes().startswith(rows)
    assert len(bucket.rows()) == 7


def test_uploaded_images_leave_the_disk_when_there_are_many(desk: Desk, bucket: Bucket) -> None:
    """The bucket has them; recovery does not miss them, also after a power cut."""
    summary = run(desk, scratch_max_bytes=2)
    assert summary.exit_code == 0
    assert [*(desk.out / "images").iterdir()] == []
    (desk.out / ".gemini_batch/durable").write_text("0" * 20)
    again = run(desk)
    assert (again.exit_code, desk.sent()) == (0, [])
    assert "did not survive" not in told(desk)
    bucket.check()


def test_an_image_that_is_gone_from_the_bucket_is_made_again(desk: Desk, bucket: Bucket) -> None:
    """With `--retry missing`, and no other; one that waits for its upload is there."""
    run(desk, limit=4)
    run(desk, limit=2, during=fail_until(bucket, 10_000.0))
    bucket.fault = lambda _verb, _name: None
    bucket.remove("images/j1.png")
    (desk.out / "images/j1.png").unlink()
    (desk.out / "images/j2.png").unlink()
    run(desk, retry_missing=True, only=tuple(f"j{number}" for number in range(6)))
    assert desk.sent() == ["j1"]
    empty(desk)
    run(desk, retry_missing=True)
    assert desk.sent() == ["j6", "j7"]
    bucket.check()


def test_a_folder_of_another_bucket_or_of_none_is_refused(desk: Desk, bucket: Bucket) -> None:
    """Before anything is written to the bucket."""
    desk.run(limit=1)
    with pytest.raises(ConfigError, match="has the results of a run without a bucket"):
        run(desk)
    empty(desk)
    run(desk, limit=1)
    bucket.shown = "s3://pictures/other"
    with pytest.raises(ConfigError, match="is the scratch folder of s3://pictures/robots"):
        run(desk)
