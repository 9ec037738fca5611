"""Commands that read an output folder read one in a bucket as well; here a folder stands in for it."""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.output.bucket import layout
from gemini_batch.output.bucket.acquiring import acquire
from gemini_batch.output.bucket.marks import BucketMarks
from gemini_batch.output.bucket.pictures import notes_of, upload
from gemini_batch.output.bucket.viewed import BucketFolder
from gemini_batch.output.marks import Mark, Marks
from gemini_batch.records import ImageFile
from gemini_batch.store.base import ConflictError
from gemini_batch.store.below import StoreBelow
from gemini_batch.store.local import LocalStore
from tests.builders import line_of, make_row, png, sha256


def image_of(call_id: str) -> ImageFile:
    """Return the entry of a picture."""
    data = png(call_id)
    return ImageFile(f"images/{call_id}.png", "image/png", len(data), 8, 8, sha256(data))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    """Return a bucket with three calls, of which the last has its row with its image only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path / "state"))
    store = LocalStore(tmp_path / "bucket")
    for number, call_id in enumerate(("a", "b/b", "c")):
        image = image_of(call_id)
        row = make_row(call_id, images=[image])
        line = line_of(row)
        notes = notes_of(orjson.loads(line), line, image.sha256)
        upload(store, image.path, png(call_id), notes if call_id == "c" else {"sha256": "x"})
        if call_id != "c":
            store.create(layout.segment(1, number + 1), line)
    return store


def url(store: LocalStore) -> str:
    """Return the address of the bucket."""
    return store.shown


def test_status_counts_the_rows_of_a_bucket(
    store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those too that no segment has yet; an image that is gone is missing."""
    store.remove("images/a.png")
    assert main(["status", url(store), "--json"]) == 0
    found = orjson.loads(capsys.readouterr().out)
    assert found["out"] == url(store)
    assert found["by_status"] == {"succeeded": 3}
    assert found["missing_images"] == ["images/a.png"]


def test_verify_reads_every_image_of_a_bucket(
    store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that are damaged, missing, or of no row."""
    assert main(["verify", url(store)]) == 0
    store.remove("images/a.png")
    store.put("images/b/b.png", png("another"))
    store.put("images/x.png", png("x"))
    assert main(["verify", url(store)]) == 4
    text = capsys.readouterr().out
    assert "a: images/a.png: no such file" in text
    assert "b/b: images/b/b.png: has " in text
    assert "images/x.png: belongs to no row" in text
    assert "run with --retry missing" in text


def test_export_copies_the_images_of_a_bucket(
    store: LocalStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a file of them anywhere else; one that is gone is reported, and exits with 4."""
    assert main(["export", url(store), "--to", "all"]) == 0
    assert (tmp_path / "all/b/b.png").read_bytes() == png("b/b")
    store.remove("images/a.png")
    assert main(["export", url(store), "--to", "some.zip"]) == 4
    assert "missing: images/a.png" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"all", "some.zip", "bucket"}


def test_costs_and_plan_read_a_bucket(
    store: LocalStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As they read a folder; a bucket without a run is a new one for plan."""
    assert main(["costs", url(store)]) == 0
    assert "3 calls" in capsys.readouterr().out
    (tmp_path / "jobs.jsonl").write_bytes(b'{"id": "a", "prompt": "A robot"}')
    for out in (url(store), f"{url(store)}/new"):
        command = ["plan", "jobs.jsonl", "--out", out, "--base-url", "http://127.0.0.1:9", "--json"]
        assert main(command) == 0
        assert orjson.loads(capsys.readouterr().out)["out"] == out


def test_the_gallery_is_a_copy_that_is_renewed(store: LocalStore, tmp_path: Path) -> None:
    """It has the images; those that it has are not fetched again; another folder is not touched."""
    assert main(["gallery", url(store)]) == 0
    copy = tmp_path / "bucket.copy"
    assert (copy / "gallery.html").exists()
    assert (copy / "images/b/b.png").read_bytes() == png("b/b")
    store.remove("images/a.png")
    assert main(["gallery", url(store)]) == 0
    assert (copy / "images/a.png").exists()
    (copy / "COPY").unlink()
    assert main(["gallery", url(store)]) == 3


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    """Return a bucket with the rows of two generations of workers; `a` was made again by the second."""
    monkeypatch.chdir(tmp_path)
    store = LocalStore(tmp_path / "bucket")
    for number, count, index, call_id in (
        (1, 2, 1, "a"),
        (1, 2, 2, "b/b"),
        (2, 3, 3, "a"),
        (2, 3, 1, "c"),
    ):
        with suppress(ConflictError):
            store.create(layout.generation(number), orjson.dumps({"workers": count}))
        part = StoreBelow(store, f"shards/{number:04}.{count}/{index:05}")
        acquire(part, "killed", 0)
        image = image_of(call_id)
        line = line_of(make_row(call_id, images=[image]))
        notes = notes_of(orjson.loads(line), line, image.sha256)
        upload(part, image.path, png(call_id), notes if call_id == "c" else {"sha256": "x"})
        if call_id != "c":
            part.create(layout.segment(1, 1), line)
    return store


def test_commands_read_a_bucket_of_workers_as_one_run(
    workers: LocalStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each call once, by its newest generation, and images that are gone by their path in the bucket."""
    address = url(workers)
    assert main(["status", address, "--json"]) == 0
    found = orjson.loads(capsys.readouterr().out)
    assert (found["by_status"], found["missing_images"]) == ({"succeeded": 3}, [])
    assert main(["verify", address]) == 0
    assert main(["costs", address]) == 0
    assert "4 calls" in capsys.readouterr().out
    assert main(["export", address, "--to", "all"]) == 0
    assert {path.name for path in (tmp_path / "all").rglob("*.png")} == {"a.png", "b.png", "c.png"}
    assert main(["gallery", address]) == 0
    assert (tmp_path / "bucket.copy/shards/0002.3/00003/images/a.png").read_bytes() == png("a")
    workers.remove("shards/0002.3/00003/images/a.png")
    workers.put("shards/0001.2/00001/images/x.png", png("x"))
    capsys.readouterr()
    assert main(["verify", address]) == 4
    text = capsys.readouterr().out
    assert "a: shards/0002.3/00003/images/a.png: no such file" in text
    assert "shards/0001.2/00001/images/x.png: belongs to no row" in text


def test_status_says_that_a_bucket_is_written(
    workers: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that holds a lease is running, not killed; one that gave it back is neither."""
    summary = {
        "manifest": "jobs.jsonl",
        "calls": 4,
        "left": 3,
        "started_at": "2026-11-30T12:00:00Z",
    }
    found = orjson.dumps(summary | {"ended_at": None})
    for index in (1, 2, 3):
        StoreBelow(workers, f"shards/0002.3/{index:05}").put("summary.json", found)
    assert main(["status", url(workers)]) == 0
    assert (
        "running now (2 workers, unless they were killed): jobs.jsonl: " in capsys.readouterr().out
    )
    other = LocalStore(workers._root.with_name("other"))
    other.put("summary.json", found)
    lease, _ = acquire(other, "run", 0)
    assert main(["status", url(other)]) == 0
    assert ", unless it was killed): jobs.jsonl: 0 of 3 calls done" in capsys.readouterr().out
    lease.release(is_whole=True)
    assert main(["status", url(other)]) == 0
    assert "was killed; at its start 3 of 4 calls left" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"{}", b'{"workers": "2"}', b'{"workers": 0}'])
def test_a_damaged_generation_is_named(
    workers: LocalStore, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    """With what to write there; nothing is guessed."""
    workers.put("generations/0002", content)
    assert main(["status", url(workers)]) == 8
    assert "generations/0002: is damaged: write the number" in capsys.readouterr().err


def test_a_mark_of_a_review_is_in_the_bucket(store: LocalStore, tmp_path: Path) -> None:
    """Each in an object of its own; the newest counts, from any machine."""
    copies = [tmp_path / name for name in ("one", "two")]
    digest = image_of("a").sha256
    for copy, choice in zip(copies, ("discard", "pick"), strict=True):
        BucketFolder(store, copy)
        BucketMarks(copy, store).set(Mark("a", digest, choice))  # type: ignore[arg-type]
    assert len([*store.list("marks")]) == 2
    BucketFolder(store, copies[0])
    assert Marks(copies[0]).of("a", digest).choice == "pick"


def test_a_bucket_without_a_run_has_no_results(
    store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named, and what to name."""
    assert main(["status", f"{url(store)}/x"]) == 3
    assert f"{url(store)}/x: has no results" in capsys.readouterr().err


def test_what_moves_images_needs_a_folder(
    store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prune is refused for a bucket, before anything is read; there are no batches to list."""
    assert main(["prune", url(store)]) == 3
    assert "pictures in a bucket can't be pruned" in capsys.readouterr().err
    assert main(["batches", url(store)]) == 3
    assert "a bucket has no batches" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--out", "s3://pictures/x", "--route", "batch"], "--route batch"),
        (["--scratch", "x"], "--scratch"),
        (["--reuse-from", "s3://pictures/x"], "--reuse-from: s3://pictures/x: is in a bucket"),
        (["--out", "s3://p"], "--out: got"),
        (["--out", "s3://pictures/x?sig=SECRET"], "--out: has a query"),
    ],
)
def test_flags_that_a_bucket_can_not_have_are_wrong_usage(
    flags: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before anything is sent; a signature is not repeated."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs.jsonl").write_bytes(b'{"prompt": "A robot"}')
    try:
        code = main(["run", "jobs.jsonl", "--simulate", *flags])
    except SystemExit as end:
        code = int(str(end.code))
    text = capsys.readouterr().err
    assert (code, told in text, "SECRET" in text) == (2, True, False)


def test_a_run_from_python_takes_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no address is told as on the command line."""
    from gemini_batch import RunConfig, run
    from gemini_batch.errors import ConfigError

    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path / "state"))
    with pytest.raises(ConfigError, match="out: got"):
        asyncio.run(run([], RunConfig(out="s3://", simulate=True)))


def test_the_manifest_and_the_output_of_ray_may_be_in_a_bucket(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are read before a cluster is asked for: problems of the manifest come first."""
    monkeypatch.setitem(sys.modules, "ray", None)
    for job, told in ((b'{"prompt": 1}', "jobs.jsonl:1: prompt"), (b'{"prompt": "A"}', "install")):
        store.put("jobs.jsonl", job)
        command = ["ray", f"{url(store)}/jobs.jsonl", "--out", f"{url(store)}/new", "--simulate"]
        assert main(command) == 3
        assert told in capsys.readouterr().err


def test_a_manifest_may_be_in_a_bucket(
    store: LocalStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is read there, by plan and run alike; its output has to be named."""
    store.put("jobs/robots.jsonl", b'{"id": "r", "prompt": "A robot"}')
    address = f"{url(store)}/jobs/robots.jsonl"
    assert main(["run", address, "--simulate", "--out", "robots.out", "--json"]) == 0
    assert orjson.loads(capsys.readouterr().out)["manifest"] == address
    assert (tmp_path / "robots.out/results.jsonl").exists()
    with pytest.raises(SystemExit):
        main(["plan", address])
    assert "--out: name the output folder of a manifest in a bucket" in capsys.readouterr().err
    assert main(["plan", f"{address}x", "--out", "x"]) == 3
    assert "there is no such object" in capsys.readouterr().err
