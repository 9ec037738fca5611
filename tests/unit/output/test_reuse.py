"""Answers of other output folders, reused at no cost."""

import errno
import os
import tracemalloc
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.clock import Clock
from gemini_batch.engine.preprocess import Preprocessor
from gemini_batch.engine.recovery import Interrupted, recover
from gemini_batch.errors import ConfigError, StorageError
from gemini_batch.events import CallFinished, CallNotReused, Event
from gemini_batch.output import OutputFolder, StagedAnswer
from gemini_batch.output.results_file import ResultsFile
from gemini_batch.output.reuse import NotReusable, Reuse, ReusedAnswer
from gemini_batch.output.rows import newest_rows, read_rows
from gemini_batch.output.staging import AnswerJournal, StagedFile
from gemini_batch.output.tree import OpenFolder, Tree
from gemini_batch.records import ReusedFrom, Status
from tests.builders import (
    ENDPOINT,
    line_of,
    make_call,
    make_committer,
    make_row,
    png,
    sha256,
    tree,
)
from tests.virtual.clock import NOON_UTC, run

ROBOT, CAT = sha256(b"A robot"), sha256(b"A cat")
BASE_URL = "GEMINI_BATCH_BASE_URL"


@pytest.fixture(autouse=True)
def _no_real_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda _descriptor: None)


def answered(
    folder: Path,
    call_id: str = "robot",
    picture: str = "",
    status: str = "succeeded",
    **changes: Any,
) -> None:
    """Write an answer of an earlier run into this folder."""
    data = png(picture or f"{folder.name} {call_id}")
    path = f"images/{call_id}.png"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(data)
    image = {
        "path": path,
        "mime_type": "image/png",
        "size_bytes": len(data),
        "width": None,
        "height": None,
    }
    row = {
        **orjson.loads(line_of(make_row(call_id))),
        "status": status,
        "images": [{**image, "sha256": sha256(data)}] if status == "succeeded" else [],
        "response_id": f"response of {picture or call_id}",
        **changes,
    }
    with (folder / "results.jsonl").open("ab") as file:
        file.write(orjson.dumps(row) + b"\n")


def reuse_of(*folders: Path, out: Path | None = None) -> Reuse:
    """Return the reusable answers."""
    return Reuse(folders, ENDPOINT, out or folders[0].parent / "out")


def taken(
    reuse: Reuse, call_id: str, out: Path, request_sha256: str = ROBOT
) -> ReusedAnswer | NotReusable:
    """Copy the answer that was reserved for a call."""
    (out / "incoming").mkdir(parents=True, exist_ok=True)
    folder = OpenFolder(Tree(out), "incoming")
    staged = StagedAnswer(folder, call_id, AnswerJournal(folder), None)
    return reuse.copy(call_id, request_sha256, staged)


def sources(reuse: Reuse, out: Path, *call_ids: str) -> list[str]:
    """Return the source of each call's answer; "" for none."""
    found = []
    for call_id in call_ids:
        if not reuse.reserve(call_id, ROBOT):
            found.append("")
            continue
        reused = taken(reuse, call_id, out)
        assert isinstance(reused, ReusedAnswer)
        found.append(f"{Path(reused.source.out).name}/{reused.source.id}")
    return found


# --- which answers ---


def test_a_done_call_of_the_same_request_is_found_under_any_id(tmp_path: Path) -> None:
    """The request counts, not the id; the answer is its whole row except the cost."""
    answered(tmp_path / "a", "robot", text="Here it is.", finish_reason="STOP", model_version="v1")
    reuse = reuse_of(tmp_path / "a")
    assert not reuse.reserve("cat", CAT)
    assert reuse.reserve("droid", ROBOT)
    reused = taken(reuse, "droid", tmp_path / "out")
    assert isinstance(reused, ReusedAnswer)
    assert reused.source == ReusedFrom(str(tmp_path / "a"), "robot")
    reply = reused.reply
    assert reply.image is not None
    assert Path(reply.image.file).read_bytes() == png("a robot")
    assert reply.image.sha256 == sha256(png("a robot"))
    assert (reply.text, reply.finish_reason, reply.model_version) == ("Here it is.", "STOP", "v1")
    assert (reply.response_id, reply.usage, reply.drafts) == ("response of robot", None, ())


@pytest.mark.parametrize(
    "status", [status.value for status in Status if status is not Status.SUCCEEDED]
)
def test_only_an_image_is_reused(tmp_path: Path, status: str) -> None:
    """A row without an image is not reused: another attempt may give one."""
    answered(tmp_path / "a", status=status)
    assert not reuse_of(tmp_path / "a").reserve("robot", ROBOT)


def test_only_the_same_endpoint_is_reused(tmp_path: Path) -> None:
    """Neither a simulated answer nor one of another server is reused."""
    answered(tmp_path / "a", endpoint="simulator")
    answered(tmp_path / "a", "robot.2", endpoint="https://elsewhere.test")
    assert not reuse_of(tmp_path / "a").reserve("robot", ROBOT)


def test_only_the_newest_row_of_an_id_counts(tmp_path: Path) -> None:
    """A superseded or lost answer is not reused."""
    answered(tmp_path / "a", "robot")
    answered(tmp_path / "a", "robot", request_sha256=CAT, picture="a cat")
    answered(tmp_path / "a", "other")
    answered(tmp_path / "a", "other", status="lost")
    reuse = reuse_of(tmp_path / "a")
    assert not reuse.reserve("robot", ROBOT)
    assert reuse.reserve("cat", CAT)


def test_each_variant_takes_another_answer_until_they_are_used_up(tmp_path: Path) -> None:
    """No answer is used twice, the same id is preferred, and the other variants are sent."""
    for call_id in ("robot.3", "robot.2", "robot"):
        answered(tmp_path / "a", call_id)
    reuse = reuse_of(tmp_path / "a")
    calls = ["robot", "robot.2", "robot.3", "robot.4"]
    assert sources(reuse, tmp_path / "out", *calls) == ["a/robot", "a/robot.2", "a/robot.3", ""]
    assert reuse.reserved == {str(tmp_path / "a"): 3}
    found = sources(reuse_of(tmp_path / "a"), tmp_path / "out", "x", "y", "robot", "z")
    assert sorted(found) == ["", "a/robot", "a/robot.2", "a/robot.3"]
    assert found[3] == ""


def test_an_own_id_of_another_request_is_nothing_special(tmp_path: Path) -> None:
    """An id alone does not identify a request."""
    answered(tmp_path / "a", "robot", request_sha256=CAT)
    answered(tmp_path / "a", "other")
    assert sources(reuse_of(tmp_path / "a"), tmp_path / "out", "robot") == ["a/other"]


def test_folders_are_searched_in_the_order_they_are_named(tmp_path: Path) -> None:
    """Answers of the first folder are preferred, and a copy in both counts once."""
    answered(tmp_path / "a", "x", picture="one")
    answered(tmp_path / "a", "y", picture="two")
    answered(tmp_path / "b", "x", picture="one")
    answered(tmp_path / "b", "z", picture="three")
    reuse = reuse_of(tmp_path / "a", tmp_path / "b")
    assert sources(reuse, tmp_path / "out", "p", "q", "r", "s") == ["a/y", "a/x", "b/z", ""]
    assert reuse.reserved == {str(tmp_path / "a"): 2, str(tmp_path / "b"): 1}


def test_an_answer_that_is_in_the_output_folder_already_is_not_taken_again(tmp_path: Path) -> None:
    """A resumed run gives the remaining variants other answers."""
    for call_id in ("robot", "robot.2"):
        answered(tmp_path / "a", call_id, picture=call_id)
    answered(tmp_path / "out", "robot", picture="robot")
    assert sources(reuse_of(tmp_path / "a"), tmp_path / "more", "robot.3", "robot.4") == [
        "a/robot.2",
        "",
    ]


def test_equal_pictures_of_different_answers_are_different_answers(tmp_path: Path) -> None:
    """Two equal images are two answers: both were paid for."""
    answered(tmp_path / "a", "x", picture="same", response_id="1")
    answered(tmp_path / "a", "y", picture="same", response_id="2")
    assert "" not in sources(reuse_of(tmp_path / "a"), tmp_path / "out", "p", "q")


def remove(image: Path) -> None:
    """Delete it."""
    image.unlink()


def cut(image: Path) -> None:
    """Make it shorter."""
    image.write_bytes(b"short")


def folder(image: Path) -> None:
    """Put a folder in its place."""
    image.unlink()
    image.mkdir()


@pytest.mark.parametrize("spoil", [remove, cut, folder])
def test_an_image_that_is_gone_is_not_planned_with(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """A call whose reusable image was deleted is planned to be sent."""
    answered(tmp_path / "a", "robot")
    spoil(tmp_path / "a/images/robot.png")
    answered(tmp_path / "a", "other")
    assert sources(reuse_of(tmp_path / "a"), tmp_path / "out", "robot", "robot.2") == [
        "a/other",
        "",
    ]


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname", "images/\0"])
def test_a_row_cannot_lead_out_of_its_folder(tmp_path: Path, path: str) -> None:
    """Rows of a foreign folder can only name files in it."""
    data = png("secret")
    (tmp_path / "secret.png").write_bytes(data)
    answered(
        tmp_path / "a", images=[{"path": path, "size_bytes": len(data), "sha256": sha256(data)}]
    )
    with pytest.raises(ConfigError, match="not a row"):
        reuse_of(tmp_path / "a")


def test_wrong_folders_are_a_sentence(tmp_path: Path) -> None:
    """A folder without results, with damaged ones, or the run's own is refused."""
    with pytest.raises(ConfigError) as refused:
        reuse_of(tmp_path / "a")
    assert str(refused.value) == (
        f"--reuse-from: {tmp_path}/a: has no results.jsonl; name the output folder of a run, such as jobs.out"
    )
    answered(tmp_path / "a")
    with pytest.raises(ConfigError) as refused:
        reuse_of(tmp_path / "a", out=tmp_path / "a/../a")
    assert (
        str(refused.value)
        == f"--reuse-from: {tmp_path}/a: is the output folder itself, whose answers count anyway"
    )
    (tmp_path / "a/results.jsonl").write_bytes(b"no row\n")
    with pytest.raises(
        ConfigError, match=r'^--reuse-from: .*/a/results.jsonl:1: not a row: "no row"'
    ):
        reuse_of(tmp_path / "a")
    (tmp_path / "a/results.jsonl").unlink()
    (tmp_path / "a/results.jsonl").mkdir()
    with pytest.raises(ConfigError, match=r"^--reuse-from: .*/a: can't be read: Is a directory$"):
        reuse_of(tmp_path / "a")


def test_memory_is_flat(tmp_path: Path) -> None:
    """An answer takes at most 160 bytes of memory, for rows of any size."""
    (tmp_path / "a").mkdir()
    row = orjson.loads(line_of(make_row("robot"))) | {
        "images": [{"path": "images/a.png", "size_bytes": 9, "sha256": "x"}]
    }
    row["text"] = "x" * 300
    with (tmp_path / "a/results.jsonl").open("wb") as file:
        for number in range(5_000):
            file.write(
                orjson.dumps(row | {"id": f"robot.{number}", "response_id": str(number)}) + b"\n"
            )
    tracemalloc.start()
    reuse = reuse_of(tmp_path / "a")
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(reuse._homes) == 1 + 5_000  # the first entry is no answer
    assert held_bytes < 5_000 * 160


# --- taking one ---


class Desk:
    """A run's folder with a preprocessor that reuses answers, and its events."""

    def __init__(self, out: Path, reuse: Reuse, clock: Clock) -> None:
        self.folder = OutputFolder(out)
        (self.folder.private / "incoming").mkdir(parents=True, exist_ok=True)
        recover(self.folder)
        self.log = ResultsFile(out)
        self.events: list[Event] = []
        self.committer = make_committer(self.folder, self.log, clock, self.events.append)
        self.preprocess = Preprocessor(
            self.folder,
            self.committer,
            clock,
            self.events.append,
            interrupted=Interrupted({}),
            remote=None,  # type: ignore[arg-type] # no answer here names its images
            reuse=reuse,
        )


def prepared(out: Path, reuse: Reuse, *call_ids: str) -> tuple[list[bool], list[Event]]:
    """Preprocess calls; return for each whether it must be sent, and its events."""

    async def scenario(clock: Clock) -> tuple[list[bool], list[Event]]:
        desk = Desk(out, reuse, clock)
        to_send = [await desk.preprocess(make_call(call_id), 1) is not None for call_id in call_ids]
        await desk.committer.flush()
        desk.log.close()
        return to_send, desk.events

    return run(scenario)


def test_a_reused_answer_is_committed_as_one_that_arrived(tmp_path: Path) -> None:
    """It has its image and a row that names the source, without cost, attempts and tokens."""
    answered(tmp_path / "a", "other")
    reuse = reuse_of(tmp_path / "a")
    assert reuse.reserve("robot", ROBOT)
    to_send, events = prepared(tmp_path / "out", reuse, "robot")
    assert to_send == [False]
    (row,) = read_rows(tmp_path / "out")
    assert (row["id"], row["status"], row["cost_usd"], row["attempts"], row["usage"]) == (
        "robot", "succeeded", 0.0, 0, None,
    )  # fmt: skip
    assert row["reused_from"] == {"out": str(tmp_path / "a"), "id": "other"}
    assert (row["endpoint"], row["request_sha256"], row["latency_s"]) == (ENDPOINT, ROBOT, 0.0)
    assert datetime.fromisoformat(row["finished_at"]) - NOON_UTC < timedelta(seconds=1)
    assert (tmp_path / "out" / row["images"][0]["path"]).read_bytes() == png("a other")
    assert [type(event) for event in events] == [CallFinished]
    assert (tmp_path / "a/images/other.png").stat().st_nlink == 1
    assert list((tmp_path / "out/.gemini_batch/incoming").iterdir()) == []


def edit(image: Path) -> None:
    """Change it, and keep its size."""
    image.write_bytes(bytes(image.stat().st_size))


def forbid(image: Path) -> None:
    """Replace it by something that can't be read."""
    image.unlink()
    image.mkdir()


def forget(image: Path) -> None:
    """Remove its row."""
    (image.parent.parent / "results.jsonl").write_bytes(b"")


@pytest.mark.parametrize("spoil", [remove, edit, forbid, forget])
def test_an_answer_that_is_gone_at_its_turn_is_sent_after_all(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """An image that differs from its row leaves nothing, is reported, and is tried once."""
    answered(tmp_path / "a")
    reuse = reuse_of(tmp_path / "a")
    assert reuse.reserve("robot", ROBOT)
    spoil(tmp_path / "a/images/robot.png")
    to_send, events = prepared(tmp_path / "out", reuse, "robot", "robot")
    assert to_send == [True, True]
    (event,) = events
    assert isinstance(event, CallNotReused)
    assert event.call_id == "robot"
    assert list(read_rows(tmp_path / "out")) == []
    assert list((tmp_path / "out/.gemini_batch/incoming").iterdir()) == []


def test_a_call_that_was_edited_since_it_was_planned_is_sent(tmp_path: Path) -> None:
    """A reserved answer is for one request only."""
    answered(tmp_path / "a")
    reuse = reuse_of(tmp_path / "a")
    assert reuse.reserve("robot", ROBOT)
    assert not reuse.has("robot", CAT)


def test_a_full_disk_is_no_reason_to_pay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the output folder fails, the run ends; it does not send what it could not copy."""
    answered(tmp_path / "a")
    reuse = reuse_of(tmp_path / "a")
    assert reuse.reserve("robot", ROBOT)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(StagedFile, "write", full)
    with pytest.raises(
        StorageError, match=r"^robot: its reused image can't be written: No space left on device$"
    ):
        prepared(tmp_path / "out", reuse, "robot")


def test_a_kill_between_copy_and_row_or_row_and_name_is_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is the commit point: before it nothing happened, after it recovery publishes."""
    answered(tmp_path / "a")
    out = tmp_path / "out"
    for method, rows in (("append", 0), ("publish", 1)):
        reuse = reuse_of(tmp_path / "a")
        assert reuse.reserve("robot", ROBOT)
        with monkeypatch.context() as patched:
            patched.setattr(ResultsFile if method == "append" else OutputFolder, method, killed)
            with pytest.raises(KeyboardInterrupt):
                prepared(out, reuse, "robot")
        assert len(list(read_rows(out))) == rows
        recover(OutputFolder(out))
        assert ("images/robot.png" in tree(out)) == bool(rows)
        assert list((out / ".gemini_batch/incoming").iterdir()) == []
    assert (out / "images/robot.png").read_bytes() == png("a robot")
    assert [row["status"] for row in newest_rows(out)] == ["succeeded"]


def killed(*_: object) -> None:
    """End as a kill does."""
    raise KeyboardInterrupt


# --- from end to end ---


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest of four calls, three of which ask for the same."""
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    monkeypatch.delenv(BASE_URL, raising=False)
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path / "state"))
    path = tmp_path / "jobs.jsonl"
    lines = [{"id": "robot", "prompt": "A robot", "variants": 2}, {"id": "cat", "prompt": "A cat"}]
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return path


def test_a_wrong_folder_is_exit_3_and_writes_nothing(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the flag and the folder; no output folder is created."""
    for command in ("run", "plan"):
        assert (
            main(
                [
                    command,
                    str(manifest),
                    "--simulate",
                    "--reuse-from",
                    str(manifest.with_name("nowhere")),
                ]
            )
            == 3
        )
        assert capsys.readouterr().err == (
            f"gemini-batch: --reuse-from: {manifest.with_name('nowhere')}: has no results.jsonl; "
            "name the output folder of a run, such as jobs.out\n"
        )
    assert sorted(path.name for path in manifest.parent.iterdir()) == ["jobs.jsonl"]
