"""Commands that read an output folder of several workers: they see one run."""

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.api import stream
from gemini_batch.cli import main
from gemini_batch.config.run_config import RunConfig
from gemini_batch.gallery.review.folder import ReviewedFolder
from gemini_batch.output.lock import holder
from gemini_batch.output.marks import Mark, Marks
from gemini_batch.output.results import read_results
from gemini_batch.quota.storage import state_path
from gemini_batch.simulator import Simulator
from tests.loopback.commands import manifest, run, use_key_and_state
from tests.simulated import simulator

pytestmark = [pytest.mark.loopback, pytest.mark.slow]
NAMES = ["icons/a", "icons/b", "c", "d", "e", "f", "g", "h"]


@pytest.fixture(scope="module")
def server() -> Iterator[Simulator]:
    """Return a simulator for this module."""
    with simulator() as running:
        yield running


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory, server: Simulator) -> Iterator[Path]:
    """Return a folder of three workers, and then two that made all calls again for another prompt but one."""
    folder = tmp_path_factory.mktemp("sharded")
    with pytest.MonkeyPatch.context() as patch:
        use_key_and_state(patch, folder)
        for count, prompt in ((3, "old"), (2, "new")):
            jobs = [{"id": name, "prompt": f"{prompt} {name}"} for name in NAMES[1:]]
            path = manifest(folder, {"id": NAMES[0], "prompt": "same"}, *jobs)
            for index in range(1, count + 1):
                assert run(path, server, "--shard", f"{index}/{count}") == 0
        yield folder


@pytest.fixture
def out(sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the output folder, next to its manifest."""
    use_key_and_state(monkeypatch, tmp_path)
    shutil.copytree(sharded, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "jobs.out"


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """Return what a command prints as JSON."""
    capsys.readouterr()
    assert main([*arguments, "--json"]) == code
    return orjson.loads(capsys.readouterr().out)


def test_status_sees_one_run(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest row of each call, the cost of all, and the last run of all workers together."""
    found = told(capsys, "status", str(out))
    assert found["by_status"] == {"succeeded": 8}
    assert found["missing_images"] == []
    last = found["last_run"]
    assert (last["calls"], last["left"], last["exit_code"]) == (8, 0, 0)
    assert last["manifest"].endswith("jobs.jsonl")
    assert found["running"] is None
    assert found["all_rows"]["cost_usd"] == pytest.approx(15 * 0.138, rel=0.05)


def test_verify_checks_the_images_of_all_workers(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A changed image of an old or a new generation, and one of no row, are found by their place."""
    assert main(["verify", str(out)]) == 0
    assert "8 calls, no problems" in capsys.readouterr().out
    (same,) = out.glob("shards/0001.3/*/images/icons/a.*")
    (new,) = out.glob("shards/0002.2/*/images/c.*")
    (new.parent / "stray.png").write_bytes(new.read_bytes())
    for path in (same, new):
        path.write_bytes(b"changed")
    assert main(["verify", str(out)]) == 4
    text = capsys.readouterr().out
    for name in (same, new, new.parent / "stray.png"):
        assert f"{name.relative_to(out)}: " in text
    assert "8 calls, 3 problems" in text


@pytest.mark.parametrize("by", ["day", "model", "manifest", "run"])
def test_costs_count_the_rows_of_all_workers(
    out: Path, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    """With the folder named or found; each worker's row is of the run that wrote it."""
    found = told(capsys, "costs", "--by", by)
    assert found["total"]["calls"] == 15
    assert found == told(capsys, "costs", out.name, "--by", by)
    assert not any(each["name"] == "unknown" for each in found["groups"])


def test_the_gallery_shows_the_newest_pictures(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One page at the root; an older picture of another worker is shown as the earlier one."""
    found = told(capsys, "gallery", str(out))
    assert (found["calls"], found["pictures"], found["missing"]) == (8, 8, 0)
    page = (out / "gallery.html").read_text()
    calls = orjson.loads(page.partition('id="calls">')[2].partition("</script>")[0])
    by_id = {call["id"]: call for call in calls}
    assert by_id["c"]["images"][0]["path"].startswith("shards/0002.2/")
    assert by_id["c"]["earlier"][0]["path"].startswith("shards/0001.3/")
    assert "is_missing" not in by_id["c"]["earlier"][0]
    assert by_id["icons/a"]["images"][0]["path"].startswith("shards/0001.3/")


def test_export_names_pictures_as_one_run_does(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest picture of each call, with its id for a name, wherever it was made."""
    assert told(capsys, "export", str(out), "--to", str(tmp_path / "all.zip"))["pictures"] == 8
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        names = {name.rpartition(".")[0] for name in archive.namelist()}
    assert names == {*NAMES, "index"}


def test_another_folder_reuses_the_answers(out: Path, tmp_path: Path, server: Simulator) -> None:
    """`--reuse-from` takes the newest answers of all workers; nothing is sent."""
    before = len(server.audit.entries)
    other = str(tmp_path / "other.out")
    assert run(tmp_path / "jobs.jsonl", server, "--reuse-from", str(out), "--out", other) == 0
    for index in (1, 2):
        shards = ("--shard", f"{index}/2", "--out", str(tmp_path / "third.out"))
        assert run(tmp_path / "jobs.jsonl", server, "--reuse-from", str(out), *shards) == 0
    assert len(server.audit.entries) == before
    for name in ("other.out", "third.out"):
        assert len(read_results(tmp_path / name)) == 8
        assert main(["verify", str(tmp_path / name)]) == 0


def test_marks_are_at_the_root(out: Path, tmp_path: Path, server: Simulator) -> None:
    """The review shows and marks pictures of all workers; what is discarded is made again by its worker."""
    review = ReviewedFolder(out)
    assert review.page()
    for row in read_results(out):
        if row.id in {"c", "d"}:
            review.mark(Mark(row.id, row.images[0].sha256, "discard"))
            assert review.read(row.images[0].path)
    assert len(Marks(out).all()) == 2
    before = len(server.audit.entries)
    for index in (1, 2):
        redo = ("--redo", "discarded", "--shard", f"{index}/2")
        assert run(tmp_path / "jobs.jsonl", server, *redo) == 0
    assert len(server.audit.entries) == before + 2
    assert len(read_results(out)) == 8


def test_a_review_follows_all_workers(out: Path, tmp_path: Path, server: Simulator) -> None:
    """New rows of any worker are changes since the last look, each once."""
    review = ReviewedFolder(out)
    after = int(review.page().partition(b'"after":')[2].partition(b"}")[0])
    assert review.changes(after) == {"after": after, "calls": [], "run": None}
    for index in (2, 1):
        redo = ("--redo", "c", "d", "e", "--shard", f"{index}/2")
        assert run(tmp_path / "jobs.jsonl", server, *redo) == 0
    found = review.changes(after)
    assert sorted(call["id"] for call in found["calls"]) == ["c", "d", "e"]
    assert review.changes(found["after"])["calls"] == []
    assert review.changes(after)["calls"] == found["calls"]
    assert review.changes(123)["after"] is None
    assert holder(out) is None


async def test_python_streams_the_rows_of_its_worker(
    out: Path, tmp_path: Path, server: Simulator
) -> None:
    """`stream` yields the rows that its worker writes, with the places of their images."""
    config = RunConfig(base_url=server.base_url, shard="1/1", rpm=6000, redo=("c",))
    rows = [row async for row in stream(tmp_path / "jobs.jsonl", config)]
    assert [row.id for row in rows] == ["c"]
    assert rows[0].images[0].file.is_file()
    assert rows[0].images[0].file.is_relative_to(out / "shards/0003.1")


def test_prune_moves_pictures_of_all_workers(
    out: Path, tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each in the folder of its row, once; a line that comes back gets its picture at no cost, whoever owns it now."""
    path = tmp_path / "jobs.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[3:]))
    assert sorted(told(capsys, "prune", str(out), "--yes")["calls"]) == sorted(NAMES[:3])
    assert told(capsys, "prune", str(out), "--yes")["calls"] == []
    assert len([*out.glob("shards/*/*/superseded/**/*.*")]) == 3
    assert main(["verify", str(out)]) == 0
    assert len(read_results(out)) == 5
    path.write_bytes(b"".join(lines))
    before = len(server.audit.entries)
    for index in range(1, 4):
        assert run(path, server, "--shard", f"{index}/3") == 0
    assert len(server.audit.entries) == before
    assert len(read_results(out)) == 8
    assert main(["verify", str(out)]) == 0


def test_batches_of_all_workers_are_listed_and_cancelled(
    tmp_path: Path,
    server: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`batches` sees those of each worker, and ends them, each in its folder."""
    use_key_and_state(monkeypatch, tmp_path)
    path = manifest(tmp_path, *({"id": name, "prompt": name} for name in NAMES))
    for index in (1, 2):
        run(path, server, "--route", "batch", "--shard", f"{index}/2")
    out = str(tmp_path / "jobs.out")
    assert told(capsys, "batches", out)["waiting"] == 8
    assert told(capsys, "status", out)["last_run"]["left"] == 8
    cancelled = ["batches", out, "--cancel", "--base-url", server.base_url]
    found = told(capsys, *cancelled)["batches"]
    assert [each["ending"] for each in found] in (["asked"] * 2, ["ended"] * 2)


def test_a_budget_that_was_deleted_is_not_spent_again(
    tmp_path: Path,
    server: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The ledger's file is gone between two starts: no worker of the run sends anything, also one that had not begun; another run id does."""
    use_key_and_state(monkeypatch, tmp_path)
    path = manifest(tmp_path, *({"id": name, "prompt": f"deleted {name}"} for name in NAMES))
    money = ("--max-cost", "0.30", "--tier", "tier-3", "--run-id")
    assert run(path, server, "--shard", "1/2", *money, "night") == 5
    sent = len(server.audit.entries)
    shutil.rmtree(state_path().parent)
    for shard in ("1/2", "2/2"):
        capsys.readouterr()
        assert run(path, server, "--shard", shard, *money, "night") == 5
        assert "the budget of the run night was deleted from the ledger" in capsys.readouterr().err
    assert len(server.audit.entries) == sent
    run(path, server, "--shard", "2/2", *money, "night-2")
    assert sent < len(server.audit.entries) <= sent + 2
