"""The file of rows is changed by others, during a run and between runs: nothing is paid for twice without a word."""

import gzip
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from gemini_batch.cli import confirm
from gemini_batch.errors import ExitCode, RowsLostError, StorageError
from gemini_batch.events import CallFinished, Event, Repaired
from gemini_batch.output.rows import newest_rows, read_rows
from gemini_batch.records import StopReason
from tests.builders import picture, png, says, tree
from tests.virtual.desk import CONFIG, Desk

pytestmark = pytest.mark.slow

IDS = [f"n{number}" for number in range(12)]
SCRIPT = {call_id: [picture(1.0 + number % 3)] for number, call_id in enumerate(IDS)}


def replaced_by_a_copy(rows: Path) -> None:
    """As sed -i and most editors do it."""
    copy = rows.with_name("copy")
    copy.write_bytes(rows.read_bytes())
    copy.rename(rows)


def replaced_by_an_old_copy(rows: Path) -> None:
    """As an editor that was opened a while ago, or a sync tool."""
    copy = rows.with_name("copy")
    copy.write_bytes(rows.read_bytes().splitlines(keepends=True)[0])
    copy.rename(rows)


def replaced_by_nothing(rows: Path) -> None:
    """As an editor that saves an empty buffer."""
    copy = rows.with_name("copy")
    copy.touch()
    copy.rename(rows)


def removed(rows: Path) -> None:
    """As rm."""
    rows.unlink()


def emptied(rows: Path) -> None:
    """As a shell's `>`."""
    os.truncate(rows, 0)


def cut(rows: Path) -> None:
    """As truncate."""
    os.truncate(rows, rows.stat().st_size // 2)


def written_to(rows: Path) -> None:
    """As a shell's `>>`."""
    with rows.open("ab") as file:
        file.write(b"\n")


def compressed(rows: Path) -> None:
    """As gzip."""
    rows.with_name("results.jsonl.gz").write_bytes(gzip.compress(rows.read_bytes()))
    rows.unlink()


def made_a_pipe(rows: Path) -> None:
    """As mkfifo in its place."""
    rows.rename(rows.with_name("kept"))
    os.mkfifo(rows)


def made_a_folder(rows: Path) -> None:
    """As mkdir in its place."""
    rows.rename(rows.with_name("kept"))
    rows.mkdir()


def made_a_link(rows: Path) -> None:
    """As stow and the like, which move a file and link to it."""
    rows.rename(rows.with_name("kept"))
    rows.symlink_to("kept")


def during(desk: Desk, deed: Callable[[Path], None], at: int = 5) -> Callable[[Event], None]:
    """Return an observer that does something to the rows when so many calls have finished."""
    finished: list[str] = []

    def watch(event: Event) -> None:
        if isinstance(event, CallFinished):
            finished.append(event.row.id)
            if len(finished) == at:
                deed(desk.out / "results.jsonl")

    return watch


@pytest.fixture
def many(desk: Desk) -> Desk:
    """Return a desk with twelve jobs."""
    desk.write(**dict.fromkeys(IDS, "A robot"))
    return desk


ALL = [
    replaced_by_a_copy,
    replaced_by_an_old_copy,
    replaced_by_nothing,
    removed,
    emptied,
    cut,
    written_to,
    compressed,
    made_a_pipe,
    made_a_folder,
    made_a_link,
]


@pytest.mark.usefixtures("no_real_syncs")
@pytest.mark.parametrize("deed", ALL)
def test_a_run_stops_before_it_pays_for_a_row_that_would_be_lost(
    many: Desk, deed: Callable[[Path], None]
) -> None:
    """Nothing is sent once the name of the rows leads elsewhere, or others wrote to it; the run ends with 8 and says what happened."""
    sent_before: list[int] = []

    def noting(rows: Path) -> None:
        sent_before.append(len(many.sent()))
        deed(rows)

    summary = many.run(SCRIPT, watch=during(many, noting))

    assert summary.exit_code == ExitCode.STORAGE
    assert summary.needs_person
    (stop,) = summary.stops
    assert stop["reason"] == StopReason.STORAGE
    assert "results.jsonl: was " in stop["message"]
    assert "during the run" in stop["message"]
    assert len(many.sent()) <= sent_before[0] + 1


@pytest.mark.usefixtures("no_real_syncs")
@pytest.mark.parametrize(
    "deed",
    [replaced_by_a_copy, replaced_by_an_old_copy, replaced_by_nothing, removed, compressed],
)
def test_the_next_run_has_the_rows_of_a_file_that_was_replaced(
    many: Desk, deed: Callable[[Path], None]
) -> None:
    """What this run wrote, and what was in flight, is in the next run's rows; no finished call is sent again."""
    many.run(SCRIPT, watch=during(many, deed))
    first = many.sent()

    summary = many.run(SCRIPT)

    assert (summary.exit_code, summary.by_status) == (ExitCode.DONE, {"succeeded": 12})
    assert Counter(first + many.sent()) == Counter(IDS)
    assert sorted(row["id"] for row in read_rows(many.out)) == sorted(IDS)
    assert not list((many.out / ".gemini_batch").glob("rescued*"))
    repaired = [event.message for event in many.events if isinstance(event, Repaired)]
    assert repaired or deed is replaced_by_a_copy


@pytest.mark.usefixtures("no_real_syncs")
@pytest.mark.parametrize("deed", [made_a_pipe, made_a_folder, made_a_link])
def test_rows_that_are_put_back_are_whole(many: Desk, deed: Callable[[Path], None]) -> None:
    """A file that became another kind of file during a run and is put back has its rows once, and nothing is sent twice."""
    rows, kept = many.out / "results.jsonl", many.out / "kept by the test"

    def tampered(path: Path) -> None:
        os.link(path, kept)
        deed(path)

    many.run(SCRIPT, watch=during(many, tampered))
    first = many.sent()
    with pytest.raises(StorageError):  # before anything is sent
        many.run(SCRIPT)
    rows.rmdir() if rows.is_dir() else rows.unlink()
    kept.rename(rows)

    summary = many.run(SCRIPT)

    assert summary.by_status == {"succeeded": 12}
    assert Counter(first + many.sent()) == Counter(IDS)
    assert sorted(row["id"] for row in read_rows(many.out)) == sorted(IDS)


@pytest.mark.usefixtures("no_real_syncs")
@pytest.mark.parametrize("puts_back", [True, False])
def test_the_rows_of_a_run_are_kept_until_the_loss_is_settled(
    many: Desk, *, puts_back: bool
) -> None:
    """After a file with earlier rows was removed, what the run itself wrote is never sent again, whether the file is put back or forgotten."""
    many.write(**dict.fromkeys(IDS[:4], "A robot"))
    many.run(SCRIPT)
    first = many.sent()
    many.write(**dict.fromkeys(IDS, "A robot"))
    rows, kept = many.out / "results.jsonl", many.out / "kept by the test"

    def tampered(path: Path) -> None:
        os.link(path, kept)
        path.unlink()

    many.run(SCRIPT, watch=during(many, tampered, at=3))
    second = many.sent()
    with pytest.raises(RowsLostError):
        many.run(SCRIPT)
    if puts_back:
        kept.rename(rows)

    summary = many.run(SCRIPT, forgets_rows=not puts_back)

    assert summary.by_status == {"succeeded": 12}
    assert not set(many.sent()) & set(second)
    assert set(many.sent()) & set(first) == (set() if puts_back else set(first))
    assert not list((many.out / ".gemini_batch").glob("rescued*"))


def test_a_file_that_is_moved_and_put_back_within_the_run_is_missed_or_not(many: Desk) -> None:
    """A rename and its undoing between two sends go unnoticed, and lose nothing."""

    def there_and_back(rows: Path) -> None:
        rows.rename(rows.with_name("away"))
        rows.with_name("away").rename(rows)

    summary = many.run(SCRIPT, watch=during(many, there_and_back))

    assert summary.by_status == {"succeeded": 12}


# --- between runs -----------------------------------------------------------------------------------------------------


BETWEEN = [
    removed,
    emptied,
    cut,
    replaced_by_an_old_copy,
    replaced_by_nothing,
    compressed,
    made_a_pipe,
    made_a_folder,
]


@pytest.mark.usefixtures("no_real_syncs")
@pytest.mark.parametrize("deed", BETWEEN)
@pytest.mark.parametrize("keeps_note", [True, False])
def test_nothing_is_paid_for_again_because_its_row_is_gone(
    desk: Desk, deed: Callable[[Path], None], *, keeps_note: bool
) -> None:
    """Rows that are gone, in whatever way, end the next run with a sentence before it sends, each time, also without the internal folder."""
    desk.run()
    deed(desk.out / "results.jsonl")
    if not keeps_note:
        (desk.out / ".gemini_batch/durable").unlink()
    before = {name: data for name, data in tree(desk.out).items() if name.startswith("images")}
    for _ in range(2):
        desk.transport = None
        with pytest.raises(StorageError, match=r"results\.jsonl") as caught:
            desk.run()
        assert caught.value.exit_code == ExitCode.STORAGE
        assert desk.sent() == []
    assert before.items() <= tree(desk.out).items()


@pytest.mark.usefixtures("no_real_syncs")
@pytest.mark.parametrize("deed", [removed, emptied, cut, replaced_by_an_old_copy])
def test_images_are_adopted(desk: Desk, deed: Callable[[Path], None]) -> None:
    """--adopt-images gives each image that is there its row, at no cost; only what has none is sent; later runs find all done."""
    desk.run()
    deed(desk.out / "results.jsonl")
    (desk.out / "images/c.png").unlink()
    known = {row["id"] for row in newest_rows(desk.out)}

    summary = desk.run(adopts_images=True)

    assert desk.sent() == ([] if "c" in known else ["c"])
    assert (summary.exit_code, summary.by_status) == (ExitCode.DONE, {"succeeded": 3})
    adopted = [row for row in newest_rows(desk.out) if row["reused_from"]]
    assert {row["id"] for row in adopted} == {"a", "b"} - known
    for row in adopted:
        (image,) = row["images"]
        assert (desk.out / image["path"]).stat().st_size == image["size_bytes"]
        assert row["cost_usd"] == 0.0
    assert desk.run().by_status == {"succeeded": 3}
    assert desk.sent() == []


def test_an_image_that_is_none_is_not_adopted(desk: Desk) -> None:
    """A file of an image's name that is empty, or no image, is named, kept, and its call is sent."""
    desk.run()
    (desk.out / "results.jsonl").unlink()
    (desk.out / "images/a.png").write_bytes(b"")
    (desk.out / "images/b.png").write_bytes(b"<html>")

    desk.run(adopts_images=True)

    assert sorted(desk.sent()) == ["a", "b"]
    assert tree(desk.out)["superseded/b.png"] == b"<html>"


@pytest.mark.usefixtures("no_real_syncs")
@pytest.mark.parametrize("deed", [removed, emptied, cut])
def test_rows_are_forgotten_knowingly(desk: Desk, deed: Callable[[Path], None]) -> None:
    """--forget sends the calls whose rows are gone, keeps their earlier images, and is not needed again."""
    desk.run()
    deed(desk.out / "results.jsonl")
    known = {row["id"] for row in newest_rows(desk.out)}

    desk.run(forgets_rows=True)

    assert set(desk.sent()) == {"a", "b", "c"} - known
    for call_id in desk.sent():
        assert f"superseded/{call_id}.png" in tree(desk.out)
    assert desk.run().left == 0


def test_other_files_in_the_folder_of_images_are_no_reason(desk: Desk) -> None:
    """Images of another manifest, of the user, and of calls that are done stop no run."""
    desk.write(a="A robot")
    desk.run()
    (desk.out / "images/mine.png").write_bytes(png("mine"))
    (desk.out / "images/b.txt").write_bytes(b"a note")
    desk.write(a="A robot", b="A cat")

    assert desk.run().by_status == {"succeeded": 2}
    assert desk.sent() == ["b"]


def test_an_edited_line_that_failed_is_no_loss(desk: Desk) -> None:
    """The image of an earlier request, which an older row names, is no image without a row."""
    desk.run()
    desk.write(a="A better robot", b="A cat", c="A dog")
    desk.run({"a": [says(500)]})

    assert desk.run().by_status == {"succeeded": 3}
    assert desk.sent() == ["a"]


def test_nothing_to_send_needs_no_decision(desk: Desk) -> None:
    """A file that got smaller, as without its old rows, stops nothing where no call is to be sent."""
    desk.run()
    rows = desk.out / "results.jsonl"
    rows.write_bytes(rows.read_bytes() + rows.read_bytes())
    desk.run()
    rows.write_bytes(rows.read_bytes()[: rows.stat().st_size // 2])

    assert desk.run().exit_code == ExitCode.DONE


@pytest.mark.parametrize(
    ("answer", "sent"), [("adopt", []), ("forget", ["a", "b", "c"]), ("", None), ("y", None)]
)
def test_a_terminal_is_asked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, answer: str, sent: list[str] | None
) -> None:
    """On a terminal the question decides; any other answer ends the run."""
    monkeypatch.setattr(confirm, "_is_interactive", lambda: True)
    monkeypatch.setattr(confirm, "_answer", lambda _question: answer)
    decided = confirm.with_decision(CONFIG, "rows are gone")

    if sent is None:
        assert decided is None
        return
    assert decided is not None
    desk.run()
    (desk.out / "results.jsonl").unlink()
    with pytest.raises(RowsLostError, match="--adopt-images"):
        desk.run()
    desk.transport = None
    desk.run(adopts_images=decided.adopts_images, forgets_rows=decided.forgets_rows)
    assert sorted(desk.sent()) == sent


@pytest.mark.parametrize("edited", ["", "other", "n1"])
def test_a_row_whose_id_was_edited_is_no_row_of_its_image(many: Desk, edited: str) -> None:
    """The call whose image is there is not paid for again without a word, though a row names the image."""
    many.run(SCRIPT)
    path = many.out / "results.jsonl"
    rows = path.read_bytes().replace(b'"id":"n0"', f'"id":"{edited}"'.encode())
    path.write_bytes(rows)
    with pytest.raises(RowsLostError):
        many.run(SCRIPT)
