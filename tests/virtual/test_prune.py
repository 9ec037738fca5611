"""`prune`: what no line has any more moves to `superseded/`; nothing is lost, and nothing is paid twice."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.engine.prune import prune, unlisted
from gemini_batch.engine.recovery import recover
from gemini_batch.output import OutputFolder
from gemini_batch.output.marks import Mark, Marks
from gemini_batch.output.rows import newest_rows, read_rows
from tests.builders import picture
from tests.virtual.desk import Desk
from tests.virtual.test_recovery_kills import Killed, Killer

pytestmark = pytest.mark.usefixtures("no_real_syncs")


def files(desk: Desk, folder: str) -> list[str]:
    """Return the files below a folder of the output folder."""
    found = (desk.out / folder).rglob("*")
    return sorted(str(path.relative_to(desk.out / folder)) for path in found if path.is_file())


def keep(desk: Desk, *call_ids: str) -> None:
    """Leave only the lines of these ids in the manifest."""
    lines = desk.path.read_bytes().splitlines(keepends=True)
    desk.path.write_bytes(b"".join(line for line in lines if orjson.loads(line)["id"] in call_ids))


def pruned(desk: Desk, *flags: str) -> int:
    """Prune the folder; return the exit code."""
    return main(["prune", str(desk.out), "--yes", *flags])


def contents(desk: Desk) -> dict[str, bytes]:
    """Return the newest picture of each call that counts."""
    return {
        row["id"]: (desk.out / row["images"][0]["path"]).read_bytes()
        for row in newest_rows(desk.out)
        if row["images"]
    }


def test_what_no_line_has_any_more_moves_aside(desk: Desk) -> None:
    """Its picture is in `superseded/`, its row stays, and no command counts or misses it."""
    desk.run({"b": [picture(drawing="b")]})
    whole = contents(desk)
    keep(desk, "a", "c")
    assert pruned(desk) == 0
    assert files(desk, "images") == ["a.png", "c.png"]
    assert files(desk, "superseded") == ["b.png"]
    assert (desk.out / "superseded/b.png").read_bytes() == whole.pop("b")
    assert contents(desk) == whole
    assert [row["id"] for row in read_rows(desk.out)] == ["a", "b", "c", "b"]
    assert main(["verify", str(desk.out)]) == 0
    assert pruned(desk) == 0
    assert len([*read_rows(desk.out)]) == 4
    desk.run()
    assert desk.sent() == []


def test_a_line_that_comes_back_gets_its_picture_back_and_pays_nothing(desk: Desk) -> None:
    """Pruned and listed again, as often as one likes, a call is never sent again."""
    manifest = desk.path.read_bytes()
    desk.run({"b": [picture(drawing="b")]})
    whole = contents(desk)
    for _ in range(2):
        keep(desk, "a")
        assert pruned(desk) == 0
        assert files(desk, "images") == ["a.png"]
        desk.path.write_bytes(manifest)
        summary = desk.run()
        assert desk.sent() == []
        assert (summary.this_run.reused, summary.this_run.cost_usd) == (2, 0.0)
        assert contents(desk) == whole


def test_a_mark_stays_with_a_picture_that_comes_back(desk: Desk) -> None:
    """It is the same answer, so a discard counts as before."""
    manifest = desk.path.read_bytes()
    desk.run()
    image = next(row["images"][0] for row in newest_rows(desk.out) if row["id"] == "b")
    Marks(desk.out).set(Mark("b", image["sha256"], "discard"))
    keep(desk, "a")
    assert pruned(desk) == 0
    desk.path.write_bytes(manifest)
    desk.run(redo=("discarded",))
    assert desk.sent() == []
    desk.run(redo=("discarded",))
    assert desk.sent() == ["b"]


def test_a_picture_that_was_deleted_meanwhile_is_made_again(desk: Desk) -> None:
    """What the user removes from `superseded/` is gone, and the plan says that it costs again."""
    manifest = desk.path.read_bytes()
    desk.run()
    keep(desk, "a", "c")
    assert pruned(desk) == 0
    (desk.out / "superseded/b.png").unlink()
    desk.path.write_bytes(manifest)
    desk.run()
    assert desk.sent() == ["b"]


def test_an_edited_line_that_comes_back_is_another_request(desk: Desk) -> None:
    """A picture of other words is not taken for it."""
    desk.write(a="A", b="B", c="C")
    desk.run()
    keep(desk, "a", "c")
    assert pruned(desk) == 0
    desk.write(a="A", b="of other words", c="C")
    desk.run()
    assert desk.sent() == ["b"]


@pytest.mark.parametrize(
    ("before", "after", "gone"),
    [
        ([{"id": "a", "prompt": "A", "variants": 3}], [{"id": "a", "prompt": "A"}], {"a.2", "a.3"}),
        ([{"prompt": "A fox"}, {"prompt": "An owl"}], [{"prompt": "An owl"}], {"a-fox"}),
        ([{"prompt": "A", "model": "gemini-3-pro-image-preview"}], [{"prompt": "B"}], {"a"}),
        (
            [{"prompt": "A", "model": "gemini-3-pro-image-preview"}],
            [{"prompt": "A", "model": "gemini-3-pro-image"}],
            set(),
        ),
        ([{"id": "a", "prompt": "A"}], [{"id": "a", "prompt": "Edited"}], set()),
        (
            [{"id": "a/b", "prompt": "A"}, {"id": "a", "prompt": "A"}],
            [{"id": "a", "prompt": "A", "seed": 7}],
            {"a/b"},
        ),
    ],
)
def test_calls_are_known_by_their_ids(
    desk: Desk, before: list[Any], after: list[Any], gone: set[str]
) -> None:
    """Variants, derived ids and other ids of a model are as a run sees them; an edit is no removal."""
    desk.write_jobs(*before)
    desk.run()
    desk.write_jobs(*after)
    with OutputFolder(desk.out).locked():
        found = unlisted(desk.out, desk.path).ids
    assert {
        call_id.partition("-")[0] if gone == {"a"} else call_id for call_id in found
    } == gone or (gone == {"a-fox"} and [each.startswith("a-fox-") for each in found] == [True])


def test_pictures_do_not_take_each_others_place(desk: Desk) -> None:
    """The second picture of `robot` is not named as the picture of `robot.2` is."""
    desk.write_jobs({"id": "robot", "prompt": "A", "variants": 2}, {"id": "a", "prompt": "A"})
    desk.run({name: [picture(drawing=name)] for name in ("robot", "robot.2")})
    desk.run({"robot": [picture(drawing="new")]}, redo=("robot",))
    whole = contents(desk)
    desk.write(a="A")
    assert pruned(desk) == 0
    names = files(desk, "superseded")
    assert len(names) == 3
    data = {(desk.out / "superseded" / name).read_bytes() for name in names}
    assert data > {whole["robot"], whole["robot.2"]}


@pytest.mark.parametrize("tears", [False, True])
def test_a_kill_at_any_moment_loses_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, *, tears: bool
) -> None:
    """Pruning again, or the next run, finishes what was begun: each picture is there once."""
    desk.run({name: [picture(drawing=name)] for name in "abc"})
    whole, at, ends, manifest = contents(desk), 0, False, desk.path.read_bytes()
    saved = {path: path.read_bytes() for path in desk.out.rglob("*") if path.is_file()}
    while not ends:
        at += 1
        for path in [path for path in desk.out.rglob("*") if path.is_file()]:
            path.unlink()
        for path, data in saved.items():
            path.write_bytes(data)
        keep(desk, "a")
        with monkeypatch.context() as patch:
            Killer(at, tears=tears, patch=patch)
            try:
                step(desk.out, desk.path)
                ends = True
            except Killed:
                pass
        if at % 2:
            step(desk.out, desk.path)
        desk.path.write_bytes(manifest)
        desk.run()
        assert desk.sent() == []
        assert contents(desk) == whole
        assert main(["verify", str(desk.out)]) == 0
    assert at > 8


def step(out: Path, manifest: Path) -> None:
    """Do what the command does, without the lock: a dead process holds none."""
    folder = OutputFolder(out)
    recover(folder)
    prune(folder, unlisted(folder.out, manifest).ids)


def test_a_folder_of_two_manifests_is_refused(
    desk: Desk, capfd: pytest.CaptureFixture[str]
) -> None:
    """A picture that one manifest lacks may be of the other: nothing moves, and both are named."""
    desk.run()
    desk.path = desk.path.with_name("more.jsonl")
    desk.write(d="d")
    desk.run()
    assert pruned(desk) == 3
    said = capfd.readouterr().err
    assert "jobs.jsonl" in said
    assert "more.jsonl" in said
    assert files(desk, "images") == ["a.png", "b.png", "c.png", "d.png"]


def test_a_wrong_or_missing_manifest_moves_nothing(
    desk: Desk, capfd: pytest.CaptureFixture[str]
) -> None:
    """A line that can't be read could be of any call; a manifest that was renamed can be named."""
    desk.run()
    desk.path.write_text('{"id": "a", "promt": "a"}\n')
    assert pruned(desk) == 3
    desk.write(a="a")
    renamed = desk.path.rename(desk.path.with_name("renamed.jsonl"))
    assert pruned(desk) == 3
    assert "jobs.jsonl: there is no such file" in capfd.readouterr().err
    assert len(files(desk, "images")) == 3
    assert pruned(desk, "--manifest", str(renamed)) == 0
    assert files(desk, "images") == ["a.png"]


def test_a_folder_in_use_is_left_alone(desk: Desk) -> None:
    """A run that holds the folder keeps it."""
    desk.run()
    desk.write(a="a")
    with OutputFolder(desk.out).locked():
        assert pruned(desk) == 7
    assert len(files(desk, "images")) == 3


def test_nothing_moves_without_a_word(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    """Without a terminal `--yes` is needed; the message says what it would move."""
    desk.run()
    desk.write(a="a")
    with pytest.raises(SystemExit) as ended:
        main(["prune", str(desk.out)])
    assert ended.value.code == 2
    assert "2 calls, 2 pictures" in capfd.readouterr().err
    assert len(files(desk, "images")) == 3
